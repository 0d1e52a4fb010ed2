//! One invocation: a batch of outcomes, or a request.

use std::time::Duration;

use event::Timestamp;
use lambda::invocation::{Invocation, InvocationError};
use lambda::kafka_trigger::{self, BatchAnswer};
use pipeline::Record;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::Instant;
use traces::batch::BatchTrace;
use webhooks::{DeadDelivery, EndpointId};

use crate::app::App;
use crate::error::NotifierError;
use crate::request::Request;

/// Time reserved before Lambda's deadline, to keep what could not be sent and to answer.
const RESERVE: Duration = Duration::from_secs(3);
/// Most dead deliveries in an answer.
const MOST_SHOWN: u32 = 20;

/// Handles one event: sends the outcomes of a batch, or carries out a request.
///
/// # Errors
/// If the event is neither, or Postgres still fails after bounded retries. A batch is then delivered again; a request may be
/// repeated. An endpoint that fails is no error.
pub async fn handle(event: &RawValue, invocation: &Invocation, app: &App) -> Result<Box<RawValue>, InvocationError> {
    let started = Instant::now();
    let deadline = started + invocation.remaining(RESERVE);
    match kafka_trigger::decode(event.get()) {
        Ok(records) => batch(&records, invocation, app, deadline).await,
        Err(error) if has_records(event) => Err(NotifierError::from(error).into()),
        Err(_) => request(event, invocation, app, deadline).await,
    }
}

/// Whether it is meant as a batch. Only asked about what is none.
fn has_records(event: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Batch {
        #[serde(rename = "records")]
        _records: IgnoredAny,
    }
    serde_json::from_str::<Batch>(event.get()).is_ok()
}

async fn batch(
    records: &[Record],
    invocation: &Invocation,
    app: &App,
    deadline: Instant,
) -> Result<Box<RawValue>, InvocationError> {
    let started = Instant::now();
    kafka_trigger::observe_age(records, app.clock.now());
    let trace = BatchTrace::begin("notify", records.iter().map(Record::trace));
    let notified = app.notify(records, deadline).await;
    trace.finish(notified.as_ref().err().map(|error| error.tag().into()));
    let report = notified?;
    tracing::info!(
        request_id = invocation.request_id,
        records = records.len(),
        messages = report.messages,
        delivered = report.delivered,
        kept = report.kept,
        skipped = report.skipped,
        duration_ms = pipeline::millis(started.elapsed()),
        "batch notified"
    );
    answered(&BatchAnswer::done())
}

async fn request(
    event: &RawValue,
    invocation: &Invocation,
    app: &App,
    deadline: Instant,
) -> Result<Box<RawValue>, InvocationError> {
    let started = Instant::now();
    match Request::parse(event).map_err(NotifierError::from)? {
        Request::Retry {} => {
            let report = app.retry(deadline).await?;
            tracing::info!(
                request_id = invocation.request_id,
                delivered = report.delivered,
                later = report.later,
                dead = report.dead,
                waiting = report.waiting,
                overdue_sec = report.overdue_sec,
                ended = report.ended.as_str(),
                duration_ms = pipeline::millis(started.elapsed()),
                "retries finished"
            );
            answered(&report)
        }
        Request::ListDead { webhook } => {
            let dead = app.dead(&webhook, deadline).await?;
            answered(&json!({ "dead": dead.iter().map(ShownDead::of).collect::<Vec<_>>() }))
        }
        Request::Resend { webhook, message_id } => {
            let now = app.clock.now();
            let revive = || app.deliveries.revive(&webhook, message_id.as_deref(), now);
            let revived = app.postgres.call(deadline, "reviving dead deliveries", revive).await;
            let revived = revived.map_err(NotifierError::from)?;
            tracing::info!(webhook = %webhook, revived, "dead webhooks are sent again");
            answered(&json!({ "revived": revived }))
        }
    }
}

impl App {
    async fn dead(&self, webhook: &EndpointId, deadline: Instant) -> Result<Vec<DeadDelivery>, NotifierError> {
        let dead = || self.deliveries.dead(webhook, MOST_SHOWN);
        Ok(self.postgres.call(deadline, "listing dead deliveries", dead).await?)
    }
}

/// A dead delivery as it is listed.
#[derive(Serialize)]
struct ShownDead<'a> {
    message_id: &'a str,
    attempts: u32,
    error: &'a str,
    failed_at: Timestamp,
    body_bytes: u64,
}

impl<'a> ShownDead<'a> {
    fn of(dead: &'a DeadDelivery) -> Self {
        let DeadDelivery { message_id, attempts, error, failed_at, body_bytes } = dead;
        ShownDead { message_id, attempts: *attempts, error, failed_at: *failed_at, body_bytes: *body_bytes }
    }
}

fn answered(answer: &impl Serialize) -> Result<Box<RawValue>, InvocationError> {
    Ok(to_raw_value(answer).map_err(NotifierError::Answer)?)
}
