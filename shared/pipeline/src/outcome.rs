//! The outcome of a record.

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray};

/// The terminal outcome of a record. Every record on `raw-events` ends in exactly one.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Outcome {
    /// Stored in `events`.
    Valid,
    /// Stored in `events` with a risk score at or above the threshold.
    Fraud,
    /// Another record holds the event's id.
    Duplicate,
    /// Its address is on the block list or over its limit.
    Blocked,
    /// It holds no valid event, or the store refuses it; its bytes are on `dead-letter-events`.
    DeadLettered,
}

impl Outcome {
    pub const ALL: &'static [Outcome] = Outcome::VARIANTS;

    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }

    /// Whether the record's event has a row in `events`.
    pub const fn is_stored(self) -> bool {
        match self {
            Outcome::Valid | Outcome::Fraud => true,
            Outcome::Duplicate | Outcome::Blocked | Outcome::DeadLettered => false,
        }
    }
}
