//! The backing services: started here, unless the options name an external one.

use anyhow::Context as _;
use services::apache_kafka::ApacheKafka;
use services::dynamodb::EmbeddedDynamoDb;
use services::kafka::EmbeddedKafka;
use services::pgbouncer::PgBouncer;
use services::postgres::ThrowAwayPostgres;
use services::s3::EmbeddedS3;
use tempfile::TempDir;

use crate::options::{KafkaChoice, Options, PoolerChoice};

enum KafkaService {
    Embedded(EmbeddedKafka),
    Apache(ApacheKafka),
    External(String),
}

/// Every service that the functions use. The services stop when this value is dropped.
pub struct Backing {
    kafka: KafkaService,
    /// Between the functions and Postgres.
    pub pooler: Option<PgBouncer>,
    /// `None` if it is external.
    pub postgres: Option<ThrowAwayPostgres>,
    // Held only to keep them running; the endpoints below say where they listen.
    _dynamodb: Option<EmbeddedDynamoDb>,
    _s3: Option<EmbeddedS3>,
    state: StateFolder,
    pub brokers: String,
    pub database_url: String,
    /// `None` if nothing is kept there.
    pub dynamodb_endpoint: Option<String>,
    pub s3_endpoint: String,
}

/// Where state is: a folder of the user, or a temporary one that is removed with the stack.
enum StateFolder {
    Kept(std::path::PathBuf),
    Thrown(TempDir),
}

impl StateFolder {
    fn path(&self, name: &str) -> std::path::PathBuf {
        match self {
            StateFolder::Kept(folder) => folder.join(name),
            StateFolder::Thrown(folder) => folder.path().join(name),
        }
    }
}

/// The embedded broker's log, written at a clean stop under `--keep`.
const KAFKA_SNAPSHOT: &str = "kafka.snapshot";

impl Backing {
    /// Starts the services that are not external, in parallel.
    ///
    /// # Errors
    /// The error names the service that did not start, and why.
    pub async fn start(options: &Options) -> anyhow::Result<Self> {
        options.ports.check()?;
        let state = match &options.keep {
            Some(folder) => {
                std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
                StateFolder::Kept(folder.canonicalize()?)
            }
            None => StateFolder::Thrown(tempfile::Builder::new().prefix("forebay-").tempdir()?),
        };
        let kept = matches!(state, StateFolder::Kept(_));
        // Checked before PostgreSQL starts in parallel to Kafka and creates it. Its folder alone may be an empty disk.
        let had_database = kept && state.path("postgres/data").exists();
        let (kafka, postgres, dynamodb, s3) = tokio::try_join!(
            start_kafka(options, &state, had_database),
            async {
                if options.database_url.is_some() {
                    return Ok(None);
                }
                let folder = kept.then(|| state.path("postgres"));
                ThrowAwayPostgres::start(options.ports.postgres.fixed(), folder.as_deref())
                    .await
                    .map(Some)
                    .context("PostgreSQL did not start")
            },
            async {
                if options.dynamodb_endpoint.is_some() || !options.uses_dynamodb() {
                    return Ok(None);
                }
                let file = kept.then(|| state.path("dynamodb.sqlite"));
                EmbeddedDynamoDb::start(options.ports.dynamodb.fixed(), file)
                    .await
                    .map(Some)
                    .context("DynamoDB did not start")
            },
            async {
                if options.s3_endpoint.is_some() {
                    return Ok(None);
                }
                let folder = state.path("s3");
                EmbeddedS3::start(options.ports.s3.fixed(), folder, &options.bucket)
                    .await
                    .map(Some)
                    .context("S3 did not start")
            },
        )?;
        let pooler = match (options.pooler, &postgres) {
            (PoolerChoice::PgBouncer, Some(postgres)) => {
                let port = options.routes.postgres.unwrap_or(postgres.port());
                Some(PgBouncer::start(port).await.context("PgBouncer did not start")?)
            }
            (PoolerChoice::None, _) | (_, None) => None,
        };
        let brokers = match &kafka {
            KafkaService::Embedded(broker) => broker.brokers(),
            KafkaService::Apache(broker) => broker.brokers(),
            KafkaService::External(brokers) => brokers.clone(),
        };
        let database_url = url(&options.database_url, postgres.as_ref().map(ThrowAwayPostgres::url))?;
        let dynamodb_endpoint = options.dynamodb_endpoint.clone().or(dynamodb.as_ref().map(EmbeddedDynamoDb::endpoint));
        let s3_endpoint = url(&options.s3_endpoint, s3.as_ref().map(EmbeddedS3::endpoint))?;
        Ok(Backing {
            kafka,
            pooler,
            postgres,
            _dynamodb: dynamodb,
            _s3: s3,
            state,
            brokers,
            database_url,
            dynamodb_endpoint,
            s3_endpoint,
        })
    }

    /// The broker, if it is Apache Kafka started by us.
    pub fn apache_kafka(&mut self) -> Option<&mut ApacheKafka> {
        match &mut self.kafka {
            KafkaService::Apache(broker) => Some(broker),
            KafkaService::Embedded(_) | KafkaService::External(_) => None,
        }
    }

    /// Writes the state that must be kept, then stops the services.
    ///
    /// # Errors
    /// If state under `--keep` could not be written.
    pub fn stop(self) -> anyhow::Result<()> {
        if let (KafkaService::Embedded(broker), StateFolder::Kept(_)) = (&self.kafka, &self.state) {
            broker
                .snapshot(&self.state.path(KAFKA_SNAPSHOT))
                .context("cannot write the snapshot of the embedded broker")?;
        }
        drop(self.pooler);
        if let Some(postgres) = self.postgres {
            postgres.stop();
        }
        Ok(())
    }
}

fn url(external: &Option<String>, ours: Option<String>) -> anyhow::Result<String> {
    external.clone().or(ours).context("a service was neither started nor given as external")
}

async fn start_kafka(options: &Options, state: &StateFolder, had_database: bool) -> anyhow::Result<KafkaService> {
    match &options.kafka {
        KafkaChoice::External(brokers) => Ok(KafkaService::External(brokers.clone())),
        KafkaChoice::Apache => {
            let broker = ApacheKafka::start_announced(
                options.ports.kafka.fixed(),
                options.routes.kafka,
                Some(&state.path("kafka")),
            )
            .await;
            broker.map(KafkaService::Apache).context("Apache Kafka did not start")
        }
        KafkaChoice::Embedded => {
            let broker = EmbeddedKafka::start_announced(options.ports.kafka.fixed(), options.routes.kafka)
                .await
                .context("the embedded Kafka broker did not start")?;
            let snapshot = state.path(KAFKA_SNAPSHOT);
            if snapshot.exists() {
                broker.restore(&snapshot).context("cannot read the snapshot of the embedded broker")?;
                // Removed until the next clean stop: a snapshot older than the database must never be restored.
                std::fs::remove_file(&snapshot)?;
            } else if had_database {
                anyhow::bail!(
                    "the kept state has a database but no Kafka log: the last run did not stop cleanly and used the \
                     embedded broker, which keeps its log in memory; remove the folder, or use KAFKA=apache with --keep"
                );
            }
            Ok(KafkaService::Embedded(broker))
        }
    }
}
