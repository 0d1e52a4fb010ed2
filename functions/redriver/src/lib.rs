//! Dead letters back to `raw-events`, each once.
//!
//! Owns how letters are listed, chosen, sent back and parked, and that every action is in the audit trail. Leaves to
//! the processor that a copy has no second effect: everything there is keyed by origin. Needs neither Postgres nor a
//! consumer group, so it works while either is unwell.

mod config;
mod dead_letters;
mod error;
mod guards;
pub mod letter;
mod parked_letters;
mod parking;
pub mod request;
mod run;
mod sending;
mod standing;

use std::fmt;
use std::sync::Arc;

use lambda::invocation::{Invocation, InvocationError};
use pipeline::chain;
use pipeline::clock::Clock;
use pipeline::ports::{ActionState, AuditEntry, ObjectStore, RecordPublisher, RedriveAudit, RedriveMarks, TopicSource};
use serde::Serialize;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::Instant;

pub use config::Config;
pub use error::RedriverError;
pub use guards::Guards;
pub use request::Request;

use crate::dead_letters::{ListAnswer, Range, RedriveAnswer};
use crate::parked_letters::{ParkedAnswer, ReleaseAnswer};
use crate::request::Offsets;
use crate::run::Run;

/// Longest request kept in the audit trail, in characters.
const MAX_AUDITED_CHARS: usize = 4_096;

/// What the redriver works with.
pub struct App {
    pub topics: Arc<dyn TopicSource>,
    pub publisher: Arc<dyn RecordPublisher>,
    pub marks: Arc<dyn RedriveMarks>,
    pub audit: Arc<dyn RedriveAudit>,
    pub objects: Arc<dyn ObjectStore>,
    pub clock: Arc<dyn Clock>,
    pub guards: Guards,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").finish_non_exhaustive()
    }
}

/// The answer to an action, with the run that made it.
#[derive(Serialize)]
struct Answer<'a, T> {
    run: &'a str,
    #[serde(flatten)]
    answer: &'a T,
}

impl App {
    /// Carries out one request and answers what was done.
    ///
    /// # Errors
    /// If the request cannot be read, or a dependency failed after bounded retries. What was done before stays done,
    /// and the request may be repeated.
    pub async fn handle(&self, event: &RawValue, invocation: &Invocation) -> Result<Box<RawValue>, InvocationError> {
        let (request, by) = Request::parse(event)?;
        let run = Run::begin(invocation, &*self.clock);
        if Instant::now() >= run.end_deadline {
            return Err(RedriverError::OutOfTime.into());
        }
        let mut entry = AuditEntry {
            started_at: run.started_at,
            run: run.id.clone(),
            action: request.action().to_owned(),
            by,
            state: ActionState::Started,
            request: letter::bounded(event.get(), MAX_AUDITED_CHARS),
            result: String::new(),
        };
        // First of all: nothing is done that the trail does not know of.
        let record = || self.audit.record(&entry);
        let recorded = self.guards.dynamodb.call(run.end_deadline, "writing the audit trail", record).await;
        recorded.map_err(RedriverError::from)?;

        let (result, audited, answer) = self.carry_out(&request, &run).await;
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
        let record = || self.audit.record(&entry);
        if let Err(error) = self.guards.dynamodb.call(run.end_deadline, "writing the audit trail", record).await {
            // The work is done and the entry says that it was begun; failing now would hide where to go on.
            tracing::error!(run = run.id, tag = error.tag, error = chain(&error), "the audit entry has no end");
        }
        result?;
        Ok(answer.map_err(RedriverError::Answer)?)
    }

    /// How it went, what the audit trail keeps of it, and the answer.
    async fn carry_out(
        &self,
        request: &Request,
        run: &Run,
    ) -> (Result<(), RedriverError>, serde_json::Value, Result<Box<RawValue>, serde_json::Error>) {
        match request {
            Request::List { filters, from } => {
                let mut answer = ListAnswer::default();
                let range = Range { from, until: &Offsets::new() };
                let result = dead_letters::list(self, run, filters, range, &mut answer).await;
                (result, json!({ "matched": answer.walk.matched }), written(run, &answer))
            }
            Request::Redrive { filters, from, until, dry_run, max_per_sec } => {
                let mut answer = RedriveAnswer { dry_run: *dry_run, ..RedriveAnswer::default() };
                let range = Range { from, until };
                let result = dead_letters::redrive(self, run, filters, range, *max_per_sec, &mut answer).await;
                let audited = json!({
                    "dry_run": answer.dry_run, "matched": answer.walk.matched, "sent": answer.sent,
                    "parked": answer.parked, "already": answer.already, "under_way": answer.under_way,
                    "refused": answer.refused, "complete": result.is_ok() && answer.next.is_none(),
                });
                (result, audited, written(run, &answer))
            }
            Request::Parked { filters, from_key, limit } => {
                let mut answer = ParkedAnswer::default();
                let result = parked_letters::list(self, run, filters, from_key, *limit, &mut answer).await;
                (result, json!({ "letters": answer.letters.len() }), written(run, &answer))
            }
            Request::Release { filters, from_key, dry_run, max_per_sec } => {
                let mut answer = ReleaseAnswer { dry_run: *dry_run, ..ReleaseAnswer::default() };
                let result = parked_letters::release(self, run, filters, from_key, *max_per_sec, &mut answer).await;
                let audited = json!({
                    "dry_run": answer.dry_run, "sent": answer.sent, "already": answer.already,
                    "under_way": answer.under_way, "refused": answer.refused,
                    "complete": result.is_ok() && answer.next_key.is_none(),
                });
                (result, audited, written(run, &answer))
            }
            Request::Audit { day } => {
                let day = day.unwrap_or(run.started_at);
                let read = || self.audit.entries(day);
                match self.guards.dynamodb.call(run.end_deadline, "reading the audit trail", read).await {
                    Ok(entries) => {
                        (Ok(()), json!({ "entries": entries.len() }), written(run, &json!({ "entries": entries })))
                    }
                    Err(error) => (Err(error.into()), json!({}), written(run, &json!({}))),
                }
            }
        }
    }
}

fn written<T: Serialize>(run: &Run, answer: &T) -> Result<Box<RawValue>, serde_json::Error> {
    to_raw_value(&Answer { run: &run.id, answer })
}
