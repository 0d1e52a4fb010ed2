//! Restores Postgres from the archive, or processes archived records under other rules.
//!
//! Owns which archived records a run processes, how fast, and how it continues after it was stopped or killed.
//! `pipeline::decisions` owns how an outcome becomes a row again and how a record is decided again. The ports promise
//! that repeating either changes nothing. Uses neither Kafka nor claims, and publishes nothing.

mod app;
mod batches;
mod config;
mod counts;
mod error;
mod handler;
mod reprocess;
pub mod request;
mod restore;
mod run;

pub use app::{App, Ports};
pub use config::{Config, Policy};
pub use counts::{Counts, Reprocessed, Restored};
pub use error::ReplayerError;
pub use handler::handle;
pub use reprocess::{LambdaScorers, Scorers};
pub use request::Request;
