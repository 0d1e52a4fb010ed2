//! What one instance of query has: its adapters, and a guard for each dependency.

use std::sync::Arc;
use std::time::Duration;

use api_keys::{Authenticator, RateLimiter};
use aws::secrets::SecretError;
use aws_config::SdkConfig;
use invoke::FunctionClient;
use kafka::KafkaTail;
use lambda::guard::guard;
use pipeline::Dependency;
use pipeline::clock::{Clock, SystemClock};
use pipeline::guard::Guard;
use pipeline::ports::{ApiKeys, EventHistory, EventSearch, FunctionCaller, RateLeases, RedriveMarks, TopicTail};
use pipeline::root_key::{RootKey, RootKeyError};
use postgres::{Database, PostgresError, PostgresEventHistory, PostgresEventSearch, PostgresStatistics};
use statistics::Statistics;

use crate::config::{CalledFunction, Config, ConsoleConfig};
use crate::console::{Console, ConsolePorts};
use crate::stream::Streams;

/// The function cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot connect to Postgres at start")]
    Postgres(#[from] PostgresError),
    #[error("CONSOLE_KEY cannot be read")]
    UnreadableKey(#[from] SecretError),
    #[error("CONSOLE_KEY cannot be used")]
    Key(#[from] RootKeyError),
}

/// Longest time that a function works that the console calls. A page waits for a part of it.
const LONGEST_CALL: Duration = Duration::from_secs(900);

/// The ports through which events are read.
#[derive(Clone)]
pub struct QueryPorts {
    pub history: Arc<dyn EventHistory>,
    pub search: Arc<dyn EventSearch>,
    pub statistics: Arc<dyn Statistics>,
    /// If there are streams.
    pub tail: Option<Arc<dyn TopicTail>>,
    /// If there is a console.
    pub console: Option<ConsolePorts>,
}

/// Everything a request needs, built once.
pub struct App {
    pub(crate) authenticator: Authenticator,
    pub(crate) limiter: RateLimiter,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ports: QueryPorts,
    pub(crate) postgres: Arc<Guard>,
    pub(crate) marks: Arc<dyn RedriveMarks>,
    /// That of the store of keys and marks.
    pub(crate) access: Arc<Guard>,
    pub(crate) access_timeout: Duration,
    pub(crate) max_wait: Duration,
    pub(crate) streams: Option<Streams>,
    pub(crate) console: Option<Arc<Console>>,
}

impl App {
    pub fn new(
        config: &Config,
        keys: Arc<dyn ApiKeys>,
        leases: Arc<dyn RateLeases>,
        ports: QueryPorts,
        marks: Arc<dyn RedriveMarks>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let postgres = Arc::new(guard(Dependency::Postgres, config.breaker_open));
        let access = match config.access.dependency() {
            Dependency::Postgres => Arc::clone(&postgres),
            other => Arc::new(guard(other, config.breaker_open)),
        };
        let streams = config.stream.as_ref().zip(ports.tail.clone());
        let streams = streams.map(|(stream, tail)| Streams::new(stream, tail, config.breaker_open));
        let console = config.console.as_ref().zip(ports.console.clone());
        let console = console.map(|(console, ports)| Arc::new(Console::new(config, console, ports)));
        App {
            authenticator: Authenticator::new(keys, Arc::clone(&access), config.key_cache),
            limiter: RateLimiter::new(leases, Arc::clone(&access), config.rate),
            clock,
            ports,
            postgres,
            marks,
            access,
            access_timeout: config.key_cache.timeout,
            max_wait: config.max_wait,
            streams,
            console,
        }
    }

    /// Connects during init, because a function has more CPU during init than later.
    ///
    /// # Errors
    /// If Postgres cannot be reached, or the console's key cannot be read or is too short.
    pub async fn connect(config: Config) -> Result<Self, ConnectError> {
        let sdk = aws::sdk_config().await;
        let (access, database) = match &config.replica {
            None => config.access.connect_beside(&sdk, Database::connect(&config.postgres)).await?,
            // Keys and marks are never read from a replica, where a key that was revoked may still be good.
            Some(replica) => {
                let (access, database) = tokio::join!(config.access.connect(&sdk), Database::connect(replica));
                (access?, database?)
            }
        };
        let console = match &config.console {
            Some(console) => Some(console_ports(console, &sdk).await?),
            None => None,
        };
        let ports = QueryPorts {
            history: Arc::new(PostgresEventHistory::new(database.clone())),
            search: Arc::new(PostgresEventSearch::new(database.clone())),
            statistics: Arc::new(PostgresStatistics::new(database)),
            // It connects with the first stream: everything else is answered while Kafka is down.
            tail: config
                .stream
                .as_ref()
                .map(|stream| -> Arc<dyn TopicTail> { Arc::new(KafkaTail::new(stream.kafka.clone(), "query")) }),
            console,
        };
        let (keys, leases, marks) = (access.keys(), access.leases(), access.marks());
        Ok(App::new(&config, keys, leases, ports, marks, Arc::new(SystemClock)))
    }
}

async fn console_ports(config: &ConsoleConfig, sdk: &SdkConfig) -> Result<ConsolePorts, ConnectError> {
    let key = RootKey::try_from(aws::secrets::read(&config.key).await?)?;
    let caller = |CalledFunction { name: _, url }: &CalledFunction| -> Arc<dyn FunctionCaller> {
        Arc::new(match url {
            Some(url) => FunctionClient::patient_at(sdk, LONGEST_CALL, url),
            None => FunctionClient::patient(sdk, LONGEST_CALL),
        })
    };
    Ok(ConsolePorts { key, maintainer: caller(&config.maintainer), redriver: caller(&config.redriver) })
}
