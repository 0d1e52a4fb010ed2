//! The contract of the reader without a group, on the in-process broker and, with `KAFKA_BROKERS`, on a real one.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kafka::{ConsumerOptions, KafkaClient, KafkaConfig, KafkaPublisher, PublisherOptions, StartingPosition, TopicSpec};
use pipeline::Record;
use pipeline::clock::{Clock, SystemClock};
use pipeline::ports::{RecordPublisher, TopicSource};
use services::kafka::EmbeddedKafka;
use settings::{ProcessEnvironment, Variables};
use testkit::contracts::publisher::Broker;
use testkit::contracts::redrive::topic_source_contract;
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(30);

struct Cluster {
    client: KafkaClient,
    publisher: KafkaPublisher,
}

impl Cluster {
    async fn at(brokers: String) -> Self {
        let client = KafkaClient::connect(&KafkaConfig::plaintext(brokers), "contract").await.unwrap();
        let publisher = client.publisher(PublisherOptions::default()).await.unwrap();
        Cluster { client, publisher }
    }
}

/// A name that no other run uses, even on a broker that keeps its data.
fn unique() -> &'static str {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    Box::leak(format!("reader-{}-{}-{number}", SystemClock.now().as_millis(), std::process::id()).into_boxed_str())
}

#[async_trait]
impl Broker for Cluster {
    fn publisher(&self) -> &dyn RecordPublisher {
        &self.publisher
    }

    async fn new_topic(&self, partitions: i32) -> &'static str {
        let topic = unique();
        self.client.topics().ensure(&[TopicSpec::new(topic, partitions)]).await.unwrap();
        topic
    }

    /// Reads as a group, to compare with the reader under test.
    async fn records(&self, topic: &'static str) -> Vec<Record> {
        let watermarks = self.client.topics().watermarks(topic).await.unwrap();
        let count: usize = watermarks.iter().map(|of| usize::try_from(of.latest - of.earliest).unwrap()).sum();
        let options = ConsumerOptions::new(unique(), &[topic], StartingPosition::TrimHorizon);
        let consumer = self.client.consumer(options).await.unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut records = Vec::new();
        while records.len() < count {
            assert!(Instant::now() < deadline, "{} of {count} records", records.len());
            records.extend(consumer.poll(Duration::from_millis(200)).await.unwrap());
        }
        consumer.close(PATIENCE).await.unwrap();
        records.sort_by(|a, b| a.position.cmp(&b.position));
        records
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reader_keeps_the_contract() {
    let broker = EmbeddedKafka::start().await.unwrap();
    let mut clusters = vec![Cluster::at(broker.brokers()).await];
    if let Some(brokers) = ProcessEnvironment.get("KAFKA_BROKERS") {
        clusters.push(Cluster::at(brokers).await);
    }
    for cluster in &clusters {
        topic_source_contract(cluster, &cluster.client).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_topic_and_a_lost_broker_are_transient() {
    let broker = EmbeddedKafka::start().await.unwrap();
    let cluster = Cluster::at(broker.brokers()).await;
    let missing = cluster.client.open(unique(), &BTreeMap::new()).await;
    assert!(missing.is_err_and(|error| error.is_retryable()));

    let topic = cluster.new_topic(1).await;
    drop(broker);
    let away = cluster.client.open(topic, &BTreeMap::new()).await;
    assert!(away.is_err_and(|error| error.is_retryable()));
}
