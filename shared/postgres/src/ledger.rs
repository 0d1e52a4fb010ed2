//! The ledger: how every record ended, and whether every record has a row.

use std::collections::BTreeMap;
use std::sync::Arc;

use deadpool_postgres::Transaction;
use event::{EventId, EventKey, Origin, RecordDigest, TenantId, Timestamp};
use pipeline::ports::{LedgerEntry, RiskScore};
use pipeline::{Outcome, Position, TraceId};
use serde::Serialize;
use time::OffsetDateTime;
use tokio_postgres::{IsolationLevel, Row};

use crate::database::Database;
use crate::error::PostgresError;
use crate::statement::{Parameter, parameter};

/// A table with a row that cannot be read.
pub(crate) struct Corrupt(pub &'static str);

impl Corrupt {
    pub(crate) fn column(self, column: &'static str) -> PostgresError {
        PostgresError::Row { table: self.0, column }
    }
}

fn corrupt(column: &'static str) -> PostgresError {
    Corrupt("record_outcomes").column(column)
}

/// Reads all columns of `record_outcomes`.
pub(crate) fn entry_from_row(row: &Row) -> Result<LedgerEntry, PostgresError> {
    let topic: Arc<str> = row.try_get::<_, &str>("topic")?.into();
    let origin_topic = row.try_get::<_, &str>("origin_topic")?;
    let origin_topic = if *origin_topic == *topic { Arc::clone(&topic) } else { origin_topic.into() };
    let tenant = row.try_get::<_, Option<&str>>("tenant")?;
    let event_id = row.try_get::<_, Option<&str>>("event_id")?;
    let key = match (tenant, event_id) {
        (Some(tenant), Some(id)) => Some(EventKey {
            tenant: TenantId::new(tenant).map_err(|_| corrupt("tenant"))?,
            id: EventId::new(id).map_err(|_| corrupt("event_id"))?,
        }),
        (Some(_), None) | (None, Some(_) | None) => None,
    };
    Ok(LedgerEntry {
        position: Position::new(topic, row.try_get("partition")?, row.try_get("record_offset")?)
            .in_incarnation(row.try_get("incarnation")?),
        digest: digest_from_row(row, "record_outcomes", "digest")?,
        origin: Origin::new(origin_topic, row.try_get("origin_partition")?, row.try_get("origin_offset")?)
            .with_digest(digest_from_row(row, "record_outcomes", "origin_digest")?),
        trace_id: trace_from_row(row, "record_outcomes")?,
        key,
        outcome: row.try_get::<_, &str>("outcome")?.parse().map_err(|_| corrupt("outcome"))?,
        reason: row.try_get("reason")?,
        risk: risk_from_row(row)?,
        recorded_at: row.try_get::<_, OffsetDateTime>("recorded_at")?.into(),
    })
}

/// Reads a digest; `None` in a row from before there were any.
pub(crate) fn digest_from_row(
    row: &Row,
    table: &'static str,
    column: &'static str,
) -> Result<Option<RecordDigest>, PostgresError> {
    let Some(bytes) = row.try_get::<_, Option<&[u8]>>(column)? else { return Ok(None) };
    Ok(Some(RecordDigest(bytes.try_into().map_err(|_| Corrupt(table).column(column))?)))
}

/// Reads `trace_id`; `None` in a row from before there were any.
pub(crate) fn trace_from_row(row: &Row, table: &'static str) -> Result<Option<TraceId>, PostgresError> {
    let bad = || Corrupt(table).column("trace_id");
    let Some(bytes) = row.try_get::<_, Option<&[u8]>>("trace_id")? else { return Ok(None) };
    let bytes = bytes.try_into().map_err(|_| bad())?;
    Ok(Some(TraceId::from_bytes(bytes).ok_or_else(bad)?))
}

/// Reads `origin_topic`, `origin_partition`, `origin_offset` and `origin_digest` of `events`.
pub(crate) fn origin_from_row(row: &Row) -> Result<Origin, PostgresError> {
    let (partition, offset) = (row.try_get("origin_partition")?, row.try_get("origin_offset")?);
    let digest = digest_from_row(row, "events", "origin_digest")?;
    Ok(Origin::new(row.try_get::<_, &str>("origin_topic")?, partition, offset).with_digest(digest))
}

/// Reads `risk_score`, `risk_reasons` and `rules_version`.
pub(crate) fn risk_from_row(row: &Row) -> Result<Option<RiskScore>, PostgresError> {
    let Some(score) = row.try_get::<_, Option<i16>>("risk_score")? else { return Ok(None) };
    Ok(Some(RiskScore {
        score: u8::try_from(score).map_err(|_| corrupt("risk_score"))?,
        reasons: row.try_get::<_, Option<Vec<String>>>("risk_reasons")?.unwrap_or_default(),
        rules_version: row.try_get::<_, Option<&str>>("rules_version")?.unwrap_or_default().into(),
    }))
}

/// Offsets `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct OffsetRange {
    pub first: i64,
    pub last: i64,
}

/// The sums of one incarnation of a Kafka partition's log: `next_offset - floor_offset` records were seen, and there must be as many rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionAccount {
    pub topic: String,
    pub partition: i32,
    pub incarnation: i32,
    /// Whether it is the log that is processed now, and not one before it.
    pub is_present: bool,
    /// The first offset for which the ledger must have a row.
    pub floor_offset: i64,
    /// One more than the last.
    pub next_offset: i64,
    /// Number of rows in `record_outcomes` between the two.
    pub rows: i64,
    /// Offsets minus rows; more than the number of offsets without a record is a defect.
    pub difference: i64,
    /// The offsets without a row, lowest first. Not every one needs a row: an offset may hold no record.
    pub missing: Vec<OffsetRange>,
    /// Rows per outcome.
    pub outcomes: BTreeMap<String, i64>,
}

/// The sums of every partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reconciliation {
    pub partitions: Vec<PartitionAccount>,
}

impl Reconciliation {
    /// Records that have no outcome, over all partitions.
    pub fn unaccounted(&self) -> i64 {
        self.partitions.iter().map(|account| account.difference.abs()).sum()
    }
}

/// Compares checkpoints with ledger rows at one instant. Reads the whole ledger.
///
/// # Errors
/// If the database fails.
pub async fn reconcile(database: &Database) -> Result<Reconciliation, PostgresError> {
    let mut client = database.connection().await?;
    // One snapshot, so that batches recorded at the same time do not look like differences. Dropping it rolls back.
    let transaction =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
    // The ledger grows with traffic, and here a complete answer matters more than a quick one.
    transaction.batch_execute("SET LOCAL statement_timeout = 0").await?;
    let mut partitions = Vec::new();
    let checkpoints = "
        SELECT topic, partition, incarnation, floor_offset, next_offset, true AS is_present FROM checkpoints
        UNION ALL
        SELECT topic, partition, incarnation, floor_offset, next_offset, false FROM ended_logs
        ORDER BY topic, partition, incarnation";
    for row in transaction.query_typed(checkpoints, &[]).await? {
        let topic: String = row.try_get("topic")?;
        let partition: i32 = row.try_get("partition")?;
        let incarnation: i32 = row.try_get("incarnation")?;
        let floor_offset: i64 = row.try_get("floor_offset")?;
        let next_offset: i64 = row.try_get("next_offset")?;
        let log = [
            parameter(&topic),
            parameter(&partition),
            parameter(&floor_offset),
            parameter(&next_offset),
            parameter(&incarnation),
        ];
        let sums = "SELECT outcome, count(*) AS records FROM record_outcomes
                    WHERE topic = $1 AND partition = $2 AND record_offset >= $3 AND record_offset < $4
                      AND incarnation = $5
                    GROUP BY outcome";
        let mut outcomes: BTreeMap<String, i64> =
            Outcome::ALL.iter().map(|outcome| (outcome.as_str().to_owned(), 0)).collect();
        for row in transaction.query_typed(sums, &log).await? {
            outcomes.insert(row.try_get("outcome")?, row.try_get("records")?);
        }
        let rows: i64 = outcomes.values().sum();
        let difference = next_offset.saturating_sub(floor_offset).saturating_sub(rows);
        let missing = if difference == 0 { Vec::new() } else { missing_offsets(&transaction, &log).await? };
        partitions.push(PartitionAccount {
            topic,
            partition,
            incarnation,
            is_present: row.try_get("is_present")?,
            floor_offset,
            next_offset,
            rows,
            difference,
            missing,
            outcomes,
        });
    }
    Ok(Reconciliation { partitions })
}

/// The offsets of a log without a row, lowest first. `log` is its topic and partition, the first offset, the offset after the
/// last, and its incarnation.
pub(crate) async fn missing_offsets(
    transaction: &Transaction<'_>,
    log: &[Parameter<'_>; 5],
) -> Result<Vec<OffsetRange>, PostgresError> {
    let gaps = "
        SELECT before + 1 AS first, record_offset - 1 AS last FROM (
            SELECT record_offset, lag(record_offset, 1, $3::int8 - 1) OVER (ORDER BY record_offset) AS before
            FROM (
                SELECT record_offset FROM record_outcomes
                WHERE topic = $1 AND partition = $2 AND record_offset >= $3 AND record_offset < $4
                  AND incarnation = $5
                UNION ALL SELECT $4::int8
            ) present
        ) steps WHERE record_offset > before + 1 ORDER BY first";
    let rows = transaction.query_typed(gaps, log).await?;
    let range = |row: &Row| Ok(OffsetRange { first: row.try_get("first")?, last: row.try_get("last")? });
    rows.iter().map(range).collect()
}

/// Offsets `first` up to but not including `end` of a partition's present log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetSpan {
    pub partition: i32,
    pub first: i64,
    pub end: i64,
}

/// Ledger rows per outcome in each group of spans of `topic`, in the order of the groups.
///
/// # Errors
/// If the database fails.
pub async fn outcomes_in(
    database: &Database,
    topic: &str,
    groups: &[Vec<OffsetSpan>],
) -> Result<Vec<BTreeMap<String, i64>>, PostgresError> {
    let mut columns = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (group, spans) in (0_i64..).zip(groups) {
        for OffsetSpan { partition, first, end } in spans {
            columns.0.push(group);
            columns.1.push(*partition);
            columns.2.push(*first);
            columns.3.push(*end);
        }
    }
    let query = "
        SELECT w.ordinal, o.outcome, count(*) AS records
        FROM unnest($2::int8[], $3::int4[], $4::int8[], $5::int8[]) AS w (ordinal, partition, first_offset, end_offset)
        JOIN checkpoints c ON c.topic = $1 AND c.partition = w.partition
        CROSS JOIN LATERAL (
            SELECT o.outcome FROM record_outcomes o
            WHERE o.topic = $1 AND o.partition = w.partition AND o.incarnation = c.incarnation
              AND o.record_offset >= w.first_offset AND o.record_offset < w.end_offset
            OFFSET 0
        ) o
        GROUP BY w.ordinal, o.outcome";
    let parameters =
        [parameter(&topic), parameter(&columns.0), parameter(&columns.1), parameter(&columns.2), parameter(&columns.3)];
    let mut client = database.connection().await?;
    let transaction = client.build_transaction().read_only(true).start().await?;
    transaction.batch_execute("SET LOCAL statement_timeout = 0").await?;
    let mut outcomes = vec![BTreeMap::new(); groups.len()];
    for row in transaction.query_typed(query, &parameters).await? {
        let group = usize::try_from(row.try_get::<_, i64>("ordinal")?).unwrap_or(usize::MAX);
        let counts: &mut BTreeMap<String, i64> = outcomes.get_mut(group).ok_or_else(|| corrupt("ordinal"))?;
        counts.insert(row.try_get("outcome")?, row.try_get("records")?);
    }
    Ok(outcomes)
}

/// What is stored in all partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Ledger rows per outcome.
    pub outcomes: BTreeMap<String, i64>,
    /// Rows in `events`.
    pub events: i64,
    /// The number of those that wait for a score.
    pub unscored: i64,
    /// The sum of `event_counts_hourly`; equals `events` until old events are deleted.
    pub counted: i64,
}

/// Sums over the ledger, the events and the counts at one instant. Reads all of them.
///
/// # Errors
/// If the database fails.
pub async fn totals(database: &Database) -> Result<Totals, PostgresError> {
    let mut client = database.connection().await?;
    let transaction =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
    transaction.batch_execute("SET LOCAL statement_timeout = 0").await?;
    let mut outcomes: BTreeMap<String, i64> =
        Outcome::ALL.iter().map(|outcome| (outcome.as_str().to_owned(), 0)).collect();
    for row in transaction
        .query_typed("SELECT outcome, count(*) AS records FROM record_outcomes GROUP BY outcome", &[])
        .await?
    {
        outcomes.insert(row.try_get("outcome")?, row.try_get("records")?);
    }
    let sums = "SELECT (SELECT count(*) FROM events) AS events,
                       (SELECT count(*) FROM events WHERE risk_score IS NULL) AS unscored,
                       (SELECT coalesce(sum(events), 0)::int8 FROM event_counts_hourly) AS counted";
    let row = transaction.query_typed_one(sums, &[]).await?;
    Ok(Totals {
        outcomes,
        events: row.try_get("events")?,
        unscored: row.try_get("unscored")?,
        counted: row.try_get("counted")?,
    })
}

/// When a record of a partition was last recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checkpoint {
    pub topic: String,
    pub partition: i32,
    pub next_offset: i64,
    pub updated_at: Timestamp,
}

/// How far each partition is recorded. Reads one row per partition, so it may be polled.
///
/// # Errors
/// If the database fails.
pub async fn checkpoints(database: &Database) -> Result<Vec<Checkpoint>, PostgresError> {
    let client = database.connection().await?;
    let query =
        client.query_typed("SELECT topic, partition, next_offset, updated_at FROM checkpoints ORDER BY 1, 2", &[]);
    let result = database.within(async { Ok(query.await?) }).await;
    let checkpoint = |row: &Row| {
        Ok(Checkpoint {
            topic: row.try_get("topic")?,
            partition: row.try_get("partition")?,
            next_offset: row.try_get("next_offset")?,
            updated_at: row.try_get::<_, OffsetDateTime>("updated_at")?.into(),
        })
    };
    database.give_back(client, result)?.iter().map(checkpoint).collect()
}
