//! Scores for events that were stored while the scorer was down, each once.
//!
//! Owns when to ask the scorer again, and the order of effects: score, store with an entry of the outbox, publish, take
//! the entry off. Leaves to the store that of several runs one settles an event.

mod app;
mod config;
mod error;
mod handler;
mod outbox;
pub mod request;
mod run;

pub use app::{App, ConnectError};
pub use config::{Config, Policy};
pub use error::RescorerError;
pub use handler::handle;
pub use request::Request;
pub use run::{Ended, Report};
