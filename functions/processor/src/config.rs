//! The processor's settings.

use std::num::NonZeroU32;
use std::time::Duration;

use access::AccessConfig;
use event::TenantId;
use kafka::KafkaConfig;
use pipeline::decisions::limits::LimitPolicy;
use postgres::PostgresConfig;
use settings::shared::StateStore;
use settings::{Settings, SettingsError, Variables};
use strum::{EnumString, VariantNames};

/// What happens to a batch in which half or more of the events have a type or version that this build lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum UnknownTypes {
    /// It fails and is sent again, until a build with these types is deployed.
    #[default]
    Wait,
    /// Each of these records becomes a dead letter: the type was removed on purpose.
    DeadLetter,
}

/// What the decisions depend on; the rest of the configuration is about adapters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `DEDUP_TTL_SEC`: how long an event id is remembered, in seconds; default 86400.
    pub dedup_window: Duration,
    /// `IP_RATE_LIMIT_PER_MIN`: new events per address and minute; default 100, 0 means no limit. `IP_BLOCK_SEC`: how
    /// long an address over the limit is blocked, in seconds; default 900.
    pub limits: LimitPolicy,
    /// `BLOCK_LIST_CACHE_SEC`: how old the cached block list may be, in seconds; default 2.
    pub block_list_age: Duration,
    /// `FRAUD_THRESHOLD`: the score from which an event is `fraud`, 0 to 100; default 80.
    pub fraud_threshold: u8,
    /// `SCORER_TIMEOUT_MS`: longest wait for the scores of a batch, in milliseconds, for each attempt; default 2000.
    pub scorer_timeout: Duration,
    /// `PUBLISH_TIMEOUT_MS`: longest wait for Kafka's acknowledgements, in milliseconds, for each attempt; default
    /// 10000.
    pub publish_timeout: Duration,
    /// `MAX_RECORD_BYTES`: largest record that is published, in bytes; default 1500000.
    pub max_record_bytes: usize,
    /// `UNKNOWN_TYPES`: `wait` (default) or `dead-letter`.
    pub unknown_types: UnknownTypes,
    /// `FOREIGN_TENANT`: the tenant of events that producers other than ingest write to `raw-events`; default `kafka`.
    pub foreign_tenant: TenantId,
    /// `DEDUP_STORE`: `dynamodb` (default) or `postgres`.
    pub dedup_store: StateStore,
    /// `ACCESS_STORE`: `dynamodb` (default) or `postgres`: the block list and the counters.
    pub access_store: StateStore,
    /// `BREAKER_OPEN_SEC`: how long a dependency that keeps failing is not called before it is probed, in seconds;
    /// default 60.
    pub breaker_open: Duration,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub policy: Policy,
    /// `KAFKA_BROKERS` or `MSK_CLUSTER_ARN`, no default; `KAFKA_SECURITY`, default `plaintext`.
    pub kafka: KafkaConfig,
    /// `DATABASE_URL`, or `DB_HOST`, `DB_PORT`, `DB_NAME`, `DB_USER`, `DB_PASSWORD`, `DB_AUTH` and `DB_SSLMODE`; in
    /// either case also `DB_CA_FILE`, `DB_POOL_SIZE` and `DB_STATEMENT_TIMEOUT_SEC`. See
    /// [`PostgresConfig::from_settings`].
    pub postgres: PostgresConfig,
    /// `DEDUP_TABLE`: default `dedup`.
    pub dedup_table: String,
    /// `ACCESS_STORE`: `dynamodb` (default) or `postgres`: the block list and the counters. `ACCESS_TABLE`: default
    /// `access`.
    pub access: AccessConfig,
    /// `ARCHIVE_BUCKET`: the bucket of records that are too large to publish. Required.
    pub archive_bucket: String,
    /// `SCORER_FUNCTION`: name, alias or ARN of the scorer; default `scorer`.
    pub scorer_function: String,
}

impl Config {
    /// # Errors
    /// Every variable that is missing or malformed.
    pub fn from_variables(variables: &dyn Variables) -> Result<Self, SettingsError> {
        let mut settings = Settings::new(variables);
        let policy = policy(&mut settings);
        let kafka = KafkaConfig::from_settings(&mut settings);
        let postgres = PostgresConfig::from_settings(&mut settings);
        let dedup_table = settings::shared::dedup_table(&mut settings);
        let access = AccessConfig::with_postgres(&mut settings, postgres.as_ref());
        let archive_bucket = settings::shared::archive_bucket(&mut settings);
        let scorer_function = settings::shared::scorer_function(&mut settings);
        let parts = policy.zip(kafka.zip(postgres)).zip(access.zip(archive_bucket));
        let config = parts.map(|((policy, (kafka, postgres)), (access, archive_bucket))| Config {
            policy,
            kafka,
            postgres,
            dedup_table,
            access,
            archive_bucket,
            scorer_function,
        });
        settings.build(config)
    }
}

fn policy(settings: &mut Settings<'_>) -> Option<Policy> {
    let dedup_window = settings::shared::dedup_ttl(settings);
    let limits = LimitPolicy {
        per_minute: NonZeroU32::new(settings.or("IP_RATE_LIMIT_PER_MIN", 100)),
        block_for: Duration::from_secs(settings.or("IP_BLOCK_SEC", 900)),
    };
    let block_list_age = Duration::from_secs(settings.or("BLOCK_LIST_CACHE_SEC", 2));
    let fraud_threshold = settings::shared::fraud_threshold(settings);
    let scorer_timeout = settings::shared::scorer_timeout(settings);
    let publish_timeout = settings::shared::publish_timeout(settings);
    let max_record_bytes = settings::shared::max_record_bytes(settings);
    let unknown_types = settings.choice("UNKNOWN_TYPES", UnknownTypes::default());
    let foreign_tenant = settings::shared::foreign_tenant(settings);
    let dedup_store = settings::shared::dedup_store(settings);
    let access_store = settings::shared::access_store(settings);
    let breaker_open = settings::shared::breaker_open(settings);
    Some(Policy {
        dedup_window,
        limits,
        block_list_age,
        fraud_threshold,
        scorer_timeout,
        publish_timeout,
        max_record_bytes,
        unknown_types,
        foreign_tenant: foreign_tenant?,
        dedup_store,
        access_store,
        breaker_open,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use settings::Recording;

    use super::*;

    fn minimal() -> BTreeMap<&'static str, &'static str> {
        BTreeMap::from([
            ("KAFKA_BROKERS", "127.0.0.1:9092"),
            ("DATABASE_URL", "postgres://forebay@127.0.0.1/forebay"),
            ("ARCHIVE_BUCKET", "forebay"),
        ])
    }

    #[test]
    fn the_defaults_are_the_safe_ones() {
        let config = Config::from_variables(&minimal()).unwrap();
        assert_eq!(config.policy.limits.per_minute, NonZeroU32::new(100));
        assert_eq!(config.policy.limits.block_for, Duration::from_secs(900));
        assert_eq!(config.policy.block_list_age, Duration::from_secs(2));
        assert_eq!(config.policy.fraud_threshold, 80);
        assert_eq!(config.policy.foreign_tenant.as_str(), "kafka");
        assert_eq!(
            (config.policy.dedup_store, config.policy.dedup_window),
            (StateStore::Dynamodb, Duration::from_secs(86_400))
        );
        assert_eq!(config.dedup_table, "dedup");
        assert_eq!(config.scorer_function, "scorer");
        assert_eq!(config.policy.breaker_open, Duration::from_secs(60));
    }

    #[test]
    fn the_defaults_are_those_of_the_readme() {
        let minimal =
            testkit::readme::with_database(&[("KAFKA_BROKERS", "127.0.0.1:9092"), ("ARCHIVE_BUCKET", "forebay")]);
        let read = |variables: &dyn Variables| format!("{:?}", Config::from_variables(variables));
        testkit::readme::assert_defaults(include_str!("../README.md"), &minimal, read);
    }

    #[test]
    fn a_limit_of_0_is_no_limit() {
        let mut variables = minimal();
        variables.insert("IP_RATE_LIMIT_PER_MIN", "0");
        assert_eq!(Config::from_variables(&variables).unwrap().policy.limits.per_minute, None);
    }

    #[test]
    fn everything_that_is_wrong_is_named() {
        let variables = BTreeMap::from([
            ("FRAUD_THRESHOLD", "101"),
            ("FOREIGN_TENANT", "No Tenant"),
            ("DEDUP_STORE", "redis"),
            ("UNKNOWN_TYPES", "drop"),
            ("BREAKER_OPEN_SEC", "0"),
        ]);
        let problems = Config::from_variables(&variables).unwrap_err().problems.join("\n");
        for name in [
            "FRAUD_THRESHOLD",
            "FOREIGN_TENANT",
            "DEDUP_STORE",
            "UNKNOWN_TYPES",
            "BREAKER_OPEN_SEC",
            "KAFKA_BROKERS",
            "DATABASE_URL",
            "ARCHIVE_BUCKET",
        ] {
            assert!(problems.contains(name), "{name} is not in: {problems}");
        }
    }

    #[test]
    fn the_readme_names_every_setting() {
        let read = Recording::new(minimal());
        Config::from_variables(&read).unwrap();
        let split = Recording::new(BTreeMap::<&str, &str>::new());
        let _ = Config::from_variables(&split);
        testkit::readme::assert_names(include_str!("../README.md"), &[read.names(), split.names()]);
    }
}
