//! Settings, read once at cold start.

use std::time::Duration;

use kafka::KafkaConfig;
use postgres::PostgresConfig;
use settings::{Settings, SettingsError, Variables};

/// What a run depends on; the rest of the configuration is about adapters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `FRAUD_THRESHOLD`: the score from which an event is `fraud`, 0 to 100; default 80. The same as the processor's.
    pub fraud_threshold: u8,
    /// `SCORER_TIMEOUT_MS`: longest wait for the scores of a batch, in milliseconds, for each attempt; default 2000.
    pub scorer_timeout: Duration,
    /// `PUBLISH_TIMEOUT_MS`: longest wait for Kafka's acknowledgements of a batch, in milliseconds; default 10000.
    pub publish_timeout: Duration,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub policy: Policy,
    /// `KAFKA_BROKERS` or `MSK_CLUSTER_ARN`, no default; `KAFKA_SECURITY`, default `plaintext`.
    pub kafka: KafkaConfig,
    /// `DATABASE_URL` or `DB_…`: see `shared/postgres`.
    pub postgres: PostgresConfig,
    /// `SCORER_FUNCTION`: name, alias or ARN of the scorer; default `scorer`.
    pub scorer_function: String,
    /// `MAX_RECORD_BYTES`: largest record that is published, in bytes; default 1500000. The same as the processor's.
    pub max_record_bytes: usize,
    /// `BREAKER_OPEN_SEC`: how long a dependency that keeps failing is not called before it is probed, in seconds;
    /// default 60.
    pub breaker_open: Duration,
}

impl Config {
    /// # Errors
    /// [`SettingsError`] with every variable that is missing or malformed.
    pub fn from_variables(variables: &dyn Variables) -> Result<Self, SettingsError> {
        let mut settings = Settings::new(variables);
        let policy = Policy {
            fraud_threshold: settings::shared::fraud_threshold(&mut settings),
            scorer_timeout: settings::shared::scorer_timeout(&mut settings),
            publish_timeout: settings::shared::publish_timeout(&mut settings),
        };
        let scorer_function = settings::shared::scorer_function(&mut settings);
        let max_record_bytes = settings::shared::max_record_bytes(&mut settings);
        let breaker_open = settings::shared::breaker_open(&mut settings);
        let kafka = KafkaConfig::from_settings(&mut settings);
        let postgres = PostgresConfig::from_settings(&mut settings);
        let config = kafka.zip(postgres).map(|(kafka, postgres)| Config {
            policy,
            kafka,
            postgres,
            scorer_function,
            max_record_bytes,
            breaker_open,
        });
        settings.build(config)
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
    fn the_readme_names_every_setting_and_the_defaults() {
        let minimal = BTreeMap::from([("KAFKA_BROKERS", "k:9092"), ("DATABASE_URL", "postgres://u@127.0.0.1/d")]);
        let read = Recording::new(minimal);
        let config = Config::from_variables(&read).unwrap();
        assert_eq!((config.policy.fraud_threshold, config.scorer_function.as_str()), (80, "scorer"));
        assert_eq!(config.policy.scorer_timeout, Duration::from_secs(2));
        assert_eq!(config.policy.publish_timeout, Duration::from_secs(10));
        let split = Recording::new(BTreeMap::<&str, &str>::new());
        let _ = Config::from_variables(&split);
        testkit::readme::assert_names(include_str!("../README.md"), &[read.names(), split.names()]);
    }

    #[test]
    fn everything_that_is_wrong_is_named() {
        let variables = BTreeMap::from([("FRAUD_THRESHOLD", "101"), ("PUBLISH_TIMEOUT_MS", "soon")]);
        let problems = Config::from_variables(&variables).unwrap_err().problems.join("\n");
        for name in ["FRAUD_THRESHOLD", "PUBLISH_TIMEOUT_MS", "KAFKA_BROKERS", "DATABASE_URL"] {
            assert!(problems.contains(name), "{name} is not in: {problems}");
        }
    }
}
