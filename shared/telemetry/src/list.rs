//! Every metric of the pipeline. `docs/metrics.md` is made from this list; alarms and dashboards use its names.
//!
//! Names follow Prometheus: base units, `_total` for counters (<https://prometheus.io/docs/practices/naming/>).

use crate::definition::{Buckets, Counter, Definition, Gauge, Histogram, Kind, Unit};

/// Defines a constant for each metric, and [`ALL`].
macro_rules! metrics {
    ($($(#[doc = $meaning:literal])+ $constant:ident: $kind:ident $(($buckets:ident))? in $unit:ident $name:literal {$($label:ident),*} dimensions {$($dimension:ident),*} of [$($service:ident),+];)+) => {
        $(
            $(#[doc = $meaning])+
            pub const $constant: $kind<{ <[&str]>::len(&[$(stringify!($label)),*]) }> = $kind(Definition {
                name: $name,
                kind: Kind::$kind,
                unit: Unit::$unit,
                buckets: metrics!(@buckets $($buckets)?),
                labels: &[$(stringify!($label)),*],
                dimensions: &[$(stringify!($dimension)),*],
                services: &[$(stringify!($service)),+],
                meaning: concat!($($meaning),+),
            });
        )+
        /// All of them, in the order of this file.
        pub const ALL: &[Definition] = &[$($constant.0),+];
    };
    (@buckets) => { None };
    (@buckets $buckets:ident) => { Some(Buckets::$buckets) };
}

metrics! {
    /// Events that were acknowledged, so Kafka has them.
    EVENTS_RECEIVED: Counter in Count "events_received_total" {type} dimensions {} of [ingest];
    /// Events and whole requests that were refused or not acknowledged, by the tag of the problem document.
    EVENTS_REJECTED: Counter in Count "events_rejected_total" {reason} dimensions {reason} of [ingest];
    /// Answers, by the template of the path and the status code.
    HTTP_REQUESTS: Counter in Count "http_requests_total" {route, status} dimensions {route, status} of [ingest, query];
    /// Time from a request to its answer. With `wait_ms` that of query includes the wait.
    HTTP_REQUEST_DURATION: Histogram(Duration) in Seconds "http_request_duration_seconds" {route, status} dimensions {route} of [ingest, query];
    /// Requests that were refused because their API key is over its rate.
    RATE_LIMITED: Counter in Count "rate_limited_total" {} dimensions {} of [ingest, query];
    /// Streams of outcomes that are open.
    STREAMS_OPEN: Gauge in Count "streams_open" {} dimensions {} of [query];
    /// Outcomes that were passed on to streams.
    STREAMED_EVENTS: Counter in Count "streamed_events_total" {} dimensions {} of [query];
    /// Time from publishing to Kafka's acknowledgement, of a request's events together.
    PUBLISH_DURATION: Histogram(Duration) in Seconds "publish_duration_seconds" {} dimensions {} of [ingest];

    /// Records that got an outcome, each counted once, also if its batch is delivered again.
    EVENTS_PROCESSED: Counter in Count "events_processed_total" {type, status} dimensions {status} of [processor];
    /// Records whose outcome is `fraud`.
    FRAUD_DETECTED: Counter in Count "fraud_detected_total" {} dimensions {} of [processor];
    /// Records whose event was there already: the hits of the deduplication.
    DEDUP_HITS: Counter in Count "dedup_hits_total" {} dimensions {} of [processor];
    /// Duplicates whose payload differs from the first copy's.
    PAYLOAD_DIFFERS: Counter in Count "payload_differs_total" {} dimensions {} of [processor];
    /// Dead letters, by the tag of their reason.
    DEAD_LETTERS: Counter in Count "dead_letters_total" {reason} dimensions {reason} of [processor];
    /// Addresses that were put on the block list because they were over their limit.
    ADDRESSES_BLOCKED: Counter in Count "addresses_blocked_total" {} dimensions {} of [processor];
    /// Events that were stored without a score, to be scored later.
    EVENTS_UNSCORED: Counter in Count "events_unscored_total" {} dimensions {} of [processor];
    /// Records that were delivered again after they had got their outcome.
    RECORDS_REDELIVERED: Counter in Count "records_redelivered_total" {} dimensions {} of [processor];
    /// Logs that were found made again: another record is at a known position.
    INCARNATIONS_BEGUN: Counter in Count "incarnations_begun_total" {topic} dimensions {} of [processor];
    /// Time from the receipt of an event by ingest to the commit of its row: of the events that a batch stored.
    EVENT_DELAY: Histogram(Delay) in Seconds "event_delay_seconds" {} dimensions {} of [processor];
    /// Age of a batch's oldest record when its invocation began: how far the consumer is behind.
    OLDEST_RECORD_AGE: Histogram(Delay) in Seconds "oldest_record_age_seconds" {} dimensions {} of [processor, archiver, notifier];
    /// Time of one step of a batch.
    STEP_DURATION: Histogram(Duration) in Seconds "step_duration_seconds" {step} dimensions {step} of [processor];

    /// Time of one invocation that succeeded.
    PROCESSING_DURATION: Histogram(Duration) in Seconds "processing_duration_seconds" {} dimensions {} of [processor, archiver, scorer, redriver, replayer, rescorer, aggregator, notifier, maintainer];
    /// Invocations by result: `ok` or `failed`. A batch that failed is sent again.
    INVOCATIONS: Counter in Count "invocations_total" {result} dimensions {result} of [processor, archiver, scorer, redriver, replayer, rescorer, aggregator, notifier, maintainer];
    /// Invocations that failed, by the tag of the error.
    INVOCATION_ERRORS: Counter in Count "invocation_errors_total" {error} dimensions {error} of [processor, archiver, scorer, redriver, replayer, rescorer, aggregator, notifier, maintainer];
    /// Processes that started and could serve.
    COLD_STARTS: Counter in Count "cold_starts_total" {} dimensions {} of [ingest, processor, archiver, scorer, query, redriver, replayer, rescorer, aggregator, notifier, maintainer];
    /// Time from the start of `main` until the process could serve: its connections.
    COLD_START_DURATION: Histogram(Duration) in Seconds "cold_start_duration_seconds" {} dimensions {} of [ingest, processor, archiver, scorer, query, redriver, replayer, rescorer, aggregator, notifier, maintainer];
    /// 1 while the process serves and its last invocation or request did not fail by the service's fault; else 0.
    WORKER_HEALTH: Gauge in None "worker_health" {} dimensions {} of [ingest, processor, archiver, scorer, query, redriver, replayer, rescorer, aggregator, notifier, maintainer, esm];

    /// The state of a dependency's circuit breaker: 0 closed, 1 half-open, 2 open.
    BREAKER_STATE: Gauge in None "circuit_breaker_state" {dependency} dimensions {dependency} of [ingest, processor, archiver, query, redriver, replayer, rescorer, aggregator, notifier];
    /// How often a circuit breaker opened.
    BREAKER_OPENED: Counter in Count "circuit_breaker_opened_total" {dependency} dimensions {dependency} of [ingest, processor, archiver, query, redriver, replayer, rescorer, aggregator, notifier];
    /// Time of one attempt at a dependency, whether it succeeded or not.
    DEPENDENCY_DURATION: Histogram(Duration) in Seconds "dependency_duration_seconds" {dependency} dimensions {dependency} of [ingest, processor, archiver, query, redriver, replayer, rescorer, aggregator, notifier];
    /// Attempts at a dependency that failed by the dependency's fault.
    DEPENDENCY_FAILURES: Counter in Count "dependency_failures_total" {dependency} dimensions {dependency} of [ingest, processor, archiver, query, redriver, replayer, rescorer, aggregator, notifier];
    /// Attempts at a dependency that repeat one that failed.
    DEPENDENCY_RETRIES: Counter in Count "dependency_retries_total" {dependency} dimensions {dependency} of [ingest, processor, archiver, query, redriver, replayer, rescorer, aggregator, notifier];

    /// Spans by result: `sent`, or `dropped` because the collector did not take them or too many waited.
    SPANS: Counter in Count "spans_total" {result} dimensions {result} of [ingest, processor, scorer, archiver, redriver];
    /// Requests with spans that the collector did not take.
    TRACE_EXPORT_FAILURES: Counter in Count "trace_export_failures_total" {} dimensions {} of [ingest, processor, scorer, archiver, redriver];

    /// Records in objects that were created. A record that is delivered again is not counted again.
    RECORDS_ARCHIVED: Counter in Count "records_archived_total" {topic} dimensions {topic} of [archiver];
    /// Objects by result: `created`, `already-there` (delivered again), or `failed` (their records will be sent again).
    ARCHIVE_OBJECTS: Counter in Count "archive_objects_total" {result} dimensions {result} of [archiver];
    /// Size of a created object, compressed.
    ARCHIVE_OBJECT_BYTES: Histogram(Size) in Bytes "archive_object_bytes" {} dimensions {} of [archiver];
    /// Age of a batch's oldest record of the topic, by Kafka's timestamp, when all of the batch was in the archive: how fresh it is.
    ARCHIVE_DELAY: Histogram(Delay) in Seconds "archive_delay_seconds" {topic} dimensions {topic} of [archiver];

    /// Dead letters by what a run of the redriver did with them.
    REDRIVES: Counter in Count "redrives_total" {result} dimensions {result} of [redriver];
    /// Events that got their score after they were stored.
    EVENTS_SCORED_LATE: Counter in Count "events_scored_late_total" {status} dimensions {} of [rescorer];
    /// Stored events that wait for a score, at the end of a run.
    UNSCORED_EVENTS: Gauge in Count "unscored_events" {} dimensions {} of [rescorer];
    /// Records that the aggregator has counted in statistics, and late scores.
    RECORDS_AGGREGATED: Counter in Count "records_aggregated_total" {} dimensions {} of [aggregator];
    /// Age of the oldest batch of records that no statistics count yet, at the end of a run; 0 if there is none.
    UNAGGREGATED_AGE: Gauge in Seconds "unaggregated_age_seconds" {} dimensions {} of [aggregator];
    /// Attempts to deliver a webhook by result: `delivered`, or `failed` (it is tried again, or dead).
    WEBHOOK_ATTEMPTS: Counter in Count "webhook_attempts_total" {result} dimensions {result} of [notifier];
    /// Time of one attempt to deliver a webhook, whether it succeeded or not.
    WEBHOOK_ATTEMPT_DURATION: Histogram(Duration) in Seconds "webhook_attempt_duration_seconds" {} dimensions {} of [notifier];
    /// Deliveries that failed at every attempt, and are kept to be sent again by hand.
    WEBHOOKS_DEAD: Counter in Count "webhooks_dead_total" {} dimensions {} of [notifier];
    /// Outcomes that a paused endpoint was not told.
    WEBHOOKS_SKIPPED: Counter in Count "webhooks_skipped_total" {} dimensions {} of [notifier];
    /// Deliveries that wait for their next attempt, at the end of a run.
    WEBHOOKS_WAITING: Gauge in Count "webhooks_waiting" {} dimensions {} of [notifier];
    /// How long the oldest attempt is overdue, at the end of a run; 0 if none is.
    WEBHOOK_OVERDUE: Gauge in Seconds "webhook_overdue_seconds" {} dimensions {} of [notifier];
    /// Records below the checkpoints that have no outcome: lost, unless their batch is delivered again. Of the last upkeep.
    UNACCOUNTED_RECORDS: Gauge in Count "unaccounted_records" {} dimensions {} of [maintainer];
    /// Upkeep that ended well: topics, schema and partitions are up to date, and losses were looked for.
    UPKEEP_RUNS: Counter in Count "upkeep_runs_total" {} dimensions {} of [maintainer];

    /// Records that a consumer group has not committed yet. Asked of Kafka for every partition, whoever consumes it.
    QUEUE_LAG: Gauge in Count "queue_lag" {group, topic, partition} dimensions {} of [esm];
    /// 1 if Kafka told the lag of the group at the last look, else 0; then `queue_lag` has the values of the look before.
    QUEUE_LAG_KNOWN: Gauge in None "queue_lag_known" {group} dimensions {} of [esm];
    /// Invocations of a mapping's function by result: `ok`, `partly` (some records are sent again), `failed` or `throttled`.
    ESM_INVOCATIONS: Counter in Count "esm_invocations_total" {group, result} dimensions {} of [esm];
    /// Records of a mapping by what became of them: `delivered`, `filtered`, `at-destination` or `dropped`.
    ESM_RECORDS: Counter in Count "esm_records_total" {group, result} dimensions {} of [esm];
}
