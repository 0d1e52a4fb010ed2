//! Events that were stored without a score, and their late scores.

use std::net::IpAddr;

use async_trait::async_trait;
use event::{EventKey, Origin, Timestamp};

use super::RiskScore;
use crate::tracked::Event;
use crate::{DependencyError, Outcome, Position};

/// Identifies a row of `events`, and orders rows by the time they were received.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventPlace {
    pub received_at: Timestamp,
    pub key: EventKey,
}

/// An event that has a row and no score.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnscoredEvent {
    pub place: EventPlace,
    pub event_type: String,
    pub ip: Option<IpAddr>,
    pub user_id: Option<String>,
    pub origin: Origin,
    /// The position of the record that stored the event; it differs from the origin if that record was a redriven or
    /// replayed copy. The origin if the ledger has no such record.
    pub position: Position,
}

/// The score to store for an unscored event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateScore {
    pub event: UnscoredEvent,
    pub risk: RiskScore,
    /// `valid` or `fraud`.
    pub outcome: Outcome,
}

/// A late score that is stored and not yet marked as published. It is made only from stored columns that no longer
/// change, so every read returns the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateOutcome {
    pub event: Event<'static>,
    pub origin: Origin,
    /// The position of the record that stored the event.
    pub position: Position,
    /// `valid` or `fraud`.
    pub outcome: Outcome,
    pub risk: RiskScore,
    pub scored_at: Timestamp,
}

impl LateOutcome {
    pub fn place(&self) -> EventPlace {
        EventPlace { received_at: self.event.received_at, key: self.event.key.clone() }
    }
}

/// Stored events that wait for their score, and the outbox of late scores.
///
/// The ledger is not changed: it holds how a record ended when it was processed, and a redelivery publishes that again.
#[async_trait]
pub trait UnscoredEvents: Send + Sync {
    /// The first events without a score after that place, at most `limit`, in the order of their places. Locks nothing:
    /// another caller may settle them first.
    async fn find(&self, after: Option<&EventPlace>, limit: usize) -> Result<Vec<UnscoredEvent>, DependencyError>;

    /// How many events wait for a score.
    async fn count(&self) -> Result<u64, DependencyError>;

    /// Stores each score whose event still has none, as scored at `now`: the row's score and status, the hourly counts,
    /// and an entry of the outbox, in one transaction. Returns what it stored, in the order of the scores.
    ///
    /// The caller names each event at most once per call. Of concurrent calls for one event, one stores its score. A
    /// call does not wait for another call that is settling the same event but skips the event; if that other call
    /// fails, the event still has no score. An `Err` means that either everything or nothing was stored.
    async fn settle(&self, scores: Vec<LateScore>, now: Timestamp) -> Result<Vec<LateScore>, DependencyError>;

    /// The first entries of the outbox after that place, in a fixed order; at most `limit`, and fewer if their payloads
    /// would take much memory. Empty only if there are none.
    async fn unpublished(&self, after: Option<&EventPlace>, limit: usize) -> Result<Vec<LateOutcome>, DependencyError>;

    /// Removes entries from the outbox. An entry that is not in it is not an error.
    async fn mark_published(&self, places: &[EventPlace]) -> Result<(), DependencyError>;
}
