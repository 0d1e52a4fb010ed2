//! Upkeep: topics, migrations, partitions and retention; and the operator's commands.
//!
//! Owns what a deployment needs before events can flow and what must be done every day afterwards. Everything is
//! idempotent, and concurrent runs are safe. How each thing is done is the adapters' business.

mod access;
mod config;
mod error;
mod request;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka::{KafkaClient, KafkaError, TopicAdmin, TopicChange};
use lambda::invocation::Invocation;
use pipeline::clock::Clock;
use pipeline::ports::{ApiKeys, BlockList};
use postgres::ledger::Reconciliation;
use postgres::partitions::PartitionReport;
use postgres::{Database, ledger, migrations, partitions};
use serde::Serialize;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::OnceCell;

pub use config::Config;
pub use error::MaintainerError;
pub use request::{ACTIONS, Request};

/// What the commands act on. Kafka and the database are connected to when first needed: an address can be blocked while
/// either is down.
pub struct App {
    config: Config,
    keys: Arc<dyn ApiKeys>,
    blocks: Arc<dyn BlockList>,
    clock: Arc<dyn Clock>,
    topics: OnceCell<TopicAdmin>,
    database: OnceCell<Database>,
}

/// What `maintain` did.
#[derive(Debug, Serialize)]
pub struct Report {
    /// For each topic: `created`, `unchanged` or `partitions added`.
    pub topics: BTreeMap<String, &'static str>,
    /// Migrations applied by this run.
    pub migrations: Vec<String>,
    pub partitions: PartitionReport,
}

impl App {
    pub fn new(config: Config, keys: Arc<dyn ApiKeys>, blocks: Arc<dyn BlockList>, clock: Arc<dyn Clock>) -> Self {
        App { config, keys, blocks, clock, topics: OnceCell::new(), database: OnceCell::new() }
    }

    async fn topics(&self) -> Result<&TopicAdmin, MaintainerError> {
        let connect = async || Ok(KafkaClient::connect(&self.config.kafka, "maintainer").await?.topics());
        self.topics.get_or_try_init(connect).await.map_err(topics_error)
    }

    async fn database(&self) -> Result<&Database, MaintainerError> {
        let connect = || Database::connect(&self.config.postgres);
        self.database.get_or_try_init(connect).await.map_err(database_error("connecting to the database"))
    }

    async fn maintain(&self) -> Result<Report, MaintainerError> {
        let changes = self.topics().await?.ensure(&self.config.topics).await.map_err(topics_error)?;
        let names = self.config.topics.iter().map(|topic| topic.name.clone());
        let database = self.database().await?;
        let migrations = migrations::apply(database).await.map_err(database_error("migrating the database"))?;
        let partitions = partitions::maintain(database, self.clock.now(), self.config.partitions)
            .await
            .map_err(database_error("maintaining partitions"))?;
        let report = Report { topics: names.zip(changes.into_iter().map(name_of)).collect(), migrations, partitions };
        tracing::info!(
            migrations = report.migrations.len(),
            created = report.partitions.created.len(),
            dropped = report.partitions.dropped.len(),
            moved_events = report.partitions.moved_events,
            "maintained"
        );
        Ok(report)
    }

    async fn reconcile(&self) -> Result<Reconciliation, MaintainerError> {
        ledger::reconcile(self.database().await?).await.map_err(database_error("reading the ledger"))
    }
}

fn topics_error(source: KafkaError) -> MaintainerError {
    MaintainerError::Topics(Box::new(source))
}

fn database_error(doing: &'static str) -> impl FnOnce(postgres::PostgresError) -> MaintainerError {
    move |source| MaintainerError::Database { doing, source }
}

fn name_of(change: TopicChange) -> &'static str {
    match change {
        TopicChange::Created => "created",
        TopicChange::PartitionsAdded { .. } => "partitions added",
        TopicChange::Unchanged => "unchanged",
    }
}

/// Carries out one request and answers what was done.
///
/// # Errors
/// [`MaintainerError`]; what was done before it stays done, and the request may be repeated.
pub async fn handle(event: &RawValue, invocation: &Invocation, app: &App) -> Result<Box<RawValue>, MaintainerError> {
    let now = app.clock.now();
    let request = Request::parse(event)?;
    // A long action is cut off by the platform, and repeated; one that has no time at all is better not begun.
    if invocation.remaining(Duration::ZERO).is_zero() {
        return Err(MaintainerError::OutOfTime);
    }
    let answer = match request {
        Request::Maintain => to_raw_value(&app.maintain().await?),
        Request::Block { address, reason, period } => {
            let until = period.map(|period| now.plus(period));
            to_raw_value(&json!({ "blocked": access::block(&*app.blocks, address, reason, until).await? }))
        }
        Request::Unblock { address } => {
            to_raw_value(&json!({ "address": address, "was_blocked": access::unblock(&*app.blocks, address).await? }))
        }
        Request::ListBlocks => to_raw_value(&json!({ "blocks": access::list_blocks(&*app.blocks, now).await? })),
        Request::CreateKey { tenant, name, trusted_collector, rate_limit_per_min } => {
            to_raw_value(&access::create_key(&*app.keys, tenant, name, trusted_collector, rate_limit_per_min).await?)
        }
        Request::RevokeKey { hash } => {
            access::revoke_key(&*app.keys, hash).await?;
            to_raw_value(&json!({ "key_hash": hash.to_string(), "revoked": true }))
        }
        Request::Reconcile => {
            let account = app.reconcile().await?;
            to_raw_value(&json!({ "unaccounted": account.unaccounted(), "partitions": account.partitions }))
        }
    };
    answer.map_err(MaintainerError::Answer)
}
