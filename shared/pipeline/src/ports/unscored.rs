//! Events that were stored without a score, and their late scores.

use std::net::IpAddr;

use async_trait::async_trait;
use event::{EventKey, Origin, Timestamp};

use super::RiskScore;
use crate::tracked::Event;
use crate::{DependencyError, Outcome, Position};

/// Names a row of `events`, and puts rows in the order in which they were received.
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
    /// Where the record stands that stored the event; another place than its origin if that was a redriven or replayed
    /// copy. The origin if the ledger has no such record.
    pub position: Position,
}

/// What is to be kept about an unscored event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateScore {
    pub event: UnscoredEvent,
    pub risk: RiskScore,
    /// `valid` or `fraud`.
    pub outcome: Outcome,
}

/// A late score that is stored and has not been marked as published. Made of stored columns only, which no longer
/// change: however often it is read, it is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateOutcome {
    pub event: Event<'static>,
    pub origin: Origin,
    /// Where the record stands that stored the event.
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

/// Stored events that wait for their score, and the outbox of those that got one late.
///
/// The ledger takes no part: it says how a record ended when it was processed, and a redelivery publishes that again.
#[async_trait]
pub trait UnscoredEvents: Send + Sync {
    /// The first events without a score that come after that place, at most `limit`, in the order of their places.
    /// Locks nothing: by the time they are settled, somebody else may have settled them.
    async fn find(&self, after: Option<&EventPlace>, limit: usize) -> Result<Vec<UnscoredEvent>, DependencyError>;

    /// How many events wait for a score.
    async fn count(&self) -> Result<u64, DependencyError>;

    /// Stores each score whose event is still without one, as scored at `now`: the row's score and status, the hourly
    /// counts, and an entry of the outbox, in one transaction. Returns what it stored, in the order of the scores.
    ///
    /// The caller names each event at most once per call. Of concurrent calls for one event, one stores its score. A
    /// call does not wait for another that is settling the same event, it leaves that event out; so an event that is
    /// left out may still be without a score later. An `Err` means that nothing or everything was stored.
    async fn settle(&self, scores: Vec<LateScore>, now: Timestamp) -> Result<Vec<LateScore>, DependencyError>;

    /// The first entries of the outbox that come after that place, in a fixed order; at most `limit`, and fewer if
    /// their payloads would take much memory. Empty only if there are none.
    async fn unpublished(&self, after: Option<&EventPlace>, limit: usize) -> Result<Vec<LateOutcome>, DependencyError>;

    /// Takes entries off the outbox. Those that are not in it are no error.
    async fn mark_published(&self, places: &[EventPlace]) -> Result<(), DependencyError>;
}
