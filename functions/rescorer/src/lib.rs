//! Scores events that were stored while the scorer was down, each once.
//!
//! Owns when the scorer is asked again, and the order of effects: score, store along with an entry of the outbox,
//! publish, remove the entry. The store makes sure that only one of several runs settles an event.

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
