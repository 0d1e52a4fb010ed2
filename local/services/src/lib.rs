//! Backing services for a laptop and for tests. Each starts in milliseconds to seconds, listens on loopback unless it is
//! told otherwise, and stops when the value that started it is dropped.

pub mod apache_kafka;
pub mod certificates;
pub mod dynamodb;
pub mod https_receiver;
pub mod kafka;
pub mod pgbouncer;
mod port;
pub mod postgres;
pub mod s3;
mod supervisor;
mod unprivileged;

pub use port::free_port;
