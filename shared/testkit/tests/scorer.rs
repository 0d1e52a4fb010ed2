//! Runs the scorer contract on the fake.

use pipeline::ErrorClass;
use pipeline::ports::Scorer as _;
use testkit::contracts;
use testkit::fakes::scorer::FakeScorer;

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    contracts::scorer::suite(&FakeScorer::default()).await;
}

#[tokio::test]
async fn a_fault_befalls_one_call() {
    let fake = FakeScorer::default();
    fake.faults.fail(1, ErrorClass::Transient);
    assert!(fake.score(&[]).await.is_err());
    assert!(fake.score(&[]).await.is_ok());
    assert_eq!(fake.asked().len(), 2);
}
