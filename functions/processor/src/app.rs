//! What one instance of the processor holds: its adapters, and a guard for each dependency.

use std::sync::Arc;

use access::AccessStore;
use archive::S3Objects;
use dynamodb::{DynamoClaims, DynamoDb};
use event::schema::{Registry, SchemaError};
use kafka::{KafkaClient, PublisherOptions};
use lambda::guard::guard;
use lambda::shutdown::FLUSH_TIMEOUT;
use pipeline::clock::{Clock, SystemClock};
use pipeline::guard::Guard;
use pipeline::ports::{
    ACCESS_TRAIL, AddressCounters, AuditTrail, BlockList, ClaimStore, EventStore, ObjectStore, RecordPublisher, Scorer,
};
use pipeline::{Dependency, DependencyError};
use postgres::{Database, PostgresClaims, PostgresEventStore};
use scoring::{ScorerClient, Scoring};
use settings::shared::StateStore;

use crate::address_counts::AddressCounts;
use crate::block_list::CachedBlockList;
use crate::config::{Config, Policy};
use crate::report;

/// What the processor needs from the outside.
pub struct Ports {
    pub claims: Arc<dyn ClaimStore>,
    pub counters: Arc<dyn AddressCounters>,
    pub block_list: Arc<dyn BlockList>,
    /// Of the changes of blocks.
    pub audit: Arc<dyn AuditTrail>,
    pub scorer: Arc<dyn Scorer>,
    pub store: Arc<dyn EventStore>,
    pub publisher: Arc<dyn RecordPublisher>,
    pub objects: Arc<dyn ObjectStore>,
    pub clock: Arc<dyn Clock>,
}

/// Why an instance could not start: a service cannot be reached, or a schema cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot connect to Kafka at start")]
    Kafka(#[from] kafka::KafkaError),
    #[error("cannot connect to Postgres at start")]
    Postgres(#[from] postgres::PostgresError),
    #[error(transparent)]
    Schema(#[from] SchemaError),
}

/// One instance of the function. Between invocations it keeps a short-lived copy of the block list, the states of
/// the breakers and the last events of each address. Losing any of it is harmless.
pub struct App {
    pub(crate) policy: Policy,
    pub(crate) registry: Arc<Registry>,
    pub(crate) claims: Arc<dyn ClaimStore>,
    pub(crate) counters: Arc<dyn AddressCounters>,
    pub(crate) address_counts: AddressCounts,
    pub(crate) block_list: CachedBlockList,
    pub(crate) audit: Arc<dyn AuditTrail>,
    /// The scorer with its guard.
    pub(crate) scoring: Scoring,
    pub(crate) store: Arc<dyn EventStore>,
    pub(crate) publisher: Arc<dyn RecordPublisher>,
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) dynamodb: Guard,
    pub(crate) postgres: Guard,
    pub(crate) kafka: Guard,
    pub(crate) s3: Guard,
}

impl App {
    pub fn new(policy: Policy, registry: impl Into<Arc<Registry>>, ports: Ports) -> Self {
        let guard = |dependency| guard(dependency, policy.breaker_open);
        let registry = registry.into();
        report::begin(&registry);
        App {
            block_list: CachedBlockList::new(ports.block_list, policy.block_list_age),
            scoring: Scoring::new(ports.scorer, guard(Dependency::Scorer), policy.scorer_timeout),
            dynamodb: guard(Dependency::Dynamodb),
            postgres: guard(Dependency::Postgres),
            kafka: guard(Dependency::Kafka),
            s3: guard(Dependency::S3),
            policy,
            registry,
            audit: ports.audit,
            claims: ports.claims,
            counters: ports.counters,
            address_counts: AddressCounts::default(),
            store: ports.store,
            publisher: ports.publisher,
            objects: ports.objects,
            clock: ports.clock,
        }
    }

    /// Connects to every service in the configuration, concurrently and during init, so that the first batch does not
    /// pay for the handshakes.
    ///
    /// # Errors
    /// If a service cannot be reached; the error names the first one. The scorer is not checked, because the processor
    /// also works while it is down.
    pub async fn connect(config: Config) -> Result<Self, ConnectError> {
        let (publisher, opened) = tokio::join!(
            async {
                let max_record_bytes = config.policy.max_record_bytes;
                let options = PublisherOptions { max_record_bytes, ..PublisherOptions::default() };
                KafkaClient::connect(&config.kafka, "processor").await?.publisher(options).await
            },
            async {
                let sdk = aws::sdk_config().await;
                let opened = config.access.connect_beside(&sdk, Database::connect(&config.postgres)).await;
                opened.map(|(access, database)| (access, database, sdk))
            },
        );
        let (publisher, (access, database, sdk)) = (publisher?, opened?);
        let dedup_window = config.policy.dedup_window;
        let claims: Arc<dyn ClaimStore> = match config.policy.dedup_store {
            StateStore::Dynamodb => {
                // One client and one connection for both tables.
                let dynamodb = match &access {
                    AccessStore::Dynamodb { dynamodb, .. } => dynamodb.clone(),
                    AccessStore::Postgres(_) => DynamoDb::connect(&sdk).await,
                };
                Arc::new(DynamoClaims::new(&dynamodb, config.dedup_table, dedup_window))
            }
            StateStore::Postgres => Arc::new(PostgresClaims::new(database.clone(), dedup_window)),
        };
        let ports = Ports {
            claims,
            counters: access.counters(),
            block_list: access.blocks(),
            audit: access.trail(ACCESS_TRAIL),
            scorer: Arc::new(ScorerClient::new(&sdk, config.scorer_function)),
            store: Arc::new(PostgresEventStore::new(database, dedup_window).announcing(report::incarnation_begun)),
            publisher: Arc::new(publisher),
            objects: Arc::new(S3Objects::connect(&sdk, config.archive_bucket)),
            clock: Arc::new(SystemClock),
        };
        Ok(App::new(config.policy, Registry::embedded()?, ports))
    }

    /// Closes the Kafka producer. The other clients need no closing.
    ///
    /// # Errors
    /// If Kafka has not acknowledged all records after [`FLUSH_TIMEOUT`].
    pub async fn close(&self) -> Result<(), DependencyError> {
        self.publisher.close(FLUSH_TIMEOUT).await
    }

    /// The guard of the claim store.
    pub(crate) fn claims_guard(&self) -> &Guard {
        self.guard_of(self.policy.dedup_store)
    }

    /// The guard of the block list and the counters.
    pub(crate) fn access_guard(&self) -> &Guard {
        self.guard_of(self.policy.access_store)
    }

    fn guard_of(&self, store: StateStore) -> &Guard {
        match store {
            StateStore::Dynamodb => &self.dynamodb,
            StateStore::Postgres => &self.postgres,
        }
    }
}
