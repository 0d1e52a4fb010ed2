//! Events that the ledger has as stored and whose rows are gone, though they have not expired.
//!
//! The ledger does not say when an event was received, which decides when it expires. Its rows may be older than the oldest
//! day that is kept only if they were recorded later than received. So the hourly counts, which outlive the events, say how
//! many of a tenant's absent events have expired.

use std::collections::BTreeMap;

use deadpool_postgres::Transaction;
use pipeline::Position;
use time::OffsetDateTime;
use tokio_postgres::IsolationLevel;

use crate::database::Database;
use crate::error::PostgresError;
use crate::partitions::existing_days;
use crate::statement::parameter;
use crate::unscored::FIRST_DAY;

/// An event that the ledger has as stored and that has no row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsentEvent {
    /// Where the record stands that stored it.
    pub position: Position,
    pub tenant: String,
    pub event_id: String,
    /// `valid` or `fraud`.
    pub outcome: String,
}

/// The absent events of one tenant, some of which must be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantLoss {
    pub tenant: String,
    /// Number of lost events.
    pub lost: i64,
    /// Number of events that have no row and may have expired or be lost; at least `lost`.
    pub absent: i64,
}

/// What is lost, by tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LostEvents {
    pub tenants: Vec<TenantLoss>,
    /// The absent events of these tenants in the order of their positions, at most as many as asked for.
    pub named: Vec<AbsentEvent>,
}

impl LostEvents {
    /// Number of lost events.
    pub fn count(&self) -> i64 {
        self.tenants.iter().map(|tenant| tenant.lost).sum()
    }
}

/// Ledger rows of stored events without a row in `events`. Rows recorded before $1 have expired, whenever they were
/// received. An id may be stored again after the dedup window, so a row belongs to its origin.
const ABSENT: &str = "
    FROM record_outcomes o
    WHERE o.outcome IN ('valid', 'fraud') AND o.recorded_at >= $1
      AND NOT EXISTS (
        SELECT 1 FROM events e
        WHERE e.tenant = o.tenant AND e.event_id = o.event_id AND e.origin_topic = o.origin_topic
          AND e.origin_partition = o.origin_partition AND e.origin_offset = o.origin_offset
          AND e.origin_digest IS NOT DISTINCT FROM o.origin_digest)";

/// Compares the ledger with `events` at one instant, and names at most `most` events. Reads both tables.
///
/// # Errors
/// If the database fails.
pub async fn lost_events(database: &Database, most: usize) -> Result<LostEvents, PostgresError> {
    let mut client = database.connection().await?;
    let transaction =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
    transaction.batch_execute("SET LOCAL statement_timeout = 0").await?;
    let days = existing_days(&transaction).await?;
    // Of the days from the first to the last partition none was dropped. Without any, nothing has expired.
    let first = days.first().copied().unwrap_or(FIRST_DAY);
    let end = days.last().and_then(|last| last.next_day()).unwrap_or(first);
    let (first, end) = (first.midnight().assume_utc(), end.midnight().assume_utc());

    let absent_of = format!("SELECT o.tenant, count(*) AS absent {ABSENT} GROUP BY o.tenant");
    let mut absent = BTreeMap::<String, i64>::new();
    for row in transaction.query_typed(&absent_of, &[parameter(&first)]).await? {
        absent.insert(row.try_get("tenant")?, row.try_get("absent")?);
    }
    let mut lost = LostEvents::default();
    for (tenant, absent) in absent {
        let stored = "
            SELECT coalesce(sum(events) FILTER (WHERE hour < $2), 0)::int8 AS counted_before,
                   coalesce(sum(events) FILTER (WHERE hour >= $2 AND hour < $3), 0)::int8 AS counted,
                   (SELECT count(*) FROM events WHERE tenant = $1 AND received_at < $2) AS rows_before,
                   (SELECT count(*) FROM events WHERE tenant = $1 AND received_at >= $2 AND received_at < $3) AS rows
            FROM event_counts_hourly WHERE tenant = $1";
        let row =
            transaction.query_typed_one(stored, &[parameter(&tenant), parameter(&first), parameter(&end)]).await?;
        let sums = Sums {
            expired: row.try_get::<_, i64>("counted_before")? - row.try_get::<_, i64>("rows_before")?,
            gone: row.try_get::<_, i64>("counted")? - row.try_get::<_, i64>("rows")?,
        };
        let number = lost_of(absent, sums);
        if number > 0 {
            lost.tenants.push(TenantLoss { tenant, lost: number, absent });
        }
    }
    if !lost.tenants.is_empty() {
        let tenants: Vec<&str> = lost.tenants.iter().map(|tenant| tenant.tenant.as_str()).collect();
        lost.named = named(&transaction, first, &tenants, most).await?;
    }
    Ok(lost)
}

async fn named(
    transaction: &Transaction<'_>,
    first: OffsetDateTime,
    tenants: &Vec<&str>,
    most: usize,
) -> Result<Vec<AbsentEvent>, PostgresError> {
    let names = format!(
        "SELECT o.topic, o.partition, o.record_offset, o.incarnation, o.tenant, o.event_id, o.outcome {ABSENT}
           AND o.tenant = ANY ($2)
         ORDER BY o.topic, o.partition, o.incarnation, o.record_offset LIMIT $3"
    );
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let rows = transaction.query_typed(&names, &[parameter(&first), parameter(tenants), parameter(&most)]).await?;
    let absent = rows.iter().map(|row| {
        let (topic, partition) = (row.try_get::<_, &str>("topic")?, row.try_get("partition")?);
        Ok(AbsentEvent {
            position: Position::new(topic, partition, row.try_get("record_offset")?)
                .in_incarnation(row.try_get("incarnation")?),
            tenant: row.try_get("tenant")?,
            event_id: row.try_get("event_id")?,
            outcome: row.try_get("outcome")?,
        })
    });
    absent.collect()
}

/// What the counts have more than there are rows, of a tenant.
#[derive(Clone, Copy, Debug)]
struct Sums {
    /// Of days before the oldest that is kept.
    expired: i64,
    /// Of the days that are kept.
    gone: i64,
}

/// How many of the absent events are lost for certain. If counts were lost too, those that they cannot explain are.
fn lost_of(absent: i64, Sums { expired, gone }: Sums) -> i64 {
    gone.max(absent.saturating_sub(expired.max(0))).clamp(0, absent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_events_are_lost_unless_the_counts_have_them_among_the_expired() {
        for (absent, expired, gone, lost) in [
            (1, 0, 1, 1),
            // All were received before the oldest day.
            (3, 90, 0, 0),
            (3, 90, 2, 2),
            // The counts are lost too, or some of them.
            (3, 0, 0, 3),
            (3, 2, -50, 1),
            (3, -1, -50, 3),
            // An event far in the future expired without its day.
            (0, 0, 1, 0),
        ] {
            assert_eq!(
                lost_of(absent, Sums { expired, gone }),
                lost,
                "{absent} absent, {expired} expired, {gone} gone"
            );
        }
    }
}
