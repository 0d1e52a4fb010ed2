//! Late scores in memory.

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use event::Timestamp;
use pipeline::ports::{EventPlace, LateOutcome, LateScore, LedgerEntry, UnscoredEvent, UnscoredEvents};
use pipeline::tracked::Event;
use pipeline::{Dependency, DependencyError};

use crate::contracts::store::StoredRow;
use crate::fakes::Faults;
use crate::fakes::store::FakeStore;

/// [`UnscoredEvents`] over the content of a [`FakeStore`].
#[derive(Debug)]
pub struct FakeUnscoredEvents {
    pub faults: Faults,
    store: Arc<FakeStore>,
}

impl FakeUnscoredEvents {
    pub fn new(store: Arc<FakeStore>) -> Self {
        FakeUnscoredEvents { faults: Faults::default(), store }
    }

    /// All unscored events, in the order of their places.
    fn unscored(&self) -> Vec<UnscoredEvent> {
        let ledger = self.store.ledger();
        let unscored = |row: StoredRow| {
            let StoredRow { event: Event { key, event_type, received_at, ip, user_id, .. }, origin, .. } = row;
            let stored_it = |entry: &&LedgerEntry| {
                entry.outcome.is_stored() && entry.origin == origin && entry.key.as_ref() == Some(&key)
            };
            let position = ledger.iter().find(stored_it).map(|entry| entry.position.clone());
            UnscoredEvent {
                place: EventPlace { received_at, key },
                event_type: event_type.into_owned(),
                ip,
                user_id: user_id.map(Cow::into_owned),
                position: position.unwrap_or_else(|| origin_as_position(&origin)),
                origin,
            }
        };
        let waiting = self.store.events().into_iter().filter(|row| row.risk.is_none());
        let mut events: Vec<UnscoredEvent> = waiting.map(unscored).collect();
        events.sort_by(|a, b| a.place.cmp(&b.place));
        events
    }
}

fn origin_as_position(origin: &event::Origin) -> pipeline::Position {
    pipeline::Position::new(Arc::clone(&origin.topic), origin.partition, origin.offset)
}

#[async_trait]
impl UnscoredEvents for FakeUnscoredEvents {
    async fn find(&self, after: Option<&EventPlace>, limit: usize) -> Result<Vec<UnscoredEvent>, DependencyError> {
        self.faults.apply(Dependency::Postgres, || {
            let mut events = self.unscored();
            events.retain(|event| after.is_none_or(|after| event.place > *after));
            events.truncate(limit);
            events
        })
    }

    async fn count(&self) -> Result<u64, DependencyError> {
        self.faults.apply(Dependency::Postgres, || self.unscored().len() as u64)
    }

    async fn settle(&self, scores: Vec<LateScore>, now: Timestamp) -> Result<Vec<LateScore>, DependencyError> {
        self.faults.apply(Dependency::Postgres, || self.store.settle(scores, now))
    }

    async fn unpublished(&self, after: Option<&EventPlace>, limit: usize) -> Result<Vec<LateOutcome>, DependencyError> {
        self.faults.apply(Dependency::Postgres, || {
            let mut entries = self.store.outbox();
            entries.retain(|entry| after.is_none_or(|after| entry.place() > *after));
            entries.truncate(limit);
            entries
        })
    }

    async fn mark_published(&self, places: &[EventPlace]) -> Result<(), DependencyError> {
        self.faults.apply(Dependency::Postgres, || self.store.take_off_outbox(places))
    }
}
