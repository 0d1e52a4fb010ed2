//! Publishes the outcomes of a batch and its dead letters.

use pipeline::dead_letter::dead_letter;
use pipeline::decisions::publication::OutcomeWriter;
use pipeline::guard::all_published;
use pipeline::ports::LedgerEntry;
use pipeline::tracked::{Decided, Tracked};
use pipeline::{Record, header};
use tokio::time::Instant;

use crate::app::App;
use crate::error::ProcessorError;

/// Publishes one outcome for each record and a dead letter for each dead-lettered record, in one call, and waits until
/// Kafka has acknowledged them all. `records` and `ledger` are in the order of `delivered`.
///
/// # Errors
/// If some are not acknowledged. The batch is then delivered again, and everything is published again byte for byte.
pub async fn publish(
    app: &App,
    delivered: &[Record],
    records: &[Tracked<'_, Decided>],
    ledger: &[LedgerEntry],
    deadline: Instant,
) -> Result<(), ProcessorError> {
    let mut outgoing = Vec::with_capacity(ledger.len());
    let mut outcomes = OutcomeWriter::new(delivered);
    for ((delivered, record), entry) in delivered.iter().zip(records).zip(ledger) {
        let traceparent = delivered.headers.get(header::TRACEPARENT);
        outgoing.push(outcomes.outcome(record, entry, traceparent).map_err(ProcessorError::Outcome)?);
        outgoing.extend(dead_letter(delivered, entry));
    }
    let (publisher, timeout) = (&*app.publisher, app.policy.publish_timeout);
    all_published(app.kafka.publish(deadline, "publishing outcomes", publisher, outgoing, timeout).await)?;
    Ok(())
}
