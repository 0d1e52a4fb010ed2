//! HTTP events in, `raw-events` out.
//!
//! Owns the HTTP interface: who may send, how much, what a body may look like, and what is answered. An event's own
//! rules (forms, ids, schemas) are the crate `event`'s; what happens to an event after Kafka has it is the
//! processor's.
//!
//! A request is decoded (key, address, body, items), decided (each item by itself, pure) and applied (one publish
//! for all its records). An answer of 202 means that every in-sync replica has the record; an answer that is not
//! known is never a success.

pub mod address;
pub mod answer;
mod app;
pub mod body;
mod config;
pub mod decide;
mod error;
mod handler;
pub mod rate;
pub mod submission;
mod trace;

pub use app::{App, ConnectError};
pub use config::Config;
pub use error::IngestError;
pub use handler::router;
