//! The access contracts on their fake, and the fake's own faults.

use pipeline::ErrorClass;
use pipeline::ports::RateLeases;
use testkit::contracts::access::access_contract;
use testkit::fakes::access::FakeAccess;

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    access_contract(&FakeAccess::default()).await;
}

#[tokio::test]
async fn tokens_of_a_lost_answer_are_lost_and_not_doubled() {
    let store = FakeAccess::default();
    store.faults.lose_answer(1, ErrorClass::Transient);
    assert!(store.take("bucket", 0, 60, 100).await.is_err());
    assert_eq!(store.take("bucket", 0, 60, 100).await.unwrap(), 40);
}
