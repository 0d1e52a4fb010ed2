//! Carries out a request: restores archived records or processes them again, batch by batch.

use std::collections::BTreeMap;
use std::sync::Arc;

use archive::ArchiveReader;
use lambda::invocation::{Invocation, InvocationError};
use pipeline::pace::Pace;
use pipeline::{chain, failpoint};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::Instant;

use crate::app::App;
use crate::batches::Batches;
use crate::counts::Counts;
use crate::error::ReplayerError;
use crate::reprocess::Reprocessor;
use crate::request::{Action, MaxPerSec, Request};
use crate::restore;
use crate::run::ReplayRun;

/// Largest batch: the size of one transaction, and the most progress that a killed run loses.
const MAX_BATCH: usize = 500;

#[derive(Serialize)]
struct ReplayAnswer<'a> {
    /// Whether all records of the request have been processed.
    complete: bool,
    dry_run: bool,
    counts: &'a Counts,
    /// If not complete: where to continue, for each partition that was begun. A run remembers this itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a BTreeMap<i32, i64>>,
}

/// Carries out one request as far as time allows.
///
/// # Errors
/// If the request is invalid, or a dependency still fails after bounded retries. Work done stays done, and the same
/// request continues from there.
pub async fn handle(event: &RawValue, invocation: &Invocation, app: &App) -> Result<Box<RawValue>, InvocationError> {
    let (request, by) = Request::parse(event).map_err(ReplayerError::from)?;
    let mut run = ReplayRun::open(app, &request, invocation).await?;
    let result = carry_out(app, &request, &mut run).await;
    tracing::info!(
        request_id = invocation.request_id,
        by = by.as_deref(),
        mode = ?request.mode,
        order = ?request.order,
        records = run.counts.records,
        unreadable = run.counts.unreadable,
        complete = matches!(result, Ok(true)),
        error = result.as_ref().err().map(|error| chain(error)),
        "replay ended"
    );
    let complete = result?;
    let next = (!complete).then_some(&run.next);
    let answer = ReplayAnswer { complete, dry_run: run.is_dry(), counts: &run.counts, next };
    Ok(to_raw_value(&answer).map_err(ReplayerError::Answer)?)
}

/// Whether the end was reached.
async fn carry_out(app: &App, request: &Request, run: &mut ReplayRun<'_>) -> Result<bool, ReplayerError> {
    let order = &request.order;
    let reprocessor = match &order.action {
        Action::Restore => None,
        Action::Reprocess { version, scorer } => Some(Reprocessor::new(app, version, scorer.as_deref(), run.is_dry())),
    };
    let reader = ArchiveReader::guarded(Arc::clone(&app.ports.objects), Arc::clone(&app.s3));
    let filter = order.filter().starting_at(run.next.clone());
    let max_per_sec = match (&order.action, run.is_dry()) {
        // Needs neither Postgres nor the scorer.
        (Action::Restore, true) => MaxPerSec::LARGEST,
        (Action::Restore | Action::Reprocess { .. }, _) => request.max_per_sec,
    };
    let mut pace = Pace::new(max_per_sec.get());
    let mut batches = Batches::open(&reader, &filter, pace.batch(MAX_BATCH), run.deadline).await?;
    while pace.wait(run.deadline).await {
        let began = Instant::now();
        let Some(records) = batches.next(&mut run.counts).await? else { break };
        let before = run.counts.records;
        match &reprocessor {
            None => {
                restore::restore(app, order, run.is_dry(), &records, &mut run.counts, run.end_deadline).await?;
            }
            Some(reprocessor) => {
                reprocessor.reprocess(order, &records, &mut run.counts, run.end_deadline).await?;
            }
        }
        failpoint!("replayer::applied");
        run.next.extend(records.iter().map(|record| (record.position.partition, record.position.offset + 1)));
        run.save().await?;
        failpoint!("replayer::saved");
        // Records that do not meet the filters cause no call to Postgres.
        pace.spend(run.counts.records - before, began);
    }
    if batches.is_finished() {
        run.save().await?;
    }
    Ok(batches.is_finished())
}
