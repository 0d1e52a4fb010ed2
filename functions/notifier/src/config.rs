//! Settings, read once at cold start.

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use postgres::PostgresConfig;
use settings::{SecretSource, Settings, SettingsError, Variables};

/// What deliveries depend on; the rest of the configuration is about adapters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `WEBHOOK_CONCURRENCY`: requests at the same time, of all endpoints together, at least 1; default 32.
    pub concurrency: NonZeroU16,
    /// `WEBHOOK_TIMEOUT_MS`: longest wait for the answer of an endpoint, in milliseconds; default 5000.
    pub timeout: Duration,
    /// `WEBHOOK_MAX_WAITING`: an endpoint for which more deliveries wait is paused; default 100000.
    pub max_waiting: u64,
    /// `BREAKER_OPEN_SEC`: how long an endpoint or Postgres is not called after five failures in a row, before it is probed, in
    /// seconds; default 60.
    pub breaker_open: Duration,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub policy: Policy,
    /// `DATABASE_URL` or `DB_…`: see `shared/postgres`.
    pub postgres: PostgresConfig,
    /// `WEBHOOK_KEY`, `WEBHOOK_KEY_FILE` or `WEBHOOK_KEY_SECRET_ARN`: from which the secrets of all endpoints are made; required.
    pub key: SecretSource,
    /// `WEBHOOK_ALLOWED_NETWORKS`: ranges that may be called besides public addresses; none.
    pub allowed: Vec<IpNet>,
    /// `WEBHOOK_CA_FILE`: PEM file of certificate authorities that are trusted besides the public ones; none.
    pub ca_file: Option<PathBuf>,
}

impl Config {
    /// # Errors
    /// [`SettingsError`] with every variable that is missing or malformed.
    pub fn from_variables(variables: &dyn Variables) -> Result<Self, SettingsError> {
        let mut settings = Settings::new(variables);
        let policy = Policy {
            concurrency: settings.or("WEBHOOK_CONCURRENCY", const { NonZeroU16::new(32).unwrap() }),
            timeout: Duration::from_millis(settings.or("WEBHOOK_TIMEOUT_MS", 5_000)),
            max_waiting: settings.or("WEBHOOK_MAX_WAITING", 100_000),
            breaker_open: settings::shared::breaker_open(&mut settings),
        };
        let key = settings.secret_source("WEBHOOK_KEY");
        if key.is_none() {
            settings.problem(
                "none of WEBHOOK_KEY, WEBHOOK_KEY_FILE and WEBHOOK_KEY_SECRET_ARN is set: requests are signed with secrets that are \
                 made from it",
            );
        }
        let allowed = settings.list("WEBHOOK_ALLOWED_NETWORKS");
        let ca_file = settings.optional("WEBHOOK_CA_FILE");
        let postgres = PostgresConfig::from_settings(&mut settings);
        let config = |(postgres, key)| Config { policy, postgres, key, allowed, ca_file };
        settings.build(postgres.zip(key).map(config))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use settings::Recording;

    use super::*;

    const KEY: (&str, &str) = ("WEBHOOK_KEY", "a key for tests that is long enough");

    #[test]
    fn the_defaults_are_those_of_the_readme() {
        let minimal = testkit::readme::with_database(&[KEY]);
        let read = |variables: &dyn Variables| format!("{:?}", Config::from_variables(variables));
        testkit::readme::assert_defaults(include_str!("../README.md"), &minimal, read);
    }

    #[test]
    fn the_readme_names_every_setting() {
        let read = Recording::new(BTreeMap::from([KEY, ("DATABASE_URL", "postgres://u@127.0.0.1/d")]));
        Config::from_variables(&read).unwrap();
        let split = Recording::new(BTreeMap::<&str, &str>::new());
        let _ = Config::from_variables(&split);
        testkit::readme::assert_names(include_str!("../README.md"), &[read.names(), split.names()]);
    }

    #[test]
    fn everything_that_is_wrong_is_named() {
        let variables = BTreeMap::from([
            ("WEBHOOK_CONCURRENCY", "0"),
            ("WEBHOOK_TIMEOUT_MS", "soon"),
            ("WEBHOOK_ALLOWED_NETWORKS", "10.0.0.0/8,everywhere"),
        ]);
        let problems = Config::from_variables(&variables).unwrap_err().problems.join("\n");
        for name in ["WEBHOOK_CONCURRENCY", "WEBHOOK_TIMEOUT_MS", "everywhere", "WEBHOOK_KEY", "DATABASE_URL"] {
            assert!(problems.contains(name), "{name} is not in: {problems}");
        }
    }
}
