//! Answers what happened to an event, which events there are, and how many there were.
//!
//! Owns the HTTP interface of queries: who may ask, the format of a timeline, of a page of events, of statistics and of a
//! stream of outcomes, the pages of the console, and the meaning of a 404. It changes nothing. The ports `EventHistory`, `EventSearch`, `RedriveMarks`,
//! `Statistics` and `TopicTail` provide the data.

mod app;
mod config;
mod console;
mod document;
mod error;
mod handler;
pub mod openapi;
mod parameters;
mod question;
mod schemas;
mod search;
mod stats;
mod stream;
mod time_range;
pub mod timeline;

pub use app::{App, ConnectError, QueryPorts};
pub use config::{Config, ConsoleConfig};
pub use console::ConsolePorts;
pub use error::QueryError;
pub use handler::router;
