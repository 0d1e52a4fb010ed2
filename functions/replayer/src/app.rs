//! What one instance of the replayer holds: its adapters, and a guard for each dependency.

use std::fmt;
use std::sync::Arc;

use archive::S3Objects;
use event::Timestamp;
use event::schema::Registry;
use lambda::guard::guard;
use pipeline::Dependency;
use pipeline::clock::{Clock, SystemClock};
use pipeline::guard::Guard;
use pipeline::ports::{EventStore, ObjectStore, ReplayRuns, ReprocessedOutcomes, UnscoredEvents};
use postgres::{Database, PostgresEventStore, PostgresReplay, PostgresUnscoredEvents};

use crate::config::{Config, Policy};
use crate::error::ReplayerError;
use crate::reprocess::{LambdaScorers, Scorers};

/// The adapters.
pub struct Ports {
    pub objects: Arc<dyn ObjectStore>,
    pub store: Arc<dyn EventStore>,
    pub unscored: Arc<dyn UnscoredEvents>,
    pub runs: Arc<dyn ReplayRuns>,
    pub reprocessed: Arc<dyn ReprocessedOutcomes>,
    pub scorers: Arc<dyn Scorers>,
    pub clock: Arc<dyn Clock>,
}

/// One instance of the function.
pub struct App {
    pub(crate) policy: Policy,
    pub(crate) registry: Registry,
    pub(crate) ports: Ports,
    pub(crate) postgres: Guard,
    pub(crate) s3: Arc<Guard>,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl App {
    /// # Errors
    /// If the database cannot be used.
    pub async fn connect(config: &Config) -> Result<Self, ReplayerError> {
        let (database, sdk) = tokio::join!(Database::connect(&config.postgres), aws::sdk_config());
        let database = database.map_err(ReplayerError::Database)?;
        let replay = Arc::new(PostgresReplay::new(database.clone()));
        let ports = Ports {
            objects: Arc::new(S3Objects::connect(&sdk, config.archive_bucket.clone())),
            store: Arc::new(PostgresEventStore::new(database.clone(), config.dedup_window).putting_back()),
            unscored: Arc::new(PostgresUnscoredEvents::new(database)),
            runs: Arc::<PostgresReplay>::clone(&replay),
            reprocessed: replay,
            scorers: Arc::new(LambdaScorers::new(sdk)),
            clock: Arc::new(SystemClock),
        };
        Ok(App::new(config.policy.clone(), Registry::embedded()?, ports))
    }

    /// Makes an app of the given adapters.
    pub fn new(policy: Policy, registry: Registry, ports: Ports) -> Self {
        let postgres = guard(Dependency::Postgres, policy.breaker_open);
        let s3 = Arc::new(guard(Dependency::S3, policy.breaker_open));
        App { policy, registry, ports, postgres, s3 }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.ports.clock.now()
    }
}
