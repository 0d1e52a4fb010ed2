//! Metric names. Each variant's comment says what it measures and which labels it has; labels have few values.
//!
//! Functions served over HTTP expose them at `/metrics`. On Lambda the recorder is not installed, and the values are
//! fields of the last log line of each invocation.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Events that ingest acknowledged. Labels: `type`.
    EventsReceived,
    /// Events and requests that ingest refused. Labels: `reason`.
    EventsRejected,
    /// Records that ended in an outcome. Labels: `type`, `status`.
    EventsProcessed,
    /// Records whose outcome is `fraud`. No labels.
    FraudDetected,
    /// Duplicates whose payload differs from the first copy's. No labels.
    PayloadDiffers,
    /// Logs that were found made again: another record is at a known position. Labels: `topic`.
    IncarnationsBegun,
    /// Events stored without a score, to be scored later. No labels.
    EventsUnscored,
    /// Events that got their score after they were stored. Labels: `status`.
    EventsScoredLate,
    /// Records written to the archive. Labels: `topic`.
    RecordsArchived,
}

impl Counter {
    pub const fn name(self) -> &'static str {
        match self {
            Counter::EventsReceived => "events_received_total",
            Counter::EventsRejected => "events_rejected_total",
            Counter::EventsProcessed => "events_processed_total",
            Counter::FraudDetected => "fraud_detected_total",
            Counter::PayloadDiffers => "payload_differs_total",
            Counter::IncarnationsBegun => "incarnations_begun_total",
            Counter::EventsUnscored => "events_unscored_total",
            Counter::EventsScoredLate => "events_scored_late_total",
            Counter::RecordsArchived => "records_archived_total",
        }
    }

    #[expect(clippy::disallowed_macros, reason = "this is the wrapper that others must use")]
    pub fn add(self, by: u64, labels: &[(&'static str, String)]) {
        metrics::counter!(self.name(), labels).increment(by);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Histogram {
    /// Duration of one invocation, in seconds. Labels: `service`.
    ProcessingDuration,
    /// Time from publishing to Kafka's acknowledgement, in seconds. No labels.
    PublishDuration,
}

impl Histogram {
    pub const fn name(self) -> &'static str {
        match self {
            Histogram::ProcessingDuration => "processing_duration_seconds",
            Histogram::PublishDuration => "publish_duration_seconds",
        }
    }

    #[expect(clippy::disallowed_macros, reason = "this is the wrapper that others must use")]
    pub fn record(self, value: f64, labels: &[(&'static str, String)]) {
        metrics::histogram!(self.name(), labels).record(value);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gauge {
    /// 0 closed, 1 half-open, 2 open. Labels: `dependency`.
    CircuitBreakerState,
    /// Stored events that wait for a score. No labels.
    UnscoredEvents,
}

impl Gauge {
    pub const fn name(self) -> &'static str {
        match self {
            Gauge::CircuitBreakerState => "circuit_breaker_state",
            Gauge::UnscoredEvents => "unscored_events",
        }
    }

    #[expect(clippy::disallowed_macros, reason = "this is the wrapper that others must use")]
    pub fn set(self, value: f64, labels: &[(&'static str, String)]) {
        metrics::gauge!(self.name(), labels).set(value);
    }
}

/// Buckets for durations in seconds, around the budgets of a few milliseconds to the 100 ms target.
const DURATION_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Installs the process-wide recorder; `None` if one is installed already.
pub(crate) fn install() -> Option<PrometheusHandle> {
    let builder = match PrometheusBuilder::new().set_buckets(&DURATION_BUCKETS) {
        Ok(builder) => builder,
        Err(_) => PrometheusBuilder::new(),
    };
    builder.install_recorder().ok()
}
