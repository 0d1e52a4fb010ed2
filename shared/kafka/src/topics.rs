//! Topics: creating them, and reading their offsets.

use std::collections::BTreeMap;
use std::time::Duration;

use event::Timestamp;
use krafka::KrafkaError;
use krafka::admin::{
    AdminClient, CreatePartitionsOptions, CreateTopicsOptions, DeleteTopicsOptions, DescribeTopicsOptions,
    ListConsumerGroupOffsetsOptions, ListOffsetsOptions, NewTopic, OffsetSpec, TopicDescription, TopicPartition,
};
use krafka::error::ErrorCode;
use pipeline::Position;
use pipeline::ports::TopicId;
use tokio::time::Instant;

use crate::{KafkaClient, KafkaError};

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

/// How far a consumer group is in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupPlace {
    pub marks: PartitionWatermarks,
    /// The next offset to read; `None` if the group has never committed one here.
    pub committed: Option<i64>,
}

impl GroupPlace {
    /// The number of offsets that are written and not committed. `start`: where the group begins without a commit.
    pub fn behind(&self, start: i64) -> u64 {
        let PartitionWatermarks { earliest, latest, .. } = self.marks;
        u64::try_from(latest - self.committed.unwrap_or(start).max(earliest)).unwrap_or(0)
    }
}

/// Topic administration.
pub struct TopicAdmin {
    client: KafkaClient,
}

impl TopicAdmin {
    pub(crate) fn new(client: KafkaClient) -> Self {
        TopicAdmin { client }
    }

    /// Makes requests with the cluster's current login.
    async fn request<T>(
        &self,
        doing: &'static str,
        subject: &str,
        work: impl AsyncFnOnce(AdminClient) -> Result<T, KrafkaError>,
    ) -> Result<T, KafkaError> {
        let connected = self.client.current().await?;
        let answer = work(connected.kafka.admin().metrics_push(false)).await;
        answer.map_err(|source| {
            let error = failed(doing, subject, source);
            connected.note(&error);
            error
        })
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
        self.request("adding partitions to topic", &spec.name, async |admin| {
            let wanted = [(&spec.name, spec.partitions)];
            match one(admin.create_partitions(wanted, CreatePartitionsOptions::default()).await) {
                Ok(()) => Ok(TopicChange::PartitionsAdded { from }),
                // Another caller was faster.
                Err(KrafkaError::Broker { code: ErrorCode::InvalidPartitions, .. }) => Ok(TopicChange::Unchanged),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Returns whether this call created it.
    async fn create(&self, spec: &TopicSpec) -> Result<bool, KafkaError> {
        self.request("creating topic", &spec.name, async |admin| {
            let mut topic = NewTopic::new(&spec.name, spec.partitions, spec.replication_factor)?;
            for (name, value) in &spec.configs {
                topic = topic.with_config(name, value);
            }
            match one(admin.create_topics([topic], CreateTopicsOptions::default()).await) {
                Ok(()) => Ok(true),
                Err(KrafkaError::Broker { code: ErrorCode::TopicAlreadyExists, .. }) => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Deletes a topic with all its records, and returns when the brokers have forgotten it. Only tests do that.
    ///
    /// # Errors
    /// If the topic cannot be deleted, also if there is none, or if it is still there after a minute.
    pub async fn delete(&self, name: &str) -> Result<(), KafkaError> {
        self.request("deleting topic", name, async |admin| {
            one(admin.delete_topics([name], DeleteTopicsOptions::default()).await)
        })
        .await?;
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
        self.request("describing topic", name, async |admin| {
            match one(admin.describe_topics([name], DescribeTopicsOptions::default()).await) {
                Ok(topic) => Ok(Some(topic)),
                Err(KrafkaError::Broker { code: ErrorCode::UnknownTopicOrPartition, .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Every partition's readable offsets, ordered by partition.
    ///
    /// # Errors
    /// When the topic does not exist, or a partition has no leader.
    pub async fn watermarks(&self, topic: &str) -> Result<Vec<PartitionWatermarks>, KafkaError> {
        Ok(self.extent(topic).await?.1)
    }

    /// The same, with the topic's identity; all zeros if the brokers tell none.
    pub(crate) async fn extent(&self, topic: &str) -> Result<(TopicId, Vec<PartitionWatermarks>), KafkaError> {
        let Some(description) = self.describe(topic).await? else {
            return Err(failed("measuring topic", topic, KrafkaError::unknown_topic(topic)));
        };
        let earliest = self.offsets(topic, &description, OffsetSpec::Earliest).await?;
        let latest = self.offsets(topic, &description, OffsetSpec::Latest).await?;
        let pairs = description.partitions.iter().zip(earliest).zip(latest);
        let marks = pairs
            .map(|((of, earliest), latest)| PartitionWatermarks { partition: of.partition, earliest, latest })
            .collect();
        Ok((description.topic_id, marks))
    }

    /// For each instant and partition the first offset whose record has a timestamp of that instant or later, or else the
    /// offset that the next record will get. Producers set timestamps, so records of other times may stand on both sides.
    ///
    /// # Errors
    /// When the topic does not exist, or a partition has no leader.
    pub async fn offsets_since(&self, topic: &str, at: &[Timestamp]) -> Result<Vec<BTreeMap<i32, i64>>, KafkaError> {
        let connected = self.client.current().await?;
        // A consumer, because the administration client takes "every record is older" for a failure that passes, and asks
        // for a minute.
        let looked_up = async {
            let consumer = connected.kafka.consumer_without_group().metrics_push(false).build().await?;
            let mut found = Vec::with_capacity(at.len());
            for at in at {
                let offsets = consumer.offsets_for_times_for_topic(topic, at.as_millis()).await?;
                let offsets = offsets.into_iter().map(|(partition, offset)| Ok((partition, offset?)));
                found.push(offsets.collect::<Result<BTreeMap<i32, i64>, KrafkaError>>()?);
            }
            consumer.close().await?;
            Ok(found)
        };
        let mut found = looked_up.await.map_err(|source| {
            let error = failed("measuring topic", topic, source);
            connected.note(&error);
            error
        })?;
        let latest: BTreeMap<i32, i64> =
            self.watermarks(topic).await?.into_iter().map(|marks| (marks.partition, marks.latest)).collect();
        for (partition, offset) in found.iter_mut().flatten().filter(|(_, offset)| **offset < 0) {
            *offset = latest.get(partition).copied().unwrap_or_default();
        }
        Ok(found)
    }

    async fn offsets(&self, topic: &str, of: &TopicDescription, spec: OffsetSpec) -> Result<Vec<i64>, KafkaError> {
        self.request("measuring topic", topic, async |admin| {
            let wanted = of.partitions.iter().map(|of| (TopicPartition::new(topic, of.partition), spec));
            let mut found = admin.list_offsets(wanted, ListOffsetsOptions::default()).await?;
            let in_order = of.partitions.iter().map(|of| {
                let answer = found.remove(&TopicPartition::new(topic, of.partition));
                let answer = answer.unwrap_or_else(|| Err(KrafkaError::illegal_state("a partition is missing")));
                answer.map(|listed| listed.offset)
            });
            in_order.collect()
        })
        .await
    }

    /// How far a group is in every partition of a topic, whoever consumes it; in the order of the partitions.
    ///
    /// # Errors
    /// If the topic does not exist, a partition has no leader, or the group's coordinator does not answer.
    pub async fn places_of(&self, group: &str, topic: &str) -> Result<Vec<GroupPlace>, KafkaError> {
        // First, so that what is committed meanwhile is not beyond the end.
        let committed = self.committed(group).await?;
        let committed = |partition| {
            let here = committed.iter().find(|at| &*at.topic == topic && at.partition == partition);
            here.map(|at| at.offset)
        };
        let place = |marks: PartitionWatermarks| GroupPlace { marks, committed: committed(marks.partition) };
        Ok(self.watermarks(topic).await?.into_iter().map(place).collect())
    }

    /// The committed offsets of a group: for each partition, the next offset to read, in order.
    ///
    /// # Errors
    /// If the group's coordinator does not answer. A group that never existed has no offsets.
    pub async fn committed(&self, group: &str) -> Result<Vec<Position>, KafkaError> {
        let mut committed = self
            .request("reading the offsets of group", group, async |admin| {
                let options = ListConsumerGroupOffsetsOptions::default();
                let found = admin.list_consumer_group_offsets(group, options).await?;
                let mut committed = Vec::with_capacity(found.len());
                for (of, answer) in found {
                    if let Some(offset) = answer?.offset {
                        committed.push(Position::new(of.topic, of.partition, offset));
                    }
                }
                Ok(committed)
            })
            .await?;
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
