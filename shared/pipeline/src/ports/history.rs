//! Looking up what became of one event.

use async_trait::async_trait;
use event::{EventKey, Origin, Timestamp};

use super::{LedgerEntry, RiskScore};
use crate::{DependencyError, Outcome, Position};

/// Most rows and most ledger entries that a [`History`] holds. A client that retries for ever makes copies without end.
pub const MAX_HISTORY: usize = 100;

/// What is known of an event's row in `events`. It changes when the event is scored late; the ledger does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// `valid` or `fraud`.
    pub outcome: Outcome,
    pub event_type: String,
    pub origin: Origin,
    pub received_at: Timestamp,
    pub occurred_at: Option<Timestamp>,
    pub stored_at: Timestamp,
    /// `None` until it is scored.
    pub risk: Option<RiskScore>,
    pub scored_at: Option<Timestamp>,
}

/// What is known of an event, as of one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Usually none or one; one per deduplication window at most. Oldest first.
    pub stored: Vec<StoredEvent>,
    /// Ledger entries of records that carried the event's key, by time and position.
    pub records: Vec<LedgerEntry>,
    /// There are more rows or entries than [`MAX_HISTORY`].
    pub is_cut: bool,
    /// Those of the positions asked about that the ledger has not come to yet.
    pub not_reached: Vec<Position>,
}

impl History {
    /// Nothing carries the event's key.
    pub fn is_unknown(&self) -> bool {
        self.stored.is_empty() && self.records.is_empty()
    }
}

#[async_trait]
pub trait EventHistory: Send + Sync {
    /// The event's rows and the records that carried its key, as of one instant. Sees what was recorded before the
    /// call. Changes nothing.
    ///
    /// Of records that stored the event, those are found that stand at the row's origin or at one of `positions`; all
    /// others are found by key. A record at one of `positions` that carries another key is not returned.
    async fn look_up(&self, key: &EventKey, positions: &[Position]) -> Result<History, DependencyError>;
}
