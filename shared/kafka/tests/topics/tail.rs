//! The contract of followers.

use std::time::Duration;

use bytes::Bytes;
use kafka::{KafkaTail, TopicSpec};
use pipeline::Record;
use pipeline::ports::{LossCause, LostSpan, NewRecord, RecordPublisher, TailStart, TopicFollower, TopicTail};
use services::kafka::EmbeddedKafka;
use testkit::contracts::publisher::Broker;
use testkit::contracts::tail;
use tokio::time::Instant;

use crate::cluster::{Cluster, PATIENCE, POLL, unique};

impl Cluster {
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
