//! One invocation: publishes what an earlier run left in the outbox, then scores the events without a score.

use std::time::Duration;

use lambda::invocation::{Invocation, InvocationError};
use serde_json::value::{RawValue, to_raw_value};
use telemetry::list::UNSCORED_EVENTS;
use tokio::time::Instant;

use crate::app::App;
use crate::error::RescorerError;
use crate::request::Request;
use crate::run::{Report, Run};

/// Time reserved before Lambda's deadline, to count the events that are left and to answer.
const RESERVE: Duration = Duration::from_secs(2);
/// Carries out one request, and answers with what was done.
///
/// # Errors
/// If the request is invalid, or Kafka or Postgres still fails after bounded retries. Work done before stays done, and
/// the request may be repeated. A scorer that is down is not an error: the answer says so.
pub async fn handle(event: &RawValue, invocation: &Invocation, app: &App) -> Result<Box<RawValue>, InvocationError> {
    let Request::Rescore { limit } = Request::parse(event).map_err(RescorerError::from)?;
    let started = Instant::now();
    let deadline = started + invocation.remaining(RESERVE);
    let report = app.rescore(limit.map(|limit| limit.get() as usize), deadline).await?;
    let duration = started.elapsed();
    UNSCORED_EVENTS.set(report.left as f64, []);
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
        duration_ms = pipeline::millis(duration),
        "rescorer run finished"
    );
    Ok(to_raw_value(&report).map_err(RescorerError::Answer)?)
}

impl App {
    async fn rescore(&self, limit: Option<usize>, deadline: Instant) -> Result<Report, RescorerError> {
        let mut run = Run::new(self, deadline);
        let end = run.end_deadline;
        // What an earlier run left in the outbox is published first, even if the scorer is down.
        run.publish_outbox().await?;
        let ended = run.score_all(limit).await?;
        let left = self.postgres.call(end, "counting unscored events", || self.events.count()).await?;
        Ok(run.into_report(left, ended))
    }
}
