//! The system of record in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use event::{EventKey, TenantId, Timestamp};
use pipeline::decisions::recording::{Logs, Standing, StoredCopy, are_copies};
use pipeline::ports::{EventPlace, EventStore, LateOutcome, LateScore, LedgerEntry, UnscoredEvent};
use pipeline::tracked::{Decided, Event, State as RecordState, Tracked};
use pipeline::{Dependency, DependencyError, Outcome, Position, Reason};

use crate::contracts::store::{Span, StoreView, StoredRow};
use crate::fakes::Faults;

const HOUR_MS: i64 = 3_600_000;

/// An [`EventStore`] in memory.
#[derive(Debug)]
pub struct FakeStore {
    pub faults: Faults,
    dedup_window: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    events: Vec<StoredRow>,
    /// Indices into `events`.
    by_key: HashMap<EventKey, Vec<usize>>,
    /// With the incarnation of each record's log.
    ledger: BTreeMap<Position, LedgerEntry>,
    logs: Logs,
    counts: BTreeMap<(i64, TenantId, String, Outcome), u64>,
    spans: BTreeMap<(Arc<str>, i32, i32), Span>,
    /// When each event that got a late score was scored.
    scored_late: BTreeMap<EventPlace, Timestamp>,
    outbox: BTreeMap<EventPlace, LateOutcome>,
}

fn place(row: &StoredRow) -> EventPlace {
    EventPlace { received_at: row.event.received_at, key: row.event.key.clone() }
}

impl FakeStore {
    pub fn new(dedup_window: Duration) -> Self {
        FakeStore { faults: Faults::default(), dedup_window, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Valid even after a panic, because a batch is applied by plain moves.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every event, in the order of storing.
    pub fn events(&self) -> Vec<StoredRow> {
        self.state().events.clone()
    }

    pub(super) fn entries_at(&self, position: &Position) -> Vec<LedgerEntry> {
        self.state().entries_at(position)
    }

    /// Every ledger entry, by position.
    pub fn ledger(&self) -> Vec<LedgerEntry> {
        self.state().ledger.values().cloned().collect()
    }
}

/// The part of the store that [`FakeUnscoredEvents`](super::unscored::FakeUnscoredEvents) needs.
impl FakeStore {
    pub(super) fn scored_late_at(&self, place: &EventPlace) -> Option<Timestamp> {
        self.state().scored_late.get(place).copied()
    }

    pub(super) fn settle(&self, scores: Vec<LateScore>, now: Timestamp) -> Vec<LateScore> {
        let mut state = self.state();
        scores.into_iter().filter(|score| state.settle_one(score, now)).collect()
    }

    pub(super) fn outbox(&self) -> Vec<LateOutcome> {
        self.state().outbox.values().cloned().collect()
    }

    pub(super) fn take_off_outbox(&self, places: &[EventPlace]) {
        let mut state = self.state();
        for place in places {
            state.outbox.remove(place);
        }
    }
}

impl State {
    /// Returns whether the event was stored and unscored.
    fn settle_one(&mut self, score: &LateScore, now: Timestamp) -> bool {
        let LateScore { event: UnscoredEvent { place: wanted, position, .. }, risk, outcome } = score;
        let is_wanted = |row: &&mut StoredRow| row.risk.is_none() && place(row) == *wanted;
        let Some(row) = self.events.iter_mut().find(is_wanted) else { return false };
        let hour = row.event.received_at.as_millis().div_euclid(HOUR_MS);
        for (of, by) in [(row.outcome, -1), (*outcome, 1)] {
            let key = (hour, row.event.key.tenant.clone(), row.event.event_type.to_string(), of);
            let count = self.counts.entry(key).or_default();
            *count = count.saturating_add_signed(by);
        }
        row.risk = Some(risk.clone());
        row.outcome = *outcome;
        let late = LateOutcome {
            event: row.event.clone(),
            origin: row.origin.clone(),
            position: position.clone(),
            outcome: *outcome,
            risk: risk.clone(),
            scored_at: now,
        };
        self.scored_late.insert(wanted.clone(), now);
        self.outbox.insert(wanted.clone(), late);
        true
    }

    fn record(&mut self, records: &[Tracked<'_, Decided>], now: Timestamp, window: Duration) -> Vec<LedgerEntry> {
        records.iter().map(|record| self.record_one(record, now, window)).collect()
    }

    fn record_one(&mut self, record: &Tracked<'_, Decided>, now: Timestamp, window: Duration) -> LedgerEntry {
        let standing = self.logs.place(record, self.entries_at(&record.position));
        let incarnation = match standing {
            Standing::Recorded(entry) => return *entry,
            Standing::New { incarnation } => incarnation,
        };
        let position = record.position.clone().in_incarnation(incarnation);
        let span = self
            .spans
            .entry((Arc::clone(&position.topic), position.partition, incarnation))
            .or_insert(Span { floor: position.offset, next: position.offset + 1 });
        *span = Span { floor: span.floor.min(position.offset), next: span.next.max(position.offset + 1) };
        let (outcome, reason, risk) = match &record.state {
            RecordState::Closed { outcome, reason, .. } => (*outcome, reason.clone(), None),
            RecordState::Open { event, found } => match self.store(record, event, found, window) {
                None => (found.outcome, String::new(), found.risk.clone()),
                Some(duplicate) => (Outcome::Duplicate, duplicate.to_string(), None),
            },
        };
        let entry = LedgerEntry {
            position: position.clone(),
            digest: record.digest,
            origin: record.origin.clone(),
            trace_id: record.trace_id,
            key: record.key().cloned(),
            outcome,
            reason,
            risk,
            recorded_at: now,
        };
        self.ledger.insert(position, entry.clone());
        entry
    }

    /// The entries of a position that Kafka knows, one for each incarnation.
    fn entries_at(&self, position: &Position) -> Vec<LedgerEntry> {
        let incarnations = 0..=self.logs.present(&position.topic, position.partition);
        let entry = |incarnation| self.ledger.get(&position.clone().in_incarnation(incarnation)).cloned();
        incarnations.filter_map(entry).collect()
    }

    /// Stores the row, or returns why it is a duplicate.
    fn store<S>(
        &mut self,
        record: &Tracked<'_, S>,
        event: &Event<'_>,
        found: &Decided,
        window: Duration,
    ) -> Option<Reason> {
        let places = self.by_key.entry(event.key.clone()).or_default();
        let is_copy = |row: &&StoredRow| are_copies(row.event.received_at, event.received_at, window);
        if let Some(row) = places.iter().filter_map(|place| self.events.get(*place)).find(is_copy) {
            let copy = StoredCopy { payload_hash: row.event.payload_hash, origin: row.origin.clone() };
            return Some(copy.duplicate(event.payload_hash));
        }
        let hour = event.received_at.as_millis().div_euclid(HOUR_MS);
        let count = (hour, event.key.tenant.clone(), event.event_type.to_string(), found.outcome);
        *self.counts.entry(count).or_default() += 1;
        places.push(self.events.len());
        let event = event.clone().into_owned();
        let row = StoredRow {
            event,
            origin: record.origin.clone(),
            trace_id: record.trace_id,
            outcome: found.outcome,
            risk: found.risk.clone(),
        };
        self.events.push(row);
        None
    }
}

#[async_trait]
impl EventStore for FakeStore {
    async fn record(
        &self,
        records: &[Tracked<'_, Decided>],
        now: Timestamp,
    ) -> Result<Vec<LedgerEntry>, DependencyError> {
        self.faults.apply(Dependency::Postgres, || self.state().record(records, now, self.dedup_window))
    }
}

#[async_trait]
impl StoreView for FakeStore {
    async fn events(&self, tenant: &TenantId) -> Vec<StoredRow> {
        self.state().events.iter().filter(|row| row.event.key.tenant == *tenant).cloned().collect()
    }

    async fn counted(&self, tenant: &TenantId, outcome: Outcome) -> u64 {
        let state = self.state();
        state.counts.iter().filter(|((_, t, _, o), _)| t == tenant && *o == outcome).map(|(_, count)| count).sum()
    }

    async fn span(&self, topic: &str, partition: i32) -> Option<Span> {
        let state = self.state();
        let topic: Arc<str> = topic.into();
        let present = state.logs.present(&topic, partition);
        state.spans.get(&(topic, partition, present)).copied()
    }
}
