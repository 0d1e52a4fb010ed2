//! Settings, read once at cold start.

use std::time::Duration;

use event::TenantId;
use postgres::PostgresConfig;
use settings::{Settings, SettingsError, Variables};

/// The settings of reprocessing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `SCORER_FUNCTION`: name, alias or ARN of the scorer, unless a request names another; default `scorer`.
    pub scorer_function: String,
    /// `SCORER_TIMEOUT_MS`: longest wait for the scores of a batch, in milliseconds, for each attempt; default 2000.
    pub scorer_timeout: Duration,
    /// `FRAUD_THRESHOLD`: the score from which an event is `fraud`, 0 to 100; default 80.
    pub fraud_threshold: u8,
    /// `FOREIGN_TENANT`: the tenant of events that producers other than ingest wrote to `raw-events`; default `kafka`.
    pub foreign_tenant: TenantId,
    /// `BREAKER_OPEN_SEC`: how long a dependency that keeps failing is not called before it is probed, in seconds;
    /// default 60.
    pub breaker_open: Duration,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub policy: Policy,
    /// `DATABASE_URL`, or `DB_HOST`, `DB_PORT`, `DB_NAME`, `DB_USER`, `DB_PASSWORD`, `DB_AUTH` and `DB_SSLMODE`; in
    /// either case also `DB_CA_FILE`, `DB_POOL_SIZE` and `DB_STATEMENT_TIMEOUT_SEC`. See
    /// [`PostgresConfig::from_settings`].
    pub postgres: PostgresConfig,
    /// `ARCHIVE_BUCKET`: the bucket of the archive. Required.
    pub archive_bucket: String,
    /// `DEDUP_TTL_SEC`: the same as the processor's, in seconds; default 86400. Two events with one id that are closer
    /// together count as copies.
    pub dedup_window: Duration,
}

impl Config {
    /// # Errors
    /// Every variable that is missing or malformed.
    pub fn from_variables(variables: &dyn Variables) -> Result<Self, SettingsError> {
        let mut settings = Settings::new(variables);
        let policy = policy(&mut settings);
        let postgres = PostgresConfig::from_settings(&mut settings);
        let archive_bucket = settings::shared::archive_bucket(&mut settings);
        let dedup_window = settings::shared::dedup_ttl(&mut settings);
        let config = policy.zip(postgres.zip(archive_bucket));
        let config = config.map(|(policy, (postgres, archive_bucket))| Config {
            policy,
            postgres,
            archive_bucket,
            dedup_window,
        });
        settings.build(config)
    }
}

fn policy(settings: &mut Settings<'_>) -> Option<Policy> {
    let scorer_function = settings::shared::scorer_function(settings);
    let scorer_timeout = settings::shared::scorer_timeout(settings);
    let fraud_threshold = settings::shared::fraud_threshold(settings);
    let breaker_open = settings::shared::breaker_open(settings);
    let foreign_tenant = settings::shared::foreign_tenant(settings);
    Some(Policy { scorer_function, scorer_timeout, fraud_threshold, foreign_tenant: foreign_tenant?, breaker_open })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use settings::Recording;

    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_readme() {
        let minimal = testkit::readme::with_database(&[("ARCHIVE_BUCKET", "forebay")]);
        let read = |variables: &dyn Variables| format!("{:?}", Config::from_variables(variables));
        testkit::readme::assert_defaults(include_str!("../README.md"), &minimal, read);
    }

    #[test]
    fn everything_that_is_wrong_is_named() {
        let variables = BTreeMap::from([("FRAUD_THRESHOLD", "101"), ("FOREIGN_TENANT", "No Tenant")]);
        let problems = Config::from_variables(&variables).unwrap_err().problems.join("\n");
        for name in ["FRAUD_THRESHOLD", "FOREIGN_TENANT", "DATABASE_URL", "ARCHIVE_BUCKET"] {
            assert!(problems.contains(name), "{name} is not in: {problems}");
        }
    }

    #[test]
    fn the_readme_names_every_setting() {
        let whole = Recording::new(BTreeMap::from([
            ("DATABASE_URL", "postgres://forebay@127.0.0.1/forebay"),
            ("ARCHIVE_BUCKET", "forebay"),
        ]));
        Config::from_variables(&whole).unwrap();
        let split = Recording::new(BTreeMap::<&str, &str>::new());
        assert!(Config::from_variables(&split).is_err());
        testkit::readme::assert_names(include_str!("../README.md"), &[whole.names(), split.names()]);
    }
}
