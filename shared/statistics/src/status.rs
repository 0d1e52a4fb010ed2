//! How a counted record ended.

use pipeline::Outcome;
use strum::{IntoStaticStr, VariantArray};

/// The outcome of a record as statistics see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum RecordStatus {
    Valid,
    Fraud,
    /// Stored, and waits for its score.
    Unscored,
    Duplicate,
    Blocked,
    DeadLettered,
}

impl RecordStatus {
    pub const ALL: &'static [RecordStatus] = RecordStatus::VARIANTS;

    /// That of a record in the ledger.
    pub const fn of(outcome: Outcome, is_scored: bool) -> Self {
        match outcome {
            Outcome::Valid if !is_scored => RecordStatus::Unscored,
            Outcome::Valid => RecordStatus::Valid,
            Outcome::Fraud => RecordStatus::Fraud,
            Outcome::Duplicate => RecordStatus::Duplicate,
            Outcome::Blocked => RecordStatus::Blocked,
            Outcome::DeadLettered => RecordStatus::DeadLettered,
        }
    }

    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }

    /// Whether the record's event has a row in `events`.
    pub const fn is_stored(self) -> bool {
        matches!(self, RecordStatus::Valid | RecordStatus::Fraud | RecordStatus::Unscored)
    }
}
