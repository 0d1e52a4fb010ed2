//! Settings, read once at cold start.

use std::time::Duration;

use access::AccessConfig;
use kafka::{KafkaConfig, TopicSpec};
use pipeline::topic;
use postgres::PostgresConfig;
use postgres::partitions::PartitionPolicy;
use settings::shared::StateStore;
use settings::{SecretSource, Settings, SettingsError, Variables};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Debug)]
pub struct Config {
    /// `KAFKA_BROKERS`, `MSK_CLUSTER_ARN`, `KAFKA_SECURITY`: see `shared/kafka`.
    pub kafka: KafkaConfig,
    /// `DATABASE_URL` or `DB_…`: see `shared/postgres`.
    pub postgres: PostgresConfig,
    /// `ACCESS_STORE`: where API keys and blocks are kept, `dynamodb` (default) or `postgres`. `ACCESS_TABLE`: its DynamoDB
    /// table; default `access`.
    pub access: AccessConfig,
    /// The pipeline's topics. `TOPIC_PARTITIONS` (default 6), `TOPIC_REPLICATION_FACTOR` (3; -1 leaves it to the
    /// broker), `RAW_RETENTION_HOURS` (168), `PROCESSED_RETENTION_HOURS` (168), `DEAD_LETTER_RETENTION_HOURS` (336).
    pub topics: Vec<TopicSpec>,
    /// `EVENTS_RETENTION_DAYS` (default 90), `LEDGER_RETENTION_DAYS` (90), `PARTITIONS_AHEAD_DAYS` (7).
    pub partitions: PartitionPolicy,
    /// `DEDUP_STORE`: where the processor keeps claims, which operators may look at, `dynamodb` (default) or `postgres`.
    pub dedup_store: StateStore,
    /// `DEDUP_TABLE`: their DynamoDB table; default `dedup`.
    pub dedup_table: String,
    /// `WEBHOOK_KEY`, `WEBHOOK_KEY_FILE` or `WEBHOOK_KEY_SECRET_ARN`: from which the secrets of webhooks are made; without it
    /// there are no webhooks.
    pub webhook_key: Option<SecretSource>,
}

impl Config {
    /// # Errors
    /// [`SettingsError`] with every setting that is missing or invalid.
    pub fn from_variables(variables: &dyn Variables) -> Result<Self, SettingsError> {
        let mut settings = Settings::new(variables);
        let kafka = KafkaConfig::from_settings(&mut settings);
        let postgres = PostgresConfig::from_settings(&mut settings);
        let access = AccessConfig::with_postgres(&mut settings, postgres.as_ref());
        let partitions = settings.or("TOPIC_PARTITIONS", 6_i32);
        let replication_factor = settings.or("TOPIC_REPLICATION_FACTOR", 3_i16);
        let raw_retention_hours = settings.or("RAW_RETENTION_HOURS", 168_u32);
        let processed_retention_hours = settings.or("PROCESSED_RETENTION_HOURS", 168_u32);
        let dead_letter_retention_hours = settings.or("DEAD_LETTER_RETENTION_HOURS", 336_u32);
        let retention_days = settings.or("EVENTS_RETENTION_DAYS", 90_u16);
        let ledger_retention_days = settings.or("LEDGER_RETENTION_DAYS", 90_u32);
        let ahead_days = settings.or("PARTITIONS_AHEAD_DAYS", 7_u16);
        let max_record_bytes = settings::shared::max_record_bytes(&mut settings);
        let dedup_store = settings::shared::dedup_store(&mut settings);
        let dedup_table = settings::shared::dedup_table(&mut settings);
        let webhook_key = settings.secret_source("WEBHOOK_KEY");
        if partitions < 1 {
            settings.problem("TOPIC_PARTITIONS must be at least 1");
        }
        if replication_factor < 1 && replication_factor != -1 {
            settings.problem("TOPIC_REPLICATION_FACTOR must be at least 1, or -1 for the broker's default");
        }
        let ledger_retention = DAY * ledger_retention_days;
        if ledger_retention < HOUR * raw_retention_hours {
            settings.problem("LEDGER_RETENTION_DAYS is shorter than RAW_RETENTION_HOURS: a redelivered record could be recorded a second time");
        }
        let spec = |name: &str, retention_hours: u32, largest: Option<usize>| TopicSpec {
            name: name.to_owned(),
            partitions,
            replication_factor,
            configs: topic_configs(replication_factor, HOUR * retention_hours, largest),
        };
        let topics = vec![
            spec(topic::RAW_EVENTS, raw_retention_hours, None),
            spec(topic::PROCESSED_EVENTS, processed_retention_hours, Some(max_record_bytes)),
            spec(topic::DEAD_LETTER_EVENTS, dead_letter_retention_hours, Some(max_record_bytes)),
        ];
        let partitions = PartitionPolicy { ahead_days, retention_days, ledger_retention };
        let parts = kafka.zip(postgres.zip(access));
        let config = parts.map(|(kafka, (postgres, access))| Config {
            kafka,
            postgres,
            access,
            topics,
            partitions,
            dedup_store,
            dedup_table,
            webhook_key,
        });
        settings.build(config)
    }
}

/// `max.message.bytes` of a topic unless it is set, in bytes.
const KAFKAS_DEFAULT: usize = 1_048_588;
/// More than what a batch has besides its records, in bytes.
const BATCH_OVERHEAD: usize = 1_024;

/// Retention; the largest record, unless the broker decides about it; with three or more replicas also that a write is only
/// acknowledged once two replicas have it.
fn topic_configs(replication_factor: i16, retention: Duration, largest: Option<usize>) -> Vec<(String, String)> {
    let mut configs = vec![("retention.ms".to_owned(), retention.as_millis().to_string())];
    if let Some(bytes) = largest {
        // Kafka's default stays the least; a batch of one record has a header besides.
        let bytes = bytes.saturating_add(BATCH_OVERHEAD).max(KAFKAS_DEFAULT);
        configs.push(("max.message.bytes".to_owned(), bytes.to_string()));
    }
    if replication_factor >= 3 {
        configs.push(("min.insync.replicas".to_owned(), "2".to_owned()));
    }
    configs
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use settings::Recording;
    use testkit::readme::documented_settings;

    use super::*;

    fn read(extra: &[(&'static str, &'static str)]) -> Result<Config, SettingsError> {
        let mut variables =
            BTreeMap::from([("KAFKA_BROKERS", "127.0.0.1:9092"), ("DATABASE_URL", "postgres://u@127.0.0.1/d")]);
        variables.extend(extra.iter().copied());
        Config::from_variables(&variables)
    }

    #[test]
    fn the_defaults_are_those_of_the_readme() {
        let minimal = testkit::readme::with_database(&[("KAFKA_BROKERS", "127.0.0.1:9092")]);
        let read = |variables: &dyn Variables| format!("{:?}", Config::from_variables(variables));
        testkit::readme::assert_defaults(include_str!("../README.md"), &minimal, read);
    }

    #[test]
    fn the_readme_names_every_setting() {
        let recording = Recording::new(BTreeMap::<&str, &str>::new());
        assert!(Config::from_variables(&recording).is_err());
        assert_eq!(documented_settings(include_str!("../README.md")), recording.names());
    }

    #[test]
    fn topics_are_replicated_and_kept_as_set() {
        let config = read(&[("RAW_RETENTION_HOURS", "2")]).unwrap();
        let raw = &config.topics[0];
        assert_eq!((raw.name.as_str(), raw.partitions, raw.replication_factor), ("raw-events", 6, 3));
        let expected = [("retention.ms", "7200000"), ("min.insync.replicas", "2")];
        assert!(raw.configs.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(expected));
        assert_eq!(config.topics.len(), topic::ALL.len());
        let largest = |config: &Config| -> Vec<Option<String>> {
            let of =
                |topic: &TopicSpec| Some(topic.configs.iter().find(|(name, _)| name == "max.message.bytes")?.1.clone());
            config.topics.iter().map(of).collect()
        };
        let both = |bytes: &str| [None, Some(bytes.to_owned()), Some(bytes.to_owned())];
        assert_eq!(largest(&config), both("1501024"));
        assert_eq!(largest(&read(&[("MAX_RECORD_BYTES", "65536")]).unwrap()), both("1048588"));
        assert_eq!(read(&[("TOPIC_REPLICATION_FACTOR", "1")]).unwrap().topics[0].configs.len(), 1);
    }

    #[test]
    fn contradictions_are_refused() {
        for (name, value) in
            [("TOPIC_PARTITIONS", "0"), ("TOPIC_REPLICATION_FACTOR", "0"), ("LEDGER_RETENTION_DAYS", "6")]
        {
            let error = read(&[(name, value)]).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
