//! The history of one event.

use async_trait::async_trait;
use event::{EventKey, Origin, Timestamp};

use super::{LedgerEntry, RiskScore};
use crate::{DependencyError, Outcome, Position, TraceId};

/// The most rows, and the most ledger entries, that a [`History`] holds. Bounded because a client that retries for ever
/// makes copies without end.
pub const MAX_HISTORY: usize = 100;

/// An event's row in `events`. It changes when the event is scored late; the ledger does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// `valid` or `fraud`.
    pub outcome: Outcome,
    pub event_type: String,
    pub origin: Origin,
    pub trace_id: Option<TraceId>,
    pub received_at: Timestamp,
    pub occurred_at: Option<Timestamp>,
    pub stored_at: Timestamp,
    /// `None` until it is scored.
    pub risk: Option<RiskScore>,
    pub scored_at: Option<Timestamp>,
}

/// What is known about an event at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Usually none or one; at most one per deduplication window. Oldest first.
    pub stored: Vec<StoredEvent>,
    /// Ledger entries of records that carried the event's key, ordered by time and position.
    pub records: Vec<LedgerEntry>,
    /// There are more rows or entries than [`MAX_HISTORY`].
    pub is_cut: bool,
    /// Those of the requested positions that have no ledger entry yet.
    pub not_reached: Vec<Position>,
}

impl History {
    /// No row and no record with the event's key was found.
    pub fn is_unknown(&self) -> bool {
        self.stored.is_empty() && self.records.is_empty()
    }
}

#[async_trait]
pub trait EventHistory: Send + Sync {
    /// The event's rows and the records that carried its key, at one instant. Sees what was recorded before the call.
    /// Changes nothing.
    ///
    /// A record that stored the event is found only if its position is the row's origin or one of `positions`. All
    /// other records are found by key. A record at one of `positions` that carries another key is not returned.
    async fn look_up(&self, key: &EventKey, positions: &[Position]) -> Result<History, DependencyError>;
}
