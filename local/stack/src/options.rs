//! The options of a stack: what it starts, and where.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use services::free_port;
use services::https_receiver::HttpsReceiver;
use settings::{Settings, SettingsError, Variables};
use strum::{EnumString, VariantNames};

/// Which Kafka the stack uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KafkaChoice {
    /// krafka's in-process broker.
    Embedded,
    /// Apache Kafka from its Maven artifacts, as a child process.
    Apache,
    /// A Kafka that already runs: `host:port,host:port`.
    External(String),
}

/// The brokers that the stack can start itself: the values of `KAFKA`.
#[derive(Clone, Copy, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
enum StartedKafka {
    Embedded,
    Apache,
}

/// What stands between the functions and Postgres: the values of `POOLER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum PoolerChoice {
    None,
    /// PgBouncer in transaction mode.
    PgBouncer,
}

/// A listening port: fixed, or any free one (0).
#[derive(Clone, Copy, Debug)]
pub struct Port {
    pub number: u16,
    what: &'static str,
    setting: &'static str,
}

impl Port {
    /// `None` means any free port.
    pub fn fixed(self) -> Option<u16> {
        (self.number != 0).then_some(self.number)
    }

    /// The variable that changes it.
    pub fn setting(self) -> &'static str {
        self.setting
    }

    pub fn address(self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

/// Ports of everything that listens; all on loopback.
#[derive(Clone, Copy, Debug)]
pub struct ListenPorts {
    pub ingest: Port,
    pub query: Port,
    pub lambda: Port,
    pub kafka: Port,
    pub postgres: Port,
    pub dynamodb: Port,
    pub s3: Port,
    pub metrics: MetricsPorts,
    /// Of Prometheus itself.
    pub prometheus: Port,
    /// Of Jaeger: its pages and API, and where it takes spans.
    pub jaeger: Port,
    pub collector: Port,
}

/// Where Prometheus asks. 0 means: nowhere.
#[derive(Clone, Copy, Debug)]
pub struct MetricsPorts {
    /// Those of the mappings, and of all functions that the host runs.
    pub stack: Port,
    pub ingest: Port,
    pub query: Port,
}

#[derive(Debug, thiserror::Error)]
#[error("port {port} for {what} is taken; stop the program that uses it, or set {setting} to a free port")]
pub struct PortTaken {
    port: u16,
    what: &'static str,
    setting: &'static str,
}

impl ListenPorts {
    /// Fixed ports, each of which a variable can change: for a stack that people use.
    fn well_known(settings: &mut Settings<'_>) -> Self {
        let mut port = |setting, what, default| Port { number: settings.or(setting, default), what, setting };
        ListenPorts {
            ingest: port("INGEST_PORT", "ingest", 8080),
            query: port("QUERY_PORT", "query", 8081),
            lambda: port("LAMBDA_PORT", "the Lambda API", 9000),
            kafka: port("KAFKA_PORT", "Apache Kafka", 9092),
            postgres: port("POSTGRES_PORT", "PostgreSQL", 54320),
            dynamodb: port("DYNAMODB_PORT", "DynamoDB", 8000),
            s3: port("S3_PORT", "S3", 8014),
            metrics: MetricsPorts {
                stack: port("METRICS_PORT", "metrics", 9101),
                ingest: port("INGEST_METRICS_PORT", "ingest's metrics", 9102),
                query: port("QUERY_METRICS_PORT", "query's metrics", 9103),
            },
            prometheus: port("PROMETHEUS_PORT", "Prometheus", 9090),
            jaeger: port("JAEGER_PORT", "Jaeger", 16686),
            collector: port("JAEGER_OTLP_PORT", "spans for Jaeger", 4318),
        }
    }

    /// Any free port for each: for a stack that runs beside others, as in tests and the demo.
    fn free(settings: &mut Settings<'_>) -> Self {
        let mut port = |setting, what, default| Port { number: settings.or(setting, default), what, setting };
        ListenPorts {
            // Chosen now, because the functions need these before anything listens. If no port is free, 0 fails later.
            ingest: port("INGEST_PORT", "ingest", free_port().unwrap_or(0)),
            query: port("QUERY_PORT", "query", free_port().unwrap_or(0)),
            lambda: port("LAMBDA_PORT", "the Lambda API", free_port().unwrap_or(0)),
            kafka: port("KAFKA_PORT", "Apache Kafka", 0),
            postgres: port("POSTGRES_PORT", "PostgreSQL", 0),
            dynamodb: port("DYNAMODB_PORT", "DynamoDB", 0),
            s3: port("S3_PORT", "S3", 0),
            metrics: MetricsPorts {
                stack: port("METRICS_PORT", "metrics", 0),
                ingest: port("INGEST_METRICS_PORT", "ingest's metrics", 0),
                query: port("QUERY_METRICS_PORT", "query's metrics", 0),
            },
            prometheus: port("PROMETHEUS_PORT", "Prometheus", free_port().unwrap_or(0)),
            jaeger: port("JAEGER_PORT", "Jaeger", free_port().unwrap_or(0)),
            collector: port("JAEGER_OTLP_PORT", "spans for Jaeger", free_port().unwrap_or(0)),
        }
    }

    /// Checks that every fixed port can be bound, so that a taken one is named before anything has started.
    ///
    /// # Errors
    /// [`PortTaken`] names the first taken port and its setting.
    pub fn check(&self) -> Result<(), PortTaken> {
        // That of the stack itself is in use by then.
        let MetricsPorts { stack: _, ingest, query } = self.metrics;
        let services = [self.ingest, self.query, self.lambda, self.kafka, self.postgres, self.dynamodb, self.s3];
        for port in services.into_iter().chain([ingest, query]) {
            if port.number != 0 && TcpListener::bind(port.address()).is_err() {
                return Err(PortTaken { port: port.number, what: port.what, setting: port.setting });
            }
        }
        Ok(())
    }
}

/// Variables of the functions that are passed on from the caller's environment.
const PASSED_ON: [&str; 30] = [
    "ACCESS_STORE",
    "API_KEY_RATE_LIMIT_PER_MIN",
    "BATCH_RESPONSE",
    "BLOCK_LIST_CACHE_SEC",
    "BREAKER_OPEN_SEC",
    "CORS_ORIGINS",
    "DEDUP_STORE",
    "DEDUP_TTL_SEC",
    "FOREIGN_TENANT",
    "FRAUD_THRESHOLD",
    "IP_BLOCK_SEC",
    "IP_RATE_LIMIT_PER_MIN",
    "KAFKA_TIMEOUT_MS",
    "LOG_LEVEL",
    "METRICS",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_TRACES_SAMPLER_ARG",
    "QUERY_RATE_LIMIT_PER_MIN",
    "RATE_LIMIT_BURST_PERCENT",
    "RUST_BACKTRACE",
    "TOPIC_PARTITIONS",
    "TRACES",
    "TRACE_USER_ID",
    "TRUSTED_PROXIES",
    "WEBHOOK_ALLOWED_NETWORKS",
    "WEBHOOK_CA_FILE",
    "WEBHOOK_CONCURRENCY",
    "WEBHOOK_KEY",
    "WEBHOOK_MAX_WAITING",
    "WEBHOOK_TIMEOUT_MS",
];

/// Enough for a laptop: four processors and their scorers at work. With the pools of all functions at four instances each
/// the embedded Postgres still has connections to spare.
const DEFAULT_CONCURRENCY: NonZeroUsize = NonZeroUsize::new(4).unwrap();

/// The addresses of the dependencies for the functions, if not direct: the fault suite puts proxies in between.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// Ports of the loopback interface. The broker advertises its one, so every client of Kafka uses it.
    pub kafka: Option<u16>,
    pub postgres: Option<u16>,
    /// The pooler's, which the functions then use instead of that of Postgres.
    pub pooler: Option<u16>,
    pub dynamodb_endpoint: Option<String>,
    pub s3_endpoint: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub kafka: KafkaChoice,
    pub pooler: PoolerChoice,
    pub ports: ListenPorts,
    /// Folder that keeps the state; a temporary folder if absent.
    pub keep: Option<PathBuf>,
    /// Folder of the function binaries.
    pub binaries: PathBuf,
    /// An external Postgres, DynamoDB or S3 to use instead of starting one.
    pub database_url: Option<String>,
    pub dynamodb_endpoint: Option<String>,
    pub s3_endpoint: Option<String>,
    /// Bucket of the archive.
    pub bucket: String,
    /// Settings for the functions in addition to those that the stack sets itself.
    pub function_settings: Vec<(String, String)>,
    /// Group members of each mapping. AWS starts with one, and so do we: when a second member joins, it takes over
    /// partitions, and the records in flight are delivered again.
    pub pollers: usize,
    /// Invocations of the processor at once; its partitions are a limit too. Each may use as many connections to Postgres
    /// as the pool of an instance has (`DB_POOL_SIZE`).
    pub concurrency: NonZeroUsize,
    /// Whether the mappings start with the stack, or later by [`Stack::start_mappings`](crate::stack::Stack::start_mappings).
    pub mappings: bool,
    /// Maximum duration of one invocation.
    pub function_timeout: Duration,
    /// How often the rescorer is invoked; `None` leaves that to the caller.
    pub rescore_every: Option<Duration>,
    /// How often the aggregator is invoked; `None` leaves that to the caller.
    pub aggregate_every: Option<Duration>,
    /// Whether outcomes are sent to webhooks.
    pub webhooks: bool,
    /// How often the notifier sends again what failed, if there are webhooks; `None` leaves that to the caller.
    pub notify_every: Option<Duration>,
    pub routes: Routes,
    /// Folder of the functions' logs.
    pub logs: PathBuf,
}

impl Options {
    /// For `run`: well-known ports.
    ///
    /// # Errors
    /// [`SettingsError`] lists every malformed variable.
    pub fn for_people(variables: &dyn Variables, binaries: PathBuf) -> Result<Self, SettingsError> {
        Ok(Options { webhooks: true, ..Self::read(variables, binaries, ListenPorts::well_known)? })
    }

    /// For the demo and tests: free ports.
    ///
    /// # Errors
    /// [`SettingsError`] lists every malformed variable.
    pub fn for_one_run(variables: &dyn Variables, binaries: PathBuf) -> Result<Self, SettingsError> {
        Self::read(variables, binaries, ListenPorts::free)
    }

    fn read(
        variables: &dyn Variables,
        binaries: PathBuf,
        ports: fn(&mut Settings<'_>) -> ListenPorts,
    ) -> Result<Self, SettingsError> {
        let mut settings = Settings::new(variables);
        let kafka = kafka_choice(&mut settings);
        let ports = ports(&mut settings);
        let function_settings = PASSED_ON
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), settings.optional::<String>(name)?)))
            .collect();
        let pooler = settings.choice("POOLER", PoolerChoice::None);
        let database_url = settings.optional("DATABASE_URL");
        if pooler != PoolerChoice::None && database_url.is_some() {
            settings.problem("POOLER needs the Postgres that the stack starts; DATABASE_URL names another");
        }
        let options = Options {
            kafka,
            pooler,
            ports,
            keep: None,
            binaries,
            database_url,
            dynamodb_endpoint: settings.optional("AWS_ENDPOINT_URL_DYNAMODB"),
            s3_endpoint: settings.optional("AWS_ENDPOINT_URL_S3"),
            bucket: settings.or("ARCHIVE_BUCKET", "forebay-archive".to_owned()),
            function_settings,
            pollers: settings.or("POLLERS", 1),
            concurrency: settings.or("CONCURRENCY", DEFAULT_CONCURRENCY),
            mappings: true,
            function_timeout: Duration::from_secs(60),
            rescore_every: period(settings.or("RESCORE_EVERY_SEC", 60)),
            aggregate_every: period(settings.or("AGGREGATE_EVERY_SEC", 60)),
            webhooks: false,
            notify_every: period(settings.or("NOTIFY_EVERY_SEC", 60)),
            routes: Routes::default(),
            logs: PathBuf::from("target/stack-logs").join(std::process::id().to_string()),
        };
        settings.build(Some(options))
    }

    /// Whether anything is kept in DynamoDB.
    pub fn uses_dynamodb(&self) -> bool {
        let in_postgres =
            |name| self.function_settings.iter().any(|(known, value)| known == name && value == "postgres");
        !in_postgres("DEDUP_STORE") || !in_postgres("ACCESS_STORE")
    }

    /// Sets a variable of the functions, also if the environment sets it.
    pub fn with_setting(mut self, name: &str, value: impl Into<String>) -> Self {
        self.function_settings.retain(|(known, _)| known != name);
        self.function_settings.push((name.to_owned(), value.into()));
        self
    }

    /// With webhooks, which may be sent to this receiver.
    #[must_use]
    pub fn telling(self, receiver: &HttpsReceiver) -> Self {
        let ca_file = receiver.ca_file().to_string_lossy().into_owned();
        let options =
            self.with_setting("WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8").with_setting("WEBHOOK_CA_FILE", ca_file);
        Options { webhooks: true, ..options }
    }

    /// Sets a variable of the functions unless the environment sets it.
    pub fn with_default(self, name: &str, value: impl Into<String>) -> Self {
        if self.function_settings.iter().any(|(known, _)| known == name) {
            self
        } else {
            self.with_setting(name, value)
        }
    }
}

/// 0 is never.
fn period(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

fn kafka_choice(settings: &mut Settings<'_>) -> KafkaChoice {
    if let Some(brokers) = settings.optional("KAFKA_BROKERS") {
        return KafkaChoice::External(brokers);
    }
    let name = settings.or("KAFKA", "embedded".to_owned());
    match name.parse() {
        Ok(StartedKafka::Embedded) => KafkaChoice::Embedded,
        Ok(StartedKafka::Apache) => KafkaChoice::Apache,
        Err(_) => {
            let choices = StartedKafka::VARIANTS.join(" or ");
            settings.problem(format!("KAFKA={name:?}: use {choices}, or set KAFKA_BROKERS"));
            KafkaChoice::Embedded
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_taken_port_is_named_with_its_setting() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        let variables = BTreeMap::from([("INGEST_PORT", port.as_str())]);
        let options = Options::for_one_run(&variables, PathBuf::new()).unwrap();
        let error = options.ports.check().unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "port {port} for ingest is taken; stop the program that uses it, or set INGEST_PORT to a free port"
            )
        );
    }

    #[test]
    fn brokers_of_the_user_win_over_the_embedded_one() {
        let variables = BTreeMap::from([("KAFKA_BROKERS", "k:9092"), ("KAFKA", "apache")]);
        let options = Options::for_one_run(&variables, PathBuf::new()).unwrap();
        assert_eq!(options.kafka, KafkaChoice::External("k:9092".to_owned()));
        let variables = BTreeMap::from([("KAFKA", "pulsar")]);
        assert!(Options::for_one_run(&variables, PathBuf::new()).is_err());
    }

    #[test]
    fn a_pooler_stands_before_the_started_postgres_only() {
        let read = |variables: &[(&str, &str)]| {
            Options::for_one_run(&variables.iter().copied().collect::<BTreeMap<_, _>>(), PathBuf::new())
        };
        assert_eq!(read(&[]).unwrap().pooler, PoolerChoice::None);
        assert_eq!(read(&[("POOLER", "pgbouncer")]).unwrap().pooler, PoolerChoice::PgBouncer);
        let error = read(&[("POOLER", "pgbouncer"), ("DATABASE_URL", "postgres://db/d")]).unwrap_err();
        assert!(error.to_string().contains("POOLER needs the Postgres that the stack starts"), "{error}");
    }

    #[test]
    fn the_environment_wins_over_a_default() {
        let variables = BTreeMap::from([("IP_RATE_LIMIT_PER_MIN", "7")]);
        let options = Options::for_one_run(&variables, PathBuf::new()).unwrap();
        let options = options.with_default("IP_RATE_LIMIT_PER_MIN", "0").with_default("FRAUD_THRESHOLD", "1");
        assert_eq!(
            options.function_settings,
            [("IP_RATE_LIMIT_PER_MIN".to_owned(), "7".to_owned()), ("FRAUD_THRESHOLD".to_owned(), "1".to_owned())]
        );
    }
}
