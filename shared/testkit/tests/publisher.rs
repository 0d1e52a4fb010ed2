use pipeline::ErrorClass;
use testkit::contracts::publisher;
use testkit::fakes::publisher::FakePublisher;

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    publisher::suite(&FakePublisher::new(3)).await;
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
