//! A running pipeline: started in order, stopped in reverse order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use archive::S3Objects;
use esm::{Functions, LambdaInvoker, Mapping, RunningMapping};
use host::{Host, RunningHttpFunction};
use kafka::{KafkaClient, KafkaConfig};
use pipeline::ports::{KeyKind, Scope};
use postgres::{Database, PostgresConfig};
use serde_json::{Value, json};
use services::pgbouncer::PgBouncer;
use settings::Settings;

use crate::backing::Backing;
use crate::client::JsonClient;
use crate::functions;
use crate::mappings::mapping_configs;
use crate::options::{Options, Port, Routes};
use crate::progress::{GroupProgress, OVERDUE};
use crate::reconcile::LedgerProof;
use crate::schedule::RunningSchedule;
use crate::session::Session;
use crate::usage::cpu_seconds;
use crate::watch::{RunningWatch, Watched};

/// Who hosts the functions.
struct FunctionHosting {
    /// The HTTP functions on their own ports, by name.
    http: Vec<(&'static str, RunningHttpFunction)>,
    /// Our host, which behaves like Lambda; `None` if every function is watched.
    host: Option<Host>,
    watch: Option<RunningWatch>,
}

impl FunctionHosting {
    async fn start(
        options: &Options,
        environment: &[(String, String)],
        watched: Option<Watched>,
    ) -> anyhow::Result<Self> {
        let watch = match watched {
            Some(watched) => {
                let concurrency = functions::instances(options);
                Some(RunningWatch::start(watched, options, concurrency, environment).await?)
            }
            None => None,
        };
        let mut hosting = FunctionHosting { http: Vec::new(), host: None, watch };
        if hosting.watch.as_ref().is_some_and(|watch| watch.functions == Watched::All) {
            return Ok(hosting);
        }
        hosting.host = Some(functions::start_host(options, environment, hosting.watch.as_ref()).await?);
        for (name, port) in [("ingest", options.ports.ingest), ("query", options.ports.query)] {
            if hosting.watch_of(name).is_none() {
                hosting.http.push((name, functions::start_http(name, port, options, environment).await?));
            }
        }
        Ok(hosting)
    }

    /// The `cargo lambda watch` that serves a function, if one does.
    fn watch_of(&self, function: &str) -> Option<&RunningWatch> {
        self.watch.as_ref().filter(|watch| watch.functions.contains(function))
    }

    fn events_url(&self, function: &str, port: Port) -> String {
        match self.watch_of(function) {
            Some(watch) => format!("http://{}/lambda-url/{function}/events", watch.address),
            None => format!("http://{}/events", port.address()),
        }
    }

    async fn stop(self) {
        for (_, function) in self.http {
            function.stop().await;
        }
        if let Some(host) = self.host {
            host.stop().await;
        }
        if let Some(watch) = self.watch {
            watch.stop().await;
        }
    }
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
        Self::start_with(options, None).await
    }

    /// Like [`Stack::start`], with functions under `cargo lambda watch`.
    ///
    /// # Errors
    /// As [`Stack::start`], and if cargo-lambda is not on the path.
    pub async fn start_watched(options: Options, watched: Watched) -> anyhow::Result<Self> {
        Self::start_with(options, Some(watched)).await
    }

    async fn start_with(options: Options, watched: Option<Watched>) -> anyhow::Result<Self> {
        let backing = Backing::start(&options).await?;
        // Commands and checks connect directly to the services.
        let session = Session::new(functions::environment(&options, &backing, &Routes::default()));
        let routes = Routes { pooler: backing.pooler.as_ref().map(PgBouncer::port), ..options.routes.clone() };
        let environment = functions::environment(&options, &backing, &routes);
        let functions = FunctionHosting::start(&options, &environment, watched).await?;
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
        if stack.options.mappings {
            stack.start_mappings(|_| true).await?;
        }
        if let Some(every) = stack.options.rescore_every {
            let (client, port) = (stack.client.clone(), stack.options.ports.lambda.number);
            stack.schedules.push(RunningSchedule::start("rescorer", every, client, port));
        }
        Ok(stack)
    }

    /// Starts the mappings whose consumer group is meant.
    ///
    /// # Errors
    /// If the brokers do not answer.
    pub async fn start_mappings(&mut self, is_meant: impl Fn(&str) -> bool) -> anyhow::Result<()> {
        let lambda = LambdaInvoker::new(&self.session.aws("AWS_ENDPOINT_URL_LAMBDA").await);
        let functions = Functions::new(Arc::new(lambda));
        let s3 = self.session.aws("AWS_ENDPOINT_URL_S3").await;
        for config in mapping_configs(&self.options).into_iter().filter(|config| is_meant(&config.group)) {
            self.mappings.push(Mapping::start(config, &self.kafka, &functions, &s3).await?);
        }
        Ok(())
    }

    /// Stops the mappings; what is in progress ends before.
    pub async fn stop_mappings(&mut self) {
        for mapping in self.mappings.drain(..) {
            mapping.stop().await;
        }
    }

    /// The URL for posting one event; append `/batch` for many.
    pub fn ingest_url(&self) -> String {
        self.functions.events_url("ingest", self.options.ports.ingest)
    }

    /// The URL of an event's timeline without the id: `GET <url>/<id>`.
    pub fn query_url(&self) -> String {
        self.functions.events_url("query", self.options.ports.query)
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

    /// Creates an API key and returns it. The key itself is not stored. A server's key may also read.
    ///
    /// # Errors
    /// If the maintainer refuses.
    pub async fn create_key(&self, tenant: &str, name: &str, kind: KeyKind, per_min: u32) -> anyhow::Result<String> {
        let scopes: &[Scope] = match kind {
            KeyKind::Server => &[Scope::Write, Scope::Read],
            KeyKind::Publishable => &[Scope::Write],
        };
        let request = json!({
            "action": "create-key", "tenant": tenant, "name": name, "kind": kind, "scopes": scopes,
            "rate_limit_per_min": per_min, "by": "stack",
        });
        let answer = self.invoke("maintainer", request).await?;
        answer["key"].as_str().map(str::to_owned).context("the maintainer's answer has no key")
    }

    /// Process ids of a function's live instances; for ingest and query that of the HTTP server. None are known of a
    /// function that is watched.
    pub fn processes(&self, function: &str) -> Vec<u32> {
        if let Some((_, server)) = self.functions.http.iter().find(|(name, _)| *name == function) {
            return vec![server.pid()];
        }
        let host = self.functions.host.iter();
        host.flat_map(|host| host.instances(function)).map(|instance| instance.pid).collect()
    }

    /// User and system CPU time so far of a function's live instances, in seconds.
    pub fn cpu_seconds(&self, function: &str) -> f64 {
        self.processes(function).into_iter().filter_map(cpu_seconds).sum()
    }

    /// Number of records that the consumer groups have not finished yet.
    ///
    /// # Errors
    /// If Kafka cannot be read.
    pub async fn lag(&self) -> anyhow::Result<u64> {
        self.lag_of(|_| true).await
    }

    /// Number of records that the consumer groups that are meant have not finished yet.
    ///
    /// # Errors
    /// If Kafka cannot be read.
    pub async fn lag_of(&self, is_meant: impl Fn(&str) -> bool) -> anyhow::Result<u64> {
        let topics = self.kafka.topics();
        let mut lag = 0;
        for config in mapping_configs(&self.options).into_iter().filter(|config| is_meant(&config.group)) {
            let committed = topics.committed(&config.group).await?;
            for partition in topics.watermarks(&config.topics[0]).await? {
                let done = committed
                    .iter()
                    .find(|position| *position.topic == *config.topics[0] && position.partition == partition.partition)
                    // Of a log that was made again, the group's offset may lie beyond the end: it begins at the start.
                    .filter(|position| position.offset <= partition.latest)
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
        Ok(self.ledger_proof().await?.unaccounted())
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
    /// If the stack's own settings are malformed.
    pub fn postgres_config(&self) -> anyhow::Result<PostgresConfig> {
        let primary = ("DATABASE_URL".to_owned(), self.backing.database_url.clone());
        let session = Session::new(self.session.variables().into_iter().chain([primary]));
        let mut settings = Settings::new(&session);
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
        self.wait_until_done(|_| true, patience).await
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

    /// Stops the schedules, the mappings, the functions, then the services.
    ///
    /// # Errors
    /// If something did not stop, or the kept state could not be written.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        for schedule in self.schedules.drain(..) {
            schedule.stop().await;
        }
        self.stop_mappings().await;
        self.functions.stop().await;
        self.backing.stop()
    }
}
