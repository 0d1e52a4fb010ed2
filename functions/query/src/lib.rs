//! Answers what happened to an event.
//!
//! Owns the HTTP interface of queries: who may ask, the format of a timeline, and the meaning of a 404. It changes
//! nothing. The ports `EventHistory` and `RedriveMarks` provide the data.

mod app;
mod config;
mod error;
mod handler;
mod question;
pub mod timeline;

pub use app::{App, ConnectError};
pub use config::Config;
pub use error::QueryError;
pub use handler::router;
