//! The edge between a function and where it runs.
//!
//! Owns settings, telemetry, decoding of the Kafka trigger, the batch answer, and serving: on AWS Lambda, on any
//! Lambda emulator, or as plain HTTP where there is no Lambda runtime. AWS event types stop here.

pub mod batch_response;
pub mod breaker;
pub mod http;
pub mod invocation;
pub mod kafka_trigger;
pub mod metrics;
mod plain;
mod platform;
pub mod problem;
pub mod request;
mod schedule;
pub mod shutdown;
