//! What is wrong with an event, rule by rule.

use std::fmt;

/// One rule that an event breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// JSON pointer into what the client sent (`/data/amount`), or the name of a header (`ce-id`).
    pub field: String,
    /// The violated keyword of JSON Schema (`required`, `type`, `minimum`, …), or one of our own rules in the same
    /// style: `conflict`, `trustedCollector`, `exactNumber`.
    pub rule: String,
    /// A message for people. Never contains the value that was sent.
    pub message: String,
}

impl Violation {
    pub fn new(field: impl Into<String>, rule: impl Into<String>, message: impl Into<String>) -> Self {
        Violation { field: field.into(), rule: rule.into(), message: message.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} breaks {}: {}", self.field, self.rule, self.message)
    }
}
