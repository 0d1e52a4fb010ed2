//! What one instance of query has: its adapters, and a guard for each dependency.

use std::sync::Arc;
use std::time::Duration;

use api_keys::{Authenticator, RateLimiter};
use lambda::guard::guard;
use pipeline::Dependency;
use pipeline::clock::{Clock, SystemClock};
use pipeline::guard::Guard;
use pipeline::ports::{ApiKeys, EventHistory, RateLeases, RedriveMarks};
use postgres::{Database, PostgresError, PostgresEventHistory, PostgresStatistics};
use statistics::Statistics;

use crate::config::Config;

/// Postgres could not be reached at start.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to Postgres at start")]
pub struct ConnectError(#[from] PostgresError);

/// Everything a request needs, built once.
pub struct App {
    pub(crate) authenticator: Authenticator,
    pub(crate) limiter: RateLimiter,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) history: Arc<dyn EventHistory>,
    pub(crate) statistics: Arc<dyn Statistics>,
    pub(crate) postgres: Arc<Guard>,
    pub(crate) marks: Arc<dyn RedriveMarks>,
    /// That of the store of keys and marks.
    pub(crate) access: Arc<Guard>,
    pub(crate) access_timeout: Duration,
    pub(crate) max_wait: Duration,
}

impl App {
    pub fn new(
        config: &Config,
        keys: Arc<dyn ApiKeys>,
        leases: Arc<dyn RateLeases>,
        history: Arc<dyn EventHistory>,
        statistics: Arc<dyn Statistics>,
        marks: Arc<dyn RedriveMarks>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let postgres = Arc::new(guard(Dependency::Postgres, config.breaker_open));
        let access = match config.access.dependency() {
            Dependency::Postgres => Arc::clone(&postgres),
            other => Arc::new(guard(other, config.breaker_open)),
        };
        App {
            authenticator: Authenticator::new(keys, Arc::clone(&access), config.key_cache),
            limiter: RateLimiter::new(leases, Arc::clone(&access), config.rate),
            clock,
            history,
            statistics,
            postgres,
            marks,
            access,
            access_timeout: config.key_cache.timeout,
            max_wait: config.max_wait,
        }
    }

    /// Connects during init, because a function has more CPU during init than later.
    ///
    /// # Errors
    /// If Postgres cannot be reached.
    pub async fn connect(config: Config) -> Result<Self, ConnectError> {
        let sdk = aws::sdk_config().await;
        let database = Database::connect(&config.postgres);
        let (access, database) = config.access.connect_beside(&sdk, database).await?;
        let history = Arc::new(PostgresEventHistory::new(database.clone()));
        let statistics = Arc::new(PostgresStatistics::new(database));
        let (keys, leases, marks) = (access.keys(), access.leases(), access.marks());
        Ok(App::new(&config, keys, leases, history, statistics, marks, Arc::new(SystemClock)))
    }
}
