use event::Timestamp;
use pipeline::ports::EventStore;
use pipeline::{Outcome, Position};
use postgres::ledger::{self, OffsetRange};
use postgres::{Database, PostgresEventStore};
use testkit::contracts::store::DEDUP_WINDOW;
use testkit::events::closed;

use super::{database, execute};

pub(crate) async fn close(database: &Database, partition: i32, offsets: std::ops::Range<i64>, at: Timestamp) {
    let position = |offset| Position::new("raw-events", partition, offset);
    let records: Vec<_> =
        offsets.map(|offset| closed(position(offset), None, Outcome::Blocked, "block-list")).collect();
    PostgresEventStore::new(database.clone(), DEDUP_WINDOW).record(&records, at).await.unwrap();
}

#[tokio::test]
async fn reconcile_names_what_is_missing() {
    let database = database().await;
    close(&database, 0, 5..25, Timestamp::EPOCH).await;
    close(&database, 1, 0..3, Timestamp::EPOCH).await;
    let whole = ledger::reconcile(&database).await.unwrap();
    assert_eq!(whole.unaccounted(), 0);
    let account = &whole.partitions[0];
    assert_eq!((account.floor_offset, account.next_offset, account.rows), (5, 25, 20));
    assert_eq!(account.outcomes["blocked"], 20);

    execute(&database, "DELETE FROM record_outcomes WHERE partition = 0 AND record_offset IN (5, 10, 11, 24)").await;
    let broken = ledger::reconcile(&database).await.unwrap();
    assert_eq!(broken.unaccounted(), 4);
    let range = |first, last| OffsetRange { first, last };
    assert_eq!(broken.partitions[0].missing, [range(5, 5), range(10, 11), range(24, 24)]);
    assert_eq!(broken.partitions[1].difference, 0);
    assert_eq!(ledger::totals(&database).await.unwrap().outcomes["blocked"], 19);
    let checkpoints = ledger::checkpoints(&database).await.unwrap();
    assert_eq!(checkpoints.iter().map(|checkpoint| checkpoint.next_offset).collect::<Vec<_>>(), [25, 3]);
}

#[tokio::test]
async fn an_empty_ledger_is_balanced() {
    let database = database().await;
    let account = ledger::reconcile(&database).await.unwrap();
    assert!(account.partitions.is_empty());
    assert_eq!(account.unaccounted(), 0);
}
