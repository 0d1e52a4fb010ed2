//! Settings that several functions read. Each name, default and range is defined here only.
//!
//! A setting that belongs to one adapter or to one function is read there.

use std::num::NonZeroU64;
use std::time::Duration;

use event::TenantId;
use pipeline::breaker::OPEN_FOR;

use strum::{EnumString, VariantNames};

use crate::Settings;

/// `DEDUP_TABLE`: the table of claims; `dedup` unless set.
pub fn dedup_table(settings: &mut Settings<'_>) -> String {
    settings.or("DEDUP_TABLE", "dedup".to_owned())
}

/// `DEDUP_TTL_SEC`: how long an event id is remembered, in seconds, at least 1; a day unless set.
pub fn dedup_ttl(settings: &mut Settings<'_>) -> Duration {
    const DAY: u64 = 86_400;
    let seconds = settings.or("DEDUP_TTL_SEC", DAY);
    if seconds == 0 {
        settings.problem("DEDUP_TTL_SEC=0: no duplicates would be found; set it to 1 or more");
    }
    Duration::from_secs(seconds)
}

/// Where state is kept that either of the two can keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum StateStore {
    #[default]
    Dynamodb,
    /// Saves the cost of DynamoDB's writes and puts their load on Postgres.
    Postgres,
}

/// `DEDUP_STORE`: where claims are kept; `dynamodb` unless set.
pub fn dedup_store(settings: &mut Settings<'_>) -> StateStore {
    settings.choice("DEDUP_STORE", StateStore::default())
}

/// `ACCESS_STORE`: where API keys, limits, blocks, redrive marks and audit trails are kept; `dynamodb` unless set.
pub fn access_store(settings: &mut Settings<'_>) -> StateStore {
    settings.choice("ACCESS_STORE", StateStore::default())
}

/// `ACCESS_TABLE`: the table of API keys, blocks, counters and redrive marks; `access` unless set.
pub fn access_table(settings: &mut Settings<'_>) -> String {
    settings.or("ACCESS_TABLE", "access".to_owned())
}

/// `ARCHIVE_BUCKET`: the bucket of the archive. Required: `None` if it is not set, and a problem is recorded then.
pub fn archive_bucket(settings: &mut Settings<'_>) -> Option<String> {
    settings.required("ARCHIVE_BUCKET")
}

/// `BREAKER_OPEN_SEC`: how long a breaker refuses calls before it probes, in seconds, at least 1; 60 unless set.
pub fn breaker_open(settings: &mut Settings<'_>) -> Duration {
    settings.optional("BREAKER_OPEN_SEC").map_or(OPEN_FOR, |seconds: NonZeroU64| Duration::from_secs(seconds.get()))
}

/// `FOREIGN_TENANT`: the tenant of events that other producers than ingest write to `raw-events`; `kafka` unless set.
/// `None` if it is not a valid tenant name; a problem is recorded then.
pub fn foreign_tenant(settings: &mut Settings<'_>) -> Option<TenantId> {
    let name = settings.or("FOREIGN_TENANT", "kafka".to_owned());
    match TenantId::new(&name) {
        Ok(tenant) => Some(tenant),
        Err(error) => {
            settings.problem(format!("FOREIGN_TENANT={name:?}: {error}"));
            None
        }
    }
}

/// `SCORER_FUNCTION`: name, alias or ARN of the scorer; `scorer` unless set.
pub fn scorer_function(settings: &mut Settings<'_>) -> String {
    settings.or("SCORER_FUNCTION", "scorer".to_owned())
}

/// `SCORER_TIMEOUT_MS`: longest wait for the scores of a batch, in milliseconds, for each attempt; 2000 unless set.
pub fn scorer_timeout(settings: &mut Settings<'_>) -> Duration {
    Duration::from_millis(settings.or("SCORER_TIMEOUT_MS", 2_000))
}

/// `FRAUD_THRESHOLD`: the score from which an event is `fraud`, 0 to 100; 80 unless set.
pub fn fraud_threshold(settings: &mut Settings<'_>) -> u8 {
    let threshold = settings.or("FRAUD_THRESHOLD", 80);
    if threshold > 100 {
        settings.problem(format!("FRAUD_THRESHOLD={threshold}: scores are from 0 to 100"));
    }
    threshold
}

/// `PUBLISH_TIMEOUT_MS`: longest wait for Kafka's acknowledgements, in milliseconds, for each attempt; 10000 unless
/// set.
pub fn publish_timeout(settings: &mut Settings<'_>) -> Duration {
    Duration::from_millis(settings.or("PUBLISH_TIMEOUT_MS", 10_000))
}

/// `MAX_RECORD_BYTES`: largest record that is written to `processed-events` and `dead-letter-events`, in bytes, at least
/// 65,536; 1500000 unless set. An outcome is somewhat larger than its event, so this is more than the 1 MB that a topic
/// takes by default.
pub fn max_record_bytes(settings: &mut Settings<'_>) -> usize {
    let bytes = settings.or("MAX_RECORD_BYTES", 1_500_000);
    if bytes < 65_536 {
        settings.problem(format!("MAX_RECORD_BYTES={bytes}: it must be at least 65536"));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The value that `read` returns for one variable; `None` if it is refused.
    fn read<T>(name: &'static str, text: &'static str, read: fn(&mut Settings<'_>) -> T) -> Option<T> {
        let variables = BTreeMap::from([(name, text)]);
        let mut settings = Settings::new(&variables);
        let value = read(&mut settings);
        settings.build(Some(value)).ok()
    }

    #[test]
    fn a_breaker_stays_open_for_some_time() {
        assert_eq!(read("BREAKER_OPEN_SEC", "", breaker_open), Some(OPEN_FOR));
        assert_eq!(read("BREAKER_OPEN_SEC", "5", breaker_open), Some(Duration::from_secs(5)));
        assert_eq!(read("BREAKER_OPEN_SEC", "0", breaker_open), None);
    }

    #[test]
    fn an_empty_window_is_a_problem() {
        assert_eq!(read("DEDUP_TTL_SEC", "0", dedup_ttl), None);
        assert_eq!(read("DEDUP_TTL_SEC", "1", dedup_ttl), Some(Duration::from_secs(1)));
        assert_eq!(read("DEDUP_TTL_SEC", "", dedup_ttl), Some(Duration::from_secs(86_400)));
    }

    #[test]
    fn records_have_a_limit_that_small_ones_keep() {
        assert_eq!(read("MAX_RECORD_BYTES", "", max_record_bytes), Some(1_500_000));
        assert_eq!(read("MAX_RECORD_BYTES", "65536", max_record_bytes), Some(65_536));
        assert_eq!(read("MAX_RECORD_BYTES", "65535", max_record_bytes), None);
    }

    #[test]
    fn a_score_is_at_most_100_and_a_tenant_a_name() {
        assert_eq!(read("FRAUD_THRESHOLD", "100", fraud_threshold), Some(100));
        assert_eq!(read("FRAUD_THRESHOLD", "101", fraud_threshold), None);
        assert_eq!(read("FOREIGN_TENANT", "No Tenant", foreign_tenant), None);
    }
}
