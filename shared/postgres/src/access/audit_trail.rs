//! Audit trails: one row for each action.

use async_trait::async_trait;
use event::Timestamp;
use pipeline::DependencyError;
use pipeline::ports::{AuditEntry, AuditTrail};
use time::OffsetDateTime;
use tokio_postgres::Row;

use crate::database::Database;
use crate::error::PostgresError;
use crate::ledger::Corrupt;
use crate::statement::parameter;
use crate::text::storable;

const RECORD: &str = "
    INSERT INTO audit_trail (subject, started_at, run, action, by, state, request, result)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT (subject, started_at, run) DO UPDATE SET
        action = excluded.action, by = excluded.by, state = excluded.state, request = excluded.request,
        result = excluded.result";

const ENTRIES: &str = "
    SELECT * FROM audit_trail WHERE subject = $1 AND started_at >= $2 AND started_at < $3 ORDER BY started_at, run";

/// [`AuditTrail`] on Postgres.
#[derive(Clone, Debug)]
pub struct PostgresAuditTrail {
    database: Database,
    /// What its actions are about, such as `redrive`.
    subject: &'static str,
}

impl PostgresAuditTrail {
    /// The trail of the actions that are about `subject`.
    pub fn new(database: Database, subject: &'static str) -> Self {
        PostgresAuditTrail { database, subject }
    }

    async fn put_entry(&self, entry: &AuditEntry) -> Result<(), PostgresError> {
        let text = |text: &str| storable(text).into_owned();
        let (started_at, run, action) = (entry.started_at.to_utc(), text(&entry.run), text(&entry.action));
        let (by, state) = (entry.by.as_deref().map(text), entry.state.as_str());
        let (request, result) = (text(&entry.request), text(&entry.result));
        let parameters = [
            parameter(&self.subject),
            parameter(&started_at),
            parameter(&run),
            parameter(&action),
            parameter(&by),
            parameter(&state),
            parameter(&request),
            parameter(&result),
        ];
        self.database.execute(RECORD, &parameters).await.map(drop)
    }

    async fn entries_of(&self, day: Timestamp) -> Result<Vec<AuditEntry>, PostgresError> {
        let start = day.to_utc().replace_time(time::Time::MIDNIGHT);
        let end = start.saturating_add(time::Duration::DAY);
        let parameters = [parameter(&self.subject), parameter(&start), parameter(&end)];
        self.database.query(ENTRIES, &parameters).await?.iter().map(entry_of).collect()
    }
}

fn entry_of(row: &Row) -> Result<AuditEntry, PostgresError> {
    let state: &str = row.try_get("state")?;
    Ok(AuditEntry {
        started_at: row.try_get::<_, OffsetDateTime>("started_at")?.into(),
        run: row.try_get("run")?,
        action: row.try_get("action")?,
        by: row.try_get("by")?,
        state: state.parse().map_err(|_| Corrupt("audit_trail").column("state"))?,
        request: row.try_get("request")?,
        result: row.try_get("result")?,
    })
}

#[async_trait]
impl AuditTrail for PostgresAuditTrail {
    async fn record(&self, entry: &AuditEntry) -> Result<(), DependencyError> {
        self.put_entry(entry).await.map_err(|error| error.into_dependency("writing the audit trail"))
    }

    async fn entries(&self, day: Timestamp) -> Result<Vec<AuditEntry>, DependencyError> {
        self.entries_of(day).await.map_err(|error| error.into_dependency("reading the audit trail"))
    }
}
