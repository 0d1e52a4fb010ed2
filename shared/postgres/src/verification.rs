//! What of the ledger has not been verified yet, so that a loss is found soon and at little cost: each look reads the rows that
//! came since the one before.

use tokio_postgres::IsolationLevel;

use crate::database::Database;
use crate::error::PostgresError;
use crate::ledger::{OffsetRange, missing_offsets};
use crate::statement::parameter;

/// The part of a log, from `verified_offset` to before `next_offset`, that was recorded since it was last verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedLog {
    pub topic: String,
    pub partition: i32,
    pub incarnation: i32,
    /// Whether it is the log that is processed now, and not one before it.
    pub is_present: bool,
    /// Below it, every offset has an outcome or holds no record.
    pub verified_offset: i64,
    pub next_offset: i64,
    /// The offsets without a row, lowest first. Not every one needs a row: an offset may hold no record.
    pub missing: Vec<OffsetRange>,
}

/// The logs in which something was recorded since they were last verified, at one instant.
///
/// # Errors
/// If the database fails.
pub async fn unverified(database: &Database) -> Result<Vec<UnverifiedLog>, PostgresError> {
    let mut client = database.connection().await?;
    // One snapshot, so that batches recorded at the same time do not look like differences. Dropping it rolls back.
    let transaction =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
    // The first look reads the whole ledger.
    transaction.batch_execute("SET LOCAL statement_timeout = 0").await?;
    let logs = "
        SELECT topic, partition, incarnation, is_present, next_offset,
               greatest(floor_offset, coalesce(verified_offset, floor_offset)) AS verified_offset
        FROM (
            SELECT topic, partition, incarnation, floor_offset, next_offset, true AS is_present FROM checkpoints
            UNION ALL
            SELECT topic, partition, incarnation, floor_offset, next_offset, false FROM ended_logs
        ) logs LEFT JOIN verified_offsets USING (topic, partition, incarnation)
        WHERE next_offset > greatest(floor_offset, coalesce(verified_offset, floor_offset))
        ORDER BY topic, partition, incarnation";
    let mut found = Vec::new();
    for row in transaction.query_typed(logs, &[]).await? {
        let mut log = UnverifiedLog {
            topic: row.try_get("topic")?,
            partition: row.try_get("partition")?,
            incarnation: row.try_get("incarnation")?,
            is_present: row.try_get("is_present")?,
            verified_offset: row.try_get("verified_offset")?,
            next_offset: row.try_get("next_offset")?,
            missing: Vec::new(),
        };
        let bounds = [
            parameter(&log.topic),
            parameter(&log.partition),
            parameter(&log.verified_offset),
            parameter(&log.next_offset),
            parameter(&log.incarnation),
        ];
        let count = "SELECT count(*) AS records FROM record_outcomes
                     WHERE topic = $1 AND partition = $2 AND record_offset >= $3 AND record_offset < $4
                       AND incarnation = $5";
        let rows: i64 = transaction.query_typed_one(count, &bounds).await?.try_get("records")?;
        if rows != log.next_offset.saturating_sub(log.verified_offset) {
            log.missing = missing_offsets(&transaction, &bounds).await?;
        }
        found.push(log);
    }
    Ok(found)
}

/// Notes up to which offset each of these logs is verified: their `verified_offset`. It never goes back.
///
/// # Errors
/// If the database fails.
pub async fn note_verified(database: &Database, logs: &[UnverifiedLog]) -> Result<(), PostgresError> {
    let topics: Vec<&str> = logs.iter().map(|log| log.topic.as_str()).collect();
    let partitions: Vec<i32> = logs.iter().map(|log| log.partition).collect();
    let incarnations: Vec<i32> = logs.iter().map(|log| log.incarnation).collect();
    let offsets: Vec<i64> = logs.iter().map(|log| log.verified_offset).collect();
    let statement = "
        INSERT INTO verified_offsets AS known (topic, partition, incarnation, verified_offset)
        SELECT * FROM unnest($1::text[], $2::int4[], $3::int4[], $4::int8[])
        ON CONFLICT (topic, partition, incarnation)
        DO UPDATE SET verified_offset = greatest(known.verified_offset, excluded.verified_offset)";
    let parameters = [parameter(&topics), parameter(&partitions), parameter(&incarnations), parameter(&offsets)];
    database.execute(statement, &parameters).await?;
    Ok(())
}
