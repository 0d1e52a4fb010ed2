//! Settings, read once at cold start.

use std::time::Duration;

use kafka::KafkaConfig;
use postgres::PostgresConfig;
use settings::{Settings, SettingsError, Variables};

#[derive(Clone, Debug)]
pub struct Config {
    /// `KAFKA_BROKERS` or `MSK_CLUSTER_ARN`, no default; `KAFKA_SECURITY`, default `plaintext`.
    pub kafka: KafkaConfig,
    /// `DATABASE_URL` or `DB_…`: see `shared/postgres`.
    pub postgres: PostgresConfig,
    /// `BREAKER_OPEN_SEC`: how long a dependency that keeps failing is not called before it is probed, in seconds;
    /// default 60.
    pub breaker_open: Duration,
}

impl Config {
    /// # Errors
    /// [`SettingsError`] with every variable that is missing or malformed.
    pub fn from_variables(variables: &dyn Variables) -> Result<Self, SettingsError> {
        let mut settings = Settings::new(variables);
        let breaker_open = settings::shared::breaker_open(&mut settings);
        let kafka = KafkaConfig::from_settings(&mut settings);
        let postgres = PostgresConfig::from_settings(&mut settings);
        settings.build(kafka.zip(postgres).map(|(kafka, postgres)| Config { kafka, postgres, breaker_open }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use settings::Recording;

    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_readme() {
        let minimal = testkit::readme::with_database(&[("KAFKA_BROKERS", "127.0.0.1:9092")]);
        let read = |variables: &dyn Variables| format!("{:?}", Config::from_variables(variables));
        testkit::readme::assert_defaults(include_str!("../README.md"), &minimal, read);
    }

    #[test]
    fn the_readme_names_every_setting() {
        let minimal = BTreeMap::from([("KAFKA_BROKERS", "k:9092"), ("DATABASE_URL", "postgres://u@127.0.0.1/d")]);
        let read = Recording::new(minimal);
        Config::from_variables(&read).unwrap();
        let split = Recording::new(BTreeMap::<&str, &str>::new());
        let _ = Config::from_variables(&split);
        testkit::readme::assert_names(include_str!("../README.md"), &[read.names(), split.names()]);
    }

    #[test]
    fn everything_that_is_wrong_is_named() {
        let problems = Config::from_variables(&BTreeMap::from([("BREAKER_OPEN_SEC", "long")])).unwrap_err().problems;
        for name in ["BREAKER_OPEN_SEC", "KAFKA_BROKERS", "DATABASE_URL"] {
            assert!(problems.iter().any(|problem| problem.contains(name)), "{name} is not in: {problems:?}");
        }
    }
}
