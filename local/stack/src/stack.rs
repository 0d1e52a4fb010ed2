//! A running pipeline: started in order, stopped in reverse order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use archive::S3Objects;
use esm::{LambdaInvoker, Mapping, RunningMapping};
use host::{Host, RunningHttpFunction};
use kafka::{KafkaClient, KafkaConfig};
use postgres::{Database, PostgresConfig};
use serde_json::{Value, json};
use settings::Settings;

use crate::backing::Backing;
use crate::client::JsonClient;
use crate::functions;
use crate::mappings::mapping_configs;
use crate::options::{Options, Routes};
use crate::reconcile::LedgerProof;
use crate::schedule::RunningSchedule;
use crate::session::Session;

/// Who hosts the functions.
enum FunctionHosting {
    /// Our host, which behaves like Lambda, and the HTTP functions on their own ports.
    Hosted { host: Host, ingest: RunningHttpFunction, query: RunningHttpFunction },
    /// `cargo lambda watch`, which rebuilds the functions when their source changes.
    Watched(tokio::process::Child),
}

/// The services, functions and mappings. Dropping it ends every process that it started.
pub struct Stack {
    // In the order in which they are stopped and dropped.
    schedules: Vec<RunningSchedule>,
    mappings: Vec<RunningMapping>,
    functions: FunctionHosting,
    backing: Backing,
    pub options: Options,
    pub session: Session,
    pub kafka: KafkaClient,
    pub client: JsonClient,
}

impl Stack {
    /// Starts the services and the function hosts, creates topics, tables and schema, and finally starts the mappings.
    ///
    /// # Errors
    /// The error names what did not start, and why. Everything that had started is stopped.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        Self::start_with(options, false).await
    }

    /// Like [`Stack::start`], with the functions under `cargo lambda watch`.
    ///
    /// # Errors
    /// As [`Stack::start`], and if cargo-lambda is not on the path.
    pub async fn start_watched(options: Options) -> anyhow::Result<Self> {
        Self::start_with(options, true).await
    }

    async fn start_with(options: Options, watch: bool) -> anyhow::Result<Self> {
        let backing = Backing::start(&options).await?;
        // Commands and checks connect directly to the services.
        let session = Session::new(functions::environment(&options, &backing, &Routes::default()));
        let environment = functions::environment(&options, &backing, &options.routes);
        let functions = if watch {
            FunctionHosting::Watched(functions::start_watch(&options, &environment).await?)
        } else {
            let host = functions::start_host(&options, &environment).await?;
            let ingest = functions::start_http("ingest", options.ports.ingest, &options, &environment).await?;
            let query = functions::start_http("query", options.ports.query, &options, &environment).await?;
            FunctionHosting::Hosted { host, ingest, query }
        };
        functions::prepare_access(&session).await?;
        let kafka = KafkaClient::connect(&KafkaConfig::plaintext(&backing.brokers), "stack").await?;
        let mut stack = Stack {
            schedules: Vec::new(),
            mappings: Vec::new(),
            functions,
            backing,
            options,
            session,
            kafka,
            client: JsonClient::default(),
        };
        stack.invoke("maintainer", json!({"action": "maintain"})).await.context("the maintainer failed")?;
        let lambda = Arc::new(LambdaInvoker::new(&stack.session.aws("AWS_ENDPOINT_URL_LAMBDA").await));
        for config in mapping_configs(stack.options.pollers) {
            stack.mappings.push(Mapping::start(config, &stack.kafka, Arc::<LambdaInvoker>::clone(&lambda)).await?);
        }
        if let Some(every) = stack.options.rescore_every {
            let (client, port) = (stack.client.clone(), stack.options.ports.lambda.number);
            stack.schedules.push(RunningSchedule::start("rescorer", every, client, port));
        }
        Ok(stack)
    }

    /// The URL for posting one event; append `/batch` for many.
    pub fn ingest_url(&self) -> String {
        match &self.functions {
            FunctionHosting::Hosted { .. } => format!("http://{}/events", self.options.ports.ingest.address()),
            FunctionHosting::Watched(_) => {
                format!("http://{}/lambda-url/ingest/events", self.options.ports.lambda.address())
            }
        }
    }

    /// The URL of an event's timeline without the id: `GET <url>/<id>`.
    pub fn query_url(&self) -> String {
        match &self.functions {
            FunctionHosting::Hosted { .. } => format!("http://{}/events", self.options.ports.query.address()),
            FunctionHosting::Watched(_) => {
                format!("http://{}/lambda-url/query/events", self.options.ports.lambda.address())
            }
        }
    }

    pub fn database_url(&self) -> &str {
        &self.backing.database_url
    }

    pub fn brokers(&self) -> &str {
        &self.backing.brokers
    }

    /// The backing services, so that a test can make them fail.
    pub fn backing(&mut self) -> &mut Backing {
        &mut self.backing
    }

    /// Invokes a function as AWS does.
    ///
    /// # Errors
    /// If it cannot be reached, or answers with an error.
    pub async fn invoke(&self, function: &str, event: Value) -> anyhow::Result<Value> {
        let url = functions::invoke_url(self.options.ports.lambda.number, function);
        functions::invoke(&self.client, &url, event.to_string()).await
    }

    /// Creates an API key and returns it. The key itself is not stored.
    ///
    /// # Errors
    /// If the maintainer refuses.
    pub async fn create_key(&self, tenant: &str, name: &str, trusted: bool, per_min: u32) -> anyhow::Result<String> {
        let request = json!({
            "action": "create-key", "tenant": tenant, "name": name, "trusted_collector": trusted,
            "rate_limit_per_min": per_min,
        });
        let answer = self.invoke("maintainer", request).await?;
        answer["key"].as_str().map(str::to_owned).context("the maintainer's answer has no key")
    }

    /// Process ids of a function's live instances; for ingest and query that of the HTTP server.
    pub fn processes(&self, function: &str) -> Vec<u32> {
        match &self.functions {
            FunctionHosting::Watched(_) => Vec::new(),
            FunctionHosting::Hosted { ingest, .. } if function == "ingest" => vec![ingest.pid()],
            FunctionHosting::Hosted { query, .. } if function == "query" => vec![query.pid()],
            FunctionHosting::Hosted { host, .. } => {
                host.instances(function).iter().map(|instance| instance.pid).collect()
            }
        }
    }

    /// Number of records that the consumer groups have not finished yet.
    ///
    /// # Errors
    /// If Kafka cannot be read.
    pub async fn lag(&self) -> anyhow::Result<u64> {
        let topics = self.kafka.topics();
        let mut lag = 0;
        for config in mapping_configs(self.options.pollers) {
            let committed = topics.committed(&config.group).await?;
            for partition in topics.watermarks(&config.topics[0]).await? {
                let done = committed
                    .iter()
                    .find(|position| *position.topic == *config.topics[0] && position.partition == partition.partition)
                    .map_or(partition.earliest, |position| position.offset.max(partition.earliest));
                let behind = u64::try_from(partition.latest - done).unwrap_or_default();
                if behind > 0 {
                    tracing::debug!(
                        config.group,
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

    /// Number of records of `raw-events` without an outcome; see [`crate::reconcile`].
    ///
    /// # Errors
    /// If Postgres or Kafka cannot be read.
    pub async fn unaccounted(&self) -> anyhow::Result<u64> {
        let database = Database::connect(&self.postgres_config()?).await?;
        Ok(LedgerProof::gather(&database, &self.kafka).await?.unaccounted())
    }

    /// # Errors
    /// If the stack's own settings are malformed.
    pub fn postgres_config(&self) -> anyhow::Result<PostgresConfig> {
        let mut settings = Settings::new(&self.session);
        let config = PostgresConfig::from_settings(&mut settings);
        Ok(settings.build(config)?)
    }

    /// The archive's bucket.
    pub async fn archive(&self) -> S3Objects {
        S3Objects::connect(&self.session.aws("AWS_ENDPOINT_URL_S3").await, self.options.bucket.clone())
    }

    /// Waits until every mapping has finished all records.
    ///
    /// # Errors
    /// If that takes longer than `patience`.
    pub async fn wait_until_idle(&self, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let lag = self.lag().await?;
            // The outcomes of the last batch are published before its offsets are committed, so when the lag of all
            // mappings is zero, no record is in flight.
            if lag == 0 {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < deadline, "{lag} records are unfinished after {} s", patience.as_secs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops the schedules, the mappings, the functions, then the services.
    ///
    /// # Errors
    /// If something did not stop, or the kept state could not be written.
    pub async fn stop(self) -> anyhow::Result<()> {
        for schedule in self.schedules {
            schedule.stop().await;
        }
        for mapping in self.mappings {
            mapping.stop().await;
        }
        match self.functions {
            FunctionHosting::Hosted { host, ingest, query } => {
                ingest.stop().await;
                query.stop().await;
                host.stop().await;
            }
            FunctionHosting::Watched(mut watch) => functions::stop_watch(&mut watch).await,
        }
        self.backing.stop()
    }
}
