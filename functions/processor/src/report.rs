//! Reports what one invocation did: one log line, and the metrics.

use std::collections::BTreeMap;
use std::time::Duration;

use lambda::metrics::{Counter, Histogram};
use pipeline::ports::LedgerEntry;
use pipeline::tracked::{Decided, Tracked};
use pipeline::{Outcome, ReasonTag};
use tokio::time::Instant;

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

/// Counts a log that was found made again.
pub fn incarnation_begun(topic: &str) {
    Counter::IncarnationsBegun.add(1, &[("topic", topic.to_owned())]);
}

/// Writes the log line of a finished batch and adds to the metrics. The counts are taken from the ledger entries, so a
/// redelivered batch is counted again.
pub fn finished(request_id: &str, records: &[Tracked<'_, Decided>], ledger: &[LedgerEntry], stopwatch: &Stopwatch) {
    let mut outcomes: BTreeMap<(&str, Outcome), u64> = BTreeMap::new();
    let (mut unscored, mut payload_differs) = (0, 0);
    for (record, entry) in records.iter().zip(ledger) {
        // A bounded label: every type here has a schema.
        let event_type = record.event_type().unwrap_or("unknown");
        *outcomes.entry((event_type, entry.outcome)).or_default() += 1;
        unscored += u64::from(entry.outcome.is_stored() && entry.risk.is_none());
        payload_differs += u64::from(ReasonTag::of(&entry.reason) == Some(ReasonTag::PayloadDiffers));
    }
    let count = |outcome: Outcome| -> u64 {
        outcomes.iter().filter(|((_, of), _)| *of == outcome).map(|(_, count)| count).sum()
    };
    let fraud = count(Outcome::Fraud);
    let ms = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX) as f64 / 1000.0;
    let durations = &stopwatch.durations;
    tracing::info!(
        request_id,
        records = ledger.len(),
        valid = count(Outcome::Valid),
        fraud,
        duplicate = count(Outcome::Duplicate),
        blocked = count(Outcome::Blocked),
        dead_lettered = count(Outcome::DeadLettered),
        unscored,
        payload_differs,
        read_ms = ms(durations.read),
        claim_ms = ms(durations.claim),
        limit_and_score_ms = ms(durations.limit_and_score),
        store_ms = ms(durations.store),
        publish_ms = ms(durations.publish),
        duration_ms = ms(stopwatch.total()),
        "batch processed"
    );
    for ((event_type, outcome), count) in &outcomes {
        let labels = [("type", (*event_type).to_owned()), ("status", outcome.to_string())];
        Counter::EventsProcessed.add(*count, &labels);
    }
    for (counter, by) in [
        (Counter::FraudDetected, fraud),
        (Counter::EventsUnscored, unscored),
        (Counter::PayloadDiffers, payload_differs),
    ] {
        counter.add(by, &[]);
    }
    let labels = [("service", "processor".to_owned())];
    Histogram::ProcessingDuration.record(stopwatch.total().as_secs_f64(), &labels);
}
