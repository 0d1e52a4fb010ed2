//! Answers what happened to an event, and how many events there were.
//!
//! Owns the HTTP interface of queries: who may ask, the format of a timeline and of statistics, and the meaning of a 404. It
//! changes nothing. The ports `EventHistory`, `RedriveMarks` and `Statistics` provide the data.

mod app;
mod config;
mod error;
mod handler;
pub mod openapi;
mod parameters;
mod question;
mod schemas;
mod stats;
pub mod timeline;

pub use app::{App, ConnectError};
pub use config::Config;
pub use error::QueryError;
pub use handler::router;
