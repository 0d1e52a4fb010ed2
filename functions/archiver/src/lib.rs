//! Kafka records in, compressed objects in S3 out.
//!
//! Owns the way of a batch: decode, pack, write, answer. The form and names of objects are `archive`'s. A record is
//! never judged here: what cannot be decoded or has no known outcome is archived all the same.

mod app;
mod config;
mod error;
mod handler;

pub use app::App;
pub use config::Config;
pub use error::ArchiverError;
pub use handler::handle;
