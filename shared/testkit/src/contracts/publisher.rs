//! The contract of every [`RecordPublisher`].
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a broken promise fails the test that runs the suite"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use pipeline::ports::{NewRecord, RecordPublisher};
use pipeline::{ErrorClass, Header, Position, Record};

use crate::fakes::publisher::{FakePublisher, partition_of};

/// Ample for a healthy broker on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(20);
const PARTITIONS: i32 = 3;

/// A publisher, and a view of its broker for tests.
#[async_trait]
pub trait Broker: Send + Sync {
    fn publisher(&self) -> &dyn RecordPublisher;
    /// A new, empty topic that no other test uses.
    async fn new_topic(&self, partitions: i32) -> &'static str;
    /// Everything in a topic, ordered by partition and offset.
    async fn records(&self, topic: &'static str) -> Vec<Record>;
}

#[async_trait]
impl Broker for FakePublisher {
    fn publisher(&self) -> &dyn RecordPublisher {
        self
    }

    async fn new_topic(&self, partitions: i32) -> &'static str {
        let name: &'static str = Box::leak(super::unique("topic").into_boxed_str());
        self.create_topic(name, partitions);
        name
    }

    async fn records(&self, topic: &'static str) -> Vec<Record> {
        FakePublisher::records(self, topic)
    }
}

/// Tests every promise that a healthy broker can keep.
pub async fn suite(broker: &dyn Broker) {
    one_call_with_a_thousand_records_keeps_their_order(broker).await;
    concurrent_calls_keep_each_ones_order(broker).await;
    bytes_are_kept_as_they_are(broker).await;
    too_large_a_record_fails_alone_and_for_good(broker).await;
    without_time_nothing_is_promised(broker).await;
    assert!(broker.publisher().publish(Vec::new(), TIMEOUT).await.is_empty(), "no records, no answers");
}

/// Tests the promise about a broker that does not answer.
pub async fn away(publisher: &dyn RecordPublisher, topic: &'static str) {
    let timeout = Duration::from_millis(500);
    let records: Vec<NewRecord> = (0..10).map(|number| record(topic, &format!("key-{number}"), "x")).collect();
    let start = Instant::now();
    let answers = publisher.publish(records, timeout).await;
    assert!(start.elapsed() < timeout + Duration::from_secs(2), "took {:?}", start.elapsed());
    assert_eq!(answers.len(), 10, "one answer per record");
    for answer in answers {
        let error = answer.expect_err("no broker acknowledged it");
        assert!(error.is_retryable(), "{error:?}");
    }
}

fn record(topic: &'static str, key: &str, value: &str) -> NewRecord {
    NewRecord {
        topic,
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: Vec::new(),
    }
}

async fn publish(broker: &dyn Broker, records: Vec<NewRecord>) -> Vec<Position> {
    let answers = broker.publisher().publish(records, TIMEOUT).await;
    answers.into_iter().map(|answer| answer.unwrap_or_else(|error| panic!("{error:?}"))).collect()
}

async fn one_call_with_a_thousand_records_keeps_their_order(broker: &dyn Broker) {
    let topic = broker.new_topic(PARTITIONS).await;
    let records: Vec<NewRecord> =
        (0..1000).map(|number| record(topic, &format!("key-{}", number % 97), &number.to_string())).collect();
    let receipts = publish(broker, records.clone()).await;

    let mut next = BTreeMap::new();
    for (sent, receipt) in records.iter().zip(&receipts) {
        let partition = partition_of(sent.key.as_ref().unwrap(), PARTITIONS);
        assert_eq!((&*receipt.topic, receipt.partition), (topic, partition), "a key has one partition: {sent:?}");
        let offset = next.entry(partition).or_insert(0);
        assert_eq!(receipt.offset, *offset, "offsets follow the order of the call: {sent:?}");
        *offset += 1;
    }
    let stored: BTreeMap<Position, Record> =
        broker.records(topic).await.into_iter().map(|record| (record.position.clone(), record)).collect();
    assert_eq!(stored.len(), records.len(), "each is stored once");
    for (sent, receipt) in records.iter().zip(&receipts) {
        assert_eq!((&stored[receipt].key, &stored[receipt].value), (&sent.key, &sent.value), "at {receipt}");
    }
}

async fn concurrent_calls_keep_each_ones_order(broker: &dyn Broker) {
    let topic = broker.new_topic(1).await;
    let call = |caller: usize| async move {
        let records = (0..50).map(|number| record(topic, "one", &format!("{caller}/{number}"))).collect();
        publish(broker, records).await
    };
    let calls = tokio::join!(call(0), call(1), call(2), call(3));
    for receipts in [&calls.0, &calls.1, &calls.2, &calls.3] {
        assert!(receipts.is_sorted_by(|a, b| a.offset < b.offset), "{receipts:?}");
    }
    assert_eq!(broker.records(topic).await.len(), 200);
}

async fn bytes_are_kept_as_they_are(broker: &dyn Broker) {
    let topic = broker.new_topic(1).await;
    let odd = Bytes::from_static(b"\x00\xff\xfe binary");
    let headers = vec![
        Header::new("event-id", "1"),
        Header { name: "null".into(), value: None },
        Header::new("empty", Bytes::new()),
        Header::new("event-id", odd.clone()),
        Header::new("größe", "ü"),
    ];
    let sent = [
        NewRecord { topic, key: Some(odd.clone()), value: Some(odd.clone()), headers },
        NewRecord { topic, key: Some(Bytes::from_static(b"tombstone")), value: None, headers: Vec::new() },
        NewRecord { topic, key: None, value: Some(Bytes::new()), headers: Vec::new() },
        NewRecord { topic, key: Some(Bytes::new()), value: Some(Bytes::from_static(b"{}")), headers: Vec::new() },
        NewRecord { topic, key: None, value: None, headers: Vec::new() },
    ];
    publish(broker, sent.to_vec()).await;
    let stored = broker.records(topic).await;
    assert_eq!(stored.len(), sent.len());
    for (sent, stored) in sent.iter().zip(&stored) {
        assert_eq!((&stored.key, &stored.value, &stored.headers.0), (&sent.key, &sent.value, &sent.headers));
    }
}

async fn too_large_a_record_fails_alone_and_for_good(broker: &dyn Broker) {
    let topic = broker.new_topic(1).await;
    // Compresses to almost nothing, because the limit applies to the uncompressed size, which consumers must hold.
    let huge = "x".repeat(2 * 1024 * 1024);
    let records = vec![record(topic, "a", "before"), record(topic, "b", &huge), record(topic, "c", "after")];
    let answers = broker.publisher().publish(records, TIMEOUT).await;
    let [Ok(before), Err(error), Ok(after)] = answers.as_slice() else { panic!("only the second fails: {answers:?}") };
    assert_eq!((before.offset, after.offset), (0, 1));
    assert_eq!(error.class, ErrorClass::Permanent, "{error:?}");
}

async fn without_time_nothing_is_promised(broker: &dyn Broker) {
    let topic = broker.new_topic(1).await;
    let answers = broker.publisher().publish(vec![record(topic, "a", "1"); 3], Duration::ZERO).await;
    assert_eq!(answers.len(), 3);
    for answer in answers {
        let error = answer.expect_err("no time is left");
        assert!(error.is_retryable(), "{error:?}");
    }
}
