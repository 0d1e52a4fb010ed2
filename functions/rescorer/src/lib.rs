//! Scores for events that were stored while the scorer was down, each once.
//!
//! Owns when to ask the scorer again, and the order of effects: score, store with an entry of the outbox, publish, take
//! the entry off. Leaves to the store that of several runs one settles an event.

mod config;
mod error;
mod outbox;
pub mod request;
mod run;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lambda::invocation::{Invocation, InvocationError};
use lambda::metrics::{Gauge, Histogram};
use pipeline::clock::Clock;
use pipeline::guard::Guard;
use pipeline::ports::{RecordPublisher, UnscoredEvents};
use scoring::Scoring;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::Instant;

pub use config::{Config, Policy};
pub use error::RescorerError;
pub use request::Request;
pub use run::Ended;

use crate::run::Run;

/// Kept back from the platform's deadline, to count what is left and to answer.
const RESERVE: Duration = Duration::from_secs(2);
/// The part of it in which what was begun is ended.
const ENDING: Duration = Duration::from_secs(1);

/// What the rescorer works with.
pub struct App {
    pub events: Arc<dyn UnscoredEvents>,
    pub scoring: Scoring,
    pub publisher: Arc<dyn RecordPublisher>,
    /// What this instance knows of Postgres' and Kafka's health; of the scorer's, `scoring` knows.
    pub postgres: Guard,
    pub kafka: Guard,
    pub clock: Arc<dyn Clock>,
    pub policy: Policy,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// What a run did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Unscored events that were looked at.
    pub found: usize,
    /// Events whose score this run stored.
    pub scored: usize,
    /// Those among them that turned out to be fraud.
    pub fraud: usize,
    /// Late outcomes that Kafka acknowledged, also of earlier runs.
    pub published: usize,
    /// Events that the scorer gives no score while it scores others. They stay unscored, and every run tries again.
    pub unscorable: usize,
    /// Late outcomes that Kafka refuses for good. They stay in the outbox, and every run tries again.
    pub undeliverable: usize,
    /// Events that still wait for a score.
    pub left: u64,
    pub ended: Ended,
}

impl App {
    /// Carries out one request and answers what was done.
    ///
    /// # Errors
    /// If the request cannot be read, or Kafka or Postgres failed after bounded retries. What was done before stays
    /// done, and the request may be repeated. A scorer that is down is no error: the answer says so.
    pub async fn handle(&self, event: &RawValue, invocation: &Invocation) -> Result<Box<RawValue>, InvocationError> {
        let request = Request::parse(event)?;
        let started = Instant::now();
        let deadline = started + invocation.remaining(RESERVE);
        let report = self.rescore(request, deadline).await?;
        let duration = started.elapsed();
        Gauge::UnscoredEvents.set(report.left as f64, &[]);
        Histogram::ProcessingDuration.record(duration.as_secs_f64(), &[("service", "rescorer".to_owned())]);
        tracing::info!(
            request_id = invocation.request_id,
            found = report.found,
            scored = report.scored,
            fraud = report.fraud,
            published = report.published,
            unscorable = report.unscorable,
            undeliverable = report.undeliverable,
            left = report.left,
            ended = report.ended.as_str(),
            duration_ms = duration.as_millis(),
            "late scores"
        );
        Ok(to_raw_value(&report).map_err(RescorerError::Answer)?)
    }

    async fn rescore(&self, request: Request, deadline: Instant) -> Result<Report, RescorerError> {
        let mut run = Run::new(self, deadline);
        let end = run.end_deadline;
        // What an earlier run left behind goes out first, whether or not the scorer is up.
        run.publish_outbox().await?;
        let ended = run.score_all(request.limit).await?;
        let left = self.postgres.call(end, "counting unscored events", || self.events.count()).await?;
        Ok(run.into_report(left, ended))
    }
}
