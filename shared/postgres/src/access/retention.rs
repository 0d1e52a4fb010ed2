//! Removes what is about access and is not needed any more.

use std::time::Duration;

use event::Timestamp;
use pipeline::ports::{KEEP_BLOCKS, KEEP_COUNTERS, KEEP_MARKS, KEEP_TRAIL};
use time::OffsetDateTime;

/// Deletions, each of at most `$2` rows, with the instant `$1` before which rows are not needed any more.
pub(crate) fn statements(now: Timestamp) -> [(&'static str, OffsetDateTime); 5] {
    let before = |kept: Duration| {
        let kept = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millis(now.as_millis().saturating_sub(kept)).to_utc()
    };
    [
        (
            "DELETE FROM address_counts WHERE (address, minute) IN (
                SELECT address, minute FROM address_counts WHERE (minute + 1) * 60 <= extract(epoch FROM $1::timestamptz)
                LIMIT $2)",
            before(KEEP_COUNTERS),
        ),
        (
            "DELETE FROM rate_buckets WHERE bucket IN (
                SELECT bucket FROM rate_buckets WHERE expires_at <= $1::timestamptz LIMIT $2) AND expires_at <= $1",
            before(Duration::ZERO),
        ),
        (
            "DELETE FROM blocks WHERE address IN (
                SELECT address FROM blocks WHERE until <= $1::timestamptz LIMIT $2) AND until <= $1",
            before(KEEP_BLOCKS),
        ),
        (
            "DELETE FROM redrive_marks WHERE (origin, attempt, step) IN (
                SELECT origin, attempt, step FROM redrive_marks WHERE at <= $1::timestamptz LIMIT $2) AND at <= $1",
            before(KEEP_MARKS),
        ),
        (
            "DELETE FROM audit_trail WHERE (subject, started_at, run) IN (
                SELECT subject, started_at, run FROM audit_trail WHERE started_at <= $1::timestamptz LIMIT $2)",
            before(KEEP_TRAIL),
        ),
    ]
}
