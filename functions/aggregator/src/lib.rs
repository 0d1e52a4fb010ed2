//! Counts the records of the ledger in cells of statistics, each once.
//!
//! Owns when records are counted and up to when the counts are complete. What a record counts for is decided in `statistics`;
//! that it counts once is kept by the store, which takes it off its queue in the same transaction.

mod app;
mod config;
mod error;
mod handler;
mod request;
mod run;
mod verification;

pub use app::{App, ConnectError};
pub use config::Config;
pub use error::AggregatorError;
pub use handler::handle;
pub use request::Request;
pub use run::{AggregationEnd, AggregationReport};
