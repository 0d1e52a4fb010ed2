//! What one instance of the aggregator holds: its adapters, and a guard for each dependency.

use std::sync::Arc;

use kafka::{KafkaClient, KafkaError, TopicAdmin};
use lambda::guard::guard;
use pipeline::Dependency;
use pipeline::clock::{Clock, SystemClock};
use pipeline::guard::Guard;
use postgres::{Database, PostgresAggregates, PostgresError};

use crate::config::Config;

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
    pub(crate) aggregates: PostgresAggregates,
    pub(crate) topics: TopicAdmin,
    pub(crate) postgres: Guard,
    pub(crate) kafka: Guard,
    pub(crate) clock: Arc<dyn Clock>,
}

impl App {
    /// Connects to both services in the configuration, concurrently.
    ///
    /// # Errors
    /// If one of them cannot be reached.
    pub async fn connect(config: Config) -> Result<Self, ConnectError> {
        let (kafka, database) =
            tokio::join!(KafkaClient::connect(&config.kafka, "aggregator"), Database::connect(&config.postgres));
        Ok(App {
            aggregates: PostgresAggregates::new(database?),
            topics: kafka?.topics(),
            postgres: guard(Dependency::Postgres, config.breaker_open),
            kafka: guard(Dependency::Kafka, config.breaker_open),
            clock: Arc::new(SystemClock),
        })
    }
}
