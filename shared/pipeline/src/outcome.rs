//! The one way each record ends.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The terminal outcome of a record. Every record on `raw-events` ends in exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Stored in `events`.
    Valid,
    /// Stored in `events` with a risk score at or above the threshold.
    Fraud,
    /// Another record holds the event's id.
    Duplicate,
    /// Its address is on the block list or over its limit.
    Blocked,
    /// It cannot be an event; its bytes are on `dead-letter-events`.
    DeadLettered,
}

impl Outcome {
    pub const ALL: [Outcome; 5] =
        [Outcome::Valid, Outcome::Fraud, Outcome::Duplicate, Outcome::Blocked, Outcome::DeadLettered];

    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Valid => "valid",
            Outcome::Fraud => "fraud",
            Outcome::Duplicate => "duplicate",
            Outcome::Blocked => "blocked",
            Outcome::DeadLettered => "dead_lettered",
        }
    }

    /// Whether the record's event has a row in `events`.
    pub const fn is_stored(self) -> bool {
        match self {
            Outcome::Valid | Outcome::Fraud => true,
            Outcome::Duplicate | Outcome::Blocked | Outcome::DeadLettered => false,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no outcome is called {0:?}")]
pub struct UnknownOutcome(String);

impl FromStr for Outcome {
    type Err = UnknownOutcome;

    fn from_str(text: &str) -> Result<Self, UnknownOutcome> {
        Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == text).ok_or_else(|| UnknownOutcome(text.to_owned()))
    }
}

/// Why a record is not simply `valid`. The tag is bounded (metrics, grouping of dead letters); the detail is for
/// people and may name a field, an owner or a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub tag: &'static str,
    pub detail: String,
}

impl Reason {
    pub fn new(tag: &'static str, detail: impl Into<String>) -> Self {
        Reason { tag, detail: detail.into() }
    }
}

impl fmt::Display for Reason {
    /// `tag` alone, or `tag: detail`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.detail.is_empty() { f.write_str(self.tag) } else { write!(f, "{}: {}", self.tag, self.detail) }
    }
}
