//! Reads topics with the Kafka protocol.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use krafka::Kafka;
use krafka::admin::{DescribeTopicsOptions, ListOffsetsOptions, OffsetSpec, TopicPartition};
use krafka::consumer::{AutoOffsetReset, Consumer, IsolationLevel};
use tokio::time::Instant;

use crate::evidence::message::{Message, TopicRecords};

/// Maximum wait for a topic's last record.
const PATIENCE: Duration = Duration::from_secs(300);

/// All records of a topic up to its current end.
///
/// # Errors
/// If they cannot be read.
pub async fn read(kafka: &Kafka, name: &str) -> anyhow::Result<TopicRecords> {
    let ends = ends(kafka, name).await?;
    let partitions: Vec<i32> = ends.keys().copied().collect();
    // What was aborted was never sent.
    let consumer = kafka
        .consumer_without_group()
        .auto_offset_reset(AutoOffsetReset::Earliest)
        .isolation_level(IsolationLevel::ReadCommitted)
        .build()
        .await?;
    consumer.assign(name, partitions.clone()).await?;
    for partition in partitions {
        consumer.seek(name, partition, 0).await?;
    }
    let (mut records, deadline) = (TopicRecords::new(), Instant::now() + PATIENCE);
    while !is_read(&consumer, name, &ends).await {
        ensure!(Instant::now() < deadline, "only {} records of {name} could be read, up to {ends:?}", records.len());
        for record in consumer.poll(Duration::from_millis(500)).await? {
            let headers = record.headers.into_iter().map(|(name, value)| (name, value.map(|value| value.to_vec())));
            let message = Message {
                key: record.key.map(|key| key.to_vec()),
                value: record.value.map(|value| value.to_vec()),
                headers: headers.collect(),
                timestamp: record.timestamp,
            };
            records.insert((record.partition, record.offset), message);
        }
    }
    consumer.close().await?;
    Ok(records)
}

/// Whether the consumer has passed every offset. Not each one holds a record: a transaction's marker does not.
async fn is_read(consumer: &Consumer, name: &str, ends: &BTreeMap<i32, i64>) -> bool {
    for (partition, end) in ends.iter().filter(|(_, end)| **end > 0) {
        if consumer.position(name, *partition).await < Some(*end) {
            return false;
        }
    }
    true
}

/// How many records were written to a topic.
///
/// # Errors
/// If Kafka cannot be read.
pub async fn count(kafka: &Kafka, name: &str) -> anyhow::Result<usize> {
    Ok(ends(kafka, name).await?.values().map(|end| usize::try_from(*end).unwrap_or_default()).sum())
}

/// The end offset of each partition.
async fn ends(kafka: &Kafka, name: &str) -> anyhow::Result<BTreeMap<i32, i64>> {
    let admin = kafka.admin();
    let mut described = admin.describe_topics([name], DescribeTopicsOptions::default()).await?;
    let described = described.remove(name).with_context(|| format!("no topic {name}"))??;
    let partitions: Vec<i32> = described.partitions.iter().map(|of| of.partition).collect();
    let wanted = partitions.iter().map(|of| (TopicPartition::new(name, *of), OffsetSpec::Latest));
    let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
    for (of, end) in admin.list_offsets(wanted, ListOffsetsOptions::default()).await? {
        ends.insert(of.partition, end?.offset);
    }
    Ok(ends)
}
