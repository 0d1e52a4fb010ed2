//! The contract of every [`TopicTail`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use event::Timestamp;
use pipeline::Record;
use pipeline::ports::{LossCause, LostSpan, NewRecord, TailPlace, TailStart, TopicFollower, TopicId, TopicTail};

use super::answer as ok;
use super::publisher::Broker;

/// Ample for a healthy broker on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(200);
const PARTITIONS: i32 = 3;

/// Tests every promise but those about retention and new partitions, which need more of a broker than [`Broker`] has.
pub async fn suite(broker: &dyn Broker, tail: &dyn TopicTail) {
    a_follower_gets_what_is_written_after_it_began(broker, tail).await;
    a_follower_from_the_start_gets_everything_in_order(broker, tail).await;
    what_one_follower_has_not_read_another_gets(broker, tail).await;
    an_instant_is_a_start(broker, tail).await;
    what_cannot_be_read_from_a_place_is_told(broker, tail).await;
}

async fn publish(broker: &dyn Broker, topic: &'static str, numbers: std::ops::Range<u32>) {
    let records = numbers.map(|number| NewRecord {
        topic,
        key: Some(Bytes::from(format!("key-{number}"))),
        value: Some(Bytes::from(number.to_string())),
        headers: Vec::new(),
    });
    for answer in broker.publisher().publish(records.collect(), PATIENCE).await {
        ok(answer);
    }
}

/// That many records, ordered by partition and offset. There must not be more, and none may be missing in between.
async fn read(follower: &mut dyn TopicFollower, count: usize) -> Vec<Record> {
    let until = Instant::now() + PATIENCE;
    let mut next = follower.place().next.clone();
    let mut records: Vec<Record> = Vec::new();
    while records.len() < count {
        assert!(Instant::now() < until, "{} of {count} records, then nothing", records.len());
        let read = ok(follower.read(POLL).await);
        assert_eq!(read.lost, [], "nothing is lost");
        records.extend(read.records);
    }
    assert_eq!(records.len(), count, "no record comes twice");
    for record in &records {
        let next = next.entry(record.position.partition).or_insert(0);
        assert_eq!(record.position.offset, *next, "each partition is read in its order, without a gap");
        *next += 1;
    }
    assert_eq!(follower.place().next, next, "the place is behind what was read");
    records.sort_by(|a, b| a.position.cmp(&b.position));
    records
}

async fn a_follower_gets_what_is_written_after_it_began(broker: &dyn Broker, tail: &dyn TopicTail) {
    let topic = broker.new_topic(PARTITIONS).await;
    publish(broker, topic, 0..40).await;
    let before = broker.records(topic).await;
    let mut follower = ok(tail.follow(topic, &TailStart::Latest).await);
    assert_eq!(ok(follower.read(Duration::ZERO).await).records, [], "nothing is new");
    let started = Instant::now();
    assert_eq!(ok(follower.read(POLL).await).records, [], "nothing is new");
    assert!(started.elapsed() >= POLL / 2, "a reader at the end waits: {:?}", started.elapsed());
    publish(broker, topic, 40..100).await;
    let after = read(&mut *follower, 60).await;
    let mut all = [before, after].concat();
    all.sort_by(|a, b| a.position.cmp(&b.position));
    assert_eq!(all, broker.records(topic).await, "byte for byte");
}

async fn a_follower_from_the_start_gets_everything_in_order(broker: &dyn Broker, tail: &dyn TopicTail) {
    let topic = broker.new_topic(PARTITIONS).await;
    publish(broker, topic, 0..1_200).await;
    let mut follower = ok(tail.follow(topic, &TailStart::Earliest).await);
    let mut other = ok(tail.follow(topic, &TailStart::Earliest).await);
    assert_eq!(read(&mut *follower, 1_200).await, broker.records(topic).await, "byte for byte");
    publish(broker, topic, 1_200..1_300).await;
    assert_eq!(read(&mut *follower, 100).await.len(), 100, "a follower has no end");
    assert_eq!(read(&mut *other, 1_300).await.len(), 1_300, "followers do not share records");
}

async fn what_one_follower_has_not_read_another_gets(broker: &dyn Broker, tail: &dyn TopicTail) {
    let topic = broker.new_topic(PARTITIONS).await;
    publish(broker, topic, 0..30).await;
    let all = broker.records(topic).await;
    let topic_id = ok(tail.follow(topic, &TailStart::Latest).await).place().topic_id;
    for cut in 0..=all.len() {
        // The first `cut` records of the order of partitions have been read.
        let mut next: BTreeMap<i32, i64> = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
        next.extend(all[..cut].iter().map(|record| (record.position.partition, record.position.offset + 1)));
        let place = TailPlace { topic_id, next };
        let mut follower = ok(tail.follow(topic, &TailStart::At(place.clone())).await);
        assert_eq!(*follower.place(), place, "a place that fits is kept");
        assert_eq!(read(&mut *follower, all.len() - cut).await, all[cut..], "from {place:?}");
    }
    // A partition that the place does not know is new.
    let place = TailPlace { topic_id, next: BTreeMap::from([(0, 0), (1, 0)]) };
    let mut follower = ok(tail.follow(topic, &TailStart::At(place)).await);
    assert_eq!(read(&mut *follower, all.len()).await, all);
}

async fn an_instant_is_a_start(broker: &dyn Broker, tail: &dyn TopicTail) {
    let topic = broker.new_topic(PARTITIONS).await;
    publish(broker, topic, 0..50).await;
    let mut follower = ok(tail.follow(topic, &TailStart::Since(Timestamp::EPOCH)).await);
    assert_eq!(read(&mut *follower, 50).await, broker.records(topic).await);
    let far = Timestamp::EPOCH.plus(Duration::from_secs(4_000_000_000));
    let mut follower = ok(tail.follow(topic, &TailStart::Since(far)).await);
    publish(broker, topic, 50..60).await;
    assert_eq!(read(&mut *follower, 10).await.len(), 10, "no record is so new, so it begins at the end");
}

async fn what_cannot_be_read_from_a_place_is_told(broker: &dyn Broker, tail: &dyn TopicTail) {
    let topic = broker.new_topic(2).await;
    publish(broker, topic, 0..30).await;
    let all = broker.records(topic).await;
    let topic_id = ok(tail.follow(topic, &TailStart::Latest).await).place().topic_id;
    let lost_from = async |topic_id: TopicId, next: [(i32, i64); 3]| {
        let place = TailPlace { topic_id, next: next.into() };
        let mut follower = ok(tail.follow(topic, &TailStart::At(place)).await);
        let told = ok(follower.read(POLL).await);
        assert_eq!(told.records, [], "what is lost comes first");
        (told.lost, read(&mut *follower, all.len()).await)
    };
    let lost = |partition, from, to| LostSpan { partition, from, to, cause: LossCause::Remade };
    let (told, rest) = lost_from(topic_id, [(0, 0), (1, 1_000), (7, 3)]).await;
    assert_eq!(told, [lost(1, 1_000, Some(0)), lost(7, 3, None)]);
    assert_eq!(rest, all, "a partition that is another one is read from its start");
    if topic_id != TopicId::default() {
        let (told, rest) = lost_from([0xee; 16], [(0, 1), (1, 1), (2, 0)]).await;
        assert_eq!(told, [lost(0, 1, Some(0)), lost(1, 1, Some(0)), lost(2, 0, None)]);
        assert_eq!(rest, all, "another topic is read from its start");
    }
}
