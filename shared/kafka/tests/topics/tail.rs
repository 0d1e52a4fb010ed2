//! The contract of followers, on the in-process broker and on a real one: the one of `KAFKA_BROKERS`, or with `KAFKA=apache` one
//! that the test starts.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kafka::{
    ConsumerOptions, KafkaClient, KafkaConfig, KafkaPublisher, KafkaTail, PublisherOptions, StartingPosition, TopicSpec,
};
use pipeline::Record;
use pipeline::clock::{Clock, SystemClock};
use pipeline::ports::{LossCause, LostSpan, NewRecord, RecordPublisher, TailStart, TopicFollower, TopicTail};
use services::apache_kafka::ApacheKafka;
use services::kafka::EmbeddedKafka;
use settings::{ProcessEnvironment, Variables};
use testkit::contracts::publisher::Broker;
use testkit::contracts::tail;
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// One broker for all tests of this binary; its supervisor stops it when the process ends.
static APACHE: OnceCell<ApacheKafka> = OnceCell::const_new();

const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(200);

struct Cluster {
    config: KafkaConfig,
    client: KafkaClient,
    publisher: KafkaPublisher,
}

impl Cluster {
    async fn at(brokers: String) -> Self {
        let config = KafkaConfig::plaintext(brokers);
        let client = KafkaClient::connect(&config, "contract").await.unwrap();
        let publisher = client.publisher(PublisherOptions::default()).await.unwrap();
        Cluster { config, client, publisher }
    }

    /// Every broker on which the contract runs.
    async fn all(embedded: &EmbeddedKafka) -> Vec<Self> {
        let mut clusters = vec![Cluster::at(embedded.brokers()).await];
        if let Some(brokers) = ProcessEnvironment.get("KAFKA_BROKERS") {
            clusters.push(Cluster::at(brokers).await);
        } else if ProcessEnvironment.get("KAFKA").as_deref() == Some("apache") {
            let apache = APACHE.get_or_init(async || ApacheKafka::start(None, None).await.unwrap()).await;
            clusters.push(Cluster::at(apache.brokers()).await);
        }
        clusters
    }

    fn tail(&self) -> KafkaTail {
        KafkaTail::new(self.config.clone(), "contract")
    }

    async fn publish(&self, topic: &'static str, keys: std::ops::Range<u32>) {
        let record = |key: u32| NewRecord {
            topic,
            key: Some(Bytes::from(key.to_string())),
            value: Some(Bytes::from_static(b"{}")),
            headers: Vec::new(),
        };
        for answer in self.publisher.publish(keys.map(record).collect(), PATIENCE).await {
            answer.unwrap();
        }
    }
}

/// A name that no other run uses, even on a broker that keeps its data.
fn unique() -> &'static str {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    Box::leak(format!("tail-{}-{}-{number}", SystemClock.now().as_millis(), std::process::id()).into_boxed_str())
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

    /// Reads as a group, to compare with the follower under test.
    async fn records(&self, topic: &'static str) -> Vec<Record> {
        let watermarks = self.client.topics().watermarks(topic).await.unwrap();
        let count: usize = watermarks.iter().map(|of| usize::try_from(of.latest - of.earliest).unwrap()).sum();
        let options = ConsumerOptions::new(unique(), &[topic], StartingPosition::TrimHorizon);
        let consumer = self.client.consumer(options).await.unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut records = Vec::new();
        while records.len() < count {
            assert!(Instant::now() < deadline, "{} of {count} records", records.len());
            records.extend(consumer.poll(POLL).await.unwrap());
        }
        consumer.close(PATIENCE).await.unwrap();
        records.sort_by(|a, b| a.position.cmp(&b.position));
        records
    }
}

async fn read(follower: &mut dyn TopicFollower, count: usize) -> Vec<Record> {
    let deadline = Instant::now() + PATIENCE;
    let mut records = Vec::new();
    while records.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} records", records.len());
        records.extend(follower.read(POLL).await.unwrap().records);
    }
    records
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tail_keeps_the_contract() {
    let broker = EmbeddedKafka::start().await.unwrap();
    for cluster in &Cluster::all(&broker).await {
        tail::suite(cluster, &cluster.tail()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_that_are_added_are_read_from_their_start() {
    let broker = EmbeddedKafka::start().await.unwrap();
    for cluster in &Cluster::all(&broker).await {
        let topic = cluster.new_topic(1).await;
        let tail = cluster.tail().looking_every(Duration::from_millis(500));
        let mut follower = tail.follow(topic, &TailStart::Latest).await.unwrap();
        cluster.publish(topic, 0..10).await;
        assert_eq!(read(&mut *follower, 10).await.len(), 10);
        cluster.client.topics().ensure(&[TopicSpec::new(topic, 3)]).await.unwrap();
        // The publisher learns of them by and by.
        let deadline = Instant::now() + PATIENCE;
        let (mut sent, mut records) = (10, Vec::new());
        while !records.iter().any(|record: &Record| record.position.partition > 0) {
            assert!(Instant::now() < deadline, "{} records, all of the first partition", records.len());
            // With connections of its own, which know the topic as it is.
            let other = Cluster::at(cluster.client.brokers().to_owned()).await;
            other.publish(topic, sent..sent + 20).await;
            sent += 20;
            records.extend(follower.read(POLL).await.unwrap().records);
        }
        records.extend(read(&mut *follower, usize::try_from(sent).unwrap() - 10 - records.len()).await);
        assert_eq!(follower.place().next.len(), 3);
        assert_eq!(i64::from(sent), follower.place().next.values().sum::<i64>(), "nothing of them is left out");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_made_again_is_read_from_its_start() {
    let broker = EmbeddedKafka::start().await.unwrap();
    for cluster in &Cluster::all(&broker).await {
        let topic = cluster.new_topic(1).await;
        cluster.publish(topic, 0..10).await;
        let place = cluster.tail().follow(topic, &TailStart::Latest).await.unwrap().place().clone();
        cluster.client.topics().delete(topic).await.unwrap();
        cluster.client.topics().ensure(&[TopicSpec::new(topic, 1)]).await.unwrap();
        let other = Cluster::at(cluster.client.brokers().to_owned()).await;
        other.publish(topic, 0..3).await;
        let mut follower = other.tail().follow(topic, &TailStart::At(place)).await.unwrap();
        assert_eq!(follower.read(POLL).await.unwrap().lost.len(), 1);
        assert_eq!(read(&mut *follower, 3).await.len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the in-process broker deletes nothing; for `make kafka-contract`"]
async fn what_was_deleted_is_told_to_who_follows_and_to_who_comes_back() {
    let broker = EmbeddedKafka::start().await.unwrap();
    let clusters = Cluster::all(&broker).await;
    let cluster = clusters.get(1).expect("a real broker: KAFKA=apache or KAFKA_BROKERS");
    let topic = cluster.new_topic(1).await;
    cluster.publish(topic, 0..100).await;
    // It has read nothing yet when the records are deleted.
    let mut follower = cluster.tail().follow(topic, &TailStart::Earliest).await.unwrap();
    let place = follower.place().clone();
    let kafka = krafka::Kafka::builder(cluster.client.brokers()).connect().await.unwrap();
    let before = [(krafka::admin::TopicPartition::new(topic, 0), 60)];
    let deleted = kafka.admin().delete_records(before, krafka::admin::DeleteRecordsOptions::default()).await.unwrap();
    assert!(deleted.values().all(Result::is_ok), "{deleted:?}");
    let lost = [LostSpan { partition: 0, from: 0, to: Some(60), cause: LossCause::Expired }];
    let mut later = cluster.tail().follow(topic, &TailStart::At(place)).await.unwrap();
    for follower in [&mut follower, &mut later] {
        let told = follower.read(PATIENCE).await.unwrap();
        assert_eq!((told.lost.as_slice(), told.records.as_slice()), (&lost[..], &[][..]));
        let left = read(&mut **follower, 40).await;
        assert_eq!(left.first().map(|record| record.position.offset), Some(60));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_are_away_are_noticed() {
    let broker = EmbeddedKafka::start().await.unwrap();
    let cluster = Cluster::at(broker.brokers()).await;
    let missing = cluster.tail().follow(unique(), &TailStart::Latest).await;
    assert!(missing.is_err_and(|error| error.is_retryable()));

    let topic = cluster.new_topic(1).await;
    let tail = cluster.tail().looking_every(Duration::from_millis(200));
    let mut follower = tail.follow(topic, &TailStart::Latest).await.unwrap();
    drop(broker);
    let deadline = Instant::now() + PATIENCE;
    loop {
        match follower.read(POLL).await {
            Ok(read) => assert_eq!(read.records, []),
            Err(error) => break assert!(error.is_retryable(), "{error:?}"),
        }
        assert!(Instant::now() < deadline, "the follower has not noticed");
    }
    let away = tail.follow(topic, &TailStart::Latest).await;
    assert!(away.is_err_and(|error| error.is_retryable()));
}
