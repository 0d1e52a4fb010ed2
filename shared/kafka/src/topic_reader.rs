//! Reading a topic up to its present end, without a consumer group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use krafka::KrafkaError;
use krafka::consumer::{AutoOffsetReset, Consumer, IsolationLevel};
use pipeline::ports::{PartitionSpan, TopicReader, TopicSource};
use pipeline::{DependencyError, Record};

use crate::client::Connected;
use crate::consumer::from_client;
use crate::{KafkaClient, KafkaError, PartitionWatermarks};

/// Largest number of records per read. It is small, so that a reader needs little memory even if records are large.
const MAX_RECORDS: i32 = 500;

/// Longest time to look up the ends of a topic and assign its partitions. The administration client alone would try for
/// a minute while the brokers are down, longer than the timeout of some functions.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Assigns partitions to itself, so it needs no permission for a group and changes no committed offsets.
pub(crate) struct BoundedReader {
    consumer: Consumer,
    connected: Arc<Connected>,
    topic: String,
    spans: BTreeMap<i32, PartitionSpan>,
}

impl BoundedReader {
    async fn open(client: &KafkaClient, topic: &str, from: &BTreeMap<i32, i64>) -> Result<Self, KafkaError> {
        let watermarks = client.topics().watermarks(topic).await?;
        let connected = client.current().await?;
        let spans: BTreeMap<i32, PartitionSpan> = watermarks
            .into_iter()
            .map(|PartitionWatermarks { partition, earliest, latest }| {
                let next = from.get(&partition).copied().unwrap_or(earliest).max(earliest);
                (partition, PartitionSpan { next, end: latest })
            })
            .collect();
        let consumer = connected
            .kafka
            .consumer_without_group()
            // If retention deletes records faster than a slow reader reads them, it continues at the oldest record
            // left.
            .auto_offset_reset(AutoOffsetReset::Earliest)
            .max_poll_records(MAX_RECORDS)
            .max_buffered_records(MAX_RECORDS)
            // As the trigger: what was aborted was never sent.
            .isolation_level(IsolationLevel::ReadCommitted)
            .metrics_push(false)
            .build()
            .await
            .map_err(|source| KafkaError::Start { doing: "starting a reader", source })?;
        let reader = BoundedReader { consumer, connected, topic: topic.to_owned(), spans };
        let partitions: Vec<i32> = reader.unfinished().map(|(partition, _)| partition).collect();
        let assigned = reader.consumer.assign(topic, partitions).await;
        assigned.map_err(|source| reader.failed("choosing partitions of", source))?;
        for (partition, span) in reader.unfinished() {
            let moved = reader.consumer.seek(topic, partition, span.next).await;
            moved.map_err(|source| reader.failed("seeking in", source))?;
        }
        Ok(reader)
    }

    fn unfinished(&self) -> impl Iterator<Item = (i32, PartitionSpan)> + '_ {
        self.spans.iter().filter(|(_, span)| !span.is_finished()).map(|(partition, span)| (*partition, *span))
    }

    async fn poll(&mut self, max_wait: Duration) -> Result<Vec<Record>, KafkaError> {
        if self.unfinished().next().is_none() {
            return Ok(Vec::new());
        }
        let polled = self.consumer.poll(max_wait).await.map_err(|source| self.failed("reading", source))?;
        let mut records = Vec::with_capacity(polled.len());
        for record in polled {
            let Some(span) = self.spans.get_mut(&record.partition) else { continue };
            if (span.next..span.end).contains(&record.offset) {
                span.next = record.offset + 1;
                records.push(from_client(record));
            }
        }
        self.pass_gaps().await;
        Ok(records)
    }

    /// Offsets without a record (transaction markers, compacted records) are skipped too, or the reader would wait for
    /// them forever. Partitions that have been read to their end are no longer fetched.
    async fn pass_gaps(&mut self) {
        for (partition, span) in &mut self.spans {
            if !span.is_finished()
                && let Some(position) = self.consumer.position(&self.topic, *partition).await
            {
                span.next = span.next.max(position).min(span.end);
            }
        }
        let finished = self.spans.iter().filter(|(_, span)| span.is_finished());
        let finished: Vec<i32> = finished.map(|(partition, _)| *partition).collect();
        self.consumer.pause(&self.topic, &finished).await;
    }

    fn failed(&self, doing: &'static str, source: KrafkaError) -> KafkaError {
        let error = KafkaError::Read { topic: self.topic.clone(), doing, source };
        self.connected.note(&error);
        error
    }
}

#[async_trait]
impl TopicReader for BoundedReader {
    async fn read(&mut self, max_wait: Duration) -> Result<Vec<Record>, DependencyError> {
        self.poll(max_wait).await.map_err(|error| error.into_dependency_error("reading a topic"))
    }

    fn spans(&self) -> &BTreeMap<i32, PartitionSpan> {
        &self.spans
    }
}

#[async_trait]
impl TopicSource for KafkaClient {
    async fn open(&self, topic: &str, from: &BTreeMap<i32, i64>) -> Result<Box<dyn TopicReader>, DependencyError> {
        let opened = tokio::time::timeout(OPEN_TIMEOUT, BoundedReader::open(self, topic, from)).await;
        let error = match opened {
            Ok(Ok(reader)) => return Ok(Box::new(reader)),
            Ok(Err(error)) => error,
            Err(_) => KafkaError::Read {
                topic: topic.to_owned(),
                doing: "opening",
                source: KrafkaError::timeout("finding the ends of a topic"),
            },
        };
        Err(error.into_dependency_error("opening a topic"))
    }
}
