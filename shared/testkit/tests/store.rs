//! The store contract on its fake, and the fake's own faults.

use event::Timestamp;
use pipeline::ports::{EventStore, Verdict, VerdictKind};
use pipeline::{ErrorClass, Outcome, Position};
use testkit::contracts::store::{DEDUP_WINDOW, store_contract};
use testkit::fakes::store::FakeStore;

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    let store = FakeStore::new(DEDUP_WINDOW);
    store_contract(&store, &store).await;
}

#[tokio::test]
async fn a_failure_records_nothing_and_a_lost_answer_everything() {
    let store = FakeStore::new(DEDUP_WINDOW);
    let position = Position::new("raw-events", 0, 1);
    let kind = VerdictKind::Close { outcome: Outcome::Blocked, reason: "block-list".into() };
    let verdict = Verdict { origin: position.as_origin(), position, key: None, kind };
    let record = async |now| store.record(vec![verdict.clone()], Timestamp::from_millis(now)).await;

    store.faults.fail(1, ErrorClass::Transient);
    assert!(record(1).await.is_err());
    assert!(store.ledger().is_empty());

    store.faults.lose_answer(1, ErrorClass::Transient);
    assert!(record(2).await.is_err());
    let entries = record(3).await.unwrap();
    assert_eq!(
        entries[0].recorded_at,
        Timestamp::from_millis(2),
        "the entry that was written when the answer was lost"
    );
}
