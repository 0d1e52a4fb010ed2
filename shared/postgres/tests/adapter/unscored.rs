use std::time::Duration;

use event::Timestamp;
use pipeline::Outcome;
use pipeline::ports::{EventStore as _, LateScore, RiskScore, UnscoredEvent, UnscoredEvents as _};
use postgres::{Database, PostgresEventStore, PostgresUnscoredEvents};
use testkit::contracts::store::DEDUP_WINDOW;
use testkit::contracts::unscored::unscored_contract;

use super::store::{View, record};
use super::{database, execute, scalar};

const NOW: Timestamp = Timestamp::EPOCH;

async fn stores(database: &Database, ids: &[&str]) -> Vec<UnscoredEvent> {
    let records: Vec<_> = ids.iter().zip(0..).map(|(id, offset)| record(offset, id)).collect();
    let store = PostgresEventStore::new(database.clone(), DEDUP_WINDOW);
    store.record(&records, NOW).await.unwrap();
    PostgresUnscoredEvents::new(database.clone()).find(None, 1_000).await.unwrap()
}

fn fraud(events: &[UnscoredEvent]) -> Vec<LateScore> {
    let risk = RiskScore { score: 100, reasons: Vec::new(), rules_version: "1".into() };
    events.iter().map(|event| LateScore { event: event.clone(), risk: risk.clone(), outcome: Outcome::Fraud }).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_scores_keep_the_contract() {
    let database = database().await;
    let store = PostgresEventStore::new(database.clone(), DEDUP_WINDOW);
    let events = PostgresUnscoredEvents::new(database.clone());
    unscored_contract(&events, &store, &View(database)).await;
}

#[tokio::test]
async fn the_contract_holds_in_day_partitions_too() {
    let database = database().await;
    let noon = Timestamp::parse("2026-11-20T12:00:00Z").unwrap();
    let policy = postgres::partitions::PartitionPolicy {
        retention_days: 90,
        ledger_retention: Duration::from_secs(90 * 86_400),
        ahead_days: 7,
    };
    postgres::partitions::maintain(&database, noon, policy).await.unwrap();
    let store = PostgresEventStore::new(database.clone(), DEDUP_WINDOW);
    unscored_contract(&PostgresUnscoredEvents::new(database.clone()), &store, &View(database)).await;
}

#[tokio::test]
async fn a_failed_settlement_leaves_everything_as_it_was() {
    let database = database().await;
    let found = stores(&database, &["a", "b"]).await;
    let events = PostgresUnscoredEvents::new(database.clone());
    execute(&database, "ALTER TABLE event_counts_hourly ADD CONSTRAINT no_fraud CHECK (status <> 'fraud')").await;
    assert!(events.settle(fraud(&found), NOW).await.is_err());
    assert_eq!(events.count().await.unwrap(), 2);
    assert_eq!(events.unpublished(None, 10).await.unwrap(), []);
    let counted = "SELECT events FROM event_counts_hourly WHERE status = 'valid'";
    assert_eq!(scalar::<i64>(&database, counted).await, 2);
    execute(&database, "ALTER TABLE event_counts_hourly DROP CONSTRAINT no_fraud").await;
    assert_eq!(events.settle(fraud(&found), NOW).await.unwrap().len(), 2);
}

#[tokio::test]
async fn an_event_that_somebody_else_is_settling_is_passed_over_without_waiting() {
    let database = database().await;
    let found = stores(&database, &["a", "b"]).await;
    let events = PostgresUnscoredEvents::new(database.clone());
    let other = database.connection().await.unwrap();
    other.batch_execute("BEGIN; SELECT 1 FROM events WHERE event_id = 'a' FOR UPDATE").await.unwrap();
    let settled = events.settle(fraud(&found), NOW).await.unwrap();
    assert_eq!(settled, fraud(&found[1..]));
    other.batch_execute("ROLLBACK").await.unwrap();
    let settled = events.settle(fraud(&found), NOW).await.unwrap();
    assert_eq!(settled, fraud(&found[..1]));
}

#[tokio::test]
async fn a_page_of_the_outbox_is_bounded_in_bytes_but_never_empty() {
    let database = database().await;
    let found = stores(&database, &["a", "b", "c"]).await;
    execute(&database, "UPDATE events SET payload = '\"' || repeat('x', 5000000) || '\"' WHERE event_id <> 'c'").await;
    let events = PostgresUnscoredEvents::new(database);
    events.settle(fraud(&found), NOW).await.unwrap();
    let page = events.unpublished(None, 10).await.unwrap();
    assert_eq!(page.len(), 1);
    let page = events.unpublished(Some(&page[0].place()), 10).await.unwrap();
    assert_eq!(page.len(), 1);
    let page = events.unpublished(Some(&page[0].place()), 10).await.unwrap();
    assert_eq!(page[0].event.key.id.as_str(), "c");
}
