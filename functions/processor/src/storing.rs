//! Recording a batch, and finding the one record that the store refuses.

use event::Timestamp;
use pipeline::decisions::verdicts;
use pipeline::guard::Guard;
use pipeline::ports::{EventStore, LedgerEntry};
use pipeline::tracked::{Decided, State, Tracked};
use pipeline::{ErrorClass, ReasonTag};
use tokio::time::Instant;

use crate::error::ProcessorError;

/// Records what was decided and returns the ledger's entries, in the order of the batch.
///
/// Normally one transaction. If the store refuses it for good, one of its records is at fault (a text that the
/// database cannot hold), and that one must neither fail the batch for ever nor drag others with it: the batch is
/// halved until it stands alone, and it becomes a dead letter. Each half is a transaction of its own, which changes
/// nothing: recording is idempotent by record. A store that refuses the dead letter's entry too is at fault itself,
/// and the batch fails.
///
/// # Errors
/// If the store cannot be reached, or accepts nothing.
pub async fn record(
    store: &dyn EventStore,
    guard: &Guard,
    records: &mut [Tracked<'_, Decided>],
    now: Timestamp,
    deadline: Instant,
) -> Result<Vec<LedgerEntry>, ProcessorError> {
    let mut ledger = Vec::with_capacity(records.len());
    // A stack with the first records on top, so that entries come in order and checkpoints only go forward.
    let mut pending = vec![records];
    while let Some(part) = pending.pop() {
        let (borrowed, count) = (&*part, part.len());
        let error = match guard.call_each(deadline, "storing the batch", count, || store.record(borrowed, now)).await {
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
        match part {
            [record] if is_refused(record) => return Err(error.into()),
            [record] => {
                tracing::warn!(
                    record = %record.position,
                    tag = error.tag,
                    "the store refuses this record: it becomes a dead letter"
                );
                verdicts::refuse(record, error.tag);
                pending.push(std::slice::from_mut(record));
            }
            part => {
                let (first, second) = part.split_at_mut(count / 2);
                pending.extend([second, first]);
            }
        }
    }
    Ok(ledger)
}

fn is_refused(record: &Tracked<'_, Decided>) -> bool {
    match &record.state {
        State::Open { .. } => false,
        State::Closed { reason, .. } => ReasonTag::of(reason) == Some(ReasonTag::StoreRefused),
    }
}
