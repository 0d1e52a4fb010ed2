//! One run: counts what was recorded before it began.

use std::time::Duration;

use event::Timestamp;
use futures::TryFutureExt as _;
use pipeline::DependencyError;
use pipeline::topic::RAW_EVENTS;
use postgres::{Drain, LogEnd, PostgresError};
use serde::Serialize;
use strum::IntoStaticStr;
use telemetry::list::{RECORDS_AGGREGATED, UNAGGREGATED_AGE};
use tokio::time::Instant;

use crate::app::App;

/// Batches of the processor that are counted in one transaction: fewer, larger ones write a cell less often.
const BATCHES: i64 = 50;

/// Longest time from when ingest receives an event until Kafka has it, rounded up, in milliseconds. `received_at` is before the
/// record is in its log, so where the logs end tells only about events that were received this long before.
const ON_THE_WAY_MS: i64 = 30_000;

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case", const_into_str)]
pub enum AggregationEnd {
    /// Everything that was recorded before the run is counted.
    Done,
    /// The function's time is nearly up.
    OutOfTime,
    /// Another run is counting.
    Busy,
}

impl AggregationEnd {
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// What a run did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AggregationReport {
    /// Records that it counted, and late scores.
    pub records: u64,
    /// Numbers with more digits than a sum can hold: their events are counted, but they are in no sum.
    pub unmeasured: u64,
    /// Age of the oldest batch that is not counted, in seconds; 0 if there is none.
    pub oldest_uncounted_sec: f64,
    pub ended: AggregationEnd,
}

impl App {
    /// # Errors
    /// If Postgres fails.
    pub(crate) async fn aggregate(&self, deadline: Instant) -> Result<AggregationReport, DependencyError> {
        let store = &self.aggregates;
        self.mark_ends(deadline).await?;
        let pass = self.store(deadline, "reading the queue", || store.begin()).await?;
        let (mut records, mut unmeasured) = (0, 0);
        let ended = loop {
            if Instant::now() >= deadline {
                break AggregationEnd::OutOfTime;
            }
            match self.store(deadline, "counting records", || store.count_some(&pass, BATCHES)).await? {
                Drain::Counted { records: counted, unmeasured: without } => {
                    records += counted;
                    unmeasured += without;
                    RECORDS_AGGREGATED.add(counted, []);
                }
                Drain::Empty => break AggregationEnd::Done,
                Drain::Busy => break AggregationEnd::Busy,
            }
        };
        let end = deadline + Duration::from_millis(500);
        if ended == AggregationEnd::Done {
            self.store(end, "noting progress", || store.complete(&pass)).await?;
        }
        let oldest = self.store(end, "reading the queue", || store.oldest_uncounted()).await?;
        let oldest_uncounted_sec = oldest.map_or(0.0, |at| self.clock.now().since(at).as_secs_f64());
        UNAGGREGATED_AGE.set(oldest_uncounted_sec, []);
        Ok(AggregationReport { records, unmeasured, oldest_uncounted_sec, ended })
    }

    /// Notes where the logs end now. Once the records below are counted, so is everything that was received before.
    async fn mark_ends(&self, deadline: Instant) -> Result<(), DependencyError> {
        let at = Timestamp::from_millis(self.clock.now().as_millis().saturating_sub(ON_THE_WAY_MS));
        let ends = || async {
            let ends = self.topics.watermarks(RAW_EVENTS).await;
            ends.map_err(|error| error.into_dependency_error("reading where the logs end"))
        };
        let ends = match self.kafka.call(deadline, "reading where the logs end", ends).await {
            Ok(ends) => ends,
            Err(error) => {
                tracing::warn!(
                    error = pipeline::chain(&error),
                    "Kafka does not tell where its logs end: records are counted, but not up to when the counts are complete"
                );
                return Ok(());
            }
        };
        // Of a log without records nothing has to be counted.
        let ends = ends.iter().filter(|marks| marks.latest > marks.earliest);
        let ends: Vec<LogEnd> =
            ends.map(|marks| LogEnd { partition: marks.partition, end_offset: marks.latest }).collect();
        self.store(deadline, "noting the ends", || self.aggregates.mark(at, RAW_EVENTS, &ends)).await
    }

    /// Calls Postgres behind its guard.
    async fn store<T, F>(
        &self,
        deadline: Instant,
        doing: &'static str,
        mut call: impl FnMut() -> F,
    ) -> Result<T, DependencyError>
    where
        F: Future<Output = Result<T, PostgresError>>,
    {
        let call = || call().map_err(|error| error.into_dependency(doing));
        self.postgres.call(deadline, doing, call).await
    }
}
