//! How a counted record ended.

use pipeline::Outcome;
use strum::{IntoStaticStr, VariantArray};

/// The outcome of a record as statistics see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Status {
    Valid,
    Fraud,
    /// Stored, and waits for its score.
    Unscored,
    Duplicate,
    Blocked,
    DeadLettered,
}

impl Status {
    pub const ALL: &'static [Status] = Status::VARIANTS;

    /// That of a record in the ledger.
    pub const fn of(outcome: Outcome, is_scored: bool) -> Self {
        match outcome {
            Outcome::Valid if !is_scored => Status::Unscored,
            Outcome::Valid => Status::Valid,
            Outcome::Fraud => Status::Fraud,
            Outcome::Duplicate => Status::Duplicate,
            Outcome::Blocked => Status::Blocked,
            Outcome::DeadLettered => Status::DeadLettered,
        }
    }

    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }

    /// Whether the record's event has a row in `events`.
    pub const fn is_stored(self) -> bool {
        matches!(self, Status::Valid | Status::Fraud | Status::Unscored)
    }
}
