//! The system of record in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use event::{EventKey, Origin, TenantId, Timestamp};
use pipeline::ports::{
    EventPlace, EventRow, EventStore, LateOutcome, LateScore, LedgerEntry, UnscoredEvent, Verdict, VerdictKind,
};
use pipeline::{Dependency, DependencyError, Outcome, Position, Reason};

use crate::contracts::store::{Span, StoreView, StoredEvent};
use crate::fakes::Faults;

const DAY_MS: i64 = 86_400_000;
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
    events: Vec<StoredEvent>,
    /// Indices into `events`.
    by_key: HashMap<EventKey, Vec<usize>>,
    ledger: BTreeMap<Position, LedgerEntry>,
    counts: BTreeMap<(i64, TenantId, String, Outcome), u64>,
    spans: BTreeMap<(String, i32), Span>,
    /// When events were scored that got their score late.
    scored_late: BTreeMap<EventPlace, Timestamp>,
    outbox: BTreeMap<EventPlace, LateOutcome>,
}

fn place(event: &StoredEvent) -> EventPlace {
    EventPlace { received_at: event.row.received_at, key: event.key.clone() }
}

impl FakeStore {
    pub fn new(dedup_window: Duration) -> Self {
        FakeStore { faults: Faults::default(), dedup_window, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whole after any panic: a batch is applied by plain moves.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every event, in the order they were stored.
    pub fn events(&self) -> Vec<StoredEvent> {
        self.state().events.clone()
    }

    /// Every ledger entry, by position.
    pub fn ledger(&self) -> Vec<LedgerEntry> {
        self.state().ledger.values().cloned().collect()
    }
}

/// What [`FakeUnscoredEvents`](super::unscored::FakeUnscoredEvents) needs of the store.
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
    /// Whether the event was there and unscored.
    fn settle_one(&mut self, score: &LateScore, now: Timestamp) -> bool {
        let LateScore { event: UnscoredEvent { place: wanted, position, .. }, risk, outcome } = score;
        let is_wanted = |event: &&mut StoredEvent| event.row.risk.is_none() && place(event) == *wanted;
        let Some(event) = self.events.iter_mut().find(is_wanted) else { return false };
        let hour = event.row.received_at.as_millis().div_euclid(HOUR_MS);
        for (of, by) in [(event.outcome, -1), (*outcome, 1)] {
            let key = (hour, event.key.tenant.clone(), event.row.event_type.clone(), of);
            let count = self.counts.entry(key).or_default();
            *count = count.saturating_add_signed(by);
        }
        event.row.risk = Some(risk.clone());
        event.outcome = *outcome;
        let late = LateOutcome {
            key: event.key.clone(),
            origin: event.origin.clone(),
            position: position.clone(),
            outcome: *outcome,
            row: event.row.clone(),
            scored_at: now,
        };
        self.scored_late.insert(wanted.clone(), now);
        self.outbox.insert(wanted.clone(), late);
        true
    }

    fn record(&mut self, verdicts: Vec<Verdict>, now: Timestamp, window: Duration) -> Vec<LedgerEntry> {
        verdicts.into_iter().map(|verdict| self.record_one(verdict, now, window)).collect()
    }

    fn record_one(&mut self, verdict: Verdict, now: Timestamp, window: Duration) -> LedgerEntry {
        let Verdict { position, origin, key, kind } = verdict;
        if let Some(entry) = self.ledger.get(&position) {
            return entry.clone();
        }
        let span = self
            .spans
            .entry((position.topic.to_string(), position.partition))
            .or_insert(Span { floor: position.offset, next: position.offset + 1 });
        *span = Span { floor: span.floor.min(position.offset), next: span.next.max(position.offset + 1) };
        let (outcome, reason, risk) = match kind {
            VerdictKind::Close { outcome, reason } => (outcome, reason, None),
            VerdictKind::Store { outcome, row } => {
                let risk = row.risk.clone();
                match self.store(key.as_ref(), &origin, outcome, *row, window) {
                    None => (outcome, String::new(), risk),
                    Some(duplicate) => (Outcome::Duplicate, duplicate.to_string(), None),
                }
            }
        };
        let entry = LedgerEntry { position: position.clone(), origin, key, outcome, reason, risk, recorded_at: now };
        self.ledger.insert(position, entry.clone());
        entry
    }

    /// Stores the row, or says why it is a duplicate.
    fn store(
        &mut self,
        key: Option<&EventKey>,
        origin: &Origin,
        outcome: Outcome,
        row: EventRow,
        window: Duration,
    ) -> Option<Reason> {
        let Some(key) = key else { return Some(Reason::new("no-key", "")) };
        let near = |other: &StoredEvent| {
            let (a, b) = (other.row.received_at, row.received_at);
            let same_day = a.as_millis().div_euclid(DAY_MS) == b.as_millis().div_euclid(DAY_MS);
            same_day || a.since(b).max(b.since(a)) < window
        };
        let places = self.by_key.entry(key.clone()).or_default();
        if let Some(copy) = places.iter().filter_map(|place| self.events.get(*place)).find(|other| near(other)) {
            let same = copy.row.payload_hash == row.payload_hash;
            return Some(Reason::new(if same { "already-stored" } else { "payload-differs" }, copy.origin.to_string()));
        }
        let hour = row.received_at.as_millis().div_euclid(HOUR_MS);
        *self.counts.entry((hour, key.tenant.clone(), row.event_type.clone(), outcome)).or_default() += 1;
        places.push(self.events.len());
        self.events.push(StoredEvent { key: key.clone(), origin: origin.clone(), outcome, row });
        None
    }
}

#[async_trait]
impl EventStore for FakeStore {
    async fn record(&self, verdicts: Vec<Verdict>, now: Timestamp) -> Result<Vec<LedgerEntry>, DependencyError> {
        self.faults.apply(Dependency::Postgres, || self.state().record(verdicts, now, self.dedup_window))
    }
}

#[async_trait]
impl StoreView for FakeStore {
    async fn events(&self, tenant: &TenantId) -> Vec<StoredEvent> {
        self.state().events.iter().filter(|event| event.key.tenant == *tenant).cloned().collect()
    }

    async fn counted(&self, tenant: &TenantId, outcome: Outcome) -> u64 {
        let state = self.state();
        state.counts.iter().filter(|((_, t, _, o), _)| t == tenant && *o == outcome).map(|(_, count)| count).sum()
    }

    async fn span(&self, topic: &str, partition: i32) -> Option<Span> {
        self.state().spans.get(&(topic.to_owned(), partition)).copied()
    }
}
