//! A running pipeline: started in order, stopped in reverse order.

use std::sync::Arc;
use std::time::Duration;

use archive::S3Objects;
use esm::{Functions, LambdaInvoker, Mapping, RunningMapping};
use host::{Host, RunningHttpFunction};
use kafka::{KafkaClient, KafkaConfig};
use pipeline::ports::KeyKind;
use postgres::PostgresConfig;
use serde_json::Value;
use services::pgbouncer::PgBouncer;

use crate::backing::Backing;
use crate::client::JsonClient;
use crate::endpoints::Endpoints;
use crate::functions;
use crate::mappings::mapping_configs;
use crate::options::{Options, Port, Routes};
use crate::progress::GroupProgress;
use crate::reconcile::LedgerProof;
use crate::schedule::{RunningSchedule, Schedule};
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
        let ports = &options.ports;
        for (name, port, metrics) in
            [("ingest", ports.ingest, ports.metrics.ingest), ("query", ports.query, ports.metrics.query)]
        {
            if hosting.watch_of(name).is_none() {
                let function = functions::start_http(name, port, metrics, options, environment).await?;
                hosting.http.push((name, function));
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
        functions::prepare(&stack.session).await?;
        if stack.options.mappings {
            stack.start_mappings(|_| true).await?;
        }
        let schedules = [
            ("rescorer", stack.options.rescore_every),
            ("aggregator", stack.options.aggregate_every),
            ("notifier", stack.options.notify_every.filter(|_| stack.options.webhooks)),
        ];
        for (function, every) in schedules {
            let Some(every) = every else { continue };
            let schedule = Schedule { function: function.to_owned(), every };
            stack.schedules.push(RunningSchedule::start(schedule, stack.client.clone(), &stack.lambda_url()));
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

    /// Where operators sign in.
    pub fn console_url(&self) -> String {
        format!("{}/console", self.query_url().trim_end_matches("/events"))
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

    /// The stack as its clients and operators see it now.
    pub fn endpoints(&self) -> Endpoints {
        Endpoints {
            session: self.session.clone(),
            kafka: self.kafka.clone(),
            client: self.client.clone(),
            ingest_url: self.ingest_url(),
            lambda_url: self.lambda_url(),
            database_url: self.backing.database_url.clone(),
            bucket: self.options.bucket.clone(),
        }
    }

    /// The endpoint of the Invoke API.
    fn lambda_url(&self) -> String {
        format!("http://{}", self.options.ports.lambda.address())
    }

    /// See [`Endpoints::invoke`].
    ///
    /// # Errors
    /// As there.
    pub async fn invoke(&self, function: &str, event: Value) -> anyhow::Result<Value> {
        self.endpoints().invoke(function, event).await
    }

    /// See [`Endpoints::create_key`].
    ///
    /// # Errors
    /// As there.
    pub async fn create_key(&self, tenant: &str, name: &str, kind: KeyKind, per_min: u32) -> anyhow::Result<String> {
        self.endpoints().create_key(tenant, name, kind, per_min).await
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

    /// See [`Endpoints::lag_of`].
    ///
    /// # Errors
    /// As there.
    pub async fn lag_of(&self, is_meant: impl Fn(&str) -> bool) -> anyhow::Result<u64> {
        self.endpoints().lag_of(is_meant).await
    }

    /// Number of records of `raw-events` without an outcome; see [`crate::reconcile`].
    ///
    /// # Errors
    /// If Postgres or Kafka cannot be read.
    pub async fn unaccounted(&self) -> anyhow::Result<u64> {
        Ok(self.ledger_proof().await?.unaccounted())
    }

    /// See [`Endpoints::ledger_proof`].
    ///
    /// # Errors
    /// As there.
    pub async fn ledger_proof(&self) -> anyhow::Result<LedgerProof> {
        self.endpoints().ledger_proof().await
    }

    /// See [`Endpoints::group_progress`].
    ///
    /// # Errors
    /// As there.
    pub async fn group_progress(&self) -> anyhow::Result<GroupProgress> {
        self.endpoints().group_progress().await
    }

    /// See [`Endpoints::postgres_config`].
    ///
    /// # Errors
    /// As there.
    pub fn postgres_config(&self) -> anyhow::Result<PostgresConfig> {
        self.endpoints().postgres_config()
    }

    /// The archive's bucket.
    pub async fn archive(&self) -> S3Objects {
        self.endpoints().archive().await
    }

    /// Waits until every mapping has finished all records.
    ///
    /// # Errors
    /// If that takes longer than `patience`.
    pub async fn wait_until_idle(&self, patience: Duration) -> anyhow::Result<()> {
        self.wait_until_done(|_| true, patience).await
    }

    /// See [`Endpoints::wait_until_done`].
    ///
    /// # Errors
    /// As there.
    pub async fn wait_until_done(&self, is_meant: impl Fn(&str) -> bool, patience: Duration) -> anyhow::Result<()> {
        self.endpoints().wait_until_done(is_meant, patience).await
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
