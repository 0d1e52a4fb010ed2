//! Settings of the function.

use std::num::NonZeroUsize;
use std::time::Duration;

use access::AccessConfig;
use api_keys::{Counted, KeyCachePolicy, RatePolicy};
use kafka::KafkaConfig;
use postgres::PostgresConfig;
use settings::{SecretSource, Settings, SettingsError, Variables};
use strum::{EnumString, VariantNames};

const SESSION_MINUTES: std::ops::RangeInclusive<u64> = 1..=10_080;
const DEFAULT_CONNECTIONS: NonZeroUsize = NonZeroUsize::new(32).unwrap();

#[derive(Clone, Debug)]
pub struct Config {
    /// `DATABASE_URL` or `DB_…`: see `shared/postgres`.
    pub postgres: PostgresConfig,
    /// `DATABASE_READ_URL` or `DB_READ_HOST`: a replica that is read in place of it; none.
    pub replica: Option<PostgresConfig>,
    /// `ACCESS_STORE`: where keys and redrive marks are kept, `dynamodb` or `postgres`; `dynamodb`. `ACCESS_TABLE`: its
    /// DynamoDB table; `access`.
    pub access: AccessConfig,
    /// `API_KEY_CACHE_SEC`: how long an answer about a key is cached, in seconds; 10. `API_KEY_STALE_SEC`: the same
    /// while the store is down; 300. `ACCESS_TIMEOUT_MS`: longest wait for the store, in milliseconds; 1000.
    pub key_cache: KeyCachePolicy,
    /// `QUERY_RATE_LIMIT_PER_MIN`: requests per minute of each key; 600. `RATE_LIMIT_BURST_PERCENT`: how many may come
    /// at once, as a part of the limit; 10. `RATE_LIMIT_ON_ERROR`: `allow` or `deny` while the store is down; `allow`.
    pub rate: RatePolicy,
    /// `MAX_WAIT_MS`: longest wait of a request with `wait_ms`, in milliseconds; 10000. Together with the database's
    /// timeout it must be below the function's own.
    pub max_wait: Duration,
    /// `BREAKER_OPEN_SEC`: how long calls to Postgres or the store are refused after repeated failures, in seconds; 60.
    pub breaker_open: Duration,
    /// `STREAM`: whether there is `GET /stream`, `on` or `off`; `off`.
    pub stream: Option<StreamConfig>,
    /// `CONSOLE`: whether there are the pages under `/console`, `on` or `off`; `off`.
    pub console: Option<ConsoleConfig>,
}

/// Settings of the console.
#[derive(Clone, Debug)]
pub struct ConsoleConfig {
    /// `CONSOLE_KEY`, `CONSOLE_KEY_FILE` or `CONSOLE_KEY_SECRET_ARN`: signs sessions, so it is the same for all instances; required.
    pub key: SecretSource,
    /// `CONSOLE_SESSION_MIN`: after how many minutes an operator has to sign in again; 480.
    pub longest_session: Duration,
    /// `MAINTAINER_FUNCTION`: the name, alias or ARN of the maintainer; `maintainer`. `MAINTAINER_URL`: the root of the Invoke API
    /// where it is, if it is another than that of the other functions.
    pub maintainer: CalledFunction,
    /// `REDRIVER_FUNCTION`, `REDRIVER_URL`: the same of the redriver; `redriver`.
    pub redriver: CalledFunction,
}

/// A function that the console calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalledFunction {
    pub name: String,
    pub url: Option<String>,
}

impl ConsoleConfig {
    /// `None` if there is no console, or after a problem was recorded.
    fn from_settings(settings: &mut Settings<'_>) -> Option<Self> {
        match settings.choice("CONSOLE", Switch::Off) {
            Switch::Off => None,
            Switch::On => {
                let key = settings.secret_source("CONSOLE_KEY");
                if key.is_none() {
                    settings.problem(
                        "none of CONSOLE_KEY, CONSOLE_KEY_FILE and CONSOLE_KEY_SECRET_ARN is set: it signs the sessions of the console",
                    );
                }
                let minutes = settings.or("CONSOLE_SESSION_MIN", 480_u64);
                if !SESSION_MINUTES.contains(&minutes) {
                    settings.problem("CONSOLE_SESSION_MIN must be 1 to 10080, which is a week");
                }
                let longest_session = Duration::from_secs(minutes.saturating_mul(60));
                let maintainer = CalledFunction {
                    name: settings.or("MAINTAINER_FUNCTION", "maintainer".to_owned()),
                    url: settings.optional("MAINTAINER_URL"),
                };
                let redriver = CalledFunction {
                    name: settings.or("REDRIVER_FUNCTION", "redriver".to_owned()),
                    url: settings.optional("REDRIVER_URL"),
                };
                key.map(|key| ConsoleConfig { key, longest_session, maintainer, redriver })
            }
        }
    }
}

/// Settings of streams.
#[derive(Clone, Debug)]
pub struct StreamConfig {
    /// `KAFKA_BROKERS` or `MSK_CLUSTER_ARN`: see `shared/kafka`.
    pub kafka: KafkaConfig,
    /// `STREAM_CONNECTIONS`: the most streams of one instance; 32.
    pub connections: NonZeroUsize,
    /// `STREAM_MAX_SEC`: when a stream ends, so that its client connects again, in seconds; 900.
    pub longest: Duration,
}

/// The values of `STREAM` and `CONSOLE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
enum Switch {
    On,
    Off,
}

impl StreamConfig {
    /// `None` if there are no streams, or after a problem was recorded.
    fn from_settings(settings: &mut Settings<'_>) -> Option<Self> {
        match settings.choice("STREAM", Switch::Off) {
            Switch::Off => None,
            Switch::On => {
                let kafka = KafkaConfig::from_settings(settings);
                let connections = settings.or("STREAM_CONNECTIONS", DEFAULT_CONNECTIONS);
                let longest = Duration::from_secs(settings.or("STREAM_MAX_SEC", 900_u64));
                kafka.map(|kafka| StreamConfig { kafka, connections, longest })
            }
        }
    }
}

impl Config {
    /// # Errors
    /// [`SettingsError`] with every variable that is missing or malformed.
    pub fn from_variables(variables: &dyn Variables) -> Result<Self, SettingsError> {
        let mut settings = Settings::new(variables);
        let postgres = PostgresConfig::from_settings(&mut settings);
        let replica = PostgresConfig::replica_from_settings(&mut settings, postgres.as_ref());
        let access = AccessConfig::with_postgres(&mut settings, postgres.as_ref());
        let key_cache = KeyCachePolicy::from_settings(&mut settings);
        let limit = settings.or("QUERY_RATE_LIMIT_PER_MIN", 600);
        let rate = RatePolicy::from_settings(&mut settings, Counted::Requests, limit, key_cache.timeout);
        let max_wait = Duration::from_millis(settings.or("MAX_WAIT_MS", 10_000));
        let breaker_open = settings::shared::breaker_open(&mut settings);
        let stream = StreamConfig::from_settings(&mut settings);
        let console = ConsoleConfig::from_settings(&mut settings);
        let config = |(postgres, access)| Config {
            postgres,
            replica,
            access,
            key_cache,
            rate,
            max_wait,
            breaker_open,
            stream,
            console,
        };
        settings.build(postgres.zip(access).map(config))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use settings::Recording;

    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_readme() {
        let minimal = [
            testkit::readme::with_database(&[]),
            testkit::readme::with_database(&[("STREAM", "on"), ("KAFKA_BROKERS", "127.0.0.1:9092")]),
            testkit::readme::with_database(&[("CONSOLE", "on"), ("CONSOLE_KEY", "a key")]),
        ]
        .concat();
        let read = |variables: &dyn Variables| format!("{:?}", Config::from_variables(variables));
        testkit::readme::assert_defaults(include_str!("../README.md"), &minimal, read);
    }

    #[test]
    fn the_readme_lists_every_setting() {
        let variables = [
            ("DATABASE_URL", "postgres://u@127.0.0.1/d"),
            ("STREAM", "on"),
            ("KAFKA_BROKERS", "127.0.0.1:9092"),
            ("CONSOLE", "on"),
            ("CONSOLE_KEY", "a key"),
        ];
        let variables = Recording::new(BTreeMap::from(variables));
        Config::from_variables(&variables).unwrap();
        assert_eq!(testkit::readme::documented_settings(include_str!("../README.md")), variables.names());
    }

    #[test]
    fn every_bad_setting_is_named_at_once() {
        let variables = BTreeMap::from([("MAX_WAIT_MS", "long"), ("API_KEY_CACHE_SEC", "-1")]);
        let problems = Config::from_variables(&variables).unwrap_err().problems;
        for name in ["DATABASE_URL", "MAX_WAIT_MS", "API_KEY_CACHE_SEC"] {
            assert!(problems.iter().any(|problem| problem.contains(name)), "{name}: {problems:?}");
        }
        let database = ("DATABASE_URL", "postgres://u@127.0.0.1/d");
        let variables = BTreeMap::from([database, ("STREAM", "on"), ("STREAM_CONNECTIONS", "0")]);
        let problems = Config::from_variables(&variables).unwrap_err().problems;
        assert_eq!(problems.len(), 2, "{problems:?}");
        let console = [("CONSOLE", "on"), ("CONSOLE_KEY", "a key")];
        for minutes in ["0", "10081", "18446744073709551615"] {
            let variables = [[database, ("CONSOLE_SESSION_MIN", minutes)], console]
                .concat()
                .into_iter()
                .collect::<BTreeMap<_, _>>();
            let problems = Config::from_variables(&variables).unwrap_err().problems;
            assert_eq!(problems.len(), 1, "{problems:?}");
        }
        for (name, value) in [("STREAM", "yes"), ("CONSOLE", "yes"), ("CONSOLE", "on")] {
            let problems = Config::from_variables(&BTreeMap::from([database, (name, value)])).unwrap_err().problems;
            assert_eq!(problems.len(), 1, "{problems:?}");
        }
    }
}
