//! The work that a deployment needs before events can flow, and that must be done every day afterwards.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka::TopicChange;
use pipeline::chain;
use postgres::ledger::Reconciliation;
use postgres::partitions::PartitionReport;
use postgres::{ledger, migrations, partitions};
use serde::Serialize;
use telemetry::list::UPKEEP_RUNS;

use crate::app::App;
use crate::error::MaintainerError;
use crate::verification;

/// What `maintain` did.
#[derive(Debug, Serialize)]
pub struct MaintenanceReport {
    /// For each topic: `created`, `unchanged` or `partitions added`.
    pub topics: BTreeMap<String, &'static str>,
    /// Migrations applied by this run.
    pub migrations: Vec<String>,
    pub partitions: PartitionReport,
    /// Records that have no outcome; `None` if that could not be found out.
    pub unaccounted: Option<u64>,
}

/// Brings topics, migrations, partitions and retention up to date.
///
/// # Errors
/// If Kafka or Postgres fails. Work done before stays done. The look for losses, which is last and may take long, is given up
/// after `patience` and is no error: a deployment needs what is before it.
pub async fn maintain(app: &App, patience: Duration) -> Result<MaintenanceReport, MaintainerError> {
    let changes = app.kafka().await?.topics().ensure(&app.config.topics).await.map_err(MaintainerError::topics)?;
    let names = app.config.topics.iter().map(|topic| topic.name.clone());
    let database = app.database().await?;
    let applied = migrations::apply(database).await;
    let migrations = applied.map_err(MaintainerError::database("migrating the database"))?;
    let maintained = partitions::maintain(database, app.clock.now(), app.config.partitions).await;
    let partitions = maintained.map_err(MaintainerError::database("maintaining partitions"))?;
    let topics = names.zip(changes.into_iter().map(name_of)).collect();
    let verified = tokio::time::timeout(patience, verification::verify(app)).await;
    let unaccounted = match verified.unwrap_or(Err(MaintainerError::OutOfTime)) {
        Ok(unaccounted) => {
            // Only with the look for losses: an alert rings when the count stands still.
            UPKEEP_RUNS.add(1, []);
            Some(unaccounted)
        }
        Err(error) => {
            tracing::warn!(
                tag = error.tag(),
                error = chain(&error),
                "whether every record has an outcome is not known"
            );
            None
        }
    };
    let report = MaintenanceReport { topics, migrations, partitions, unaccounted };
    tracing::info!(
        migrations = report.migrations.len(),
        created = report.partitions.created.len(),
        dropped = report.partitions.dropped.len(),
        moved_events = report.partitions.moved_events,
        unaccounted = report.unaccounted,
        "topics, schema and partitions are up to date"
    );
    Ok(report)
}

/// Compares checkpoints with the ledger.
///
/// # Errors
/// If Postgres fails.
pub async fn reconcile(app: &App) -> Result<Reconciliation, MaintainerError> {
    ledger::reconcile(app.database().await?).await.map_err(MaintainerError::database("reading the ledger"))
}

fn name_of(change: TopicChange) -> &'static str {
    match change {
        TopicChange::Created => "created",
        TopicChange::PartitionsAdded { .. } => "partitions added",
        TopicChange::Unchanged => "unchanged",
    }
}
