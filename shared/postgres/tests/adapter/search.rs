use std::time::Duration;

use event::{TenantId, Timestamp};
use pipeline::Position;
use pipeline::ports::{EventSearch as _, EventStore as _, SearchRequest};
use postgres::{PostgresEventSearch, PostgresEventStore};
use testkit::contracts::search::search_contract;
use testkit::contracts::store::DEDUP_WINDOW;
use testkit::events::{event, stored, valid};

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

/// What is asked for may be in the newest events, in later ones, or in both.
#[tokio::test]
async fn what_few_events_have_is_found_behind_any_number_of_others() {
    let database = database().await;
    let store = PostgresEventStore::new(database.clone(), DEDUP_WINDOW);
    let at = |number: i64| Timestamp::from_millis(number * 10_000);
    let record = |number: i64| {
        let campaign = if number % 1000 == 7 { "rare" } else { "frequent" };
        let json = format!(r#"{{"campaign_id":"{campaign}"}}"#);
        let event = event(&TenantId::new("acme").unwrap(), &format!("id-{number}"), &json, at(number));
        stored(Position::new("raw-events", 0, number), event, valid(None))
    };
    for batch in 0..8 {
        let records: Vec<_> = (batch * 1000..batch * 1000 + 1000).map(record).collect();
        store.record(&records, Timestamp::EPOCH).await.unwrap();
    }
    let search = PostgresEventSearch::new(database);
    let found = async |campaign: &str, limit, after| {
        let dimensions = vec![("campaign_id", campaign.to_owned())];
        let page = search.search(&SearchRequest { dimensions, limit, after, ..request() }).await.unwrap().unwrap();
        let ids = page.events.iter().map(|event| event.place.id.as_str().trim_start_matches("id-").to_owned());
        (ids.collect::<Vec<_>>(), page.events.last().map(|event| event.place.clone()), page.has_more)
    };
    let (first, last, has_more) = found("rare", 6, None).await;
    assert_eq!((first.join(" ").as_str(), has_more), ("7007 6007 5007 4007 3007 2007", true));
    assert_eq!(found("rare", 6, last).await.0, ["1007", "7"]);
    let (newest, _, has_more) = found("frequent", 3, None).await;
    assert_eq!((newest.join(" ").as_str(), has_more), ("7999 7998 7997", true));
    assert_eq!(found("none", 3, None).await.0, [""; 0]);
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
