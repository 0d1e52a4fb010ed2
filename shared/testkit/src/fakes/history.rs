//! The history of events in memory.

use std::sync::Arc;

use async_trait::async_trait;
use event::EventKey;
use pipeline::ports::{EventHistory, EventPlace, History, LedgerEntry, MAX_HISTORY, StoredEvent};
use pipeline::{Dependency, DependencyError, Position};

use crate::contracts::store::StoreView as _;
use crate::fakes::Faults;
use crate::fakes::store::FakeStore;

/// An [`EventHistory`] over the content of a [`FakeStore`].
#[derive(Debug)]
pub struct FakeHistory {
    pub faults: Faults,
    store: Arc<FakeStore>,
}

impl FakeHistory {
    pub fn new(store: Arc<FakeStore>) -> Self {
        FakeHistory { faults: Faults::default(), store }
    }

    fn history(&self, key: &EventKey, positions: &[Position], not_reached: Vec<Position>) -> History {
        let ledger = self.store.ledger();
        let events = self.store.events();
        let stored: Vec<StoredEvent> = events
            .into_iter()
            .filter(|row| row.event.key == *key)
            .map(|row| {
                let is_its = |entry: &&LedgerEntry| {
                    entry.outcome.is_stored() && entry.origin == row.origin && entry.key.as_ref() == Some(key)
                };
                let stored_at = ledger.iter().find(is_its).map(|entry| entry.recorded_at).unwrap_or_default();
                let place = EventPlace { received_at: row.event.received_at, key: row.event.key };
                let scored_late_at = self.store.scored_late_at(&place);
                StoredEvent {
                    outcome: row.outcome,
                    event_type: row.event.event_type.into_owned(),
                    origin: row.origin,
                    trace_id: row.trace_id,
                    received_at: row.event.received_at,
                    occurred_at: row.event.occurred_at,
                    stored_at,
                    scored_at: row.risk.as_ref().map(|_| scored_late_at.unwrap_or(stored_at)),
                    risk: row.risk,
                }
            })
            .collect();
        let is_found = |entry: &LedgerEntry| {
            !entry.outcome.is_stored()
                || positions.contains(&entry.position.clone().in_incarnation(0))
                || stored.iter().any(|stored| stored.origin.is_same(&entry.as_origin()))
        };
        let mut records: Vec<LedgerEntry> = ledger.iter().filter(|entry| is_found(entry)).cloned().collect();
        records.retain(|entry| entry.key.as_ref() == Some(key));
        records.sort_by_key(|entry| entry.recorded_at);
        let is_cut = stored.len() > MAX_HISTORY || records.len() > MAX_HISTORY;
        let mut history = History { stored, records, is_cut, not_reached };
        history.stored.sort_by_key(|stored| stored.received_at);
        history.stored.truncate(MAX_HISTORY);
        history.records.truncate(MAX_HISTORY);
        history
    }
}

#[async_trait]
impl EventHistory for FakeHistory {
    async fn look_up(&self, key: &EventKey, positions: &[Position]) -> Result<History, DependencyError> {
        let mut not_reached = Vec::new();
        for position in positions {
            let span = self.store.span(&position.topic, position.partition).await;
            if span.is_none_or(|span| position.offset >= span.next) {
                not_reached.push(position.clone());
            }
        }
        self.faults.apply(Dependency::Postgres, || self.history(key, positions, not_reached))
    }
}
