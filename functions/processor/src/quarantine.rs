//! Keeps the bytes of records that are too large to publish.

use archive::quarantine;
use pipeline::Record;
use pipeline::decisions::size::is_too_large;
use pipeline::tracked::{Decided, Tracked};
use tokio::time::Instant;

use crate::app::App;
use crate::error::ProcessorError;

/// Writes each record that is too large as an object of its own, before the ledger says so. Writing it again changes
/// nothing. `records` are in the order of `delivered`.
///
/// # Errors
/// If S3 cannot be reached or refuses an object. The batch is then delivered again: the object may be the only copy that
/// outlives the topic.
pub async fn keep(
    app: &App,
    delivered: &[Record],
    records: &[Tracked<'_, Decided>],
    deadline: Instant,
) -> Result<(), ProcessorError> {
    // One after another: they are rare, and each may have megabytes.
    for (delivered, record) in delivered.iter().zip(records).filter(|(_, record)| is_too_large(record)) {
        let key = quarantine::keep(&*app.objects, &app.s3, delivered, deadline).await?;
        tracing::warn!(record = %record.position, object = key, "the record is too large to publish: its bytes are in the archive");
    }
    Ok(())
}
