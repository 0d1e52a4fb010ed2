//! How far a consumer group is behind, asked of Kafka and not of the pollers: a poller that hangs does not know.

use std::sync::Arc;
use std::time::Duration;

use kafka::{KafkaClient, KafkaError, StartingPosition};
use pipeline::chain;
use telemetry::list::{QUEUE_LAG, QUEUE_LAG_KNOWN};
use tokio::sync::watch;

use crate::config::MappingConfig;

/// Pause between two looks. Prometheus usually asks every 15 to 60 s.
const INTERVAL: Duration = Duration::from_secs(5);
/// Longest time for a look.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The records of a partition that are written and not committed.
pub(crate) struct PartitionLag<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub records: u64,
}

/// The lag of every partition, whoever consumes it. A partition without a commit counts from where the group would start:
/// its oldest record, unless the mapping starts at the end.
pub(crate) async fn of_group<'a>(
    kafka: &KafkaClient,
    config: &'a MappingConfig,
) -> Result<Vec<PartitionLag<'a>>, KafkaError> {
    let topics = kafka.topics();
    let mut lags = Vec::new();
    for topic in &config.topics {
        for place in topics.places_of(&config.group, topic).await? {
            let start = match config.starting_position {
                StartingPosition::TrimHorizon | StartingPosition::AtTimestamp(_) => place.marks.earliest,
                StartingPosition::Latest => place.marks.latest,
            };
            lags.push(PartitionLag { topic, partition: place.marks.partition, records: place.behind(start) });
        }
    }
    Ok(lags)
}

/// Keeps the metrics of a mapping's lag up to date until it stops.
pub(crate) async fn watch(kafka: KafkaClient, config: Arc<MappingConfig>, mut stop: watch::Receiver<bool>) {
    let mut was_known = true;
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let lags = match tokio::time::timeout(TIMEOUT, of_group(&kafka, &config)).await {
            Ok(Ok(lags)) => Ok(lags),
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => Err("no answer in time".to_owned()),
        };
        let group = config.group.as_str();
        QUEUE_LAG_KNOWN.set(if lags.is_ok() { 1.0 } else { 0.0 }, [group]);
        match &lags {
            Ok(lags) => {
                for PartitionLag { topic, partition, records } in lags {
                    QUEUE_LAG.set(*records as f64, [group, topic, &partition.to_string()]);
                }
            }
            // Once, and not at every look of an outage.
            Err(cause) if was_known => tracing::warn!(group, cause, "the lag of a consumer group is not known"),
            Err(_) => {}
        }
        was_known = lags.is_ok();
    }
}
