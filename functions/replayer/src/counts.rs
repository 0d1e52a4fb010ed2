//! What a run found and did, kept with its progress.

use std::collections::BTreeMap;

use archive::reader::Tally;
use pipeline::{Outcome, Position};
use serde::{Deserialize, Serialize};

/// Positions of unreadable records that are named; all are counted.
const EXAMPLES: usize = 10;

/// Over all invocations of a run. What was done twice because a run was killed in between counts once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Records that meet the filters. A redelivery publishes outcomes again, so there may be more than one of each.
    pub records: u64,
    /// Size of their values, in bytes.
    pub value_bytes: u64,
    /// By outcome: as archived, or of a reprocessing as it is now.
    pub outcomes: BTreeMap<String, u64>,
    /// By type of event; what has no type is in none.
    pub types: BTreeMap<String, u64>,
    /// Records read that do not meet the filters.
    pub left_out: u64,
    /// Objects fetched; one that is begun twice counts twice.
    pub objects: u64,
    /// Their size as stored, i.e. compressed.
    pub object_bytes: u64,
    /// Objects that are damaged or gone; their other records are missing here.
    pub damaged_objects: u64,
    /// Records that are no outcomes, or lack what is needed.
    pub unreadable: u64,
    /// Where the first of these stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable_at: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Restored>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reprocessed: Option<Reprocessed>,
}

/// What only restoring counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Records whose ledger entry is not the archived one: something else was recorded first.
    pub differing: u64,
    /// Records that tell of a late score.
    pub late_scores: u64,
    /// Events that got theirs here; the others have a score or no row.
    pub scored: u64,
}

/// What only reprocessing counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reprocessed {
    /// Records by first and new outcome, `valid -> fraud`.
    pub changes: BTreeMap<String, u64>,
    /// Rows added.
    pub added: u64,
    /// Records that had a row of this version before.
    pub already: u64,
}

impl Counts {
    pub fn add(&mut self, outcome: Outcome, event_type: Option<&str>, value_bytes: usize) {
        self.records += 1;
        self.value_bytes += value_bytes as u64;
        *self.outcomes.entry(outcome.as_str().to_owned()).or_default() += 1;
        if let Some(event_type) = event_type {
            *self.types.entry(event_type.to_owned()).or_default() += 1;
        }
    }

    pub fn add_unreadable(&mut self, position: &Position) {
        self.unreadable += 1;
        if self.unreadable_at.len() < EXAMPLES {
            self.unreadable_at.push(position.to_string());
        }
    }

    /// Adds what was fetched between two tallies.
    pub fn add_fetched(&mut self, before: Tally, after: Tally) {
        self.objects += after.objects - before.objects;
        self.object_bytes += after.bytes - before.bytes;
    }
}
