//! Following a topic, without a consumer group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use krafka::consumer::{AutoOffsetReset, Consumer, IsolationLevel};
use krafka::{CloseOptions, KrafkaError};
use pipeline::DependencyError;
use pipeline::ports::{LostSpan, TailPlace, TailRead, TailStart, TopicFollower, TopicTail};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::client::Connected;
use crate::consumer::from_client;
use crate::{KafkaClient, KafkaConfig, KafkaError, PartitionWatermarks};

/// Largest number of records per read, and of records that wait for the next.
const MAX_RECORDS: i32 = 500;
/// Largest answer of a broker and largest part of a partition in it, in bytes; a batch that is larger comes alone. A follower
/// waits for whoever it reads for, so this is about what it holds meanwhile.
const FETCH_BYTES: i32 = 2 * 1024 * 1024;
const PARTITION_BYTES: i32 = 512 * 1024;
/// Longest time to connect and to find the start, or to look at the topic. The administration client alone would try for a
/// minute while the brokers are down.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the topic is looked at: for new partitions, for another topic of its name, and for brokers that are away or refuse
/// the login, which the client would keep to itself.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// A reader without a group has nothing to say to the brokers when it closes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// [`TopicTail`] on a cluster, to which it connects when it is first asked.
///
/// Each follower has its own connections: a broker answers the requests of one connection in order, so the long polls of one
/// would hold up all others.
#[derive(Debug)]
pub struct KafkaTail {
    config: KafkaConfig,
    client_id: &'static str,
    client: OnceCell<KafkaClient>,
    look_every: Duration,
}

impl KafkaTail {
    pub fn new(config: KafkaConfig, client_id: &'static str) -> Self {
        KafkaTail { config, client_id, client: OnceCell::new(), look_every: LOOK_EVERY }
    }

    /// With another time between two looks at the topic, for tests.
    #[must_use]
    pub fn looking_every(self, look_every: Duration) -> Self {
        KafkaTail { look_every, ..self }
    }

    async fn open(&self, topic: &str, start: &TailStart) -> Result<Follower, KafkaError> {
        let client = self.client.get_or_try_init(|| KafkaClient::connect(&self.config, self.client_id)).await?;
        let client = client.separate().await?;
        let connected = client.current().await?;
        let consumer = connected
            .kafka
            .consumer_without_group()
            // What is missing is told, and not skipped.
            .auto_offset_reset(AutoOffsetReset::None)
            .max_poll_records(MAX_RECORDS)
            .max_buffered_records(MAX_RECORDS)
            .fetch_max_bytes(FETCH_BYTES)
            .max_partition_fetch_bytes(PARTITION_BYTES)
            // What a transaction aborted was never sent.
            .isolation_level(IsolationLevel::ReadCommitted)
            .metrics_push(false)
            .build()
            .await
            .map_err(|source| KafkaError::Start { doing: "starting a follower", source })?;
        let mut follower = Follower {
            client,
            connected,
            consumer: Arc::new(consumer),
            topic: topic.to_owned(),
            place: TailPlace::default(),
            lost: Vec::new(),
            look_every: self.look_every,
            look_at: Instant::now() + self.look_every,
        };
        follower.begin(start).await?;
        Ok(follower)
    }
}

struct Follower {
    client: KafkaClient,
    connected: Arc<Connected>,
    consumer: Arc<Consumer>,
    topic: String,
    place: TailPlace,
    /// Not told yet.
    lost: Vec<LostSpan>,
    look_every: Duration,
    look_at: Instant,
}

impl Follower {
    async fn begin(&mut self, start: &TailStart) -> Result<(), KafkaError> {
        self.place = match start {
            TailStart::At(place) => place.clone(),
            TailStart::Earliest => TailPlace::default(),
            TailStart::Latest => {
                let (topic_id, marks) = self.client.topics().extent(&self.topic).await?;
                TailPlace { topic_id, next: marks.iter().map(|marks| (marks.partition, marks.latest)).collect() }
            }
            TailStart::Since(at) => {
                let found = self.client.topics().offsets_since(&self.topic, &[*at]).await?;
                TailPlace { next: found.into_iter().next().unwrap_or_default(), ..TailPlace::default() }
            }
        };
        self.look().await
    }

    async fn look_in_time(&mut self) -> Result<(), KafkaError> {
        let looked = tokio::time::timeout(OPEN_TIMEOUT, self.look()).await;
        looked.unwrap_or_else(|_| Err(self.failed("measuring", KrafkaError::timeout("measuring a topic"))))
    }

    /// Compares the place with the topic as it is now, and reads on where that is possible. If it is dropped or fails, it can be
    /// called again.
    async fn look(&mut self) -> Result<(), KafkaError> {
        let (topic_id, marks) = self.client.topics().extent(&self.topic).await?;
        self.look_at = Instant::now() + self.look_every;
        let extent: BTreeMap<i32, _> = marks
            .into_iter()
            .map(|PartitionWatermarks { partition, earliest, latest }| (partition, earliest..latest))
            .collect();
        let mut place = self.place.clone();
        let lost = place.settle(topic_id, &extent);
        let known = self.consumer.assignment().await.remove(&self.topic).unwrap_or_default();
        if known.len() != extent.len() {
            let assigned = self.consumer.assign(&self.topic, extent.keys().copied().collect()).await;
            assigned.map_err(|source| self.failed("choosing partitions of", source))?;
        }
        for (partition, next) in &place.next {
            // A seek drops the records that wait.
            if !known.contains(partition) || self.place.next.get(partition) != Some(next) {
                let moved = self.consumer.seek(&self.topic, *partition, *next).await;
                moved.map_err(|source| self.failed("seeking in", source))?;
            }
        }
        self.place = place;
        self.lost.extend(lost);
        Ok(())
    }

    async fn poll(&mut self, max_wait: Duration) -> Result<TailRead, KafkaError> {
        if Instant::now() >= self.look_at {
            self.look_in_time().await?;
        }
        let mut records = Vec::new();
        if self.lost.is_empty() {
            match self.consumer.poll(max_wait).await {
                Ok(polled) => records.extend(polled.into_iter().map(from_client)),
                Err(KrafkaError::NoOffset { .. }) => {
                    self.look_in_time().await?;
                    if self.lost.is_empty() {
                        // The brokers do not agree yet. Asking them at once would be a busy loop.
                        tokio::time::sleep(max_wait.min(Duration::from_secs(1))).await;
                    }
                }
                Err(source) => return Err(self.failed("following", source)),
            }
            for (partition, next) in &mut self.place.next {
                // Beyond markers of transactions and records that were aborted, too.
                if let Some(position) = self.consumer.position(&self.topic, *partition).await {
                    *next = position;
                }
            }
        }
        Ok(TailRead { lost: std::mem::take(&mut self.lost), records })
    }

    fn failed(&self, doing: &'static str, source: KrafkaError) -> KafkaError {
        let error = KafkaError::Read { topic: self.topic.clone(), doing, source };
        self.connected.note(&error);
        error
    }
}

impl Drop for Follower {
    /// The client complains about readers that nobody has closed, and closing waits.
    fn drop(&mut self) {
        let consumer = Arc::clone(&self.consumer);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { consumer.close_with(CloseOptions::new().timeout(CLOSE_TIMEOUT)).await });
        }
    }
}

#[async_trait]
impl TopicFollower for Follower {
    async fn read(&mut self, max_wait: Duration) -> Result<TailRead, DependencyError> {
        self.poll(max_wait).await.map_err(|error| error.into_dependency_error("following a topic"))
    }

    fn place(&self) -> &TailPlace {
        &self.place
    }
}

#[async_trait]
impl TopicTail for KafkaTail {
    async fn follow(&self, topic: &str, start: &TailStart) -> Result<Box<dyn TopicFollower>, DependencyError> {
        let opened = tokio::time::timeout(OPEN_TIMEOUT, self.open(topic, start)).await;
        let error = match opened {
            Ok(Ok(follower)) => return Ok(Box::new(follower)),
            Ok(Err(error)) => error,
            Err(_) => KafkaError::Read {
                topic: topic.to_owned(),
                doing: "opening",
                source: KrafkaError::timeout("finding the start of a topic"),
            },
        };
        Err(error.into_dependency_error("following a topic"))
    }
}
