//! Takes events over HTTP and writes them to `raw-events`.
//!
//! Owns the HTTP interface: who may send, how much, the format of a body, and the answer. The rules of an event (forms,
//! ids, schemas) are in the crate `event`. The processor handles an event after Kafka has it.
//!
//! A request is decoded (key, address, body, items), decided (each item separately, pure) and applied (one publish
//! for all its records). An answer of 202 means that every in-sync replica has the record. An unknown result is never
//! answered as a success.

pub mod address;
pub mod answer;
mod app;
pub mod body;
mod config;
pub mod cors;
pub mod decide;
mod error;
mod handler;
pub mod headers;
pub mod openapi;
pub mod submission;
mod trace;

pub use app::{App, ConnectError};
pub use config::Config;
pub use error::IngestError;
pub use handler::router;
