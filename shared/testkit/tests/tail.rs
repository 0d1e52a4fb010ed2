//! Runs the contract of followers on their fake.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pipeline::Position;
use pipeline::ports::{LossCause, LostSpan, NewRecord, RecordPublisher, TailStart, TopicTail as _};
use testkit::contracts::tail::suite;
use testkit::fakes::publisher::FakePublisher;
use testkit::fakes::tail::FakeTail;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn the_fake_tail_keeps_the_contract() {
    let publisher = Arc::new(FakePublisher::new(3));
    let tail = FakeTail::new(Arc::clone(&publisher));
    suite(&*publisher, &tail).await;
    assert_eq!(tail.followers(), 0, "followers that are dropped are gone");
}

#[tokio::test]
async fn the_fake_broker_forgets_and_grows() {
    let publisher = Arc::new(FakePublisher::new(1));
    publisher.create_topic("t", 1);
    let record = |key: &'static str| NewRecord {
        topic: "t",
        key: Some(Bytes::from_static(key.as_bytes())),
        value: None,
        headers: Vec::new(),
    };
    publisher.publish(vec![record("a"); 5], SECOND).await;
    let tail = FakeTail::new(Arc::clone(&publisher));
    let mut follower = tail.follow("t", &TailStart::Earliest).await.unwrap();
    publisher.expire("t", 0, 3);
    let lost = LostSpan { partition: 0, from: 0, to: Some(3), cause: LossCause::Expired };
    assert_eq!(follower.read(SECOND).await.unwrap().lost, [lost]);
    publisher.add_partitions("t", 2);
    publisher.publish(["b", "c", "d", "e"].map(record).into(), SECOND).await;
    let read = follower.read(SECOND).await.unwrap();
    assert_eq!(read.records[..2].iter().map(|record| record.position.offset).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(follower.place().next.len(), 2);
    let mut partitions: BTreeMap<i32, usize> = BTreeMap::new();
    for record in read.records {
        let Position { partition, .. } = record.position;
        *partitions.entry(partition).or_default() += 1;
    }
    assert_eq!(partitions.values().sum::<usize>(), 6, "{partitions:?}");
    assert!(partitions.contains_key(&1), "{partitions:?}");
}
