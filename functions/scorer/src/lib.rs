//! Fraud scores for events.
//!
//! Owns the rules and the format of requests and answers. Keeps no state and calls no other service, so the same
//! request under the same rules always gets the same score. The processor decides what a score means for an event (the
//! threshold, what happens without a score).

mod app;
mod config;
mod error;
mod handler;
mod rules;
mod trace;

pub use app::App;
pub use config::Config;
pub use error::ScorerError;
pub use handler::{MAX_EVENTS, answer, handle};
pub use rules::{Assessment, Rules, RulesError};
