//! The actions on batches that a trigger gave up: what it wrote to its on-failure destination is listed, and delivered
//! after all.
//!
//! A batch is delivered by calling its function with the event that the trigger gave up. The function recognises what it
//! has done before, so a batch may be delivered any number of times. A record that fits in no event is written as an object,
//! and the function gets the object's key.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use archive::quarantine;
use bytes::Bytes;
use event::Timestamp;
use lambda::kafka_trigger::{self, BatchAnswer};
use pipeline::object_name::{DELIVERED, UNDELIVERED};
use pipeline::quota::MAX_PAYLOAD_BYTES;
use pipeline::{DependencyError, chain};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use crate::app::App;
use crate::error::RedriverError;
use crate::run::RedriveRun;
use crate::shown::bounded;

/// Most failures that an answer describes; the others are only counted.
const MAX_SHOWN_FAILURES: usize = 20;
/// Longest description of a failure, in characters.
const MAX_FAILURE_CHARS: usize = 512;

/// The batches that a request is about.
#[derive(Clone, Copy, Debug)]
pub struct Chosen<'a> {
    /// The name of their function.
    pub function: Option<&'a str>,
    /// The key to begin with.
    pub from_key: &'a str,
}

/// What a trigger writes (Lambda Developer Guide, "Capturing discarded batches for an Amazon MSK event source").
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    #[serde(borrow)]
    request_context: RequestContext<'a>,
    #[serde(default)]
    timestamp: Option<Timestamp>,
    #[serde(rename = "KafkaBatchInfo", default)]
    batch: BatchInfo,
    #[serde(borrow)]
    payload: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    #[serde(borrow)]
    function_arn: Cow<'a, str>,
    #[serde(borrow, default)]
    condition: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BatchInfo {
    records_info: BTreeMap<String, RecordsInfo>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordsInfo {
    first_record_offset: serde_json::Value,
    last_record_offset: serde_json::Value,
}

impl<'a> Document<'a> {
    fn parse(body: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }

    /// `arn:aws:lambda:…:function:processor:live` is `processor`.
    fn function(&self) -> &str {
        let arn = &*self.request_context.function_arn;
        arn.split_once(":function:").map_or(arn, |(_, name)| name.split(':').next().unwrap_or(name))
    }

    /// The event that the trigger gave up: text in a bucket, an object in the destinations that are topics.
    fn event(&self) -> Result<Cow<'a, str>, serde_json::Error> {
        let payload = self.payload.get();
        if payload.starts_with('"') {
            serde_json::from_str(payload).map(Cow::Owned)
        } else {
            Ok(Cow::Borrowed(payload))
        }
    }
}

/// The objects that were chosen, and those of them that were delivered.
struct Batches {
    keys: Vec<String>,
    delivered: BTreeSet<String>,
}

impl Batches {
    async fn open(app: &App, run: &RedriveRun, chosen: Chosen<'_>) -> Result<Self, RedriverError> {
        let list = async |prefix: &'static str, doing| {
            app.guards.s3.call(run.end_deadline, doing, || app.ports.objects.list(prefix)).await
        };
        let undelivered = list(UNDELIVERED, "listing what the triggers gave up").await?;
        let delivered = list(DELIVERED, "listing what was delivered").await?;
        let keys = undelivered.into_iter().map(|object| object.key).filter(|key| key.as_str() >= chosen.from_key);
        let of_note = |key: String| key.strip_prefix(DELIVERED).map(str::to_owned);
        let delivered = delivered.into_iter().filter_map(|object| of_note(object.key)).collect();
        Ok(Batches { keys: keys.collect(), delivered })
    }
}

async fn read(app: &App, run: &RedriveRun, key: &str) -> Result<Bytes, DependencyError> {
    app.guards.s3.call(run.end_deadline, "reading what a trigger gave up", || app.ports.objects.get(key)).await
}

#[derive(Debug, Serialize)]
pub struct UndeliveredBatch {
    pub key: String,
    pub function: String,
    /// Why the trigger gave up, in AWS's words.
    pub condition: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given_up_at: Option<Timestamp>,
    /// `raw-events-0: 5 to 9` is `{"raw-events-0": [5, 9]}`.
    pub offsets: BTreeMap<String, [serde_json::Value; 2]>,
    /// Size of the object, in bytes.
    pub bytes: usize,
    pub delivered: bool,
}

#[derive(Debug, Default, Serialize)]
pub struct UndeliveredAnswer {
    /// Objects looked at.
    pub read: u64,
    /// Objects that no trigger wrote.
    pub unreadable: u64,
    pub batches: Vec<UndeliveredBatch>,
    /// The key to continue from: there are more batches than the limit, or the time ran out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_key: Option<String>,
}

/// Lists what the triggers gave up.
///
/// # Errors
/// If S3 fails after bounded retries.
pub async fn list(
    app: &App,
    run: &RedriveRun,
    chosen: Chosen<'_>,
    limit: usize,
    answer: &mut UndeliveredAnswer,
) -> Result<(), RedriverError> {
    let batches = Batches::open(app, run, chosen).await?;
    for key in batches.keys {
        if answer.batches.len() == limit || run.is_out_of_time() {
            answer.next_key = Some(key);
            break;
        }
        let body = read(app, run, &key).await?;
        answer.read += 1;
        match Document::parse(&body) {
            Ok(document) if chosen.function.is_none_or(|function| function == document.function()) => {
                let offsets = |(of, info): (&String, &RecordsInfo)| {
                    (of.clone(), [info.first_record_offset.clone(), info.last_record_offset.clone()])
                };
                answer.batches.push(UndeliveredBatch {
                    function: document.function().to_owned(),
                    condition: document.request_context.condition.to_string(),
                    given_up_at: document.timestamp,
                    offsets: document.batch.records_info.iter().map(offsets).collect(),
                    bytes: body.len(),
                    delivered: batches.delivered.contains(&key),
                    key,
                });
            }
            Ok(_) => {}
            Err(error) => {
                unreadable(&key, &error);
                answer.unreadable += 1;
            }
        }
    }
    Ok(())
}

/// What a delivery did, or in a dry run would do.
#[derive(Debug, Default, Serialize)]
pub struct DeliverAnswer {
    pub dry_run: bool,
    /// Objects looked at.
    pub read: u64,
    /// Objects that no trigger wrote.
    pub unreadable: u64,
    /// Batches whose function has done them now.
    pub delivered: u64,
    /// Batches that were delivered before.
    pub already: u64,
    /// Batches whose function failed again: another run tries them again.
    pub failed: u64,
    /// Why, for the first ones.
    pub failures: Vec<DeliveryFailure>,
    /// The key to continue from: the time ran out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_key: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct DeliveryFailure {
    pub key: String,
    pub function: String,
    pub error: String,
}

/// Calls each function again with what its trigger gave up.
///
/// # Errors
/// If S3 fails after bounded retries, or functions are not called because their breaker is open. `answer` then holds what
/// was done, and another run does the rest.
pub async fn deliver(
    app: &App,
    run: &RedriveRun,
    chosen: Chosen<'_>,
    answer: &mut DeliverAnswer,
) -> Result<(), RedriverError> {
    let batches = Batches::open(app, run, chosen).await?;
    for key in batches.keys {
        if run.is_out_of_time() {
            answer.next_key = Some(key);
            break;
        }
        if batches.delivered.contains(&key) {
            answer.already += 1;
            continue;
        }
        let body = read(app, run, &key).await?;
        answer.read += 1;
        let (event, document) = match Document::parse(&body).and_then(|document| Ok((document.event()?, document))) {
            Ok(read) => read,
            Err(error) => {
                unreadable(&key, &error);
                answer.unreadable += 1;
                continue;
            }
        };
        if chosen.function.is_some_and(|function| function != document.function()) {
            continue;
        }
        if answer.dry_run {
            answer.delivered += 1;
            continue;
        }
        match call(app, run, &document, &event).await {
            Ok(()) => {
                note(app, run, &key).await?;
                answer.delivered += 1;
            }
            Err(Undone::Fatal(error)) => {
                answer.next_key = Some(key);
                return Err(error);
            }
            Err(Undone::Failed(error)) => {
                tracing::error!(
                    object = key,
                    function = document.function(),
                    error,
                    "a batch that a trigger gave up failed again"
                );
                answer.failed += 1;
                if answer.failures.len() < MAX_SHOWN_FAILURES {
                    let (function, error) = (document.function().to_owned(), bounded(&error, MAX_FAILURE_CHARS));
                    answer.failures.push(DeliveryFailure { key, function, error });
                }
            }
        }
    }
    Ok(())
}

/// Why a batch is not done.
enum Undone {
    /// The run cannot go on.
    Fatal(RedriverError),
    /// Other batches may still succeed.
    Failed(String),
}

async fn call(app: &App, run: &RedriveRun, document: &Document<'_>, event: &str) -> Result<(), Undone> {
    let event = if event.len() <= MAX_PAYLOAD_BYTES {
        Bytes::copy_from_slice(event.as_bytes())
    } else {
        as_objects(app, run, event).await?
    };
    let function = &*document.request_context.function_arn;
    let call = || app.ports.functions.call(function, event.clone());
    let answer = match app.guards.function.call(run.end_deadline, "delivering a batch", call).await {
        Ok(answer) => answer,
        Err(error) if error.open_breaker().is_some() => return Err(Undone::Fatal(error.into())),
        Err(error) => return Err(Undone::Failed(chain(&error))),
    };
    let answer: Option<BatchAnswer> = serde_json::from_slice(&answer)
        .map_err(|error| Undone::Failed(format!("the function's answer cannot be read: {error}")))?;
    match answer.unwrap_or_default().batch_item_failures.len() {
        0 => Ok(()),
        unfinished => Err(Undone::Failed(format!("the function has not finished {unfinished} records"))),
    }
}

/// Writes each record as an object, and gives the event with their keys.
async fn as_objects(app: &App, run: &RedriveRun, event: &str) -> Result<Bytes, Undone> {
    let records = kafka_trigger::decode(event).map_err(|error| Undone::Failed(chain(&error)))?;
    let mut keys = Vec::with_capacity(records.len());
    for record in &records {
        let kept = quarantine::keep(&*app.ports.objects, &app.guards.s3, record, run.end_deadline).await;
        keys.push(kept.map_err(|error| Undone::Fatal(error.into()))?);
    }
    let event = kafka_trigger::objects_event(&keys).map_err(|error| Undone::Fatal(RedriverError::Answer(error)))?;
    Ok(event.into())
}

/// Notes that the batch was delivered. Without the note another run delivers it once more.
async fn note(app: &App, run: &RedriveRun, key: &str) -> Result<(), RedriverError> {
    let note = Bytes::from(json!({ "run": run.id, "at": app.ports.clock.now() }).to_string());
    let key = format!("{DELIVERED}{key}");
    let put = || app.ports.objects.put_new(&key, note.clone());
    app.guards.s3.call(run.end_deadline, "noting a delivery", put).await?;
    Ok(())
}

fn unreadable(key: &str, error: &serde_json::Error) {
    tracing::warn!(object = key, %error, "an object at the triggers' on-failure destination cannot be read and was skipped");
}
