//! Reports what one invocation did: one log line, and the metrics.

use std::collections::BTreeMap;
use std::time::Duration;

use event::Timestamp;
use event::schema::Registry;
use pipeline::ports::LedgerEntry;
use pipeline::tracked::{Decided, Tracked};
use pipeline::{Outcome, ReasonTag, Record, millis};
use strum::IntoEnumIterator as _;
use telemetry::list::{
    ADDRESSES_BLOCKED, DEAD_LETTERS, DEDUP_HITS, EVENT_DELAY, EVENTS_PROCESSED, EVENTS_UNSCORED, FRAUD_DETECTED,
    INCARNATIONS_BEGUN, OLDEST_RECORD_AGE, PAYLOAD_DIFFERS, RECORDS_REDELIVERED, STEP_DURATION,
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

/// Tells how far the consumer is behind.
pub fn begun(delivered: &[Record], now: Timestamp) {
    if let Some(oldest) = Record::oldest(delivered) {
        OLDEST_RECORD_AGE.record(now.since(oldest).as_secs_f64(), []);
    }
}

/// Counts the outcomes that a batch has got at `now` and that are committed since `stored_at`. Done before they are
/// published: if that fails, the next delivery finds them in the ledger and does not count them again.
pub fn stored(records: &[Tracked<'_, Decided>], ledger: &[LedgerEntry], now: Timestamp, stored_at: Timestamp) {
    let mut outcomes: BTreeMap<(&str, Outcome), u64> = BTreeMap::new();
    let mut dead_letters: BTreeMap<&'static str, u64> = BTreeMap::new();
    let (mut redelivered, mut unscored, mut payload_differs) = (0, 0, 0);
    let mut delays = Vec::with_capacity(ledger.len());
    for (record, entry) in records.iter().zip(ledger) {
        if entry.recorded_at != now {
            redelivered += 1;
            continue;
        }
        // A bounded label: every type here has a schema.
        *outcomes.entry((record.event_type().unwrap_or(NO_TYPE), entry.outcome)).or_default() += 1;
        unscored += u64::from(is_unscored(entry));
        let tag = ReasonTag::of(&entry.reason);
        payload_differs += u64::from(tag == Some(ReasonTag::PayloadDiffers));
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
    let of = |outcome: Outcome| sum_of(&outcomes, outcome);
    for (counter, by) in [
        (FRAUD_DETECTED, of(Outcome::Fraud)),
        (DEDUP_HITS, of(Outcome::Duplicate)),
        (PAYLOAD_DIFFERS, payload_differs),
        (EVENTS_UNSCORED, unscored),
        (RECORDS_REDELIVERED, redelivered),
    ] {
        counter.add(by, []);
    }
    for ((event_type, outcome), count) in &outcomes {
        EVENTS_PROCESSED.add(*count, [event_type, outcome.as_str()]);
    }
    for (tag, count) in dead_letters {
        DEAD_LETTERS.add(count, [tag]);
    }
    EVENT_DELAY.record_all(delays, []);
}

fn is_unscored(entry: &LedgerEntry) -> bool {
    entry.outcome.is_stored() && entry.risk.is_none()
}

fn sum_of<K>(outcomes: &BTreeMap<(K, Outcome), u64>, outcome: Outcome) -> u64 {
    outcomes.iter().filter(|((_, of), _)| *of == outcome).map(|(_, count)| count).sum()
}

/// Writes the log line of a finished batch. Its counts are those of the ledger, so a redelivered batch has them again.
pub fn finished(request_id: &str, ledger: &[LedgerEntry], now: Timestamp, stopwatch: &Stopwatch) {
    let count = |outcome: Outcome| ledger.iter().filter(|entry| entry.outcome == outcome).count();
    let differs = |entry: &&LedgerEntry| ReasonTag::of(&entry.reason) == Some(ReasonTag::PayloadDiffers);
    let durations = &stopwatch.durations;
    tracing::info!(
        request_id,
        records = ledger.len(),
        valid = count(Outcome::Valid),
        fraud = count(Outcome::Fraud),
        duplicate = count(Outcome::Duplicate),
        blocked = count(Outcome::Blocked),
        dead_lettered = count(Outcome::DeadLettered),
        unscored = ledger.iter().filter(|entry| is_unscored(entry)).count(),
        payload_differs = ledger.iter().filter(differs).count(),
        redelivered = ledger.iter().filter(|entry| entry.recorded_at != now).count(),
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
