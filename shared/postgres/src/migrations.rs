//! The schema, as embedded SQL files. Each is applied once, in order.

use deadpool_postgres::{ClientWrapper, Object};
use refinery::Migration;
use refinery_core::traits::r#async::{AsyncMigrate, AsyncQuery, AsyncTransaction};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio_postgres::SimpleQueryMessage;

use crate::database::Database;
use crate::error::PostgresError;
use crate::statement::parameter;

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
    // Both connections are taken out of the pool and closed at the end, which ends the transaction of the lock in every case.
    let mut lock = Object::take(database.connection().await?);
    let locked = lock.transaction().await?;
    locked.batch_execute("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0").await?;
    // In a transaction of its own, because a pooler cannot keep a lock of a session, and each migration has a transaction.
    locked.query_typed("SELECT pg_advisory_xact_lock($1)", &[parameter(&LOCK)]).await?;
    let mut migrator = Migrator(Object::take(database.connection().await?));
    let report = embedded::migrations::runner().run_async(&mut migrator).await.map_err(PostgresError::Migration)?;
    locked.commit().await?;
    Ok(report.applied_migrations().iter().map(ToString::to_string).collect())
}

/// Carries out what the runner asks for. The runner's own implementation uses statements with names, which a pooler keeps
/// for whoever comes next.
struct Migrator(ClientWrapper);

impl AsyncTransaction for Migrator {
    type Error = tokio_postgres::Error;

    async fn execute<'a, T: Iterator<Item = &'a str> + Send + 'a>(
        &'a mut self,
        queries: T,
    ) -> Result<usize, Self::Error> {
        let transaction = self.0.transaction().await?;
        transaction.batch_execute("SET LOCAL statement_timeout = 0").await?;
        let mut count = 0;
        for query in queries {
            transaction.batch_execute(query).await?;
            count += 1;
        }
        transaction.commit().await?;
        Ok(count)
    }
}

impl AsyncQuery<Vec<Migration>> for Migrator {
    async fn query<'a>(&'a mut self, query: &'a str) -> Result<Vec<Migration>, Self::Error> {
        let messages = self.0.simple_query(query).await?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        // Columns as the runner's queries have them. A row that the runner itself cannot have written is left out, and then
        // its migration fails because it is there already.
        let migration = |row: &tokio_postgres::SimpleQueryRow| {
            let applied_on = OffsetDateTime::parse(row.get(2)?, &Rfc3339).ok()?;
            let (version, checksum) = (row.get(0)?.parse().ok()?, row.get(3)?.parse().ok()?);
            Some(Migration::applied(version, row.get(1)?.to_owned(), applied_on, checksum))
        };
        Ok(rows.filter_map(migration).collect())
    }
}

impl AsyncMigrate for Migrator {}
