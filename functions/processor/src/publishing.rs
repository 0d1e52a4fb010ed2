//! Publishing the outcomes of a batch and its dead letters.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pipeline::decisions::intake::Batch;
use pipeline::decisions::publication;
use pipeline::guard::Guard;
use pipeline::ports::{LedgerEntry, NewRecord, RecordPublisher};
use pipeline::retry::{RetryPolicy, retry};
use pipeline::{Dependency, DependencyError};
use tokio::time::Instant;

use crate::error::{ProcessorError, Step};

/// Publishes one outcome for each record and a dead letter for each dead-lettered one, in one call, and waits until
/// Kafka has acknowledged them all. Only what failed is sent again.
///
/// # Errors
/// If some are not acknowledged; the batch then comes again, and everything is published again byte for byte.
pub async fn publish(
    publisher: &dyn RecordPublisher,
    guard: &Guard,
    batch: &Batch<'_>,
    ledger: &[LedgerEntry],
    timeout: Duration,
    deadline: Instant,
) -> Result<(), ProcessorError> {
    let mut records = Vec::with_capacity(ledger.len());
    for (index, entry) in ledger.iter().enumerate() {
        records.push(publication::outcome(batch, index, entry).map_err(ProcessorError::Outcome)?);
        records.extend(publication::dead_letter(batch.record(index), entry));
    }
    let unsent = &Mutex::new(records);
    retry(RetryPolicy::STANDARD, deadline, || {
        let records = std::mem::take(&mut *unsent.lock().unwrap_or_else(PoisonError::into_inner));
        let wait = timeout.min(deadline.saturating_duration_since(Instant::now()));
        async move {
            let (failed, result) = attempt(publisher, guard, records, wait).await;
            *unsent.lock().unwrap_or_else(PoisonError::into_inner) = failed;
            result
        }
    })
    .await
    .map_err(|source| ProcessorError::Dependency { step: Step::Publish, source })
}

/// Publishes, and gives back what was not acknowledged with one of the errors: a permanent one if there is any.
async fn attempt(
    publisher: &dyn RecordPublisher,
    guard: &Guard,
    records: Vec<NewRecord>,
    timeout: Duration,
) -> (Vec<NewRecord>, Result<(), DependencyError>) {
    // Keys, values and header values are shared with the copy; only the names of headers are copied.
    let answers = guard.publish(publisher, records.clone(), timeout).await;
    if answers.len() != records.len() {
        let questions = records.len();
        let source = ProcessorError::Answers { dependency: Dependency::Kafka, questions, answers: answers.len() };
        let error = DependencyError {
            dependency: Dependency::Kafka,
            class: source.class(),
            tag: source.tag(),
            doing: "publishing outcomes",
            source: source.into(),
        };
        return (records, Err(error));
    }
    let mut failed = Vec::new();
    let mut worst: Option<DependencyError> = None;
    for (record, answer) in records.into_iter().zip(answers) {
        if let Err(error) = answer {
            failed.push(record);
            if worst.as_ref().is_none_or(DependencyError::is_retryable) {
                worst = Some(error);
            }
        }
    }
    (failed, worst.map_or(Ok(()), Err))
}
