use std::collections::BTreeMap;

use event::Timestamp;
use pipeline::ports::EventStore;
use pipeline::{Outcome, Position};
use postgres::ledger::{self, OffsetRange, OffsetSpan};
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

#[tokio::test]
async fn outcomes_are_counted_by_groups_of_spans() {
    let database = database().await;
    close(&database, 0, 0..10, Timestamp::EPOCH).await;
    close(&database, 1, 0..4, Timestamp::EPOCH).await;
    execute(&database, "UPDATE record_outcomes SET incarnation = 1 WHERE partition = 0 AND record_offset = 2").await;
    let span = |partition, first, end| OffsetSpan { partition, first, end };
    let groups = [vec![span(0, 0, 4), span(1, 3, 9)], vec![], vec![span(0, 4, 4), span(2, 0, 9)], vec![span(0, 4, 10)]];
    let outcomes = ledger::outcomes_in(&database, "raw-events", &groups).await.unwrap();
    let blocked: Vec<i64> = outcomes.iter().map(|of| of.get("blocked").copied().unwrap_or_default()).collect();
    assert_eq!(blocked, [4, 0, 0, 6], "without the row of another log");
    assert_eq!(ledger::outcomes_in(&database, "other", &groups).await.unwrap(), vec![BTreeMap::new(); 4]);
}
