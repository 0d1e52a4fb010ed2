use std::time::Duration;

use event::{EventId, EventKey, TenantId};
use pipeline::ports::EventHistory as _;
use pipeline::{ErrorClass, Position};
use postgres::{PostgresEventHistory, PostgresEventStore};
use testkit::contracts::history::history_contract;
use testkit::contracts::store::DEDUP_WINDOW;

use super::{database, empty_database, execute, scalar};

fn key() -> EventKey {
    EventKey { tenant: TenantId::new("acme").unwrap(), id: EventId::new("a").unwrap() }
}

#[tokio::test]
async fn the_history_keeps_the_contract() {
    let database = database().await;
    let store = PostgresEventStore::new(database.clone(), DEDUP_WINDOW);
    history_contract(&PostgresEventHistory::new(database), &store).await;
}

#[tokio::test]
async fn a_late_score_shows_in_the_row_and_not_in_the_ledger() {
    let database = database().await;
    execute(
        &database,
        "INSERT INTO events (received_day, tenant, event_id, event_type, schema_version, status, received_at,
                             payload_hash, payload, risk_score, risk_reasons, rules_version, scored_at, origin_topic,
                             origin_partition, origin_offset, stored_at)
         VALUES ('1970-01-01', 'acme', 'a', 'click', 1, 'fraud', 'epoch', '', '{}', 100, '{private}', '1',
                 '1970-01-01T00:01:00Z', 'raw-events', 0, 0, 'epoch');
         INSERT INTO record_outcomes (topic, partition, record_offset, origin_topic, origin_partition, origin_offset,
                                      tenant, event_id, outcome, reason, recorded_at)
         VALUES ('raw-events', 0, 0, 'raw-events', 0, 0, 'acme', 'a', 'valid', '', 'epoch')",
    )
    .await;
    let history = PostgresEventHistory::new(database).look_up(&key(), &[]).await.unwrap();
    assert_eq!((history.stored[0].outcome.as_str(), history.records[0].outcome.as_str()), ("fraud", "valid"));
    assert_eq!(history.stored[0].scored_at.unwrap().as_millis(), 60_000);
    assert_eq!((history.stored[0].risk.as_ref().unwrap().score, &history.records[0].risk), (100, &None));
}

#[tokio::test]
async fn a_failed_look_up_leaves_no_transaction_open() {
    let database = empty_database().await;
    let history = PostgresEventHistory::new(database.clone());
    let error = history.look_up(&key(), &[Position::new("raw-events", 0, 0)]).await.unwrap_err();
    assert_eq!((error.class, error.tag), (ErrorClass::Transient, "schema"));

    postgres::migrations::apply(&database).await.unwrap();
    let blocker = database.connection().await.unwrap();
    blocker.batch_execute("BEGIN; LOCK TABLE record_outcomes IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let (key, patience) = (key(), Duration::from_millis(300));
    assert!(tokio::time::timeout(patience, history.look_up(&key, &[])).await.is_err(), "the caller gave up");
    blocker.batch_execute("COMMIT").await.unwrap();
    // The same connections still work, and the statements that were given up have ended.
    for _ in 0..16 {
        assert!(history.look_up(&key, &[]).await.unwrap().is_unknown());
    }
    let open = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    assert_eq!(scalar::<i64>(&database, open).await, 0);
}
