//! The edge between a function and the platform that runs it.
//!
//! Owns decoding of the Kafka and HTTP triggers, their answers, operators' requests, metrics, and serving: on AWS
//! Lambda, on any Lambda emulator, or as plain HTTP where there is no Lambda runtime. AWS event types are used only
//! here.

pub mod batch_response;
pub mod guard;
pub mod http;
pub mod http_trigger;
pub mod invocation;
mod invocation_error;
pub mod kafka_trigger;
mod observed;
pub mod openapi;
mod plain;
mod platform;
pub mod problem;
pub mod request;
mod schedule;
pub mod shutdown;
mod start;
mod surroundings;

pub use self::start::start;
