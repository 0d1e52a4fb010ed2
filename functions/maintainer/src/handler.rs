//! Carries out a request. A change of blocks, keys or webhooks is written to the audit trail before and after.

use std::num::NonZeroU64;
use std::time::Duration;

use event::Timestamp;
use lambda::invocation::{Invocation, InvocationError};
use pipeline::chain;
use pipeline::ports::{ActionState, AuditEntry};
use serde::Serialize;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use crate::app::App;
use crate::block_list::Rule;
use crate::error::MaintainerError;
use crate::last_records::last_records;
use crate::request::{ChosenKey, Request};
use crate::{api_keys, block_list, claims, endpoints, progress, upkeep};

/// Time reserved for the answer.
const RESERVE: Duration = Duration::from_secs(5);
/// Most ranges of missing offsets in an answer, for each log: an answer of Lambda has at most 6 MB.
const MAX_RANGES: usize = 100;

/// Carries out one request, and answers with what was done.
///
/// # Errors
/// If the request is invalid, or a dependency fails. Work done before stays done, and the request may be repeated.
pub async fn handle(event: &RawValue, invocation: &Invocation, app: &App) -> Result<Box<RawValue>, InvocationError> {
    let (request, by) = Request::parse(event).map_err(MaintainerError::from)?;
    // Lambda may cut off a long action, which can be repeated. Without any time left, it is better not to begin.
    if invocation.remaining(Duration::ZERO).is_zero() {
        return Err(MaintainerError::OutOfTime.into());
    }
    let action = request.action();
    tracing::info!(request_id = invocation.request_id, action, by = by.as_deref(), "carrying out a maintainer action");
    // Boxed, because one future type for all actions is nested too deeply for the compiler.
    match request.audited() {
        None => Ok(Box::pin(carry_out(request, app, invocation.remaining(RESERVE))).await?.answer),
        Some(asked) => {
            let entry = AuditEntry {
                started_at: app.clock.now(),
                run: invocation.run_id(),
                action: action.to_owned(),
                by: by.map(String::from),
                state: ActionState::Started,
                request: asked.to_string(),
                result: String::new(),
            };
            Ok(Box::pin(carry_out_on_record(request, entry, app)).await?)
        }
    }
}

/// Writes the entry first, so that nothing is changed that is not in the audit trail.
async fn carry_out_on_record(
    request: Request,
    mut entry: AuditEntry,
    app: &App,
) -> Result<Box<RawValue>, MaintainerError> {
    app.audit.record(&entry).await.map_err(MaintainerError::Access)?;
    // Nothing that is on record may be left for later.
    let done = carry_out(request, app, Duration::ZERO).await;
    (entry.state, entry.result) = match &done {
        Ok(done) => (ActionState::Finished, done.audited().to_owned()),
        Err(error) => (ActionState::Failed, json!({ "error": chain(error) }).to_string()),
    };
    tracing::info!(
        action = entry.action,
        by = entry.by,
        state = entry.state.as_str(),
        result = entry.result,
        "changed"
    );
    if let Err(error) = app.audit.record(&entry).await {
        // The work is done, and the entry says that it was begun. Failing now would hide a new key.
        tracing::error!(run = entry.run, error = chain(&error), "an audit entry could not be completed");
    }
    Ok(done?.answer)
}

/// What the caller gets, and what the audit trail keeps of it.
struct Done {
    answer: Box<RawValue>,
    /// If it is not the answer.
    audited: Option<Box<RawValue>>,
}

impl Done {
    fn same(answer: &impl Serialize) -> Result<Self, MaintainerError> {
        Ok(Done { answer: to_raw_value(answer).map_err(MaintainerError::Answer)?, audited: None })
    }

    fn of(answer: &impl Serialize, audited: &impl Serialize) -> Result<Self, MaintainerError> {
        Ok(Done { audited: Some(to_raw_value(audited).map_err(MaintainerError::Answer)?), ..Done::same(answer)? })
    }

    fn audited(&self) -> &str {
        self.audited.as_ref().unwrap_or(&self.answer).get()
    }
}

/// `patience` is for work that may be left for later.
async fn carry_out(request: Request, app: &App, patience: Duration) -> Result<Done, MaintainerError> {
    let now = app.clock.now();
    match request {
        Request::Maintain {} => Done::same(&upkeep::maintain(app, patience).await?),
        Request::Block { address, reason, for_sec } => {
            let block = block_list::put(&*app.blocks, Rule::Block, address, reason.into(), end(now, for_sec)).await?;
            Done::same(&json!({ "blocked": block }))
        }
        Request::Allow { address, reason, for_sec } => {
            let entry = block_list::put(&*app.blocks, Rule::Allow, address, reason.into(), end(now, for_sec)).await?;
            Done::same(&json!({ "allowed": entry }))
        }
        Request::Unblock { address } | Request::Disallow { address } => {
            Done::same(&block_list::remove(&*app.blocks, &*app.counters, address, now).await?)
        }
        Request::ListBlocks {} => Done::same(&json!({ "blocks": block_list::list(&*app.blocks, now).await? })),
        Request::FindBlock { address } => Done::same(&block_list::find(&*app.blocks, address, now).await?),
        Request::ShowLimits { address } => {
            Done::same(&block_list::limits(&*app.blocks, &*app.counters, address, now).await?)
        }
        Request::ShowDedup { tenant, event_id } => {
            Done::same(&claims::show(&*app.claims().await?, tenant, event_id, now).await?)
        }
        Request::ListTopics {} => Done::same(&json!({ "topics": progress::topics(app).await? })),
        Request::Lag {} => Done::same(&json!({ "groups": progress::groups(app).await? })),
        Request::TailTopic { topic, records, values } => {
            Done::same(&last_records(app, topic, records.get() as usize, values).await?)
        }
        Request::CreateKey(new) => {
            let created = api_keys::create(&*app.keys, new, now).await?;
            Done::of(&created, &created.shown)
        }
        Request::ListKeys { tenant } => {
            Done::same(&json!({ "keys": api_keys::list(&*app.keys, tenant.as_ref(), now).await? }))
        }
        Request::RotateKey(rotation) => {
            let rotated = api_keys::rotate(&*app.keys, rotation, now).await?;
            Done::of(&rotated, &json!({ "new": rotated.new.shown, "old": rotated.old }))
        }
        Request::RevokeKey(ChosenKey { hash }) => Done::same(&api_keys::revoke(&*app.keys, hash, now).await?),
        Request::CreateWebhook(new) => {
            let (webhooks, key) = (app.webhooks().await?, app.webhook_key().await?);
            let created = endpoints::create(&webhooks, &key, new, now).await?;
            Done::of(&created, &created.shown)
        }
        Request::ListWebhooks { tenant } => {
            let listed = endpoints::list(&app.webhooks().await?, tenant.as_ref(), now).await?;
            Done::same(&json!({ "webhooks": listed }))
        }
        Request::RotateWebhook { webhook } => {
            let (webhooks, key) = (app.webhooks().await?, app.webhook_key().await?);
            let rotated = endpoints::rotate(&webhooks, &key, &webhook, now).await?;
            Done::of(&rotated, &rotated.shown)
        }
        Request::PauseWebhook { webhook, reason } => {
            Done::same(&endpoints::pause(&app.webhooks().await?, &webhook, reason.as_deref(), now).await?)
        }
        Request::ResumeWebhook { webhook } => {
            Done::same(&endpoints::resume(&app.webhooks().await?, &webhook, now).await?)
        }
        Request::DeleteWebhook { webhook } => {
            Done::same(&endpoints::delete(&app.webhooks().await?, &webhook, now).await?)
        }
        Request::Audit { day } => {
            let entries = app.audit.entries(day.unwrap_or(now)).await.map_err(MaintainerError::Access)?;
            Done::same(&json!({ "entries": entries }))
        }
        Request::Reconcile {} => {
            let mut account = upkeep::reconcile(app).await?;
            account.partitions.iter_mut().for_each(|partition| partition.missing.truncate(MAX_RANGES));
            Done::same(&json!({ "unaccounted": account.unaccounted(), "partitions": account.partitions }))
        }
    }
}

fn end(now: Timestamp, for_sec: Option<NonZeroU64>) -> Option<Timestamp> {
    for_sec.map(|seconds| now.plus(Duration::from_secs(seconds.get())))
}
