//! A member of a consumer group, for programs that poll: the local event source mapping and tests.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use event::Timestamp;
use krafka::admin::DescribeClusterOptions;
use krafka::consumer::{
    AutoOffsetReset, Consumer, ConsumerRebalanceListener, ConsumerRecord, IsolationLevel, OffsetAndMetadata,
    PartitionAssignmentStrategy,
};
use krafka::{CloseOptions, KrafkaError};
use pipeline::{Header, Position, Record, RecordHeaders};
use tokio::time::Instant;

use crate::client::Connected;
use crate::{KafkaClient, KafkaError};

/// After how long without a record the cluster is asked whether it still accepts the login, and how long it may take to
/// answer. The client keeps to itself that a broker refuses its fetches, and tries again.
const SILENCE: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a member whose login has been replaced may try to leave its group.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Where a group starts in a partition without a committed offset (AWS: `StartingPosition`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartingPosition {
    /// The oldest record that Kafka has.
    TrimHorizon,
    /// Only records that are written after the group first polled.
    Latest,
    /// The first record at or after that time; the end, if there is none.
    AtTimestamp(Timestamp),
}

/// Who assigns the partitions of a group. All members of a group use the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupProtocol {
    /// The broker (KIP-848): needs Apache Kafka 4.0 or later, or the embedded broker.
    #[default]
    Consumer,
    /// A member, cooperatively: works with any Kafka.
    Classic,
}

/// The settings of a group member.
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    pub group: String,
    pub topics: Vec<String>,
    pub start: StartingPosition,
    pub protocol: GroupProtocol,
    /// Largest number of records per poll.
    pub max_poll_records: usize,
    /// A member without a heartbeat for this long loses its partitions to others. Only for the classic protocol; with
    /// the other one the broker decides (`group.consumer.session.timeout.ms`).
    pub session_timeout: Duration,
    /// A member without a poll for this long gives up its partitions.
    pub max_poll_interval: Duration,
}

impl ConsumerOptions {
    pub fn new(group: impl Into<String>, topics: &[&str], start: StartingPosition) -> Self {
        ConsumerOptions {
            group: group.into(),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            start,
            protocol: GroupProtocol::default(),
            max_poll_records: 10_000,
            session_timeout: Duration::from_secs(10),
            max_poll_interval: Duration::from_secs(300),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: i32,
}

impl TopicPartition {
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        TopicPartition { topic: topic.into(), partition }
    }
}

/// A change of the partitions that this member owns, in the order in which it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebalance {
    Assigned(Vec<TopicPartition>),
    /// Given up, so that another member can take them. Work in progress for them must be dropped; it will be
    /// redelivered.
    Revoked(Vec<TopicPartition>),
    /// Another member owns them already, because this member did not respond for too long.
    Lost(Vec<TopicPartition>),
}

/// Collects the changes that happen inside a poll.
#[derive(Debug, Default)]
struct Rebalances(Mutex<Vec<Rebalance>>);

impl Rebalances {
    /// Records a change, unless it is empty: a rebalance that changes nothing is announced too.
    fn push(&self, kind: fn(Vec<TopicPartition>) -> Rebalance, of: &[krafka::consumer::TopicPartition]) {
        if !of.is_empty() {
            self.add(kind(of.iter().map(|of| TopicPartition::new(of.topic.as_str(), of.partition)).collect()));
        }
    }

    fn take(&self) -> Vec<Rebalance> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, change: Rebalance) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(change);
    }
}

impl ConsumerRebalanceListener for Rebalances {
    async fn on_partitions_assigned(&self, partitions: &[krafka::consumer::TopicPartition]) {
        self.push(Rebalance::Assigned, partitions);
    }

    async fn on_partitions_revoked(&self, partitions: &[krafka::consumer::TopicPartition]) {
        self.push(Rebalance::Revoked, partitions);
    }

    async fn on_partitions_lost(&self, partitions: &[krafka::consumer::TopicPartition]) {
        self.push(Rebalance::Lost, partitions);
    }
}

/// A member of a consumer group. Never commits by itself.
///
/// After the login at the cluster has changed, the next poll joins the group again as another member.
pub struct GroupConsumer {
    client: KafkaClient,
    options: ConsumerOptions,
    started: RwLock<Started>,
    /// When records came or the cluster was asked for the last time.
    heard_at: Mutex<Instant>,
}

/// A consumer, and the handle from which it was made.
#[derive(Clone)]
struct Started {
    consumer: Arc<Consumer>,
    connected: Arc<Connected>,
    rebalances: Arc<Rebalances>,
}

impl Started {
    async fn new(connected: Arc<Connected>, options: &ConsumerOptions) -> Result<Self, KafkaError> {
        let rebalances = Arc::new(Rebalances::default());
        let max_poll_records = i32::try_from(options.max_poll_records).unwrap_or(i32::MAX);
        let consumer = connected
            .kafka
            .consumer(options.group.clone())
            .enable_auto_commit(false)
            .auto_offset_reset(match options.start {
                StartingPosition::TrimHorizon => AutoOffsetReset::Earliest,
                StartingPosition::Latest => AutoOffsetReset::Latest,
                // `poll` looks up the offset: krafka's own reset by time is relative to the moment of the reset.
                StartingPosition::AtTimestamp(_) => AutoOffsetReset::None,
            })
            .group_protocol(match options.protocol {
                GroupProtocol::Consumer => krafka::consumer::GroupProtocol::Consumer,
                GroupProtocol::Classic => krafka::consumer::GroupProtocol::Classic,
            })
            // With either protocol, members keep their partitions when another member joins or leaves.
            .partition_assignment_strategy(PartitionAssignmentStrategy::CooperativeSticky)
            .max_poll_records(max_poll_records)
            // No cap: a full buffer stops the fetches of every partition, and records of paused partitions would fill
            // it. Without one, each partition still keeps at most one fetch.
            .max_buffered_records(0)
            .session_timeout(options.session_timeout)
            .max_poll_interval(options.max_poll_interval)
            // What a transaction aborted was never sent.
            .isolation_level(IsolationLevel::ReadCommitted)
            .metrics_push(false)
            .rebalance_listener(Arc::clone(&rebalances))
            .build()
            .await
            .map_err(|source| KafkaError::Start { doing: "starting a consumer", source })?;
        let started = Started { consumer: Arc::new(consumer), connected, rebalances };
        let subscribed = started.consumer.subscribe(&options.topics).await;
        subscribed.map_err(|source| started.failed(&options.group, "subscribing", source))?;
        Ok(started)
    }

    async fn assignment(&self) -> Vec<TopicPartition> {
        let mut owned: Vec<TopicPartition> = Vec::new();
        for (topic, partitions) in self.consumer.assignment().await {
            let topic: Arc<str> = topic.into();
            owned.extend(partitions.into_iter().map(|partition| TopicPartition::new(Arc::clone(&topic), partition)));
        }
        owned.sort_unstable();
        owned
    }

    fn failed(&self, group: &str, doing: &'static str, source: KrafkaError) -> KafkaError {
        let error = KafkaError::Consume { group: group.to_owned(), doing, source };
        self.connected.note(&error);
        error
    }
}

impl GroupConsumer {
    pub(crate) async fn start(client: &KafkaClient, options: ConsumerOptions) -> Result<Self, KafkaError> {
        let started = Started::new(client.current().await?, &options).await?;
        let (client, started, heard_at) = (client.clone(), RwLock::new(started), Mutex::new(Instant::now()));
        Ok(GroupConsumer { client, options, started, heard_at })
    }

    fn started(&self) -> Started {
        self.started.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The member to poll with: a new one if the cluster's login has changed.
    async fn current(&self) -> Result<Started, KafkaError> {
        let connected = self.client.current().await?;
        let known = self.started();
        if Arc::ptr_eq(&connected, &known.connected) {
            return Ok(known);
        }
        let renewed = Started::new(connected, &self.options).await?;
        // The new member starts where the group has committed, so whatever the old one has read comes again.
        let lost = known.assignment().await;
        for change in known.rebalances.take() {
            renewed.rebalances.add(change);
        }
        if !lost.is_empty() {
            renewed.rebalances.add(Rebalance::Lost(lost));
        }
        *self.started.write().unwrap_or_else(PoisonError::into_inner) = renewed.clone();
        // Some of its connections may still stand. Otherwise the broker removes it after the session timeout, and the
        // new member gets its partitions then.
        if let Err(error) = known.consumer.close_with(CloseOptions::new().timeout(LEAVE_TIMEOUT)).await {
            tracing::debug!(%error, "the member with the old login could not leave its group");
        }
        Ok(renewed)
    }

    /// Records in the order of each partition, waiting at most `max_wait` for the first. Joins the group and stays in
    /// it. Call [`GroupConsumer::take_rebalances`] after every poll, before using the records.
    ///
    /// Dropping the future loses no record. Other calls may be made before it has ended.
    ///
    /// # Errors
    /// Polling again after an error is safe: no record is skipped.
    pub async fn poll(&self, max_wait: Duration) -> Result<Vec<Record>, KafkaError> {
        let deadline = Instant::now() + max_wait;
        let started = self.current().await?;
        loop {
            let wait = deadline.saturating_duration_since(Instant::now());
            match started.consumer.poll(wait).await {
                Ok(records) if records.is_empty() => {
                    self.ask_after_silence(&started).await?;
                    return Ok(Vec::new());
                }
                Ok(records) => {
                    self.hear();
                    return Ok(records.into_iter().map(from_client).collect());
                }
                Err(KrafkaError::NoOffset { partitions }) => self.find_start(&started, &partitions).await?,
                Err(source) => return Err(started.failed(&self.options.group, "polling", source)),
            }
        }
    }

    fn hear(&self) {
        *self.heard_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    async fn ask_after_silence(&self, started: &Started) -> Result<(), KafkaError> {
        let heard_at = *self.heard_at.lock().unwrap_or_else(PoisonError::into_inner);
        if !started.connected.has_password() || heard_at.elapsed() < SILENCE {
            return Ok(());
        }
        self.hear();
        let admin = started.connected.kafka.admin().metrics_push(false);
        let asked = tokio::time::timeout(ANSWER_TIMEOUT, admin.describe_cluster(DescribeClusterOptions::default()));
        let answer = asked.await.unwrap_or_else(|_| Err(KrafkaError::timeout("describing the cluster")));
        answer.map(drop).map_err(|source| started.failed(&self.options.group, "asking after a silence", source))
    }

    /// Moves partitions without a committed offset to the position of [`StartingPosition::AtTimestamp`].
    async fn find_start(&self, started: &Started, partitions: &[(String, i32)]) -> Result<(), KafkaError> {
        let consumer = &started.consumer;
        let at = match self.options.start {
            StartingPosition::AtTimestamp(at) => at.as_millis(),
            StartingPosition::TrimHorizon | StartingPosition::Latest => return Ok(()),
        };
        let wanted: Vec<(&str, i32)> =
            partitions.iter().map(|(topic, partition)| (topic.as_str(), *partition)).collect();
        for ((topic, partition), found) in consumer.offsets_for_times(&wanted, at).await {
            let moved = match found {
                Ok(offset) if offset >= 0 => consumer.seek(&topic, partition, offset).await,
                Ok(_) => consumer.seek_to_end(&topic, partition).await,
                Err(source) => Err(source),
            };
            moved.map_err(|source| started.failed(&self.options.group, "finding the starting position", source))?;
        }
        Ok(())
    }

    /// The changes since the last call.
    pub fn take_rebalances(&self) -> Vec<Rebalance> {
        self.started().rebalances.take()
    }

    /// The partitions that this member owns, in order.
    pub async fn assignment(&self) -> Vec<TopicPartition> {
        self.started().assignment().await
    }

    /// The offset of the next record of that partition that a poll returns, beyond transaction markers and aborted records.
    /// `None` if this member does not own the partition, or does not know yet where it begins.
    pub async fn position(&self, of: &TopicPartition) -> Option<i64> {
        self.started().consumer.position(&of.topic, of.partition).await
    }

    /// Commits, per partition, the offset of the next record to read. Partitions that this member no longer owns are
    /// skipped, because a broker would accept their offsets and so undo the progress of the new owner.
    ///
    /// # Errors
    /// The commit may or may not have happened; repeating it is safe.
    pub async fn commit(&self, next: &[Position]) -> Result<(), KafkaError> {
        let started = self.started();
        let owned = started.assignment().await;
        let offsets: Vec<_> = next
            .iter()
            .filter(|next| owned.iter().any(|of| of.topic == next.topic && of.partition == next.partition))
            .map(|next| {
                let of = krafka::consumer::TopicPartition::new(next.topic.to_string(), next.partition);
                (of, OffsetAndMetadata::new(next.offset))
            })
            .collect();
        if offsets.is_empty() {
            return Ok(());
        }
        let committed = started.consumer.commit_offsets(offsets).await;
        committed.map_err(|source| started.failed(&self.options.group, "committing", source))
    }

    /// The next poll continues at that offset of that partition.
    ///
    /// # Errors
    /// If this member does not own the partition.
    pub async fn seek(&self, to: &Position) -> Result<(), KafkaError> {
        let started = self.started();
        let moved = started.consumer.seek(&to.topic, to.partition, to.offset).await;
        moved.map_err(|source| started.failed(&self.options.group, "seeking", source))
    }

    /// Polls return no records of that partition until it is resumed or reassigned. Other partitions are read as before.
    /// A partition that is resumed during a poll is fetched when the current fetch of the others ends, so after at most
    /// that poll's `max_wait`.
    pub async fn pause(&self, partition: &TopicPartition) {
        self.started().consumer.pause(&partition.topic, &[partition.partition]).await;
    }

    pub async fn resume(&self, partition: &TopicPartition) {
        self.started().consumer.resume(&partition.topic, &[partition.partition]).await;
    }

    /// Leaves the group, so that other members take over at once. Commits nothing.
    ///
    /// # Errors
    /// If the broker does not answer in time. It then removes the member after the session timeout.
    pub async fn close(&self, timeout: Duration) -> Result<(), KafkaError> {
        let started = self.started();
        let closed = started.consumer.close_with(CloseOptions::new().timeout(timeout)).await;
        closed.map_err(|source| started.failed(&self.options.group, "leaving", source))
    }
}

pub(crate) fn from_client(record: ConsumerRecord) -> Record {
    let headers = record.headers.into_iter().map(|(name, value)| Header::read(&name, value)).collect();
    Record {
        position: Position::new(record.topic, record.partition, record.offset),
        timestamp: Timestamp::from_millis(record.timestamp),
        key: record.key,
        value: record.value,
        headers: RecordHeaders(headers),
        undecodable: None,
    }
}
