//! Whether two databases have the same rows.

use serde::Serialize;
use tokio_postgres::IsolationLevel;

use crate::database::Database;
use crate::error::PostgresError;
use crate::statement::parameter;

/// The tables to compare: everything that a restoration restores. Checkpoints are not compared, because they follow
/// from the ledger and have the time at which they were moved; claims are not, because they expire.
const TABLES: [&str; 3] = ["events", "record_outcomes", "event_counts_hourly"];

/// The rows of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableFingerprint {
    pub table: &'static str,
    pub rows: i64,
    /// The hash of every column of every row, whatever their order.
    pub hash: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fingerprint {
    /// The hash of the tables' hashes.
    pub hash: String,
    pub tables: Vec<TableFingerprint>,
}

/// The hash of all rows at one instant. Reads all of them.
///
/// # Errors
/// If the database fails.
pub async fn fingerprint(database: &Database) -> Result<Fingerprint, PostgresError> {
    let mut client = database.connection().await?;
    let transaction =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
    // A row is hashed as text, and settings decide how instants, bytes and numbers are written.
    transaction
        .batch_execute(
            "SET LOCAL statement_timeout = 0; SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO, YMD';
             SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 1",
        )
        .await?;
    let mut tables = Vec::with_capacity(TABLES.len());
    for table in TABLES {
        // Two sums of 64 bits of each row's hash do not depend on the order, so a large table need not be sorted.
        let sums = format!(
            "SELECT count(*) AS rows, encode(sha256(convert_to(concat_ws('/', count(*), sum(a), sum(b)), 'UTF8')), 'hex') AS hash
             FROM (SELECT ('x' || left(hash, 16))::bit(64)::int8 AS a, ('x' || right(hash, 16))::bit(64)::int8 AS b
                   FROM (SELECT md5(t::text) AS hash FROM {table} t) hashes) parts"
        );
        let row = transaction.query_typed_one(&sums, &[]).await?;
        tables.push(TableFingerprint { table, rows: row.try_get("rows")?, hash: row.try_get("hash")? });
    }
    let hashes: Vec<&str> = tables.iter().map(|table| table.hash.as_str()).collect();
    let whole = "SELECT encode(sha256(convert_to($1::text, 'UTF8')), 'hex')";
    let hash = transaction.query_typed_one(whole, &[parameter(&hashes.join("/"))]).await?.try_get(0)?;
    Ok(Fingerprint { hash, tables })
}
