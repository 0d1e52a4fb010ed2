//! Records a batch in the store, and finds the one record that the store refuses.

use event::Timestamp;
use pipeline::decisions::verdicts;
use pipeline::guard::Guard;
use pipeline::ports::{EventStore, LedgerEntry};
use pipeline::tracked::{Decided, Tracked};
use pipeline::{ErrorClass, ReasonTag};
use tokio::time::Instant;

use crate::error::ProcessorError;

/// Records the decisions and returns the ledger entries, in the order of the batch.
///
/// This is normally one transaction. If the store refuses it permanently, one of its records is the cause, such as a
/// text that the database cannot hold. That record must not fail the batch for ever, and the others must not become
/// dead letters with it. So the batch is halved until the record is alone, and it becomes a dead letter. Each half is a
/// transaction of its own, which is safe because recording is idempotent by record. If the store also refuses the
/// ledger entry of the dead letter, the fault is in the store, and the batch fails.
///
/// # Errors
/// If the store cannot be reached, or refuses a record even as a dead letter.
pub async fn record(
    store: &dyn EventStore,
    guard: &Guard,
    records: &mut [Tracked<'_, Decided>],
    now: Timestamp,
    deadline: Instant,
) -> Result<Vec<LedgerEntry>, ProcessorError> {
    let mut ledger = Vec::with_capacity(records.len());
    // A stack with the first records on top, so that entries stay in order and checkpoints only go forward.
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
            [record] if record.reason_tag() == Some(ReasonTag::StoreRefused) => return Err(error.into()),
            [record] => {
                tracing::warn!(
                    record = %record.position,
                    tag = error.tag,
                    "the store refused this record permanently: it becomes a dead letter"
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
