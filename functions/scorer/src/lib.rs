//! Fraud scores for events.
//!
//! Owns the rules and the request and answer of the function. Holds no state and calls nothing, so the same request
//! under the same rules always gets the same score. What a score means for an event (the threshold, what happens
//! without a score) is the processor's business.

mod app;
mod config;
mod error;
mod handler;
mod rules;

pub use app::App;
pub use config::Config;
pub use error::ScorerError;
pub use handler::{MAX_EVENTS, answer, handle};
pub use rules::{Assessment, Rules, RulesError};
