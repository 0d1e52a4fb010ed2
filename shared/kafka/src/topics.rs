//! Topics: creating them, and reading their offsets.

use std::time::Duration;

use krafka::KrafkaError;
use krafka::admin::{
    AdminClient, CreatePartitionsOptions, CreateTopicsOptions, DeleteTopicsOptions, DescribeTopicsOptions,
    ListConsumerGroupOffsetsOptions, ListOffsetsOptions, NewTopic, OffsetSpec, TopicDescription, TopicPartition,
};
use krafka::error::ErrorCode;
use pipeline::Position;
use tokio::time::Instant;

use crate::KafkaError;

/// How long a new topic may take until every partition has a leader.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
const READY_POLL: Duration = Duration::from_millis(20);

/// The wanted state of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    pub name: String,
    pub partitions: i32,
    /// `-1` means the broker's default.
    pub replication_factor: i16,
    /// Settings of the topic (`retention.ms`, …), applied when it is created.
    pub configs: Vec<(String, String)>,
}

impl TopicSpec {
    /// With the broker's replication factor and settings.
    pub fn new(name: impl Into<String>, partitions: i32) -> Self {
        TopicSpec { name: name.into(), partitions, replication_factor: -1, configs: Vec::new() }
    }
}

/// What [`TopicAdmin::ensure`] did to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicChange {
    Created,
    PartitionsAdded { from: i32 },
    Unchanged,
}

/// The readable offsets of a partition, from `earliest` up to but not including `latest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionWatermarks {
    pub partition: i32,
    pub earliest: i64,
    /// The offset that the next record will get.
    pub latest: i64,
}

/// Topic administration.
pub struct TopicAdmin {
    admin: AdminClient,
}

impl TopicAdmin {
    pub(crate) fn new(admin: AdminClient) -> Self {
        TopicAdmin { admin: admin.metrics_push(false) }
    }

    /// Creates missing topics and adds partitions to topics that have too few. Answers in the order given. Repeating it
    /// changes nothing, even if several callers run it at once. Never removes partitions and never changes the settings
    /// of an existing topic. When it returns, every partition has a leader.
    ///
    /// # Errors
    /// At the first topic that cannot be created or extended; the others may or may not have been.
    pub async fn ensure(&self, specs: &[TopicSpec]) -> Result<Vec<TopicChange>, KafkaError> {
        let mut changes = Vec::with_capacity(specs.len());
        for spec in specs {
            changes.push(self.ensure_one(spec).await?);
        }
        for spec in specs {
            self.wait_until_led(spec).await?;
        }
        Ok(changes)
    }

    async fn ensure_one(&self, spec: &TopicSpec) -> Result<TopicChange, KafkaError> {
        if self.create(spec).await? {
            return Ok(TopicChange::Created);
        }
        let deadline = Instant::now() + READY_TIMEOUT;
        let from = loop {
            match self.describe(&spec.name).await? {
                Some(topic) => break partition_count(&topic),
                // Another caller has just created it, and this broker does not know it yet.
                None if Instant::now() < deadline => tokio::time::sleep(READY_POLL).await,
                None => return Err(KafkaError::NotReady { topic: spec.name.clone() }),
            }
        };
        if from >= spec.partitions {
            return Ok(TopicChange::Unchanged);
        }
        match one(self
            .admin
            .create_partitions([(&spec.name, spec.partitions)], CreatePartitionsOptions::default())
            .await)
        {
            Ok(()) => Ok(TopicChange::PartitionsAdded { from }),
            // Another caller was faster.
            Err(KrafkaError::Broker { code: ErrorCode::InvalidPartitions, .. }) => Ok(TopicChange::Unchanged),
            Err(source) => Err(failed("adding partitions to topic", &spec.name, source)),
        }
    }

    /// Returns whether this call created it.
    async fn create(&self, spec: &TopicSpec) -> Result<bool, KafkaError> {
        let creating = |source| failed("creating topic", &spec.name, source);
        let mut topic = NewTopic::new(&spec.name, spec.partitions, spec.replication_factor).map_err(creating)?;
        for (name, value) in &spec.configs {
            topic = topic.with_config(name, value);
        }
        match one(self.admin.create_topics([topic], CreateTopicsOptions::default()).await) {
            Ok(()) => Ok(true),
            Err(KrafkaError::Broker { code: ErrorCode::TopicAlreadyExists, .. }) => Ok(false),
            Err(source) => Err(creating(source)),
        }
    }

    /// Deletes a topic with all its records, and returns when the brokers have forgotten it. Only the fault suite and tests
    /// do that.
    ///
    /// # Errors
    /// If the topic cannot be deleted, also if there is none, or if it is still there after a minute.
    pub async fn delete(&self, name: &str) -> Result<(), KafkaError> {
        let deleted = one(self.admin.delete_topics([name], DeleteTopicsOptions::default()).await);
        deleted.map_err(|source| failed("deleting topic", name, source))?;
        let deadline = Instant::now() + READY_TIMEOUT;
        while self.describe(name).await?.is_some() {
            if Instant::now() >= deadline {
                return Err(KafkaError::NotReady { topic: name.to_owned() });
            }
            tokio::time::sleep(READY_POLL).await;
        }
        Ok(())
    }

    async fn wait_until_led(&self, spec: &TopicSpec) -> Result<(), KafkaError> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            let topic = self.describe(&spec.name).await?;
            let ready = topic.is_some_and(|topic| {
                partition_count(&topic) >= spec.partitions && topic.partitions.iter().all(|of| of.leader.is_some())
            });
            if ready {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(KafkaError::NotReady { topic: spec.name.clone() });
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }

    /// `None` if there is no such topic.
    async fn describe(&self, name: &str) -> Result<Option<TopicDescription>, KafkaError> {
        match one(self.admin.describe_topics([name], DescribeTopicsOptions::default()).await) {
            Ok(topic) => Ok(Some(topic)),
            Err(KrafkaError::Broker { code: ErrorCode::UnknownTopicOrPartition, .. }) => Ok(None),
            Err(source) => Err(failed("describing topic", name, source)),
        }
    }

    /// Every partition's readable offsets, ordered by partition.
    ///
    /// # Errors
    /// When the topic does not exist, or a partition has no leader.
    pub async fn watermarks(&self, topic: &str) -> Result<Vec<PartitionWatermarks>, KafkaError> {
        let Some(description) = self.describe(topic).await? else {
            return Err(failed("measuring topic", topic, KrafkaError::unknown_topic(topic)));
        };
        let earliest = self.offsets(topic, &description, OffsetSpec::Earliest).await?;
        let latest = self.offsets(topic, &description, OffsetSpec::Latest).await?;
        let pairs = description.partitions.iter().zip(earliest).zip(latest);
        Ok(pairs
            .map(|((of, earliest), latest)| PartitionWatermarks { partition: of.partition, earliest, latest })
            .collect())
    }

    async fn offsets(&self, topic: &str, of: &TopicDescription, spec: OffsetSpec) -> Result<Vec<i64>, KafkaError> {
        let measuring = |source| failed("measuring topic", topic, source);
        let wanted = of.partitions.iter().map(|of| (TopicPartition::new(topic, of.partition), spec));
        let mut found = self.admin.list_offsets(wanted, ListOffsetsOptions::default()).await.map_err(measuring)?;
        let in_order = of.partitions.iter().map(|of| {
            let answer = found.remove(&TopicPartition::new(topic, of.partition));
            let answer = answer.unwrap_or_else(|| Err(KrafkaError::illegal_state("a partition is missing")));
            answer.map(|listed| listed.offset).map_err(measuring)
        });
        in_order.collect()
    }

    /// The committed offsets of a group: for each partition, the next offset to read, in order.
    ///
    /// # Errors
    /// If the group's coordinator does not answer. A group that never existed has no offsets.
    pub async fn committed(&self, group: &str) -> Result<Vec<Position>, KafkaError> {
        let reading = |source| failed("reading the offsets of group", group, source);
        let options = ListConsumerGroupOffsetsOptions::default();
        let found = self.admin.list_consumer_group_offsets(group, options).await.map_err(reading)?;
        let mut committed = Vec::with_capacity(found.len());
        for (of, answer) in found {
            if let Some(offset) = answer.map_err(reading)?.offset {
                committed.push(Position::new(of.topic, of.partition, offset));
            }
        }
        committed.sort_unstable();
        Ok(committed)
    }
}

fn partition_count(topic: &TopicDescription) -> i32 {
    i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX)
}

fn failed(doing: &'static str, subject: &str, source: KrafkaError) -> KafkaError {
    KafkaError::Admin { doing, subject: subject.to_owned(), source }
}

/// The answer to a request about one subject.
fn one<T>(
    answers: Result<std::collections::HashMap<String, Result<T, KrafkaError>>, KrafkaError>,
) -> Result<T, KrafkaError> {
    let unanswered = || KrafkaError::illegal_state("the request was not answered");
    answers?.into_values().next().unwrap_or_else(|| Err(unanswered()))
}
