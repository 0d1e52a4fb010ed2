//! The schema, as embedded SQL files that are applied once each, in order.

use deadpool_postgres::Object;

use crate::database::Database;
use crate::error::PostgresError;

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Lock under which migrations run: any number that nobody else of this database uses.
const LOCK: i64 = 0x666f_7265_6261_7901;

/// Applies what is new and returns the names of what was applied. Of concurrent callers one works and the others wait.
///
/// # Errors
/// If a migration fails; it then leaves no trace, and those before it stay.
pub async fn apply(database: &Database) -> Result<Vec<String>, PostgresError> {
    // Taken out of the pool and closed at the end: that releases the lock and forgets the settings, whatever happens.
    let mut client = Object::take(database.connection().await?);
    client.batch_execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0").await?;
    client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await?;
    let report = embedded::migrations::runner().run_async(&mut *client).await.map_err(PostgresError::Migration)?;
    Ok(report.applied_migrations().iter().map(ToString::to_string).collect())
}
