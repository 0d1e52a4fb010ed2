//! How long what is about access is kept.

use std::time::Duration;

use event::Timestamp;
use time::OffsetDateTime;

const DAY: Duration = Duration::from_secs(86_400);

/// A counter must still exist while the records of its minute wait in Kafka.
const COUNTS: Duration = DAY.saturating_mul(2);
/// Records that were received during a block may be processed after it, if they waited in Kafka.
const BLOCKS: Duration = DAY;
/// Marks live longer than their letters, which Kafka keeps for two weeks by default.
const MARKS: Duration = DAY.saturating_mul(90);
const TRAIL: Duration = DAY.saturating_mul(400);

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
            before(COUNTS),
        ),
        (
            "DELETE FROM rate_buckets WHERE bucket IN (
                SELECT bucket FROM rate_buckets WHERE expires_at <= $1::timestamptz LIMIT $2) AND expires_at <= $1",
            before(Duration::ZERO),
        ),
        (
            "DELETE FROM blocks WHERE address IN (
                SELECT address FROM blocks WHERE until <= $1::timestamptz LIMIT $2) AND until <= $1",
            before(BLOCKS),
        ),
        (
            "DELETE FROM redrive_marks WHERE (origin, attempt, step) IN (
                SELECT origin, attempt, step FROM redrive_marks WHERE at <= $1::timestamptz LIMIT $2) AND at <= $1",
            before(MARKS),
        ),
        (
            "DELETE FROM audit_trail WHERE (subject, started_at, run) IN (
                SELECT subject, started_at, run FROM audit_trail WHERE started_at <= $1::timestamptz LIMIT $2)",
            before(TRAIL),
        ),
    ]
}
