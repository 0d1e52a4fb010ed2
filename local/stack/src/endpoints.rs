//! A running pipeline from outside: where its clients and operators reach it. It may be a stack of this process, containers or
//! a real deployment.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use archive::S3Objects;
use kafka::{GroupPlace, KafkaClient, KafkaConfig};
use pipeline::ports::{KeyKind, Scope};
use postgres::{Database, PostgresConfig};
use serde_json::{Value, json};
use settings::{Settings, Variables as _};

use crate::client::JsonClient;
use crate::functions;
use crate::mappings::groups;
use crate::progress::{GroupProgress, OVERDUE};
use crate::reconcile::LedgerProof;
use crate::session::Session;

/// Cheap to clone.
#[derive(Clone)]
pub struct Endpoints {
    pub session: Session,
    pub kafka: KafkaClient,
    pub client: JsonClient,
    /// The URL for posting one event; append `/batch` for many.
    pub ingest_url: String,
    /// The endpoint of the Invoke API.
    pub lambda_url: String,
    /// The server that is the primary now.
    pub database_url: String,
    /// The archive's bucket.
    pub bucket: String,
}

impl Endpoints {
    /// Of the pipeline that the session's settings name. Ingest is on loopback, at `INGEST_PORT`.
    ///
    /// # Errors
    /// If a setting is missing, or Kafka cannot be reached.
    pub async fn of_session(session: Session) -> anyhow::Result<Self> {
        let (lambda_url, database_url) =
            (session.require("AWS_ENDPOINT_URL_LAMBDA")?, session.require("DATABASE_URL")?);
        let bucket = session.require("ARCHIVE_BUCKET")?;
        let ingest_port = session.get("INGEST_PORT").unwrap_or_else(|| "8080".to_owned());
        let mut settings = Settings::new(&session);
        let kafka = KafkaConfig::from_settings(&mut settings);
        let kafka = KafkaClient::connect(&settings.build(kafka)?, "stack").await?;
        Ok(Endpoints {
            session,
            kafka,
            client: JsonClient::default(),
            ingest_url: format!("http://127.0.0.1:{ingest_port}/events"),
            lambda_url,
            database_url,
            bucket,
        })
    }

    /// Invokes a function as AWS does.
    ///
    /// # Errors
    /// If it cannot be reached, or answers with an error.
    pub async fn invoke(&self, function: &str, event: Value) -> anyhow::Result<Value> {
        let url = functions::invoke_url(&self.lambda_url, function);
        functions::invoke(&self.client, &url, event.to_string()).await
    }

    /// Creates an API key and returns it. The key itself is not stored. A server's key may also read.
    ///
    /// # Errors
    /// If the maintainer refuses.
    pub async fn create_key(&self, tenant: &str, name: &str, kind: KeyKind, per_min: u32) -> anyhow::Result<String> {
        let scopes: &[Scope] = match kind {
            KeyKind::Server => &[Scope::Write, Scope::Read],
            KeyKind::Publishable => &[Scope::Write],
        };
        self.make_key(json!({
            "action": "create-key", "tenant": tenant, "name": name, "kind": kind, "scopes": scopes,
            "rate_limit_per_min": per_min, "by": "stack",
        }))
        .await
    }

    /// Creates an API key for the console and for what only operators may ask, and returns it.
    ///
    /// # Errors
    /// If the maintainer refuses.
    pub async fn create_operator_key(&self, tenant: &str, name: &str) -> anyhow::Result<String> {
        self.make_key(json!({
            "action": "create-key", "tenant": tenant, "name": name, "kind": KeyKind::Server,
            "scopes": [Scope::Read, Scope::Operate], "by": "stack",
        }))
        .await
    }

    async fn make_key(&self, request: Value) -> anyhow::Result<String> {
        let answer = self.invoke("maintainer", request).await?;
        answer["key"].as_str().map(str::to_owned).context("the maintainer's answer has no key")
    }

    /// Number of records that the consumer groups that are meant have not finished yet.
    ///
    /// # Errors
    /// If Kafka cannot be read.
    pub async fn lag_of(&self, is_meant: impl Fn(&str) -> bool) -> anyhow::Result<u64> {
        let topics = self.kafka.topics();
        let mut lag = 0;
        for (topic, group) in groups().filter(|(_, group)| is_meant(group)) {
            for GroupPlace { marks: partition, committed } in topics.places_of(group, topic).await? {
                // Of a log that was made again, the group's offset may lie beyond the end: it begins at the start.
                let committed = committed.filter(|committed| *committed <= partition.latest);
                let done = committed.map_or(partition.earliest, |committed| committed.max(partition.earliest));
                let behind = u64::try_from(partition.latest - done).unwrap_or_default();
                if behind > 0 {
                    tracing::debug!(
                        group,
                        partition.partition,
                        done,
                        partition.latest,
                        "a consumer group has unfinished records"
                    );
                }
                lag += behind;
            }
        }
        Ok(lag)
    }

    /// Waits until the consumer groups that are meant have finished all records.
    ///
    /// # Errors
    /// If that takes longer than `patience`.
    pub async fn wait_until_done(&self, is_meant: impl Fn(&str) -> bool, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let lag = self.lag_of(&is_meant).await?;
            // The outcomes of the last batch are published before its offsets are committed, so when the lag of all
            // mappings is zero, no record is in flight.
            if lag == 0 {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < deadline, "{lag} records are unfinished after {} s", patience.as_secs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What `reconcile` says about the ledger.
    ///
    /// # Errors
    /// If Postgres or Kafka cannot be read.
    pub async fn ledger_proof(&self) -> anyhow::Result<LedgerProof> {
        let database = Database::connect(&self.postgres_config()?).await?;
        LedgerProof::gather(&database, &self.kafka).await
    }

    /// What `reconcile` says about the processor's group.
    ///
    /// # Errors
    /// If Postgres or Kafka cannot be read.
    pub async fn group_progress(&self) -> anyhow::Result<GroupProgress> {
        let database = Database::connect(&self.postgres_config()?).await?;
        GroupProgress::gather(&database, &self.kafka, OVERDUE).await
    }

    /// For a direct connection to the server that is the primary now.
    ///
    /// # Errors
    /// If the settings are malformed.
    pub fn postgres_config(&self) -> anyhow::Result<PostgresConfig> {
        let primary = ("DATABASE_URL".to_owned(), self.database_url.clone());
        let session = Session::new(self.session.variables().into_iter().chain([primary]));
        let mut settings = Settings::new(&session);
        let config = PostgresConfig::from_settings(&mut settings);
        Ok(settings.build(config)?)
    }

    /// The archive's bucket.
    pub async fn archive(&self) -> S3Objects {
        S3Objects::connect(&self.session.aws("AWS_ENDPOINT_URL_S3").await, self.bucket.clone())
    }
}
