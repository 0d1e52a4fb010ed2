//! Reports what one invocation did: one log line, and the metrics.

use std::collections::BTreeMap;
use std::time::Duration;

use event::Timestamp;
use event::schema::Registry;
use pipeline::ports::LedgerEntry;
use pipeline::tracked::{Decided, Tracked};
use pipeline::{Outcome, ReasonTag, TraceContext, millis};
use strum::IntoEnumIterator as _;
use telemetry::list::{
    ADDRESSES_BLOCKED, DEAD_LETTERS, DEDUP_HITS, EVENT_DELAY, EVENTS_PROCESSED, EVENTS_UNSCORED, FRAUD_DETECTED,
    INCARNATIONS_BEGUN, PAYLOAD_DIFFERS, RECORDS_REDELIVERED, STEP_DURATION,
};
use tokio::time::Instant;

/// The label of records that hold no event of a known type.
const NO_TYPE: &str = "unknown";

/// How long each step took.
#[derive(Debug)]
pub struct Stopwatch {
    started: Instant,
    lap: Instant,
    pub durations: Durations,
}

#[derive(Debug, Default)]
pub struct Durations {
    pub read: Duration,
    pub claim: Duration,
    pub limit_and_score: Duration,
    pub store: Duration,
    pub publish: Duration,
}

impl Stopwatch {
    pub fn start() -> Self {
        let now = Instant::now();
        Stopwatch { started: now, lap: now, durations: Durations::default() }
    }

    /// Time since the last lap.
    pub fn lap(&mut self) -> Duration {
        let now = Instant::now();
        let lap = now - self.lap;
        self.lap = now;
        lap
    }

    fn total(&self) -> Duration {
        self.lap - self.started
    }
}

/// Makes the series of bounded labels visible at 0.
pub fn begin(registry: &Registry) {
    for (event_type, _) in registry.types().chain([(NO_TYPE, Vec::new())]) {
        for outcome in Outcome::ALL {
            EVENTS_PROCESSED.begin([event_type, outcome.as_str()]);
        }
    }
    for tag in ReasonTag::iter().filter(|tag| tag.is_of_dead_letters()) {
        DEAD_LETTERS.begin([tag.as_str()]);
    }
    let without_labels =
        [FRAUD_DETECTED, DEDUP_HITS, PAYLOAD_DIFFERS, ADDRESSES_BLOCKED, EVENTS_UNSCORED, RECORDS_REDELIVERED];
    for counter in without_labels {
        counter.begin([]);
    }
}

/// Counts a log that was found made again.
pub fn incarnation_begun(topic: &str) {
    INCARNATIONS_BEGUN.add(1, [topic]);
}

/// The sums of a batch, by its ledger entries.
#[derive(Debug, Default)]
pub struct BatchSums {
    outcomes: BTreeMap<Outcome, u64>,
    unscored: u64,
    payload_differs: u64,
    /// Those that had their entry before this delivery.
    redelivered: u64,
}

impl BatchSums {
    fn add(&mut self, entry: &LedgerEntry, tag: Option<ReasonTag>) {
        *self.outcomes.entry(entry.outcome).or_default() += 1;
        self.unscored += u64::from(entry.outcome.is_stored() && entry.risk.is_none());
        self.payload_differs += u64::from(tag == Some(ReasonTag::PayloadDiffers));
    }

    fn of(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(&outcome).copied().unwrap_or_default()
    }

    fn records(&self) -> u64 {
        self.outcomes.values().sum()
    }
}

/// Counts the outcomes that a batch has got at `now` and that are committed since `stored_at`. Done before they are
/// published: if that fails, the next delivery finds them in the ledger and does not count them again. Returns the sums of the
/// whole batch.
pub fn stored(
    records: &[Tracked<'_, Decided>],
    ledger: &[LedgerEntry],
    now: Timestamp,
    stored_at: Timestamp,
) -> BatchSums {
    let (mut all, mut new) = (BatchSums::default(), BatchSums::default());
    let mut processed: BTreeMap<(&str, Outcome), u64> = BTreeMap::new();
    let mut dead_letters: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut delays = Vec::with_capacity(ledger.len());
    for (record, entry) in records.iter().zip(ledger) {
        let tag = ReasonTag::of(&entry.reason);
        all.add(entry, tag);
        if entry.recorded_at != now {
            all.redelivered += 1;
            continue;
        }
        new.add(entry, tag);
        // A bounded label: every type here has a schema.
        *processed.entry((record.event_type().unwrap_or(NO_TYPE), entry.outcome)).or_default() += 1;
        if entry.outcome == Outcome::DeadLettered
            && let Some(tag) = tag
        {
            *dead_letters.entry(tag.as_str()).or_default() += 1;
        }
        if entry.outcome.is_stored()
            && let Some(received_at) = record.received_at()
        {
            delays.push(stored_at.since(received_at).as_secs_f64());
        }
    }
    for (counter, by) in [
        (FRAUD_DETECTED, new.of(Outcome::Fraud)),
        (DEDUP_HITS, new.of(Outcome::Duplicate)),
        (PAYLOAD_DIFFERS, new.payload_differs),
        (EVENTS_UNSCORED, new.unscored),
        (RECORDS_REDELIVERED, all.redelivered),
    ] {
        counter.add(by, []);
    }
    for ((event_type, outcome), count) in processed {
        EVENTS_PROCESSED.add(count, [event_type, outcome.as_str()]);
    }
    for (tag, count) in dead_letters {
        DEAD_LETTERS.add(count, [tag]);
    }
    EVENT_DELAY.record_all(delays, []);
    all
}

/// Writes the log line of a finished batch. Its counts are those of the ledger, so a redelivered batch has them again.
/// `trace` is the batch's, not that of an event in it.
pub fn finished(request_id: &str, trace: Option<TraceContext>, sums: &BatchSums, stopwatch: &Stopwatch) {
    let durations = &stopwatch.durations;
    tracing::info!(
        request_id,
        trace_id = trace.map(|context| display(context.trace_id)),
        records = sums.records(),
        valid = sums.of(Outcome::Valid),
        fraud = sums.of(Outcome::Fraud),
        duplicate = sums.of(Outcome::Duplicate),
        blocked = sums.of(Outcome::Blocked),
        dead_lettered = sums.of(Outcome::DeadLettered),
        unscored = sums.unscored,
        payload_differs = sums.payload_differs,
        redelivered = sums.redelivered,
        read_ms = millis(durations.read),
        claim_ms = millis(durations.claim),
        limit_and_score_ms = millis(durations.limit_and_score),
        store_ms = millis(durations.store),
        publish_ms = millis(durations.publish),
        duration_ms = millis(stopwatch.total()),
        "batch processed"
    );
    for (step, took) in [
        ("read", durations.read),
        ("claim", durations.claim),
        ("limit-and-score", durations.limit_and_score),
        ("store", durations.store),
        ("publish", durations.publish),
    ] {
        STEP_DURATION.record(took.as_secs_f64(), [step]);
    }
}
