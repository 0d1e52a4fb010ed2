//! The schema, as embedded SQL files. Each is applied once, in order.

use deadpool_postgres::Object;

use crate::database::Database;
use crate::error::PostgresError;

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// The advisory lock for migrations: any number that nothing else in this database uses.
const LOCK: i64 = 0x666f_7265_6261_7901;

/// Applies new migrations and returns their names. If several callers run at once, one works and the others wait.
///
/// # Errors
/// If a migration fails. It then changes nothing, and the migrations before it stay applied.
pub async fn apply(database: &Database) -> Result<Vec<String>, PostgresError> {
    // Taken out of the pool and closed at the end, which releases the lock and drops the settings in every case.
    let mut client = Object::take(database.connection().await?);
    client.batch_execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0").await?;
    client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await?;
    let report = embedded::migrations::runner().run_async(&mut *client).await.map_err(PostgresError::Migration)?;
    Ok(report.applied_migrations().iter().map(ToString::to_string).collect())
}
