//! The idempotent producer behind [`RecordPublisher`].

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use krafka::producer::{Acks, DeliveryConfirmation, DeliveryHandle, Producer, RecordMetadata};
use krafka::{KrafkaError, Record};
use pipeline::ports::{NewRecord, RecordPublisher};
use pipeline::{DependencyError, Position};
use tokio::time::{Instant, timeout_at};

use crate::client::Connected;
use crate::config::{Compression, REQUEST_TIMEOUT};
use crate::{KafkaClient, KafkaError};

/// The batching and limits of a publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublisherOptions {
    /// How long a record waits for others of its partition.
    pub linger: Duration,
    /// Largest batch of one partition, in bytes before compression.
    pub batch_bytes: usize,
    /// Largest record, in bytes as written. Larger ones are refused before anything is sent.
    pub max_record_bytes: usize,
    /// Bytes held for unacknowledged records; callers wait when they are used up.
    pub buffer_bytes: usize,
}

impl Default for PublisherOptions {
    fn default() -> Self {
        PublisherOptions {
            linger: Duration::from_millis(2),
            batch_bytes: 256 * 1024,
            // Kafka's default limit for a topic is 1,048,588 bytes for a batch with its header.
            max_record_bytes: 1_000_000,
            buffer_bytes: 64 * 1024 * 1024,
        }
    }
}

/// How long the client keeps trying to send a record, even if the caller has given up. Longer than any caller waits, so
/// that the producer keeps its sequence numbers during a broker's restart.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);

/// Writes records with acks=all and an idempotent producer.
#[derive(Debug)]
pub struct KafkaPublisher {
    client: KafkaClient,
    options: PublisherOptions,
    started: RwLock<Started>,
}

/// A producer, and the handle from which it was made.
#[derive(Clone, Debug)]
struct Started {
    producer: Arc<Producer>,
    connected: Arc<Connected>,
}

impl Started {
    async fn new(
        connected: Arc<Connected>,
        compression: Compression,
        options: &PublisherOptions,
    ) -> Result<Self, KafkaError> {
        let producer = connected
            .kafka
            .producer()
            .acks(Acks::All)
            .idempotent(true)
            .linger(options.linger)
            .batch_size(options.batch_bytes)
            .buffer_memory(options.buffer_bytes)
            .delivery_timeout(DELIVERY_TIMEOUT)
            .max_block(REQUEST_TIMEOUT)
            .metrics_push(false)
            .compression(match compression {
                Compression::None => krafka::Compression::None,
                Compression::Gzip => krafka::Compression::Gzip,
                Compression::Lz4 => krafka::Compression::Lz4,
            })
            .build()
            .await
            .map_err(|source| KafkaError::Start { doing: "starting a producer", source })?;
        Ok(Started { producer: Arc::new(producer), connected })
    }
}

impl KafkaPublisher {
    pub(crate) async fn start(client: &KafkaClient, options: PublisherOptions) -> Result<Self, KafkaError> {
        let started = Started::new(client.current().await?, client.compression(), &options).await?;
        Ok(KafkaPublisher { client: client.clone(), options, started: RwLock::new(started) })
    }

    fn started(&self) -> Started {
        self.started.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The producer to use now: a new one if the cluster's login has changed. Those who wait for records of the old one
    /// keep it until they give up.
    async fn current(&self, deadline: Instant) -> Started {
        let error = match timeout_at(deadline, self.renewed()).await {
            Ok(Ok(started)) => return started,
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        // With the old producer, each record gets an answer that says what is wrong.
        tracing::warn!(error = error.as_ref().map(tracing::field::display), "cannot renew the login at Kafka");
        self.started()
    }

    async fn renewed(&self) -> Result<Started, KafkaError> {
        let connected = self.client.current().await?;
        let started = self.started();
        if Arc::ptr_eq(&connected, &started.connected) {
            return Ok(started);
        }
        let renewed = Started::new(connected, self.client.compression(), &self.options).await?;
        let mut started = self.started.write().unwrap_or_else(PoisonError::into_inner);
        // Another caller may have been faster; its producer is in use already.
        if !Arc::ptr_eq(&renewed.connected, &started.connected) {
            *started = renewed;
        }
        Ok(started.clone())
    }

    async fn enqueue(
        &self,
        producer: &Producer,
        record: NewRecord,
        deadline: Instant,
    ) -> Result<DeliveryHandle, KafkaError> {
        let topic = record.topic;
        let record = to_client(record);
        let (bytes, limit) = (record.estimated_size(), self.options.max_record_bytes);
        if bytes > limit {
            return Err(KafkaError::TooLarge { topic: topic.to_owned(), bytes, limit });
        }
        // A future whose deadline has passed is still polled once, which is enough to queue a record.
        if Instant::now() >= deadline {
            return Err(KafkaError::NotInTime { topic: topic.to_owned() });
        }
        in_time(topic, deadline, producer.enqueue(record)).await
    }
}

#[async_trait]
impl RecordPublisher for KafkaPublisher {
    async fn publish(&self, records: Vec<NewRecord>, timeout: Duration) -> Vec<Result<Position, DependencyError>> {
        let deadline = Instant::now() + timeout;
        let Started { producer, connected } = self.current(deadline).await;
        // Queue all records before waiting for any, so that the batches of the whole call are sent together.
        let mut queued = Vec::with_capacity(records.len());
        for record in records {
            let topic = record.topic;
            queued.push((topic, self.enqueue(&producer, record, deadline).await));
        }
        let mut names = TopicNames::default();
        let mut answers = Vec::with_capacity(queued.len());
        for (topic, handle) in queued {
            let answer = match handle {
                Ok(handle) => {
                    in_time(topic, deadline, handle).await.and_then(|stored| position(names.of(topic), &stored))
                }
                Err(error) => Err(error),
            };
            answers.push(answer.map_err(|error| {
                connected.note(&error);
                error.into_dependency_error("publishing a record")
            }));
        }
        answers
    }

    async fn close(&self, timeout: Duration) -> Result<(), DependencyError> {
        let closed = self.started().producer.close_with(krafka::CloseOptions::new().timeout(timeout)).await;
        let doing = "closing a producer";
        closed.map_err(|source| KafkaError::Start { doing, source }.into_dependency_error(doing))
    }
}

async fn in_time<T>(
    topic: &str,
    deadline: Instant,
    work: impl Future<Output = Result<T, KrafkaError>>,
) -> Result<T, KafkaError> {
    match timeout_at(deadline, work).await {
        Ok(result) => result.map_err(|source| KafkaError::Publish { topic: topic.to_owned(), source }),
        Err(_) => Err(KafkaError::NotInTime { topic: topic.to_owned() }),
    }
}

fn to_client(record: NewRecord) -> Record {
    let mut to = Record::new(record.topic, bytes::Bytes::new());
    to.key = record.key;
    to.value = record.value;
    to.headers = record.headers.into_iter().map(|header| (header.name.into_owned(), header.value)).collect();
    to
}

/// The name of the last topic, so that the positions of a call share it. Most calls have one topic.
#[derive(Default)]
struct TopicNames {
    last: Option<Arc<str>>,
}

impl TopicNames {
    fn of(&mut self, topic: &str) -> Arc<str> {
        match &self.last {
            Some(name) if **name == *topic => Arc::clone(name),
            Some(_) | None => Arc::clone(self.last.insert(topic.into())),
        }
    }
}

fn position(topic: Arc<str>, stored: &RecordMetadata) -> Result<Position, KafkaError> {
    match stored.delivery {
        DeliveryConfirmation::Offset => Ok(Position::new(topic, stored.partition, stored.offset)),
        // An earlier attempt stored it, too long ago for the broker to know the offset. The same holds for other
        // confirmations that a later version of the client may return.
        _ => Err(KafkaError::OffsetUnknown { topic: topic.to_string(), partition: stored.partition }),
    }
}
