//! The counts of a run, saved with its progress.

use std::collections::BTreeMap;

use archive::reader::Tally;
use pipeline::{Outcome, Position};
use serde::{Deserialize, Serialize};

/// How many positions of unreadable records are listed; all such records are counted.
const EXAMPLES: usize = 10;

/// The counts over all invocations of a run. Work that was done twice because a run was killed counts once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Records that meet the filters. A redelivery publishes outcomes again, so there may be several copies of each.
    pub records: u64,
    /// Size of their values, in bytes.
    pub value_bytes: u64,
    /// Records by outcome: the archived outcome, or the new one when reprocessing.
    pub outcomes: BTreeMap<String, u64>,
    /// Records by type of event. Records without a type are not counted here.
    pub types: BTreeMap<String, u64>,
    /// Records read that do not meet the filters.
    pub left_out: u64,
    /// Objects fetched; an object that is fetched twice counts twice.
    pub objects: u64,
    /// Their compressed size, in bytes.
    pub object_bytes: u64,
    /// Objects that are damaged or missing; their remaining records are not in the counts.
    pub damaged_objects: u64,
    /// Records that are not outcomes, or lack a field that is needed.
    pub unreadable: u64,
    /// The positions of the first of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable_at: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Restored>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reprocessed: Option<Reprocessed>,
}

/// Counts of restoring only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Records whose ledger entry differs from the archived one, because something else was recorded first.
    pub differing: u64,
    /// Records that announce a late score.
    pub late_scores: u64,
    /// Events whose late score was stored in this run; the others already have a score, or have no row.
    pub scored: u64,
}

/// Counts of reprocessing only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reprocessed {
    /// Records by first and new outcome, such as `valid -> fraud`.
    pub changes: BTreeMap<String, u64>,
    /// Rows added.
    pub added: u64,
    /// Records that already had a row of this version.
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

    /// Adds the difference between two tallies.
    pub fn add_fetched(&mut self, before: Tally, after: Tally) {
        self.objects += after.objects - before.objects;
        self.object_bytes += after.bytes - before.bytes;
    }
}
