use std::time::Duration;

use event::{TenantId, Timestamp};
use pipeline::ports::{EventSearch as _, SearchRequest};
use postgres::{PostgresEventSearch, PostgresEventStore};
use testkit::contracts::search::search_contract;
use testkit::contracts::store::DEDUP_WINDOW;

use super::{database, execute, scalar};

/// All events of the first day of 1970.
pub fn request() -> SearchRequest {
    SearchRequest {
        tenant: TenantId::new("acme").unwrap(),
        event_type: None,
        status: None,
        user_id: None,
        dimensions: Vec::new(),
        from: Timestamp::EPOCH,
        to: Timestamp::EPOCH.plus(Duration::from_secs(86_400)),
        after: None,
        limit: 10,
    }
}

#[tokio::test]
async fn searches_keep_the_contract() {
    let database = database().await;
    let store = PostgresEventStore::new(database.clone(), DEDUP_WINDOW);
    search_contract(&PostgresEventSearch::new(database), &store).await;
}

#[tokio::test]
async fn a_search_that_takes_too_long_is_given_up_and_leaves_no_transaction_open() {
    let database = database().await;
    let search = PostgresEventSearch::new(database.clone());
    let blocker = database.connection().await.unwrap();
    blocker.batch_execute("BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE").await.unwrap();
    assert_eq!(search.search(&request()).await.unwrap(), None);
    blocker.batch_execute("COMMIT").await.unwrap();
    assert!(search.search(&request()).await.unwrap().is_some());
    let open = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    assert_eq!(scalar::<i64>(&database, open).await, 0);
}

#[tokio::test]
async fn an_event_from_before_terms_is_found_by_its_time() {
    let database = database().await;
    execute(
        &database,
        "INSERT INTO events (received_day, tenant, event_id, event_type, schema_version, status, received_at,
                             payload_hash, payload, origin_topic, origin_partition, origin_offset, stored_at)
         VALUES ('1970-01-01', 'acme', 'a', 'click', 1, 'valid', 'epoch', '', '{}', 'raw-events', 0, 0, 'epoch')",
    )
    .await;
    let search = PostgresEventSearch::new(database);
    let found = async |request| search.search(&request).await.unwrap().unwrap().events.len();
    assert_eq!(found(request()).await, 1);
    assert_eq!(found(SearchRequest { event_type: Some("click".into()), ..request() }).await, 0);
}
