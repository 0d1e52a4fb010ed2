//! Settings of the function.

use std::time::Duration;

use access::AccessConfig;
use api_keys::{Counted, KeyCachePolicy, RatePolicy};
use event::limits::Limits;
use kafka::KafkaConfig;
use settings::{Settings, SettingsError, Variables};

use crate::address::TrustedNetwork;
use crate::body::BodyLimits;
use crate::cors::Origins;

/// Largest `MAX_EVENT_BYTES`: with envelope, key and headers a record must stay below Kafka's million bytes.
const LARGEST_EVENT: usize = 900_000;
/// Largest `MAX_JSON_DEPTH`: the parser's limit is 127.
const DEEPEST: usize = 120;

#[derive(Clone, Debug)]
pub struct Config {
    /// `KAFKA_BROKERS` or `MSK_CLUSTER_ARN`, and `KAFKA_SECURITY`.
    pub kafka: KafkaConfig,
    /// `KAFKA_TIMEOUT_MS`: longest wait for Kafka's acknowledgement, in milliseconds; 5000. It must be below the
    /// function's own timeout, so that the client gets an answer.
    pub kafka_timeout: Duration,
    /// `ACCESS_STORE`: where keys and their limits are kept, `dynamodb` or `postgres`; `dynamodb`. `ACCESS_TABLE`: its
    /// DynamoDB table; `access`.
    pub access: AccessConfig,
    /// `API_KEY_CACHE_SEC`: how long an answer about a key is cached, in seconds; 10. `API_KEY_STALE_SEC`: the same
    /// while the store is down; 300. `ACCESS_TIMEOUT_MS`: longest wait for the store, in milliseconds; 1000.
    pub key_cache: KeyCachePolicy,
    /// `API_KEY_RATE_LIMIT_PER_MIN`: events per minute of a key without a limit of its own; 1000.
    /// `RATE_LIMIT_BURST_PERCENT`: how many events may come at once, as a part of the limit; 10.
    /// `RATE_LIMIT_ON_ERROR`: `allow` or `deny` while the store is down; `allow`.
    pub rate: RatePolicy,
    /// `CORS_ORIGINS`: the origins of pages that may send, with commas, or `*`; none.
    pub cors: Origins,
    /// `TRUSTED_PROXIES`: comma-separated addresses and networks whose `X-Forwarded-For` is trusted; none.
    pub trusted_proxies: Vec<TrustedNetwork>,
    /// `MAX_BODY_BYTES`: 6291456. `MAX_DECODED_BYTES`: after decompression; 16777216. `MAX_DECODE_RATIO`: decoded
    /// bytes per byte received; 100. `BODY_TIMEOUT_MS`: longest time for the body to arrive; 10000.
    pub body: BodyLimits,
    /// `BREAKER_OPEN_SEC`: how long calls to Kafka or the store are refused after repeated failures, in seconds; 60.
    pub breaker_open: Duration,
    /// `MAX_BATCH_EVENTS`: 1000. `MAX_EVENT_BYTES`: 262144. `MAX_JSON_DEPTH`: 32.
    pub limits: Limits,
}

impl Config {
    /// # Errors
    /// [`SettingsError`] with every variable that is missing or malformed.
    pub fn from_variables(variables: &dyn Variables) -> Result<Self, SettingsError> {
        let mut settings = Settings::new(variables);
        let kafka = KafkaConfig::from_settings(&mut settings);
        let kafka_timeout = millis(&mut settings, "KAFKA_TIMEOUT_MS", 5_000);
        let access = AccessConfig::from_settings(&mut settings);
        let key_cache = KeyCachePolicy::from_settings(&mut settings);
        let limit = settings.or("API_KEY_RATE_LIMIT_PER_MIN", 1_000);
        let rate = RatePolicy::from_settings(&mut settings, Counted::Events, limit, key_cache.timeout);
        let cors = Origins::new(&settings.list("CORS_ORIGINS"));
        let trusted_proxies = settings.list("TRUSTED_PROXIES");
        let body = BodyLimits {
            received: settings.or("MAX_BODY_BYTES", pipeline::quota::MAX_PAYLOAD_BYTES),
            decoded: settings.or("MAX_DECODED_BYTES", 16 * 1024 * 1024),
            ratio: settings.or("MAX_DECODE_RATIO", 100),
            timeout: millis(&mut settings, "BODY_TIMEOUT_MS", 10_000),
        };
        let limits = Limits {
            items: settings.or("MAX_BATCH_EVENTS", 1_000),
            item_bytes: at_most(&mut settings, "MAX_EVENT_BYTES", 256 * 1024, LARGEST_EVENT),
            depth: at_most(&mut settings, "MAX_JSON_DEPTH", 32, DEEPEST),
        };
        let breaker_open = settings::shared::breaker_open(&mut settings);
        settings.build(kafka.zip(access).map(|(kafka, access)| Config {
            kafka,
            kafka_timeout,
            access,
            key_cache,
            rate,
            cors,
            trusted_proxies,
            body,
            breaker_open,
            limits,
        }))
    }
}

fn millis(settings: &mut Settings<'_>, name: &str, default: u64) -> Duration {
    Duration::from_millis(settings.or(name, default))
}

fn at_most(settings: &mut Settings<'_>, name: &str, default: usize, most: usize) -> usize {
    let value = settings.or(name, default);
    if value > most {
        settings.problem(format!("{name}={value}: it must be at most {most}"));
    }
    value
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use settings::Recording;

    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_readme() {
        let minimal = [BTreeMap::from([("KAFKA_BROKERS", "127.0.0.1:9092")])];
        let read = |variables: &dyn Variables| format!("{:?}", Config::from_variables(variables));
        testkit::readme::assert_defaults(include_str!("../README.md"), &minimal, read);
    }

    #[test]
    fn the_readme_lists_every_setting() {
        let variables = Recording::new(BTreeMap::from([("KAFKA_BROKERS", "localhost:9092")]));
        Config::from_variables(&variables).unwrap();
        assert_eq!(testkit::readme::documented_settings(include_str!("../README.md")), variables.names());
    }

    #[test]
    fn every_bad_setting_is_named_at_once() {
        let variables = BTreeMap::from([
            ("TRUSTED_PROXIES", "10.0.0.0/8, proxy"),
            ("RATE_LIMIT_ON_ERROR", "maybe"),
            ("CORS_ORIGINS", "https://shop.example, shop.example"),
            ("MAX_EVENT_BYTES", "1000000"),
            ("MAX_JSON_DEPTH", "500"),
        ]);
        let problems = Config::from_variables(&variables).unwrap_err().problems;
        for name in [
            "KAFKA_BROKERS",
            "CORS_ORIGINS",
            "TRUSTED_PROXIES",
            "RATE_LIMIT_ON_ERROR",
            "MAX_EVENT_BYTES",
            "MAX_JSON_DEPTH",
        ] {
            assert!(problems.iter().any(|problem| problem.contains(name)), "{name}: {problems:?}");
        }
    }
}
