//! Runs the store contract on its fake, and tests the fake's faults.

use event::Timestamp;
use pipeline::ports::EventStore;
use pipeline::{ErrorClass, Outcome, Position};
use testkit::contracts::store::{DEDUP_WINDOW, store_contract};
use testkit::events::closed;
use testkit::fakes::store::FakeStore;

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    let store = FakeStore::new(DEDUP_WINDOW);
    store_contract(&store, &store).await;
}

#[tokio::test]
async fn a_failure_records_nothing_and_a_lost_answer_everything() {
    let store = FakeStore::new(DEDUP_WINDOW);
    let batch = [closed(Position::new("raw-events", 0, 1), None, Outcome::Blocked, "block-list")];
    let record = async |now| store.record(&batch, Timestamp::from_millis(now)).await;

    store.faults.fail(1, ErrorClass::Transient);
    assert!(record(1).await.is_err());
    assert!(store.ledger().is_empty());

    store.faults.lose_answer(1, ErrorClass::Transient);
    assert!(record(2).await.is_err());
    let entries = record(3).await.unwrap();
    assert_eq!(
        entries[0].recorded_at,
        Timestamp::from_millis(2),
        "the repeated call returns the entry that was written when the answer was lost"
    );
}
