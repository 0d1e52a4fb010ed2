//! Settings, read once at cold start.

use std::time::Duration;

use access::AccessConfig;
use kafka::KafkaConfig;
use settings::{Settings, SettingsError, Variables};

#[derive(Clone, Debug)]
pub struct Config {
    /// `KAFKA_BROKERS` or `MSK_CLUSTER_ARN`, no default; `KAFKA_SECURITY`, default `plaintext`.
    pub kafka: KafkaConfig,
    /// `ACCESS_STORE`: where redrive marks and the audit trail are kept, `dynamodb` (default) or `postgres`. `ACCESS_TABLE`:
    /// its DynamoDB table; default `access`.
    pub access: AccessConfig,
    /// `ARCHIVE_BUCKET`: the bucket of parked letters. Required.
    pub archive_bucket: String,
    /// `BREAKER_OPEN_SEC`: how long a dependency that keeps failing is not called before it is probed, in seconds;
    /// default 60.
    pub breaker_open: Duration,
}

impl Config {
    /// # Errors
    /// Every variable that is missing or malformed.
    pub fn from_variables(variables: &dyn Variables) -> Result<Self, SettingsError> {
        let mut settings = Settings::new(variables);
        let kafka = KafkaConfig::from_settings(&mut settings);
        let access = AccessConfig::from_settings(&mut settings);
        let archive_bucket = settings::shared::archive_bucket(&mut settings);
        let breaker_open = settings::shared::breaker_open(&mut settings);
        let parts = kafka.zip(access.zip(archive_bucket));
        let config =
            parts.map(|(kafka, (access, archive_bucket))| Config { kafka, access, archive_bucket, breaker_open });
        settings.build(config)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use settings::Recording;
    use testkit::readme::documented_settings;

    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_readme() {
        let minimal = [BTreeMap::from([("KAFKA_BROKERS", "127.0.0.1:9092"), ("ARCHIVE_BUCKET", "forebay")])];
        let read = |variables: &dyn Variables| format!("{:?}", Config::from_variables(variables));
        testkit::readme::assert_defaults(include_str!("../README.md"), &minimal, read);
    }

    #[test]
    fn brokers_and_bucket_must_be_named() {
        let none = Config::from_variables(&BTreeMap::new()).unwrap_err();
        assert_eq!(none.problems.len(), 2, "{none}");
        let variables = BTreeMap::from([("KAFKA_BROKERS", "127.0.0.1:9092"), ("ARCHIVE_BUCKET", "forebay")]);
        let config = Config::from_variables(&variables).unwrap();
        assert_eq!(config.archive_bucket, "forebay");
    }

    #[test]
    fn the_readme_names_every_setting() {
        let recording = Recording::new(BTreeMap::<&str, &str>::new());
        assert!(Config::from_variables(&recording).is_err());
        assert_eq!(documented_settings(include_str!("../README.md")), recording.names());
    }
}
