//! How a failure is handled: by its class, never by its text.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use strum::IntoStaticStr;

/// What a failure means for the record or request at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// A dependency fails: retry. Anything unknown is transient too, and retries are bounded.
    Transient,
    /// The input is at fault and will be again: reject it, or dead-letter it with its reason.
    Permanent,
    /// The dependency asks for less: back off, and tell callers to.
    Overload,
}

/// What we depend on. Bounded, so that it can be a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr)]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum Dependency {
    Kafka,
    Dynamodb,
    Postgres,
    Scorer,
    S3,
}

impl Dependency {
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }

    /// Tag of a function's failure that this dependency caused.
    pub const fn failed_tag(self) -> &'static str {
        match self {
            Dependency::Kafka => "kafka-failed",
            Dependency::Dynamodb => "dynamodb-failed",
            Dependency::Postgres => "postgres-failed",
            Dependency::Scorer => "scorer-failed",
            Dependency::S3 => "s3-failed",
        }
    }
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A port call that failed: what was being done, how to treat it, and the adapter's own error as source.
#[derive(Debug, thiserror::Error)]
#[error("{dependency}: {doing} failed ({tag})")]
pub struct DependencyError {
    pub dependency: Dependency,
    pub class: ErrorClass,
    /// Bounded name of the cause, for metrics: `timeout`, `throttled`, `unavailable`, …
    pub tag: &'static str,
    /// What was being done, in words that finish "… failed".
    pub doing: &'static str,
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

impl DependencyError {
    /// Tag of a function's failure that this error caused: the dependency's, or that of an adapter which did not answer
    /// item by item.
    pub fn failed_tag(&self) -> &'static str {
        match self.source.downcast_ref() {
            Some(WrongNumberOfAnswers { .. }) => self.tag,
            None => self.dependency.failed_tag(),
        }
    }

    /// Whether the same call may succeed in a moment.
    pub fn is_retryable(&self) -> bool {
        match self.class {
            ErrorClass::Transient | ErrorClass::Overload => self.open_breaker().is_none(),
            ErrorClass::Permanent => false,
        }
    }

    /// The refusal of an open breaker, if the call was not made because of one.
    pub fn open_breaker(&self) -> Option<&BreakerOpen> {
        self.source.downcast_ref()
    }
}

/// The breaker is open: the call was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("calls are refused for {} ms more", .probe_in.as_millis())]
pub struct BreakerOpen {
    /// Time until a call may be let through; zero while a probe is in progress.
    pub probe_in: Duration,
}

/// There was no time left to make the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the deadline has passed")]
pub struct OutOfTime;

/// An adapter broke its port's promise to answer item by item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{answered} answers to {asked} questions")]
pub struct WrongNumberOfAnswers {
    pub asked: usize,
    pub answered: usize,
}

impl WrongNumberOfAnswers {
    /// # Errors
    /// Unless the numbers are equal.
    pub fn check(asked: usize, answered: usize) -> Result<(), Self> {
        if asked == answered { Ok(()) } else { Err(WrongNumberOfAnswers { asked, answered }) }
    }
}

/// An error and all its sources, outermost first: `a: b: c`.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_names_every_cause_once() {
        let error = DependencyError {
            dependency: Dependency::S3,
            class: ErrorClass::Transient,
            tag: "breaker-open",
            doing: "writing an object",
            source: BreakerOpen { probe_in: Duration::from_millis(7) }.into(),
        };
        assert_eq!(chain(&error), "s3: writing an object failed (breaker-open): calls are refused for 7 ms more");
    }
}
