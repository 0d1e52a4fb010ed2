//! The edge between a function and the platform that runs it.
//!
//! Owns decoding of the Kafka and HTTP triggers, their answers, operators' requests, metrics, and serving: on AWS
//! Lambda, on any Lambda emulator, or as plain HTTP where there is no Lambda runtime. AWS event types are used only
//! here.

pub mod batch_response;
pub mod breaker;
pub mod http;
pub mod http_trigger;
pub mod invocation;
pub mod kafka_trigger;
pub mod metrics;
mod plain;
mod platform;
pub mod problem;
pub mod request;
mod schedule;
pub mod shutdown;
mod surroundings;
