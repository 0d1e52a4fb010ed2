//! The archive back into Postgres, or through other rules.
//!
//! Owns which archived records a run takes, how fast, and how it goes on after it was stopped or killed. How an outcome
//! becomes a row again, and what is decided about a record once more, is in `pipeline::decisions`; that repeating
//! either changes nothing is what the ports promise. Touches neither Kafka nor claims, and publishes nothing.

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
