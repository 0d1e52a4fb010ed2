use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use pipeline::ports::RecordPublisher;
use pipeline::{ErrorClass, Record};
use testkit::contracts::publisher::{self, Broker};
use testkit::fakes::publisher::FakePublisher;

struct FakeBroker {
    publisher: FakePublisher,
    topics: AtomicUsize,
}

#[async_trait]
impl Broker for FakeBroker {
    fn publisher(&self) -> &dyn RecordPublisher {
        &self.publisher
    }

    async fn new_topic(&self, partitions: i32) -> &'static str {
        let number = self.topics.fetch_add(1, Ordering::Relaxed);
        let name: &'static str = Box::leak(format!("topic-{number}").into_boxed_str());
        self.publisher.create_topic(name, partitions);
        name
    }

    async fn records(&self, topic: &'static str) -> Vec<Record> {
        self.publisher.records(topic)
    }
}

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    publisher::suite(&FakeBroker { publisher: FakePublisher::new(3), topics: AtomicUsize::new(0) }).await;
}

#[tokio::test]
async fn a_fault_befalls_every_record_of_one_call() {
    let fake = FakePublisher::new(1);
    fake.faults.fail(1, ErrorClass::Transient);
    publisher::away(&fake, "topic").await;
    assert!(fake.records("topic").is_empty());
}

#[tokio::test]
async fn a_lost_answer_leaves_the_records() {
    let fake = FakePublisher::new(1);
    fake.faults.lose_answer(1, ErrorClass::Transient);
    publisher::away(&fake, "topic").await;
    assert_eq!(fake.records("topic").len(), 10);
}
