//! One batch: decode, pack, write, answer.

use std::time::Duration;

use archive::quarantine;
use archive::writer::{self, PackedObject};
use futures::StreamExt as _;
use lambda::batch_response::BatchResponse;
use lambda::invocation::{Invocation, InvocationError};
use lambda::kafka_trigger::{self, BatchAnswer};
use pipeline::clock::{Clock as _, SystemClock};
use pipeline::{Dependency, DependencyError, ErrorClass, Position, Record, failpoint};
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::Instant;
use traces::batch::BatchTrace;

use crate::app::App;
use crate::error::ArchiverError;
use crate::report::{BatchReport, Write};

/// Objects written at the same time. A batch seldom has more, and S3 takes thousands per second.
const CONCURRENT_WRITES: usize = 16;

/// Time reserved for the answer.
const ANSWER_RESERVE: Duration = Duration::from_millis(500);

/// Archives a batch. Records whose object could not be written in time are requested again, in the way that the event
/// source mapping supports. All others are in the archive when this returns.
///
/// # Errors
/// If the event is not a Kafka trigger's, or if records must be sent again and the mapping supports no partial answer or
/// no record is in the archive.
pub async fn handle(event: &RawValue, invocation: &Invocation, app: &App) -> Result<Box<RawValue>, InvocationError> {
    let started = Instant::now();
    let deadline = started + invocation.remaining(ANSWER_RESERVE);
    let delivery = kafka_trigger::read(event.get()).map_err(ArchiverError::from)?;
    let records = quarantine::records(delivery, &*app.objects, &app.s3, deadline).await;
    let delivered = records.map_err(ArchiverError::from)?;
    let objects = writer::pack(&delivered).map_err(ArchiverError::from)?;
    let trace = BatchTrace::begin("archive", delivered.iter().map(Record::trace));
    failpoint!("archiver::packed");
    kafka_trigger::observe_age(&delivered, SystemClock.now());
    let undecodable = delivered.iter().filter(|record| record.undecodable.is_some()).count();

    let writes: Vec<Write> = futures::stream::iter(objects)
        .map(|object| write(app, object, deadline))
        .buffer_unordered(CONCURRENT_WRITES)
        .collect()
        .await;

    failpoint!("archiver::written");
    let report = BatchReport::of(&writes);
    report.count(&writes, &delivered, SystemClock.now());
    let unwritten = writes.iter().find_map(|write| write.result.as_ref().err());
    trace.finish(unwritten.map(|error| error.tag.into()));
    let duration = started.elapsed();
    tracing::info!(
        request_id = invocation.request_id,
        records = delivered.len(),
        undecodable,
        objects.created = report.created,
        objects.already_there = report.already_there,
        objects.unwritten = report.unwritten,
        lines_bytes = report.lines_bytes,
        stored_bytes = report.stored_bytes,
        duration_ms = pipeline::millis(duration),
        "batch archived"
    );
    let answer = answer(writes, delivered.len(), app.batch_response)?;
    Ok(to_raw_value(&answer).map_err(ArchiverError::Answer)?)
}

async fn write(app: &App, object: PackedObject, deadline: Instant) -> Write {
    failpoint!("archiver::writing");
    // A call that is open at the deadline is given up, so that the success of the other objects is still answered.
    let attempt = || async {
        let stored = tokio::time::timeout_at(deadline, writer::store(&*app.objects, &object)).await;
        stored.unwrap_or_else(|elapsed| {
            Err(DependencyError {
                dependency: Dependency::S3,
                class: ErrorClass::Transient,
                tag: "out-of-time",
                doing: "writing an object",
                source: Box::new(elapsed),
            })
        })
    };
    let result = app.s3.call(deadline, "writing an object", attempt).await;
    Write { object, result }
}

/// Requests the records of unwritten objects again, and no others.
fn answer(writes: Vec<Write>, delivered: usize, batch_response: BatchResponse) -> Result<BatchAnswer, InvocationError> {
    let mut unfinished: Vec<Position> = Vec::new();
    let mut failures = Vec::new();
    for Write { object, result } in writes {
        if let Err(error) = result {
            tracing::error!(
                object = %object.key,
                records = object.key.records,
                tag = error.tag,
                error = pipeline::chain(&error),
                "archive object not written; its records will be sent again"
            );
            unfinished.extend(object.positions());
            failures.push((object.key.to_string(), error));
        }
    }
    // Objects finish in any order; sorted, so that the answer does not depend on it.
    unfinished.sort();
    let (objects, records) = (failures.len(), unfinished.len());
    let Some((object, source)) = failures.into_iter().min_by(|(a, _), (b, _)| a.cmp(b)) else {
        return Ok(BatchAnswer::done());
    };
    batch_response
        .answer(unfinished, delivered, || ArchiverError::Unwritten { objects, records, object, source }.into())
}
