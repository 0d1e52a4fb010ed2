//! What one instance of ingest has: its adapters, and a guard for each dependency.

use std::sync::Arc;
use std::time::Duration;

use api_keys::{Authenticator, RateLimiter};
use event::limits::Limits;
use event::schema::{Registry, SchemaError};
use kafka::{KafkaClient, KafkaError, PublisherOptions};
use lambda::guard::guard;
use lambda::shutdown::FLUSH_TIMEOUT;
use pipeline::clock::{Clock, SystemClock};
use pipeline::guard::Guard;
use pipeline::ports::{ApiKeys, RateLeases, RecordPublisher};
use pipeline::{Dependency, DependencyError};
use postgres::PostgresError;
use telemetry::list::EVENTS_RECEIVED;

use crate::address::TrustedNetwork;
use crate::body::BodyLimits;
use crate::config::Config;
use crate::cors::Origins;

/// Kafka could not be reached at start, the login of Postgres could not be read, or a schema cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot connect to Kafka at start")]
    Kafka(#[from] KafkaError),
    #[error("cannot use Postgres as the store of keys")]
    Access(#[from] PostgresError),
    #[error(transparent)]
    Schema(#[from] SchemaError),
}

/// Everything a request needs, built once.
pub struct App {
    pub(crate) registry: Registry,
    pub(crate) authenticator: Authenticator,
    pub(crate) limiter: RateLimiter,
    pub(crate) publisher: Arc<dyn RecordPublisher>,
    pub(crate) kafka: Guard,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) cors: Origins,
    pub(crate) trusted_proxies: Vec<TrustedNetwork>,
    pub(crate) body_limits: BodyLimits,
    pub(crate) limits: Limits,
    pub(crate) kafka_timeout: Duration,
}

impl App {
    /// # Errors
    /// [`SchemaError`] if an embedded schema cannot be used.
    pub fn new(
        config: &Config,
        keys: Arc<dyn ApiKeys>,
        leases: Arc<dyn RateLeases>,
        publisher: Arc<dyn RecordPublisher>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SchemaError> {
        let access = Arc::new(guard(config.access.dependency(), config.breaker_open));
        let registry = Registry::embedded()?;
        for (event_type, _) in registry.types() {
            EVENTS_RECEIVED.begin([event_type]);
        }
        Ok(App {
            registry,
            authenticator: Authenticator::new(keys, Arc::clone(&access), config.key_cache),
            limiter: RateLimiter::new(leases, access, config.rate),
            publisher,
            kafka: guard(Dependency::Kafka, config.breaker_open),
            clock,
            cors: config.cors.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            body_limits: config.body,
            limits: config.limits,
            kafka_timeout: config.kafka_timeout,
        })
    }

    /// Connects during init, because a function has more CPU during init than later.
    ///
    /// # Errors
    /// If Kafka cannot be reached. If the store of keys is down, ingest starts and follows its settings for that case.
    pub async fn connect(config: Config) -> Result<Self, ConnectError> {
        let sdk = aws::sdk_config().await;
        let (access, kafka) = tokio::join!(config.access.connect(&sdk), KafkaClient::connect(&config.kafka, "ingest"));
        let access = access?;
        let publisher = Arc::new(kafka?.publisher(PublisherOptions::default()).await?);
        Ok(App::new(&config, access.keys(), access.leases(), publisher, Arc::new(SystemClock))?)
    }

    /// Ends the producer.
    ///
    /// # Errors
    /// If records are still unacknowledged after [`FLUSH_TIMEOUT`].
    pub async fn close(&self) -> Result<(), DependencyError> {
        self.publisher.close(FLUSH_TIMEOUT).await
    }
}
