//! The contracts of the adapter, on the in-process broker and on a real one: the one of `KAFKA_BROKERS`, or with
//! `KAFKA=apache` one that the test starts.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kafka::{
    ConsumerOptions, GroupConsumer, GroupProtocol, KafkaClient, KafkaConfig, KafkaPublisher, PartitionWatermarks,
    PublisherOptions, Rebalance, StartingPosition, TopicChange, TopicPartition, TopicSpec,
};
use pipeline::clock::{Clock, SystemClock};
use pipeline::ports::{NewRecord, RecordPublisher, TopicSource as _};
use pipeline::{Position, Record};
use services::apache_kafka::ApacheKafka;
use services::kafka::EmbeddedKafka;
use settings::{ProcessEnvironment, Variables};
use testkit::contracts::publisher::{self, Broker};
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// One broker for all tests of this binary; its supervisor stops it when the process ends.
static APACHE: OnceCell<ApacheKafka> = OnceCell::const_new();

/// Time limit for everything that a healthy broker does, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(200);

struct Cluster {
    name: &'static str,
    config: KafkaConfig,
    client: KafkaClient,
    publisher: KafkaPublisher,
    embedded: Option<EmbeddedKafka>,
}

impl Cluster {
    async fn embedded() -> Self {
        let broker = EmbeddedKafka::start().await.unwrap();
        let brokers = broker.brokers();
        Cluster { embedded: Some(broker), ..Cluster::at("embedded", brokers).await }
    }

    async fn at(name: &'static str, brokers: String) -> Self {
        let config = KafkaConfig::plaintext(brokers);
        let client = KafkaClient::connect(&config, "contract").await.unwrap();
        let publisher = client.publisher(PublisherOptions::default()).await.unwrap();
        Cluster { name, config, client, publisher, embedded: None }
    }

    /// Every broker on which the contracts run.
    async fn all() -> Vec<Self> {
        let mut clusters = vec![Cluster::embedded().await];
        if let Some(brokers) = ProcessEnvironment.get("KAFKA_BROKERS") {
            clusters.push(Cluster::at("KAFKA_BROKERS", brokers).await);
        } else if ProcessEnvironment.get("KAFKA").as_deref() == Some("apache") {
            let apache = APACHE.get_or_init(async || ApacheKafka::start(None, None).await.unwrap()).await;
            clusters.push(Cluster::at("KAFKA=apache", apache.brokers()).await);
        }
        clusters
    }

    async fn consumer(&self, group: &str, topic: &str, start: StartingPosition) -> GroupConsumer {
        self.client.consumer(ConsumerOptions::new(group, &[topic], start)).await.unwrap()
    }

    async fn publish(&self, topic: &'static str, values: impl IntoIterator<Item = String>) -> Vec<Position> {
        let records = values.into_iter().map(|value| NewRecord {
            topic,
            key: Some(Bytes::from(value.clone())),
            value: Some(Bytes::from(value)),
            headers: Vec::new(),
        });
        let answers = self.publisher.publish(records.collect(), PATIENCE).await;
        answers.into_iter().map(Result::unwrap).collect()
    }
}

/// A name that no other run uses, even on a broker that keeps its data.
fn unique(prefix: &str) -> &'static str {
    static COUNTER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = COUNTER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let now = SystemClock.now().as_millis();
    Box::leak(format!("{prefix}-{now}-{}-{number}", std::process::id()).into_boxed_str())
}

#[async_trait]
impl Broker for Cluster {
    fn publisher(&self) -> &dyn RecordPublisher {
        &self.publisher
    }

    async fn new_topic(&self, partitions: i32) -> &'static str {
        let topic = unique("contract");
        self.client.topics().ensure(&[TopicSpec::new(topic, partitions)]).await.unwrap();
        topic
    }

    async fn records(&self, topic: &'static str) -> Vec<Record> {
        let watermarks = self.client.topics().watermarks(topic).await.unwrap();
        let count = watermarks.iter().map(|of| usize::try_from(of.latest - of.earliest).unwrap()).sum();
        let consumer = self.consumer(unique("reader"), topic, StartingPosition::TrimHorizon).await;
        let mut records = read(&consumer, count).await;
        consumer.close(PATIENCE).await.unwrap();
        records.sort_by(|a, b| a.position.cmp(&b.position));
        records
    }
}

/// Polls until there are `count` records.
async fn read(consumer: &GroupConsumer, count: usize) -> Vec<Record> {
    let deadline = Instant::now() + PATIENCE;
    let mut records = Vec::new();
    while records.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} records", records.len());
        records.extend(consumer.poll(POLL).await.unwrap());
    }
    records
}

/// The next offset of each partition that was read.
fn after(records: &[Record]) -> Vec<Position> {
    let mut next = BTreeMap::new();
    for Record { position, .. } in records {
        let offset = next.entry(position.partition).or_insert(position.clone());
        offset.offset = offset.offset.max(position.offset + 1);
    }
    next.into_values().collect()
}

fn values(records: &[Record]) -> BTreeSet<String> {
    records.iter().map(|record| String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap()).collect()
}

fn numbers(range: std::ops::Range<u32>) -> impl Iterator<Item = String> {
    range.map(|number| number.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_publisher_keeps_the_contract() {
    for cluster in Cluster::all().await {
        eprintln!("on {}", cluster.name);
        publisher::suite(&cluster).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_broker_every_record_fails_in_time_and_may_be_tried_again() {
    let mut cluster = Cluster::embedded().await;
    let topic = cluster.new_topic(2).await;
    cluster.publish(topic, numbers(0..2)).await;
    drop(cluster.embedded.take());
    publisher::away(&cluster.publisher, topic).await;
    publisher::away(&cluster.publisher, "never-seen").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_topic_is_the_deployments_fault_not_the_records() {
    for cluster in Cluster::all().await {
        publisher::away(&cluster.publisher, unique("missing")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_resumes_from_its_commit() {
    for cluster in Cluster::all().await {
        let (topic, group) = (cluster.new_topic(2).await, unique("group"));
        cluster.publish(topic, numbers(0..100)).await;

        let first = cluster.consumer(group, topic, StartingPosition::TrimHorizon).await;
        let seen = read(&first, 100).await;
        assert_eq!(values(&seen).len(), 100, "each once");
        let half: Vec<Position> = vec![Position::new(topic, 0, 5), Position::new(topic, 1, 7)];
        first.commit(&half).await.unwrap();
        first.close(PATIENCE).await.unwrap();
        assert_eq!(cluster.client.topics().committed(group).await.unwrap(), half);

        let second = cluster.consumer(group, topic, StartingPosition::TrimHorizon).await;
        let again = read(&second, 100 - 12).await;
        for partition in 0..2 {
            let first = again.iter().find(|record| record.position.partition == partition).unwrap();
            assert_eq!(first.position, half[usize::try_from(partition).unwrap()]);
        }
        second.commit(&after(&again)).await.unwrap();
        second.close(PATIENCE).await.unwrap();

        let third = cluster.consumer(group, topic, StartingPosition::TrimHorizon).await;
        cluster.publish(topic, ["new".to_owned()]).await;
        assert_eq!(values(&read(&third, 1).await), BTreeSet::from(["new".to_owned()]));
        third.close(PATIENCE).await.unwrap();
    }
}

/// The markers of transactions and aborted records take offsets, too. The in-process broker does not tell a consumer what
/// was aborted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_transaction_aborted_is_never_delivered() {
    let real: Vec<Cluster> = Cluster::all().await.into_iter().filter(|cluster| cluster.embedded.is_none()).collect();
    if real.is_empty() {
        eprintln!("SKIPPED: it needs a real broker (KAFKA=apache or KAFKA_BROKERS)");
    }
    for cluster in real {
        let (topic, group) = (cluster.new_topic(1).await, unique("group"));
        let kafka = krafka::Kafka::builder(cluster.client.brokers()).connect().await.unwrap();
        let producer = kafka.producer().build_transactional(unique("transaction")).await.unwrap();
        for (value, commits) in [("kept-1", true), ("aborted", false), ("kept-2", true)] {
            producer.begin().unwrap();
            let _sent = producer.send(krafka::Record::new(topic, value)).await.unwrap();
            if commits { producer.commit().await.unwrap() } else { producer.abort().await.unwrap() }
        }
        producer.close().await.unwrap();
        let expected = BTreeSet::from(["kept-1".to_owned(), "kept-2".to_owned()]);
        let member = cluster.consumer(group, topic, StartingPosition::TrimHorizon).await;
        assert_eq!(values(&read(&member, 2).await), expected, "{}", cluster.name);
        member.close(PATIENCE).await.unwrap();
        let mut reader = cluster.client.open(topic, &BTreeMap::new()).await.unwrap();
        let mut found = Vec::new();
        let until = Instant::now() + PATIENCE;
        while reader.spans().values().any(|span| !span.is_finished()) {
            assert!(Instant::now() < until, "the markers are passed: {:?}", reader.spans());
            found.extend(reader.read(POLL).await.unwrap());
        }
        assert_eq!(values(&found), expected, "{}", cluster.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seeking_back_delivers_again() {
    for cluster in Cluster::all().await {
        let topic = cluster.new_topic(1).await;
        cluster.publish(topic, numbers(0..20)).await;
        let consumer = cluster.consumer(unique("group"), topic, StartingPosition::TrimHorizon).await;
        read(&consumer, 20).await;
        consumer.seek(&Position::new(topic, 0, 12)).await.unwrap();
        let again: Vec<i64> = read(&consumer, 8).await.iter().map(|record| record.position.offset).collect();
        assert_eq!(again, (12..20).collect::<Vec<i64>>());
        consumer.close(PATIENCE).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_partition_is_silent_until_it_is_resumed() {
    for cluster in Cluster::all().await {
        let topic = cluster.new_topic(2).await;
        let consumer = cluster.consumer(unique("group"), topic, StartingPosition::TrimHorizon).await;
        cluster.publish(topic, numbers(0..10)).await;
        read(&consumer, 10).await;

        let paused = TopicPartition::new(topic, 0);
        consumer.pause(&paused).await;
        let sent = cluster.publish(topic, numbers(10..30)).await;
        let loud = sent.iter().filter(|position| position.partition == 1).count();
        let heard = read(&consumer, loud).await;
        assert!(heard.iter().all(|record| record.position.partition == 1), "{heard:?}");
        assert!(consumer.poll(POLL).await.unwrap().is_empty());

        consumer.resume(&paused).await;
        let heard = read(&consumer, sent.len() - loud).await;
        assert!(heard.iter().all(|record| record.position.partition == 0), "{heard:?}");
        consumer.close(PATIENCE).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_partition_with_many_records_does_not_silence_the_others() {
    for cluster in Cluster::all().await {
        let topic = cluster.new_topic(2).await;
        let sent = cluster.publish(topic, numbers(0..100)).await;
        let options = ConsumerOptions {
            max_poll_records: 5,
            ..ConsumerOptions::new(unique("group"), &[topic], StartingPosition::TrimHorizon)
        };
        let consumer = cluster.client.consumer(options).await.unwrap();
        // The client has fetched more of the partition than it has handed out.
        let first = read(&consumer, 1).await;
        let paused = first[0].position.partition;
        consumer.pause(&TopicPartition::new(topic, paused)).await;
        let others = sent.iter().filter(|position| position.partition != paused).count();
        let heard_first = first.iter().filter(|record| record.position.partition != paused).count();
        let heard = read(&consumer, others - heard_first).await;
        assert!(heard.iter().all(|record| record.position.partition != paused), "{heard:?}");
        consumer.close(PATIENCE).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_starting_position_counts_only_without_a_commit() {
    for cluster in Cluster::all().await {
        let topic = cluster.new_topic(1).await;
        cluster.publish(topic, numbers(0..5)).await;
        let latest = cluster.consumer(unique("latest"), topic, StartingPosition::Latest).await;
        assert!(poll_until_assigned(&latest, 1).await.is_empty());
        // Kafka looks up records by their time, so the records before and after must not have the same millisecond.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let between = SystemClock.now();
        tokio::time::sleep(Duration::from_millis(20)).await;
        cluster.publish(topic, numbers(5..8)).await;
        assert_eq!(values(&read(&latest, 3).await), numbers(5..8).collect());
        latest.close(PATIENCE).await.unwrap();

        let group = unique("at");
        let at = cluster.consumer(group, topic, StartingPosition::AtTimestamp(between)).await;
        let seen = read(&at, 3).await;
        assert_eq!(values(&seen), numbers(5..8).collect());
        at.commit(&[Position::new(topic, 0, 7)]).await.unwrap();
        at.close(PATIENCE).await.unwrap();
        let again = cluster.consumer(group, topic, StartingPosition::AtTimestamp(between)).await;
        assert_eq!(values(&read(&again, 1).await), numbers(7..8).collect());
        again.close(PATIENCE).await.unwrap();

        let future = StartingPosition::AtTimestamp(SystemClock.now().plus(Duration::from_secs(3600)));
        let future = cluster.consumer(unique("future"), topic, future).await;
        assert!(poll_until_assigned(&future, 1).await.is_empty());
        cluster.publish(topic, ["late".to_owned()]).await;
        assert_eq!(values(&read(&future, 1).await), BTreeSet::from(["late".to_owned()]));
        future.close(PATIENCE).await.unwrap();
    }
}

/// Polls until the member owns that many partitions and its positions are known.
async fn poll_until_assigned(consumer: &GroupConsumer, partitions: usize) -> Vec<Record> {
    let deadline = Instant::now() + PATIENCE;
    let mut records = Vec::new();
    while consumer.assignment().await.len() != partitions {
        assert!(Instant::now() < deadline, "owns {:?}", consumer.assignment().await);
        records.extend(consumer.poll(POLL).await.unwrap());
    }
    records.extend(consumer.poll(POLL).await.unwrap());
    records
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_split_the_partitions_and_hand_them_over() {
    for cluster in Cluster::all().await {
        // The embedded broker supports only one member of a classic group.
        let classic = cluster.embedded.is_none().then_some(GroupProtocol::Classic);
        for protocol in [GroupProtocol::Consumer].into_iter().chain(classic) {
            eprintln!("on {} with {protocol:?}", cluster.name);
            split_and_hand_over(&cluster, protocol).await;
        }
    }
}

/// The partitions of the changes of one kind since the last call.
fn announced(consumer: &GroupConsumer, of_kind: fn(&Rebalance) -> bool) -> Vec<TopicPartition> {
    let changes = consumer.take_rebalances().into_iter().filter(of_kind);
    changes
        .flat_map(|change| match change {
            Rebalance::Assigned(of) | Rebalance::Revoked(of) | Rebalance::Lost(of) => of,
        })
        .collect()
}

async fn split_and_hand_over(cluster: &Cluster, protocol: GroupProtocol) {
    let (topic, group) = (cluster.new_topic(4).await, unique("group"));
    let member = || async {
        let options =
            ConsumerOptions { protocol, ..ConsumerOptions::new(group, &[topic], StartingPosition::TrimHorizon) };
        let client = KafkaClient::connect(&cluster.config, "member").await.unwrap();
        client.consumer(options).await.unwrap()
    };
    let first = member().await;
    poll_until_assigned(&first, 4).await;
    let all: Vec<TopicPartition> = (0..4).map(|number| TopicPartition::new(topic, number)).collect();
    let mut assigned = announced(&first, |change| matches!(change, Rebalance::Assigned(_)));
    assigned.sort();
    assert_eq!(assigned, all);

    let second = member().await;
    tokio::join!(poll_until_assigned(&first, 2), poll_until_assigned(&second, 2));
    let revoked = announced(&first, |change| matches!(change, Rebalance::Revoked(_)));
    let mut owned = first.assignment().await;
    assert!(second.assignment().await.iter().all(|of| revoked.contains(of)), "revoked before it was given away");
    owned.extend(second.assignment().await);
    owned.sort();
    assert_eq!(owned, all);

    cluster.publish(topic, numbers(0..100)).await;
    let (mut seen, mut others) = (Vec::new(), Vec::new());
    let deadline = Instant::now() + PATIENCE;
    while seen.len() + others.len() < 100 {
        assert!(Instant::now() < deadline, "{} and {} records", seen.len(), others.len());
        let (ours, theirs) = tokio::join!(first.poll(POLL), second.poll(POLL));
        seen.extend(ours.unwrap());
        others.extend(theirs.unwrap());
    }
    assert!(!seen.is_empty() && !others.is_empty(), "both take part");
    first.commit(&after(&seen)).await.unwrap();
    second.commit(&after(&others)).await.unwrap();
    // A member must not commit offsets of a partition that another one owns.
    let foreign: Vec<Position> = after(&others).iter().map(|of| Position::new(topic, of.partition, 0)).collect();
    first.commit(&foreign).await.unwrap();
    let committed: i64 = cluster.client.topics().committed(group).await.unwrap().iter().map(|of| of.offset).sum();
    assert_eq!(committed, 100);

    second.close(PATIENCE).await.unwrap();
    poll_until_assigned(&first, 4).await;
    cluster.publish(topic, numbers(100..140)).await;
    assert_eq!(values(&read(&first, 40).await), numbers(100..140).collect(), "goes on from the commits");
    first.close(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn offsets_are_found_by_time() {
    for cluster in Cluster::all().await {
        let (topics, topic) = (cluster.client.topics(), cluster.new_topic(2).await);
        let before = SystemClock.now();
        cluster.publish(topic, (0..5).map(|number| format!("old-{number}"))).await;
        let ends = async || -> BTreeMap<i32, i64> {
            topics.watermarks(topic).await.unwrap().iter().map(|of| (of.partition, of.latest)).collect()
        };
        let old = ends().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let between = SystemClock.now();
        tokio::time::sleep(Duration::from_millis(20)).await;
        cluster.publish(topic, (0..5).map(|number| format!("new-{number}"))).await;
        let name = cluster.name;
        let later = SystemClock.now().plus(PATIENCE);
        let since = topics.offsets_since(topic, &[before, between, later]).await.unwrap();
        assert_eq!(since, [BTreeMap::from([(0, 0), (1, 0)]), old, ends().await], "{name}");
        assert!(topics.offsets_since(unique("missing"), &[before]).await.is_err(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_ensured_once_however_often_and_by_whomever() {
    for cluster in Cluster::all().await {
        eprintln!("on {}", cluster.name);
        let name = unique("ensure");
        let mut spec = TopicSpec::new(name, 2);
        spec.configs.push(("retention.ms".into(), "86400000".into()));
        let topics = cluster.client.topics();
        let specs = [spec.clone()];
        let (a, b, c) = tokio::join!(topics.ensure(&specs), topics.ensure(&specs), topics.ensure(&specs));
        let changes: Vec<TopicChange> = [a, b, c].into_iter().flat_map(Result::unwrap).collect();
        let created = changes.iter().filter(|change| **change == TopicChange::Created).count();
        assert_eq!(created, 1, "{changes:?}");

        spec.partitions = 5;
        let changes = topics.ensure(&[spec.clone()]).await.unwrap();
        assert_eq!(changes, [TopicChange::PartitionsAdded { from: 2 }]);
        spec.partitions = 3;
        assert_eq!(topics.ensure(&[spec]).await.unwrap(), [TopicChange::Unchanged], "partitions are never taken away");
        let empty = |partition| PartitionWatermarks { partition, earliest: 0, latest: 0 };
        assert_eq!(topics.watermarks(name).await.unwrap(), (0..5).map(empty).collect::<Vec<_>>());

        cluster.publish(name, numbers(0..50)).await;
        let latest: i64 = topics.watermarks(name).await.unwrap().iter().map(|of| of.latest).sum();
        assert_eq!(latest, 50, "a publisher that is new to the topic uses the added partitions");
        assert!(topics.watermarks(unique("missing")).await.is_err());
        assert_eq!(topics.committed(unique("nobody")).await.unwrap(), []);
    }
}
