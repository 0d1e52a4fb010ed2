//! What of the ledger has not been verified yet, so that a loss is found soon and at little cost: each look reads the rows that
//! came since the one before.

use tokio_postgres::{IsolationLevel, Row};

use crate::database::Database;
use crate::error::PostgresError;
use crate::ledger::{OffsetRange, missing_offsets};
use crate::statement::parameter;

/// One incarnation of a partition's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogName {
    pub topic: String,
    pub partition: i32,
    pub incarnation: i32,
}

/// A part of a log, from `verified_offset` to before `next_offset`, that was recorded since it was last verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedLog {
    pub name: LogName,
    /// Whether it is the log that is processed now, and not one before it.
    pub is_present: bool,
    /// Below it, every offset has an outcome or holds no record.
    pub verified_offset: i64,
    pub next_offset: i64,
    /// The offsets without a row, lowest first. Not every one needs a row: an offset may hold no record.
    pub missing: Vec<OffsetRange>,
}

/// The logs that have been recorded, with what is verified of them.
macro_rules! logs {
    () => {
        "(SELECT topic, partition, incarnation, is_present, next_offset,
                 greatest(floor_offset, coalesce(verified_offset, floor_offset)) AS verified_offset
          FROM (
              SELECT topic, partition, incarnation, floor_offset, next_offset, true AS is_present FROM checkpoints
              UNION ALL
              SELECT topic, partition, incarnation, floor_offset, next_offset, false FROM ended_logs
          ) recorded LEFT JOIN verified_offsets USING (topic, partition, incarnation)) logs"
    };
}

/// The logs in which something was recorded since they were last verified.
///
/// # Errors
/// If the database fails.
pub async fn unverified_logs(database: &Database) -> Result<Vec<LogName>, PostgresError> {
    let query = concat!(
        "SELECT topic, partition, incarnation FROM ",
        logs!(),
        " WHERE next_offset > verified_offset ORDER BY topic, partition, incarnation"
    );
    let name = |row: &Row| {
        Ok(LogName {
            topic: row.try_get("topic")?,
            partition: row.try_get("partition")?,
            incarnation: row.try_get("incarnation")?,
        })
    };
    database.query(query, &[]).await?.iter().map(name).collect()
}

/// What of a log is not verified, at most so many offsets of it, lowest first, at one instant; `None` if it is gone. An offset
/// costs what counting a row of an index costs.
///
/// # Errors
/// If the database fails.
pub async fn look(database: &Database, name: LogName, most: i64) -> Result<Option<UnverifiedLog>, PostgresError> {
    let mut client = database.connection().await?;
    // One snapshot, so that a batch recorded at the same time does not look like a difference. Dropping it rolls back.
    let transaction =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
    // The caller limits the time; the first looks have much to read.
    transaction.batch_execute("SET LOCAL statement_timeout = 0").await?;
    let bounds = concat!(
        "SELECT is_present, verified_offset, least(next_offset, verified_offset + $4::int8) AS next_offset FROM ",
        logs!(),
        " WHERE topic = $1 AND partition = $2 AND incarnation = $3"
    );
    let of_log = [parameter(&name.topic), parameter(&name.partition), parameter(&name.incarnation), parameter(&most)];
    let Some(row) = transaction.query_typed(bounds, &of_log).await?.pop() else { return Ok(None) };
    let (verified_offset, next_offset): (i64, i64) = (row.try_get("verified_offset")?, row.try_get("next_offset")?);
    let part = [
        parameter(&name.topic),
        parameter(&name.partition),
        parameter(&verified_offset),
        parameter(&next_offset),
        parameter(&name.incarnation),
    ];
    let count = "SELECT count(*) AS records FROM record_outcomes
                 WHERE topic = $1 AND partition = $2 AND record_offset >= $3 AND record_offset < $4
                   AND incarnation = $5";
    let rows: i64 = transaction.query_typed_one(count, &part).await?.try_get("records")?;
    let is_whole = rows == next_offset.saturating_sub(verified_offset);
    let missing = if is_whole { Vec::new() } else { missing_offsets(&transaction, &part).await? };
    Ok(Some(UnverifiedLog { is_present: row.try_get("is_present")?, verified_offset, next_offset, missing, name }))
}

/// Notes that a log is verified up to `offset`. It never goes back.
///
/// # Errors
/// If the database fails.
pub async fn note_verified(database: &Database, log: &LogName, offset: i64) -> Result<(), PostgresError> {
    let statement = "
        INSERT INTO verified_offsets AS known (topic, partition, incarnation, verified_offset) VALUES ($1, $2, $3, $4)
        ON CONFLICT (topic, partition, incarnation)
        DO UPDATE SET verified_offset = greatest(known.verified_offset, excluded.verified_offset)";
    let parameters =
        [parameter(&log.topic), parameter(&log.partition), parameter(&log.incarnation), parameter(&offset)];
    database.execute(statement, &parameters).await?;
    Ok(())
}
