//! Publishing the outcomes of a batch and its dead letters.

use std::time::Duration;

use pipeline::decisions::intake::Batch;
use pipeline::decisions::publication;
use pipeline::guard::{Guard, all_published};
use pipeline::ports::{LedgerEntry, RecordPublisher};
use tokio::time::Instant;

use crate::error::ProcessorError;

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
    let published = guard.publish(deadline, "publishing outcomes", publisher, records, timeout).await;
    all_published(published)?;
    Ok(())
}
