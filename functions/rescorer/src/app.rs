//! What one instance of the rescorer holds: its adapters, and a guard for each dependency.

use std::sync::Arc;

use kafka::{KafkaClient, KafkaError, PublisherOptions};
use lambda::guard::guard;
use lambda::shutdown::FLUSH_TIMEOUT;
use pipeline::clock::{Clock, SystemClock};
use pipeline::guard::Guard;
use pipeline::ports::{RecordPublisher, UnscoredEvents};
use pipeline::{Dependency, DependencyError};
use postgres::{Database, PostgresError, PostgresUnscoredEvents};
use scoring::{ScorerClient, Scoring};

use crate::config::{Config, Policy};

/// Why an instance could not start: a service cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot connect to Kafka at start")]
    Kafka(#[from] KafkaError),
    #[error("cannot connect to Postgres at start")]
    Postgres(#[from] PostgresError),
}

/// One instance of the function.
pub struct App {
    pub events: Arc<dyn UnscoredEvents>,
    /// The scorer with its guard.
    pub scoring: Scoring,
    pub publisher: Arc<dyn RecordPublisher>,
    pub postgres: Guard,
    pub kafka: Guard,
    pub clock: Arc<dyn Clock>,
    pub policy: Policy,
}

impl App {
    /// Connects to every service in the configuration, concurrently.
    ///
    /// # Errors
    /// If a service cannot be reached; the error names the first one. The scorer is not checked, because a run also has
    /// work while it is down.
    pub async fn connect(config: Config) -> Result<Self, ConnectError> {
        let (kafka, database, sdk) = tokio::join!(
            KafkaClient::connect(&config.kafka, "rescorer"),
            Database::connect(&config.postgres),
            aws::sdk_config(),
        );
        let open_for = config.breaker_open;
        let max_record_bytes = config.max_record_bytes;
        let options = PublisherOptions { max_record_bytes, ..PublisherOptions::default() };
        let scorer = Arc::new(ScorerClient::new(&sdk, config.scorer_function));
        Ok(App {
            events: Arc::new(PostgresUnscoredEvents::new(database?)),
            scoring: Scoring::new(scorer, guard(Dependency::Scorer, open_for), config.policy.scorer_timeout),
            publisher: Arc::new(kafka?.publisher(options).await?),
            postgres: guard(Dependency::Postgres, open_for),
            kafka: guard(Dependency::Kafka, open_for),
            clock: Arc::new(SystemClock),
            policy: config.policy,
        })
    }

    /// Closes the Kafka producer.
    ///
    /// # Errors
    /// If Kafka has not acknowledged all records after [`FLUSH_TIMEOUT`].
    pub async fn close(&self) -> Result<(), DependencyError> {
        self.publisher.close(FLUSH_TIMEOUT).await
    }
}
