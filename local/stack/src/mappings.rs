//! The event source mappings of the pipeline: which function reads which topic, and how.

use std::num::NonZeroUsize;
use std::time::Duration;

use esm::{MappingConfig, OnFailure, PollerMode};
use pipeline::group;
use pipeline::topic::{PROCESSED_EVENTS, RAW_EVENTS};

use crate::options::Options;

/// Batch size of the processor: large, so that records share round trips, but small enough to keep latency low.
const PROCESSOR_BATCH: usize = 1000;
/// Batch size of the archiver: large, because large objects are cheaper to store and read.
const ARCHIVER_BATCH: usize = 5000;

/// The most that AWS allows when there is an on-failure destination: endless retries would be ten.
const MAX_RETRIES: u32 = 10_000;

/// The topics that are archived, each with the consumer group that archives it.
pub const ARCHIVERS: [(&str, &str); 2] =
    [(RAW_EVENTS, group::ARCHIVER_RAW), (PROCESSED_EVENTS, group::ARCHIVER_OUTCOMES)];

/// Batch size of the notifier: each message is a request of its own.
const NOTIFIER_BATCH: usize = 100;

/// Every consumer group that a pipeline always has, with the topic that it reads.
pub fn groups() -> impl Iterator<Item = (&'static str, &'static str)> {
    std::iter::once((RAW_EVENTS, group::PROCESSOR)).chain(ARCHIVERS)
}

/// The event source mappings that Terraform creates on AWS.
pub fn mapping_configs(options: &Options) -> Vec<MappingConfig> {
    let mapping = |function, topic, of_group, batch_size, window_ms, concurrency| {
        let mut config = MappingConfig::new(function, topic, of_group);
        config.batch_size = batch_size;
        config.window = Duration::from_millis(window_ms);
        config.pollers = options.pollers;
        config.concurrency = Some(concurrency);
        config.mode = PollerMode::Provisioned;
        config.partial_answers = true;
        // An outage of a day must not give a batch up; what fits in no event goes to the bucket, where the redriver finds it.
        config.retries = Some(MAX_RETRIES);
        config.on_failure = Some(OnFailure::Bucket(options.bucket.clone()));
        config
    };
    // One at a time: what arrives in the meantime makes the next object larger.
    let archivers =
        ARCHIVERS.map(|(topic, group)| mapping("archiver", topic, group, ARCHIVER_BATCH, 500, NonZeroUsize::MIN));
    let processor = mapping("processor", RAW_EVENTS, group::PROCESSOR, PROCESSOR_BATCH, 0, options.concurrency);
    let notifier = options.webhooks.then(|| {
        let mapping = mapping("notifier", PROCESSED_EVENTS, group::NOTIFIER, NOTIFIER_BATCH, 0, NonZeroUsize::MIN);
        // It keeps what it could not send; only a database that is down makes it fail, and then all records of a batch.
        MappingConfig { partial_answers: false, ..mapping }
    });
    std::iter::once(processor).chain(archivers).chain(notifier).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;
    use crate::functions::instances;

    #[test]
    fn the_processor_gets_several_calls_an_archiver_one_and_the_host_has_room_for_all() {
        for concurrency in ["1", "2", "9"] {
            let variables = BTreeMap::from([("CONCURRENCY", concurrency)]);
            let options = Options::for_one_run(&variables, PathBuf::new()).unwrap();
            let mut calls = BTreeMap::<String, usize>::new();
            for config in mapping_configs(&options) {
                *calls.entry(config.function).or_default() += config.concurrency.unwrap().get();
            }
            let expected = [("archiver".to_owned(), 2), ("processor".to_owned(), concurrency.parse().unwrap())];
            assert_eq!(calls, BTreeMap::from(expected));
            assert!(calls.values().all(|calls| *calls <= instances(&options)));
        }
    }

    #[test]
    fn the_mappings_of_the_containers_are_the_same() {
        let options = Options { webhooks: true, ..Options::for_one_run(&BTreeMap::new(), PathBuf::new()).unwrap() };
        for mut ours in mapping_configs(&options) {
            // The notifier has a second container, for operators and its schedule.
            let container = if ours.group == group::NOTIFIER { "notifier-outcomes" } else { &ours.group }.to_owned();
            let file = format!("{}/../compose/mappings/{container}.json", env!("CARGO_MANIFEST_DIR"));
            let theirs = MappingConfig::from_json(&std::fs::read_to_string(file).unwrap(), "").unwrap();
            // Each has a container of its own, and how many calls it takes is said to `esm`.
            ours.function = container;
            ours.concurrency = None;
            ours.bootstrap_servers = "kafka:19092".to_owned();
            assert_eq!(theirs, ours);
        }
    }
}
