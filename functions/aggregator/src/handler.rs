//! One invocation.

use std::time::Duration;

use lambda::invocation::{Invocation, InvocationError};
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::Instant;

use crate::app::App;
use crate::error::AggregatorError;
use crate::request::Request;

/// Time reserved before Lambda's deadline, to note how far the run came and to answer.
const RESERVE: Duration = Duration::from_secs(1);

/// Carries out one request, and answers with what was counted, or what differs.
///
/// # Errors
/// If the request is invalid, or Postgres still fails after bounded retries. What was counted before stays counted, and the
/// request may be repeated. If Kafka does not tell where its logs end, records are counted all the same.
pub async fn handle(event: &RawValue, invocation: &Invocation, app: &App) -> Result<Box<RawValue>, InvocationError> {
    let request = Request::parse(event).map_err(AggregatorError::from)?;
    let started = Instant::now();
    let deadline = started + invocation.remaining(RESERVE);
    if let Request::Verify { from, to } = request {
        let verification = app.verify(from, to, deadline).await?;
        return Ok(to_raw_value(&verification).map_err(AggregatorError::Answer)?);
    }
    let report = app.aggregate(deadline).await.map_err(AggregatorError::from)?;
    tracing::info!(
        request_id = invocation.request_id,
        records = report.records,
        unmeasured = report.unmeasured,
        oldest_uncounted_sec = report.oldest_uncounted_sec,
        ended = report.ended.as_str(),
        duration_ms = pipeline::millis(started.elapsed()),
        "aggregator run finished"
    );
    Ok(to_raw_value(&report).map_err(AggregatorError::Answer)?)
}
