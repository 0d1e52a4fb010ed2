//! What one instance of query has: its adapters, and a guard for each dependency.

use std::sync::Arc;
use std::time::Duration;

use api_keys::{Authenticator, RateLimiter};
use dynamodb::{DynamoApiKeys, DynamoDb, DynamoRateLeases, DynamoRedriveMarks};
use lambda::breaker::guard;
use pipeline::Dependency;
use pipeline::clock::{Clock, SystemClock};
use pipeline::guard::Guard;
use pipeline::ports::{ApiKeys, EventHistory, RateLeases, RedriveMarks};
use postgres::{Database, PostgresError, PostgresEventHistory};

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
    pub(crate) postgres: Guard,
    pub(crate) marks: Arc<dyn RedriveMarks>,
    pub(crate) dynamodb: Arc<Guard>,
    pub(crate) access_timeout: Duration,
    pub(crate) max_wait: Duration,
}

impl App {
    pub fn new(
        config: &Config,
        keys: Arc<dyn ApiKeys>,
        leases: Arc<dyn RateLeases>,
        history: Arc<dyn EventHistory>,
        marks: Arc<dyn RedriveMarks>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let dynamodb = Arc::new(guard(Dependency::Dynamodb, config.breaker_open));
        App {
            authenticator: Authenticator::new(keys, Arc::clone(&dynamodb), config.key_cache),
            limiter: RateLimiter::new(leases, Arc::clone(&dynamodb), config.rate),
            clock,
            history,
            postgres: guard(Dependency::Postgres, config.breaker_open),
            marks,
            dynamodb,
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
        let (dynamodb, database) = tokio::join!(DynamoDb::connect(&sdk), Database::connect(&config.postgres));
        let keys = Arc::new(DynamoApiKeys::new(&dynamodb, &config.access_table));
        let leases = Arc::new(DynamoRateLeases::new(&dynamodb, &config.access_table));
        let marks = Arc::new(DynamoRedriveMarks::new(&dynamodb, &config.access_table));
        let history = Arc::new(PostgresEventHistory::new(database?));
        Ok(App::new(&config, keys, leases, history, marks, Arc::new(SystemClock)))
    }
}
