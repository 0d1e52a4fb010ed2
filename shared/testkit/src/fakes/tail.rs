//! Followers of topics in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pipeline::ports::{LostSpan, TailPlace, TailRead, TailStart, TopicFollower, TopicTail};
use pipeline::{Dependency, DependencyError, Record};
use tokio::time::Instant;

use super::Faults;
use super::publisher::FakePublisher;

/// How long a follower waits before it looks again for records.
const PAUSE: Duration = Duration::from_millis(5);

/// A [`TopicTail`] over the records of a [`FakePublisher`].
#[derive(Debug)]
pub struct FakeTail {
    broker: Arc<FakePublisher>,
    /// The most records that one read returns.
    pub batch: usize,
    /// The faults of `follow`.
    pub faults: Faults,
    /// The faults of `read`.
    pub read_faults: Arc<Faults>,
    followers: Arc<AtomicUsize>,
}

impl FakeTail {
    pub fn new(broker: Arc<FakePublisher>) -> Self {
        FakeTail {
            broker,
            batch: 500,
            faults: Faults::default(),
            read_faults: Arc::default(),
            followers: Arc::default(),
        }
    }

    /// How many followers there are now.
    pub fn followers(&self) -> usize {
        self.followers.load(Ordering::SeqCst)
    }

    fn begin(&self, topic: &str, start: &TailStart) -> FakeFollower {
        let (topic_id, extent) = self.broker.extent(topic);
        let place = match start {
            TailStart::At(place) => place.clone(),
            TailStart::Earliest => TailPlace::default(),
            TailStart::Latest => {
                TailPlace { topic_id, next: extent.iter().map(|(partition, left)| (*partition, left.end)).collect() }
            }
            TailStart::Since(at) => {
                let mut next: std::collections::BTreeMap<i32, i64> =
                    extent.iter().map(|(partition, left)| (*partition, left.end)).collect();
                for record in self.broker.records(topic).iter().rev().filter(|record| record.timestamp >= *at) {
                    next.insert(record.position.partition, record.position.offset);
                }
                TailPlace { topic_id, next }
            }
        };
        self.followers.fetch_add(1, Ordering::SeqCst);
        let mut follower = FakeFollower {
            broker: Arc::clone(&self.broker),
            topic: topic.to_owned(),
            batch: self.batch,
            faults: Arc::clone(&self.read_faults),
            place,
            lost: Vec::new(),
            followers: Arc::clone(&self.followers),
        };
        follower.look();
        follower
    }
}

struct FakeFollower {
    broker: Arc<FakePublisher>,
    topic: String,
    batch: usize,
    faults: Arc<Faults>,
    place: TailPlace,
    lost: Vec<LostSpan>,
    followers: Arc<AtomicUsize>,
}

impl FakeFollower {
    fn look(&mut self) {
        let (topic_id, extent) = self.broker.extent(&self.topic);
        let lost = self.place.settle(topic_id, &extent);
        self.lost.extend(lost);
    }

    fn take(&mut self) -> TailRead {
        self.look();
        let mut records: Vec<Record> = Vec::new();
        if self.lost.is_empty() {
            let next = &self.place.next;
            let is_next = |record: &Record| next.get(&record.position.partition) <= Some(&record.position.offset);
            records.extend(self.broker.records(&self.topic).into_iter().filter(is_next).take(self.batch));
        }
        for record in &records {
            self.place.next.insert(record.position.partition, record.position.offset + 1);
        }
        TailRead { lost: std::mem::take(&mut self.lost), records }
    }
}

impl Drop for FakeFollower {
    fn drop(&mut self) {
        self.followers.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl TopicTail for FakeTail {
    async fn follow(&self, topic: &str, start: &TailStart) -> Result<Box<dyn TopicFollower>, DependencyError> {
        tokio::task::yield_now().await;
        let follower = self.faults.apply(Dependency::Kafka, || self.begin(topic, start))?;
        Ok(Box::new(follower))
    }
}

#[async_trait]
impl TopicFollower for FakeFollower {
    async fn read(&mut self, max_wait: Duration) -> Result<TailRead, DependencyError> {
        let faults = Arc::clone(&self.faults);
        faults.apply(Dependency::Kafka, || ())?;
        let until = Instant::now() + max_wait;
        loop {
            let read = self.take();
            let left = until.saturating_duration_since(Instant::now());
            if read != TailRead::default() || left.is_zero() {
                return Ok(read);
            }
            tokio::time::sleep(PAUSE.min(left)).await;
        }
    }

    fn place(&self) -> &TailPlace {
        &self.place
    }
}
