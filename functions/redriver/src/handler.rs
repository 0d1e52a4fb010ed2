//! Carries out a request, and writes it to the audit trail before and after.

use std::collections::BTreeMap;

use lambda::invocation::{Invocation, InvocationError};
use pipeline::chain;
use pipeline::ports::{ActionState, AuditEntry};
use serde::Serialize;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::Instant;

use crate::app::App;
use crate::dead_letters::{self, LetterRange, ListAnswer, RedriveAnswer};
use crate::error::RedriverError;
use crate::parked_letters::{self, ParkedAnswer, ReleaseAnswer};
use crate::report::Letters;
use crate::request::Request;
use crate::run::RedriveRun;
use crate::shown::bounded;
use crate::undelivered::{self, Chosen, DeliverAnswer, UndeliveredAnswer};

/// Longest request kept in the audit trail, in characters.
const MAX_AUDITED_CHARS: usize = 4_096;

/// The answer to an action, with the id of the run.
#[derive(Serialize)]
struct RunAnswer<'a, T> {
    run: &'a str,
    #[serde(flatten)]
    answer: &'a T,
}

/// Carries out one request, and answers with what was done.
///
/// # Errors
/// If the request is invalid, or a dependency still fails after bounded retries. Work done before stays done, and the
/// request may be repeated.
pub async fn handle(event: &RawValue, invocation: &Invocation, app: &App) -> Result<Box<RawValue>, InvocationError> {
    let (request, by) = Request::parse(event).map_err(RedriverError::from)?;
    let run = RedriveRun::begin(invocation, &*app.ports.clock).within(request.within());
    if Instant::now() >= run.end_deadline {
        return Err(RedriverError::OutOfTime.into());
    }
    let mut entry = AuditEntry {
        started_at: run.started_at,
        run: run.id.clone(),
        action: request.action().to_owned(),
        by: by.map(String::from),
        state: ActionState::Started,
        request: bounded(event.get(), MAX_AUDITED_CHARS),
        result: String::new(),
    };
    // Written first, so that nothing is done that is not in the audit trail.
    let record = || app.ports.audit.record(&entry);
    let recorded = app.guards.access.call(run.end_deadline, "writing the audit trail", record).await;
    recorded.map_err(RedriverError::from)?;

    let (result, audited, answer) = carry_out(app, &request, &run).await;
    entry.state = if result.is_ok() { ActionState::Finished } else { ActionState::Failed };
    entry.result = match &result {
        Ok(()) => audited.to_string(),
        Err(error) => json!({ "error": chain(error), "done": audited }).to_string(),
    };
    tracing::info!(
        request_id = invocation.request_id,
        run = run.id,
        action = entry.action,
        by = entry.by,
        state = entry.state.as_str(),
        result = entry.result,
        "redriver action ended"
    );
    let record = || app.ports.audit.record(&entry);
    if let Err(error) = app.guards.access.call(run.end_deadline, "writing the audit trail", record).await {
        // The work is done, and the entry says that it was begun. Failing now would hide where to continue.
        tracing::error!(
            run = run.id,
            tag = error.tag,
            error = chain(&error),
            "the action ended, but its audit entry could not be completed"
        );
    }
    result?;
    Ok(answer.map_err(RedriverError::Answer)?)
}

/// The result, its summary for the audit trail, and the answer.
async fn carry_out(
    app: &App,
    request: &Request,
    run: &RedriveRun,
) -> (Result<(), RedriverError>, serde_json::Value, Result<Box<RawValue>, serde_json::Error>) {
    match request {
        Request::List { filters, from_offsets, within_sec: _ } => {
            let mut answer = ListAnswer::default();
            let range = LetterRange { from: from_offsets, until: &BTreeMap::new() };
            let result = dead_letters::list(app, run, filters, range, &mut answer).await;
            (result, json!({ "matched": answer.walk.matched }), written(run, &answer))
        }
        Request::Redrive { filters, from_offsets, until_offsets, dry_run, max_per_sec, within_sec: _ } => {
            let mut answer = RedriveAnswer { dry_run: *dry_run, ..RedriveAnswer::default() };
            let range = LetterRange { from: from_offsets, until: until_offsets };
            let result = dead_letters::redrive(app, run, filters, range, max_per_sec.get(), &mut answer).await;
            if !dry_run {
                let RedriveAnswer { sent, parked, already, under_way, refused, .. } = answer;
                Letters { sent, parked, already, under_way, refused }.count();
            }
            let audited = json!({
                "dry_run": answer.dry_run, "matched": answer.walk.matched, "sent": answer.sent,
                "parked": answer.parked, "already": answer.already, "under_way": answer.under_way,
                "refused": answer.refused, "complete": result.is_ok() && answer.next.is_none(),
            });
            (result, audited, written(run, &answer))
        }
        Request::Parked { filters, from_key, limit, within_sec: _ } => {
            let mut answer = ParkedAnswer::default();
            let result = parked_letters::list(app, run, filters, from_key, limit.get() as usize, &mut answer).await;
            (result, json!({ "letters": answer.letters.len() }), written(run, &answer))
        }
        Request::Release { filters, from_key, dry_run, max_per_sec, within_sec: _ } => {
            let mut answer = ReleaseAnswer { dry_run: *dry_run, ..ReleaseAnswer::default() };
            let result = parked_letters::release(app, run, filters, from_key, max_per_sec.get(), &mut answer).await;
            if !dry_run {
                let ReleaseAnswer { sent, already, under_way, refused, .. } = answer;
                Letters { sent, parked: 0, already, under_way, refused }.count();
            }
            let audited = json!({
                "dry_run": answer.dry_run, "sent": answer.sent, "already": answer.already,
                "under_way": answer.under_way, "refused": answer.refused,
                "complete": result.is_ok() && answer.next_key.is_none(),
            });
            (result, audited, written(run, &answer))
        }
        Request::Undelivered { function, from_key, limit } => {
            let mut answer = UndeliveredAnswer::default();
            let chosen = Chosen { function: function.as_deref(), from_key };
            let result = undelivered::list(app, run, chosen, limit.get() as usize, &mut answer).await;
            (result, json!({ "batches": answer.batches.len() }), written(run, &answer))
        }
        Request::Deliver { function, from_key, dry_run } => {
            let mut answer = DeliverAnswer { dry_run: *dry_run, ..DeliverAnswer::default() };
            let chosen = Chosen { function: function.as_deref(), from_key };
            let result = undelivered::deliver(app, run, chosen, &mut answer).await;
            let audited = json!({
                "dry_run": answer.dry_run, "delivered": answer.delivered, "already": answer.already,
                "failed": answer.failed, "unreadable": answer.unreadable,
                "complete": result.is_ok() && answer.next_key.is_none(),
            });
            (result, audited, written(run, &answer))
        }
        Request::Audit { day } => {
            let day = day.unwrap_or(run.started_at);
            let read = || app.ports.audit.entries(day);
            match app.guards.access.call(run.end_deadline, "reading the audit trail", read).await {
                Ok(entries) => {
                    (Ok(()), json!({ "entries": entries.len() }), written(run, &json!({ "entries": entries })))
                }
                Err(error) => (Err(error.into()), json!({}), written(run, &json!({}))),
            }
        }
    }
}

fn written<T: Serialize>(run: &RedriveRun, answer: &T) -> Result<Box<RawValue>, serde_json::Error> {
    to_raw_value(&RunAnswer { run: &run.id, answer })
}
