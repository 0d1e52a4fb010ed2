//! Recording a batch, and finding the one record that the store refuses.

use std::ops::Range;

use event::Timestamp;
use pipeline::ErrorClass;
use pipeline::decisions::intake::Batch;
use pipeline::decisions::reason;
use pipeline::decisions::verdicts::{self, Decision};
use pipeline::guard::Guard;
use pipeline::ports::{EventStore, LedgerEntry};
use tokio::time::Instant;

use crate::error::ProcessorError;

/// Records the decisions and returns the ledger's entries, in the order of the batch.
///
/// Normally one transaction. If the store refuses it for good, one of its records is at fault (a text that the
/// database cannot hold), and that one must neither fail the batch for ever nor drag others with it: the batch is
/// halved until it stands alone, and it becomes a dead letter. Each half is a transaction of its own, which changes
/// nothing: recording is idempotent by record. A store that refuses the dead letter's entry too is at fault itself,
/// and the batch fails.
///
/// # Errors
/// If the store cannot be reached, or takes nothing.
pub async fn record(
    store: &dyn EventStore,
    guard: &Guard,
    batch: &Batch<'_>,
    mut decisions: Vec<Decision>,
    now: Timestamp,
    deadline: Instant,
) -> Result<Vec<LedgerEntry>, ProcessorError> {
    let mut ledger = Vec::with_capacity(batch.len());
    // A stack with the first records on top, so that entries come in order and checkpoints only go forward.
    let mut pending: Vec<Range<usize>> = std::iter::once(0..batch.len()).collect();
    while let Some(range) = pending.pop() {
        let verdicts = || range.clone().map(|index| verdicts::verdict(batch, index, &decisions[index])).collect();
        let record = || store.record(verdicts(), now);
        let error = match guard.call_each(deadline, "storing the batch", range.len(), record).await {
            Ok(entries) => {
                ledger.extend(entries);
                continue;
            }
            Err(error) => error,
        };
        match error.class {
            ErrorClass::Transient | ErrorClass::Overload => return Err(error.into()),
            ErrorClass::Permanent => {}
        }
        if range.len() > 1 {
            let middle = range.start + range.len() / 2;
            pending.extend([middle..range.end, range.start..middle]);
        } else if is_refusal(&decisions[range.start]) {
            return Err(error.into());
        } else {
            tracing::warn!(
                record = %batch.record(range.start).position,
                tag = error.tag,
                "the store refuses this record: it becomes a dead letter"
            );
            decisions[range.start] = verdicts::refused(error.tag);
            pending.push(range);
        }
    }
    Ok(ledger)
}

fn is_refusal(decision: &Decision) -> bool {
    match decision {
        Decision::Store { .. } => false,
        Decision::Close { reason, .. } => reason.tag == reason::STORE_REFUSED,
    }
}
