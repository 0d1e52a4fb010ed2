//! Writes Kafka records to S3 as compressed objects.
//!
//! Owns how a batch is handled: decode, pack, write, answer. The format and names of objects are in `archive`. Records
//! are not judged here: a record that cannot be decoded or has no known outcome is archived anyway.

mod app;
mod config;
mod error;
mod handler;
mod report;

pub use app::App;
pub use config::Config;
pub use error::ArchiverError;
pub use handler::handle;
