//! Sends dead letters back to `raw-events`, each once.
//!
//! Owns how letters are listed, chosen, sent back and parked, how batches that a trigger gave up are delivered after all,
//! and that every action is in the audit trail. The processor makes sure that a copy has no second effect: everything there is keyed by origin. Needs neither Postgres
//! nor a consumer group, so it works while either is down.

mod app;
mod config;
mod dead_letters;
mod error;
mod handler;
mod parked_letters;
mod parking;
mod report;
pub mod request;
mod run;
mod sending;
mod shown;
mod status;
mod trace;
mod undelivered;

pub use app::{App, Ports};
pub use config::Config;
pub use error::RedriverError;
pub use handler::handle;
pub use request::Request;
