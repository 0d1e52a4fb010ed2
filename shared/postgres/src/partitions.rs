//! Creates day partitions ahead of time, and deletes data past its retention.

use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Transaction};
use event::Timestamp;
use serde::Serialize;
use time::macros::format_description;
use time::{Date, OffsetDateTime};

use crate::access::retention;
use crate::database::Database;
use crate::error::PostgresError;
use crate::statement::{Parameter, parameter};

/// The advisory lock for changes of partitions: any number that nothing else in this database uses.
const LOCK: i64 = 0x666f_7265_6261_7902;

/// Rows deleted in one transaction: some 100 ms of work, so that others wait only briefly and a stopped run loses
/// little.
const CHUNK: i64 = 20_000;

/// How long a change of partitions waits for the transactions that use them; later transactions wait as long. If the
/// time is too short, the next run tries again.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '5s'; SET LOCAL statement_timeout = 0";

/// What to keep and which partitions to create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionPolicy {
    /// Days after today that get a partition.
    pub ahead_days: u16,
    /// How many whole days after its own day an event is kept.
    pub retention_days: u16,
    /// How long a ledger row is kept. It must be longer than Kafka keeps the record, or a redelivery would look new.
    pub ledger_retention: Duration,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PartitionReport {
    /// Days that got a partition, as `2026-11-20`.
    pub created: Vec<String>,
    /// Events moved out of the default partition into those.
    pub moved_events: u64,
    /// Days whose partition was dropped.
    pub dropped: Vec<String>,
    /// Expired events deleted from the default partition.
    pub deleted_events: u64,
    pub deleted_claims: u64,
    pub deleted_outcomes: u64,
    /// Batches whose ledger rows have expired before the aggregator counted them: it is missing, or has failed all the time.
    pub deleted_uncounted: u64,
    /// Hours of a tenant whose sketches of addresses were deleted: they hold addresses, so they are not kept longer than the ledger.
    pub deleted_address_hours: u64,
    /// Counters, buckets, blocks, marks and entries of trails that were not needed any more.
    pub deleted_access: u64,
    /// Offsets among the deleted outcomes that had no row: the outcomes of these records will never be known.
    pub forgotten_offsets: u64,
}

/// Creates partitions ahead, drops expired ones, and deletes expired claims and ledger rows. Idempotent. If several
/// runs start at once, they work one after the other. A connection that cannot work any more is replaced.
///
/// # Errors
/// If the database fails. Changes made before the failure stay.
pub async fn maintain(
    database: &Database,
    now: Timestamp,
    policy: PartitionPolicy,
) -> Result<PartitionReport, PostgresError> {
    let mut client = database.connection().await?;
    let result = maintain_on(&mut client, now, policy).await;
    match database.give_back(client, result) {
        Err(error) if error.is_of_connection() => {
            let mut client = database.connection().await?;
            let result = maintain_on(&mut client, now, policy).await;
            database.give_back(client, result)
        }
        result => result,
    }
}

async fn maintain_on(
    client: &mut ClientWrapper,
    now: Timestamp,
    policy: PartitionPolicy,
) -> Result<PartitionReport, PostgresError> {
    let mut report = PartitionReport::default();
    let today = now.to_utc().date();
    let first_kept = minus_days(today, policy.retention_days);
    let last_ahead = plus_days(today, policy.ahead_days);

    let transaction = begin(client).await?;
    let existing = existing_days(&transaction).await?;
    // Today and later days, and earlier days for which late or replayed events have come.
    let mut wanted: Vec<Date> =
        std::iter::successors(Some(today), |day| day.next_day()).take_while(|day| *day <= last_ahead).collect();
    wanted.extend(days_in_default(&transaction, first_kept, last_ahead).await?);
    wanted.sort();
    wanted.dedup();
    wanted.retain(|day| !existing.contains(day));
    for day in wanted {
        report.moved_events += create(&transaction, day).await?;
        report.created.push(day.to_string());
    }
    transaction.commit().await?;

    for day in existing.into_iter().filter(|day| *day < first_kept) {
        let transaction = begin(client).await?;
        // Another run may have dropped it in the meantime.
        transaction.batch_execute(&format!("DROP TABLE IF EXISTS {}", table(day))).await?;
        transaction.commit().await?;
        report.dropped.push(day.to_string());
    }

    report.deleted_events = delete_in_chunks(
        client,
        "DELETE FROM events_default WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM events_default WHERE received_day < $1::date LIMIT $2))",
        parameter(&first_kept),
    )
    .await?;
    // A time far in the future never gets a day of its own. Such an event is kept for as long as any other, from when it was
    // stored.
    report.deleted_events += delete_in_chunks(
        client,
        "DELETE FROM events_default WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM events_default
            WHERE received_day > (stored_at AT TIME ZONE 'UTC')::date AND (stored_at AT TIME ZONE 'UTC')::date < $1::date
            LIMIT $2))",
        parameter(&first_kept),
    )
    .await?;
    report.deleted_claims = delete_in_chunks(
        client,
        "DELETE FROM claims WHERE (tenant, event_id) IN (
            SELECT tenant, event_id FROM claims WHERE expires_at <= $1::timestamptz ORDER BY expires_at LIMIT $2
            FOR UPDATE SKIP LOCKED) AND expires_at <= $1",
        parameter(&now.to_utc()),
    )
    .await?;
    for (statement, cutoff) in retention::statements(now) {
        report.deleted_access += delete_in_chunks(client, statement, parameter(&cutoff)).await?;
    }
    let cutoff = ledger_cutoff(now, policy.ledger_retention);
    expire_outcomes(client, &cutoff, &mut report).await?;
    report.deleted_uncounted = delete_in_chunks(
        client,
        "DELETE FROM unaggregated WHERE id IN (
            SELECT id FROM unaggregated WHERE added_at < $1::timestamptz ORDER BY id LIMIT $2)",
        parameter(&cutoff),
    )
    .await?;
    if report.deleted_uncounted > 0 {
        tracing::warn!(
            batches = report.deleted_uncounted,
            "batches are past the ledger's retention and no statistics count them"
        );
    }
    report.deleted_address_hours = delete_in_chunks(
        client,
        "DELETE FROM aggregate_addresses WHERE (tenant, hour) IN (
            SELECT tenant, hour FROM aggregate_addresses WHERE hour < $1::timestamptz LIMIT $2)",
        parameter(&cutoff),
    )
    .await?;
    Ok(report)
}

/// A transaction under the lock.
async fn begin(client: &mut ClientWrapper) -> Result<Transaction<'_>, PostgresError> {
    let transaction = client.transaction().await?;
    transaction.batch_execute("SET LOCAL statement_timeout = 0").await?;
    transaction.query_typed("SELECT pg_advisory_xact_lock($1)", &[parameter(&LOCK)]).await?;
    // Set after the advisory lock, because waiting for a concurrent run may take any time.
    transaction.batch_execute(LOCK_TIMEOUT).await?;
    Ok(transaction)
}

fn plus_days(day: Date, days: u16) -> Date {
    day.saturating_add(time::Duration::days(days.into()))
}

fn minus_days(day: Date, days: u16) -> Date {
    day.saturating_sub(time::Duration::days(days.into()))
}

/// `events_20261120`. Days before the year 0 or after 9999 cannot occur: a `Timestamp` is between them.
fn table(day: Date) -> String {
    format!("events_{:04}{:02}{:02}", day.year(), u8::from(day.month()), day.day())
}

fn day_of(table: &str) -> Option<Date> {
    Date::parse(table.strip_prefix("events_")?, format_description!("[year][month][day]")).ok()
}

/// The days that have a partition, in their order.
pub(crate) async fn existing_days(transaction: &Transaction<'_>) -> Result<Vec<Date>, PostgresError> {
    let tables = "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                  WHERE i.inhparent = 'events'::regclass ORDER BY 1";
    let rows = transaction.query_typed(tables, &[]).await?;
    let names = rows.iter().map(|row| row.try_get::<_, &str>(0)).collect::<Result<Vec<_>, _>>()?;
    Ok(names.into_iter().filter_map(day_of).collect())
}

async fn days_in_default(transaction: &Transaction<'_>, first: Date, last: Date) -> Result<Vec<Date>, PostgresError> {
    let days = "SELECT DISTINCT received_day FROM events_default WHERE received_day BETWEEN $1 AND $2";
    let rows = transaction.query_typed(days, &[parameter(&first), parameter(&last)]).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

/// Creates a day's partition and moves the events of that day from the default partition into it. Returns their number.
async fn create(transaction: &Transaction<'_>, day: Date) -> Result<u64, PostgresError> {
    let table = table(day);
    // Attaching needs a weaker lock on `events`. But a connection that reads the list of partitions in the moment in
    // which another is attached may keep the old list (seen with PostgreSQL 15): then it stores events of this day in
    // the default partition, where copies are not looked for. With this lock no connection can be reading that list.
    transaction.batch_execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE").await?;
    transaction.batch_execute(&format!("CREATE TABLE {table} (LIKE events INCLUDING ALL)")).await?;
    let moving = format!(
        // The new table has the columns of `events` in their order, as every partition has.
        "WITH moved AS (DELETE FROM events_default WHERE received_day = $1 RETURNING *)
         INSERT INTO {table} SELECT * FROM moved"
    );
    let moved = transaction.execute_typed(&moving, &[parameter(&day)]).await?;
    let next = plus_days(day, 1);
    // Literals, because a definition takes no parameters; these are numbers.
    transaction
        .batch_execute(&format!("ALTER TABLE events ATTACH PARTITION {table} FOR VALUES FROM ('{day}') TO ('{next}')"))
        .await?;
    Ok(moved)
}

async fn delete_in_chunks(
    client: &mut ClientWrapper,
    statement: &str,
    before: Parameter<'_>,
) -> Result<u64, PostgresError> {
    let mut total = 0;
    loop {
        let transaction = begin(client).await?;
        let deleted = transaction.execute_typed(statement, &[before.clone(), parameter(&CHUNK)]).await?;
        transaction.commit().await?;
        total += deleted;
        if deleted < CHUNK.unsigned_abs() {
            return Ok(total);
        }
    }
}

/// Ledger rows from before it are not kept.
fn ledger_cutoff(now: Timestamp, retention: Duration) -> OffsetDateTime {
    let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(now.as_millis().saturating_sub(retention_ms)).to_utc()
}

/// Deletes, for each log, the ledger rows before the first that is still kept, and moves the log's floor to that row.
async fn expire_outcomes(
    client: &mut ClientWrapper,
    cutoff: &OffsetDateTime,
    report: &mut PartitionReport,
) -> Result<(), PostgresError> {
    for account in [&CHECKPOINTS, &ENDED_LOGS] {
        for row in client.query_typed(account.logs, &[]).await? {
            let log = (row.try_get("topic")?, row.try_get("partition")?, row.try_get("incarnation")?);
            while expire_chunk(client, account, &log, cutoff, report).await? {}
        }
    }
    // Of an ended log nothing is left to account for.
    client.execute_typed("DELETE FROM ended_logs WHERE floor_offset >= next_offset", &[]).await?;
    Ok(())
}

/// The statements on a table that has the spans of logs.
struct Accounts {
    logs: &'static str,
    lock: &'static str,
    raise: &'static str,
}

const CHECKPOINTS: Accounts = Accounts {
    logs: "SELECT topic, partition, incarnation FROM checkpoints ORDER BY 1, 2",
    // Recording takes the same row lock, so no records are added in the meantime.
    lock: "SELECT floor_offset, next_offset FROM checkpoints
           WHERE topic = $1 AND partition = $2 AND incarnation = $3 FOR UPDATE",
    raise: "UPDATE checkpoints SET floor_offset = $4 WHERE topic = $1 AND partition = $2 AND incarnation = $3",
};

const ENDED_LOGS: Accounts = Accounts {
    logs: "SELECT topic, partition, incarnation FROM ended_logs ORDER BY 1, 2, 3",
    lock: "SELECT floor_offset, next_offset FROM ended_logs
           WHERE topic = $1 AND partition = $2 AND incarnation = $3 FOR UPDATE",
    raise: "UPDATE ended_logs SET floor_offset = $4 WHERE topic = $1 AND partition = $2 AND incarnation = $3",
};

/// Returns whether there may be more.
async fn expire_chunk(
    client: &mut ClientWrapper,
    account: &Accounts,
    (topic, partition, incarnation): &(String, i32, i32),
    cutoff: &OffsetDateTime,
    report: &mut PartitionReport,
) -> Result<bool, PostgresError> {
    let transaction = begin(client).await?;
    let log = [parameter(topic), parameter(partition), parameter(incarnation)];
    let Some(span) = transaction.query_typed_opt(account.lock, &log).await? else {
        return Ok(false);
    };
    let (floor, next): (i64, i64) = (span.try_get("floor_offset")?, span.try_get("next_offset")?);
    // The lowest rows, and the first of them that must be kept.
    let look = "
        SELECT min(record_offset) FILTER (WHERE recorded_at >= $4) AS first_kept, max(record_offset) AS last,
               count(*) AS rows
        FROM (
            SELECT record_offset, recorded_at FROM record_outcomes
            WHERE topic = $1 AND partition = $2 AND incarnation = $3 ORDER BY record_offset LIMIT $5
        ) lowest";
    let lowest =
        transaction.query_typed_one(look, &[&log[..], &[parameter(cutoff), parameter(&CHUNK)]].concat()).await?;
    let first_kept: Option<i64> = lowest.try_get("first_kept")?;
    let Some(last) = lowest.try_get::<_, Option<i64>>("last")? else { return Ok(false) };
    let full = lowest.try_get::<_, i64>("rows")? == CHUNK;
    let new_floor = first_kept.unwrap_or(last.saturating_add(1)).min(next);
    let delete = "DELETE FROM record_outcomes
                  WHERE topic = $1 AND partition = $2 AND incarnation = $3 AND record_offset < $4";
    let deleted = transaction.execute_typed(delete, &[&log[..], &[parameter(&new_floor)]].concat()).await?;
    if deleted == 0 {
        return Ok(false);
    }
    transaction.execute_typed(account.raise, &[&log[..], &[parameter(&new_floor)]].concat()).await?;
    transaction.commit().await?;
    report.deleted_outcomes += deleted;
    let forgotten = u64::try_from(new_floor.saturating_sub(floor)).unwrap_or(0).saturating_sub(deleted);
    if forgotten > 0 {
        tracing::warn!(
            topic,
            partition,
            incarnation,
            forgotten,
            "offsets without an outcome are past the ledger's retention"
        );
        report.forgotten_offsets += forgotten;
    }
    Ok(full && first_kept.is_none())
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    #[test]
    fn a_tables_name_tells_its_day() {
        assert_eq!(table(date!(2026 - 01 - 05)), "events_20260105");
        assert_eq!(day_of("events_20260105"), Some(date!(2026 - 01 - 05)));
        assert_eq!(day_of("events_default"), None);
        assert_eq!(day_of("events_20261305"), None);
    }
}
