//! Backing services for a laptop and for tests: each starts in milliseconds to seconds, listens on loopback only, and
//! ends with the value that started it.

pub mod apache_kafka;
pub mod dynamodb;
pub mod kafka;
mod port;
pub mod postgres;
pub mod s3;
mod supervisor;

pub use port::free_port;
