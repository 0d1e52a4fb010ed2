//! The decisions of the pipeline, and the ports through which it uses services.
//!
//! Owns outcomes, error classes, ports (the traits that adapters implement), the pure decisions of the processor,
//! retries and the circuit breaker (combined in [`guard`]), failpoints, pace, keys from which others are made, and the clock. Does no I/O and depends on
//! no AWS crate: every decision is synchronous and takes `now` as an argument, so it can be tested without a service.

pub mod announcement;
pub mod backoff;
pub mod breaker;
pub mod clock;
pub mod dead_letter;
pub mod decisions;
mod error;
pub mod failpoint;
pub mod guard;
pub mod object_name;
mod outcome;
pub mod pace;
pub mod ports;
pub mod quota;
pub mod reason;
mod record;
pub mod root_key;
pub mod token_bucket;
pub mod trace;
pub mod tracked;

pub use clock::millis;
pub use error::{BreakerOpen, Dependency, DependencyError, ErrorClass, OutOfTime, WrongNumberOfAnswers, chain};
pub use outcome::Outcome;
pub use reason::{Reason, ReasonTag};
pub use record::{Delivery, Header, Position, Record, RecordHeaders, group, header, topic};
pub use trace::{TraceContext, TraceId};
