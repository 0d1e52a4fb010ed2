use std::time::Duration;

use event::{TenantId, Timestamp};
use pipeline::Position;
use pipeline::ports::EventStore;
use pipeline::tracked::{Decided, Tracked};
use postgres::fingerprint::fingerprint;
use postgres::lost_events::{LostEvents, TenantLoss, lost_events};
use postgres::partitions::{PartitionPolicy, maintain};
use postgres::{Database, PostgresEventStore};
use testkit::contracts::store::DEDUP_WINDOW;
use testkit::events::{event, stored, valid};

use super::{database, execute};

const DAY: Duration = Duration::from_secs(86_400);
const POLICY: PartitionPolicy = PartitionPolicy { ahead_days: 1, retention_days: 3, ledger_retention: Duration::MAX };

fn noon() -> Timestamp {
    Timestamp::parse("2026-11-20T12:00:00Z").unwrap()
}

fn store(database: &Database) -> PostgresEventStore {
    PostgresEventStore::new(database.clone(), DEDUP_WINDOW)
}

fn record(offset: i64, received_at: Timestamp) -> Tracked<'static, Decided> {
    let event = event(&TenantId::new("acme").unwrap(), &format!("e-{offset}"), "{}", received_at);
    stored(Position::new("raw-events", 0, offset), event, valid(None))
}

/// An event of each of the offsets 0 to 3; the second was received a year before it was recorded.
async fn four_events(database: &Database) -> Vec<Tracked<'static, Decided>> {
    maintain(database, noon(), POLICY).await.unwrap();
    let year_ago = Timestamp::from_millis(noon().as_millis() - 365 * 86_400_000);
    let records = vec![record(0, noon()), record(1, year_ago), record(2, noon()), record(3, noon().plus(DAY))];
    store(database).record(&records, noon()).await.unwrap();
    records
}

fn offsets(lost: &LostEvents) -> Vec<i64> {
    lost.named.iter().map(|absent| absent.position.offset).collect()
}

#[tokio::test]
async fn a_deleted_row_is_named_and_put_back_once() {
    let database = database().await;
    let records = four_events(&database).await;
    let before = fingerprint(&database).await.unwrap();
    assert_eq!(lost_events(&database, 9).await.unwrap(), LostEvents::default());

    execute(&database, "DELETE FROM events WHERE event_id IN ('e-0', 'e-2')").await;
    let lost = lost_events(&database, 9).await.unwrap();
    assert_eq!(lost.tenants, [TenantLoss { tenant: "acme".to_owned(), lost: 2, absent: 2 }]);
    assert_eq!(offsets(&lost), [0, 2]);
    assert_eq!((lost.named[1].event_id.as_str(), lost.named[1].outcome.as_str()), ("e-2", "valid"));
    assert_eq!(offsets(&lost_events(&database, 1).await.unwrap()), [0], "as many as asked for");

    store(&database).record(&records, noon()).await.unwrap();
    assert_eq!(lost_events(&database, 9).await.unwrap(), lost, "a redelivery puts nothing back");
    for time in ["first", "second"] {
        // Each record twice, as two objects of the archive may have it.
        let twice = [records.clone(), records.clone()].concat();
        store(&database).putting_back().record(&twice, noon()).await.unwrap();
        assert_eq!(fingerprint(&database).await.unwrap(), before, "the {time} time");
    }
}

#[tokio::test]
async fn what_has_expired_is_not_lost() {
    let database = database().await;
    four_events(&database).await;
    // Deletes the event of a year ago, which never had a partition of its day.
    assert_eq!(maintain(&database, noon(), POLICY).await.unwrap().deleted_events, 1);
    assert_eq!(lost_events(&database, 9).await.unwrap(), LostEvents::default());
    execute(&database, "DELETE FROM events WHERE event_id = 'e-3'").await;
    let lost = lost_events(&database, 9).await.unwrap();
    assert_eq!(lost.tenants, [TenantLoss { tenant: "acme".to_owned(), lost: 1, absent: 2 }]);
    // Drops the first day; the event of the second is still lost.
    let report = maintain(&database, noon().plus(DAY * 4), POLICY).await.unwrap();
    assert_eq!(report.dropped, ["2026-11-20"]);
    assert_eq!(lost_events(&database, 9).await.unwrap(), LostEvents::default(), "recorded before the oldest day");
    store(&database).record(&[record(4, noon().plus(DAY * 4))], noon().plus(DAY * 4)).await.unwrap();
    execute(&database, "TRUNCATE events, event_counts_hourly").await;
    let lost = lost_events(&database, 9).await.unwrap();
    assert_eq!((offsets(&lost), lost.count()), (vec![4], 1), "without the counts");
}

#[tokio::test]
async fn without_any_partition_nothing_has_expired() {
    let database = database().await;
    store(&database).record(&[record(0, noon())], noon()).await.unwrap();
    execute(&database, "DELETE FROM events").await;
    assert_eq!(lost_events(&database, 9).await.unwrap().count(), 1);
}
