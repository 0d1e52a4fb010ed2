//! What became of an event.
//!
//! Owns the HTTP interface of questions: who may ask, what an event's timeline looks like, and what a 404 means. It
//! changes nothing. Where timelines come from is the business of the ports `EventHistory` and `RedriveMarks`.

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
