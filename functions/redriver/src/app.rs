//! What one instance of the redriver holds: its adapters, and a guard for each dependency.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use archive::S3Objects;
use invoke::FunctionClient;
use kafka::{KafkaClient, KafkaError, PublisherOptions};
use lambda::guard::guard;
use lambda::shutdown::FLUSH_TIMEOUT;
use pipeline::clock::{Clock, SystemClock};
use pipeline::guard::Guard;
use pipeline::ports::{AuditTrail, FunctionCaller, ObjectStore, RecordPublisher, RedriveMarks, TopicSource};
use pipeline::{Dependency, DependencyError};
use postgres::PostgresError;

use crate::config::Config;
use crate::report::Letters;

/// Largest record that is sent, in bytes before compression: what a Lambda event can hold. `raw-events` takes less, but it
/// counts compressed bytes, and the broker decides.
const MAX_RECORD_BYTES: usize = 6 * 1024 * 1024;
/// Longest wait for a function's answer. Those behind a mapping may run for 14 minutes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Why an instance could not start.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot connect to Kafka at start")]
    Kafka(#[from] KafkaError),
    #[error("cannot use Postgres as the store of redrive marks")]
    Access(#[from] PostgresError),
}

/// The adapters.
pub struct Ports {
    pub topics: Arc<dyn TopicSource>,
    pub publisher: Arc<dyn RecordPublisher>,
    pub marks: Arc<dyn RedriveMarks>,
    pub audit: Arc<dyn AuditTrail>,
    pub objects: Arc<dyn ObjectStore>,
    pub functions: Arc<dyn FunctionCaller>,
    pub clock: Arc<dyn Clock>,
}

/// One guard for each dependency, shared by the ports that use it.
pub struct Guards {
    pub kafka: Guard,
    /// That of marks and trail.
    pub access: Guard,
    pub s3: Guard,
    pub function: Guard,
}

/// One instance of the function.
pub struct App {
    pub ports: Ports,
    pub guards: Guards,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").finish_non_exhaustive()
    }
}

impl App {
    /// # Errors
    /// If Kafka cannot be reached, or Postgres keeps marks and trail and its login cannot be read.
    pub async fn connect(config: &Config) -> Result<Self, ConnectError> {
        let (kafka, sdk) = tokio::join!(KafkaClient::connect(&config.kafka, "redriver"), aws::sdk_config());
        let kafka = kafka?;
        let options = PublisherOptions { max_record_bytes: MAX_RECORD_BYTES, ..PublisherOptions::default() };
        let publisher = Arc::new(kafka.publisher(options).await?);
        let access = config.access.connect(&sdk).await?;
        let ports = Ports {
            topics: Arc::new(kafka),
            publisher,
            marks: access.marks(),
            audit: access.trail("redrive"),
            objects: Arc::new(S3Objects::connect(&sdk, config.archive_bucket.clone())),
            functions: Arc::new(FunctionClient::patient(&sdk, ANSWER_TIMEOUT)),
            clock: Arc::new(SystemClock),
        };
        Ok(App::new(ports, config.access.dependency(), config.breaker_open))
    }

    /// Makes an app of the given adapters; `access` is what keeps marks and trail. An open breaker refuses calls for
    /// `breaker_open` before it probes.
    pub fn new(ports: Ports, access: Dependency, breaker_open: Duration) -> Self {
        Letters::default().count();
        let guards = Guards {
            kafka: guard(Dependency::Kafka, breaker_open),
            access: guard(access, breaker_open),
            s3: guard(Dependency::S3, breaker_open),
            function: guard(Dependency::Function, breaker_open),
        };
        App { ports, guards }
    }

    /// Closes the Kafka producer.
    ///
    /// # Errors
    /// If Kafka has not acknowledged all records after [`FLUSH_TIMEOUT`].
    pub async fn close(&self) -> Result<(), DependencyError> {
        self.ports.publisher.close(FLUSH_TIMEOUT).await
    }
}
