//! How a failure is handled: by its class, never by its text.

use std::error::Error;
use std::time::Duration;

use strum::IntoStaticStr;

/// What a failure means for the record or request at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// A dependency failed: retry. Unknown errors are transient too; retries are bounded.
    Transient,
    /// The input is at fault, and a retry cannot help: reject it, or dead-letter it with its reason.
    Permanent,
    /// The dependency is overloaded: back off, and ask callers to do the same.
    Overload,
}

/// A service that we depend on. A bounded set, so that it can be a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::Display, IntoStaticStr)]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum Dependency {
    Kafka,
    Dynamodb,
    Postgres,
    Scorer,
    S3,
    /// Another function than the scorer.
    Function,
}

impl Dependency {
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }

    /// The tag of a function's failure that this dependency caused.
    pub const fn failed_tag(self) -> &'static str {
        match self {
            Dependency::Kafka => "kafka-failed",
            Dependency::Dynamodb => "dynamodb-failed",
            Dependency::Postgres => "postgres-failed",
            Dependency::Scorer => "scorer-failed",
            Dependency::S3 => "s3-failed",
            Dependency::Function => "function-failed",
        }
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
    /// One that no call had, for what lists every kind of an error.
    pub fn example(dependency: Dependency, class: ErrorClass) -> Self {
        DependencyError { dependency, class, tag: "example", doing: "an example", source: "an example".into() }
    }

    /// The tag of a function's failure that this error caused: that of the dependency, or of an adapter that returned a
    /// wrong number of answers.
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

    /// The open breaker, if the call was not made because of it.
    pub fn open_breaker(&self) -> Option<&BreakerOpen> {
        self.source.downcast_ref()
    }
}

/// The breaker is open: the call was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the circuit breaker is open and refuses calls for another {} ms", .probe_in.as_millis())]
pub struct BreakerOpen {
    /// Time until a call may be let through; zero while a probe is in progress.
    pub probe_in: Duration,
}

/// There was not enough time left to make the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the deadline has passed")]
pub struct OutOfTime;

/// An adapter returned a different number of answers than it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the adapter returned {answered} answers to {asked} questions")]
pub struct WrongNumberOfAnswers {
    pub asked: usize,
    pub answered: usize,
}

impl WrongNumberOfAnswers {
    /// # Errors
    /// If the numbers differ.
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
        assert_eq!(
            chain(&error),
            "s3: writing an object failed (breaker-open): the circuit breaker is open and refuses calls for another 7 ms"
        );
    }
}
