use std::time::Duration;

use event::{EventId, EventKey, Origin, PayloadHash, TenantId, Timestamp};
use pipeline::ports::{Claim, ClaimStore, EventStore};
use pipeline::{Outcome, Position};
use postgres::partitions::{PartitionPolicy, PartitionReport, maintain};
use postgres::{Database, PostgresClaims, PostgresEventStore, ledger, migrations};
use testkit::contracts::store::DEDUP_WINDOW;
use testkit::events::{event, stored, valid};

use super::{database, execute, scalar};

const DAY: Duration = Duration::from_secs(86_400);
const POLICY: PartitionPolicy =
    PartitionPolicy { ahead_days: 2, retention_days: 3, ledger_retention: Duration::from_secs(14 * 86_400) };

fn noon() -> Timestamp {
    Timestamp::parse("2026-11-20T12:00:00Z").unwrap()
}

/// Stores one event received at `at`, at offset `offset`.
async fn store(database: &Database, offset: i64, at: Timestamp) -> Outcome {
    let event = event(&TenantId::new("acme").unwrap(), "a", "{}", at);
    let record = stored(Position::new("raw-events", 0, offset), event, valid(None));
    let store = PostgresEventStore::new(database.clone(), DEDUP_WINDOW);
    store.record(&[record], noon()).await.unwrap()[0].outcome
}

async fn tables(database: &Database) -> String {
    let tables = "SELECT string_agg(inhrelid::regclass::text, ' ' ORDER BY 1::text, inhrelid::regclass::text)
                  FROM pg_inherits WHERE inhparent = 'events'::regclass";
    scalar(database, tables).await
}

#[tokio::test]
async fn days_are_made_ahead_and_a_second_run_does_nothing() {
    let database = database().await;
    let report = maintain(&database, noon(), POLICY).await.unwrap();
    assert_eq!(report.created, ["2026-11-20", "2026-11-21", "2026-11-22"]);
    assert_eq!(maintain(&database, noon(), POLICY).await.unwrap(), PartitionReport::default());
    assert_eq!(tables(&database).await, "events_20261120 events_20261121 events_20261122 events_default");
    assert_eq!(store(&database, 0, noon()).await, Outcome::Valid);
    let place: String = scalar(&database, "SELECT tableoid::regclass::text FROM events").await;
    assert_eq!(place, "events_20261120");
}

#[tokio::test]
async fn a_connection_whose_server_became_read_only_is_replaced() {
    let database = database().await;
    // The pool has this connection only, because nothing ran at the same time.
    execute(&database, "SET default_transaction_read_only = on").await;
    assert_eq!(maintain(&database, noon(), POLICY).await.unwrap().created.len(), 3);
}

#[tokio::test]
async fn events_that_came_first_move_to_their_day() {
    let database = database().await;
    store(&database, 0, noon()).await;
    store(&database, 1, noon().plus(DAY)).await;
    let rows = "SELECT string_agg(e::text, '|' ORDER BY event_id, received_day) FROM events e";
    // Every column has a value, so that none can be left behind without being missed.
    let fill =
        "UPDATE events SET trace_id = '\\x0102030405060708090a0b0c0d0e0f10', risk_score = 1, risk_reasons = '{r}',
                rules_version = '1', scored_at = stored_at, occurred_at = received_at, ip_address = '203.0.113.7',
                user_agent = 'a', user_id = 'u'";
    execute(&database, fill).await;
    let nulls = "SELECT count(*) FROM events e, jsonb_each(to_jsonb(e)) AS c (name, value) WHERE value = 'null'";
    assert_eq!(scalar::<i64>(&database, nulls).await, 0, "a new column needs a value here");
    let before: String = scalar(&database, rows).await;
    let report = maintain(&database, noon(), POLICY).await.unwrap();
    assert_eq!(report.moved_events, 2);
    assert_eq!(scalar::<String>(&database, rows).await, before, "with every column");
    let left: i64 = scalar(&database, "SELECT count(*) FROM ONLY events_default").await;
    assert_eq!(left, 0);
    assert_eq!(store(&database, 2, noon()).await, Outcome::Duplicate, "and are still known");
    // A past day, for which replayed events came.
    let past = Timestamp::from_millis(noon().as_millis() - 2 * 86_400_000);
    store(&database, 3, past).await;
    let report = maintain(&database, noon(), POLICY).await.unwrap();
    assert_eq!((report.created.as_slice(), report.moved_events), (&["2026-11-18".to_owned()][..], 1));
}

#[tokio::test]
async fn what_is_past_its_retention_goes() {
    let database = database().await;
    maintain(&database, noon(), POLICY).await.unwrap();
    store(&database, 0, noon()).await;
    store(&database, 1, Timestamp::EPOCH).await;
    store(&database, 2, Timestamp::parse("9999-12-31T00:00:00Z").unwrap()).await;
    let still = maintain(&database, noon().plus(DAY * 3), POLICY).await.unwrap();
    assert!(still.dropped.is_empty(), "kept for three whole days after its own");
    assert_eq!(still.deleted_events, 1, "an old day without a partition of its own");
    let report = maintain(&database, noon().plus(DAY * 4), POLICY).await.unwrap();
    assert_eq!(report.dropped, ["2026-11-20"]);
    assert_eq!(report.deleted_events, 1, "a day far in the future, which never gets a partition of its own");
    let left: i64 = scalar(&database, "SELECT count(*) FROM events").await;
    assert_eq!(left, 0);
}

#[tokio::test]
async fn batches_that_nobody_counted_go_with_their_ledger_rows() {
    let database = database().await;
    store(&database, 0, noon()).await;
    let queue = "SELECT count(*) FROM unaggregated";
    assert_eq!(maintain(&database, noon().plus(DAY * 13), POLICY).await.unwrap().deleted_uncounted, 0);
    assert_eq!(scalar::<i64>(&database, queue).await, 1);
    assert_eq!(maintain(&database, noon().plus(DAY * 15), POLICY).await.unwrap().deleted_uncounted, 1);
    assert_eq!(scalar::<i64>(&database, queue).await, 0);
}

#[tokio::test]
async fn sketches_of_addresses_go_with_the_ledger_rows() {
    let database = database().await;
    execute(
        &database,
        "INSERT INTO aggregate_addresses VALUES
             ('acme', '2026-11-20T11:00:00Z', '', '', '', ''), ('acme', '2026-11-21T11:00:00Z', '', '', '', '')",
    )
    .await;
    assert_eq!(maintain(&database, noon().plus(DAY * 13), POLICY).await.unwrap().deleted_address_hours, 0);
    assert_eq!(maintain(&database, noon().plus(DAY * 14), POLICY).await.unwrap().deleted_address_hours, 1);
    assert_eq!(scalar::<i64>(&database, "SELECT count(*) FROM aggregate_addresses").await, 1);
}

#[tokio::test]
async fn expired_claims_go_and_others_stay() {
    let database = database().await;
    let claims = PostgresClaims::new(database.clone(), DAY);
    let claim = |id: &str| Claim {
        key: EventKey { tenant: TenantId::new("acme").unwrap(), id: EventId::new(id).unwrap() },
        origin: Origin::new("raw-events", 0, 0),
        payload_hash: PayloadHash::of(b""),
    };
    claims.claim(&[claim("old")], noon()).await.unwrap();
    claims.claim(&[claim("new")], noon().plus(DAY / 2)).await.unwrap();
    let report = maintain(&database, noon().plus(DAY), POLICY).await.unwrap();
    assert_eq!(report.deleted_claims, 1);
    assert_eq!(scalar::<String>(&database, "SELECT event_id FROM claims").await, "new");
}

#[tokio::test]
async fn the_ledger_is_cut_from_below_and_stays_balanced() {
    let database = database().await;
    super::ledger::close(&database, 0, 0..10, noon()).await;
    super::ledger::close(&database, 0, 10..15, noon().plus(DAY)).await;
    super::ledger::close(&database, 1, 0..4, noon()).await;
    let now = noon().plus(POLICY.ledger_retention).plus(DAY / 2);
    let report = maintain(&database, now, POLICY).await.unwrap();
    assert_eq!((report.deleted_outcomes, report.forgotten_offsets), (14, 0));
    let account = ledger::reconcile(&database).await.unwrap();
    assert_eq!(account.unaccounted(), 0);
    assert_eq!((account.partitions[0].floor_offset, account.partitions[0].next_offset), (10, 15));
    assert_eq!((account.partitions[1].floor_offset, account.partitions[1].rows), (4, 0));
    super::ledger::close(&database, 1, 4..6, now).await;
    assert_eq!(ledger::reconcile(&database).await.unwrap().unaccounted(), 0);
}

#[tokio::test]
async fn a_gap_that_is_cut_off_is_told() {
    let database = database().await;
    super::ledger::close(&database, 0, 0..10, noon()).await;
    super::execute(&database, "DELETE FROM record_outcomes WHERE record_offset IN (3, 4)").await;
    let report = maintain(&database, noon().plus(POLICY.ledger_retention).plus(DAY), POLICY).await.unwrap();
    assert_eq!((report.deleted_outcomes, report.forgotten_offsets), (8, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_runs_while_events_flow_are_safe() {
    let database = super::empty_database().await;
    let runs = (0..3).map(async |_| {
        let applied = migrations::apply(&database).await.unwrap();
        (applied.len(), maintain(&database, noon(), POLICY).await.unwrap())
    });
    let reports = futures::future::join_all(runs).await;
    let migrations = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap().count();
    assert_eq!(reports.iter().map(|(applied, _)| applied).sum::<usize>(), migrations, "each migration once");
    assert_eq!(reports.iter().map(|(_, report)| report.created.len()).sum::<usize>(), 3, "each day once");

    let keep_all = PartitionPolicy { retention_days: 30, ledger_retention: DAY * 30, ..POLICY };
    let storing = async {
        for offset in 0..100 {
            store(&database, offset, noon().plus(DAY * u32::try_from(offset % 20).unwrap())).await;
        }
    };
    let maintaining = async {
        for day in 0..17 {
            maintain(&database, noon().plus(DAY * day), keep_all).await.unwrap();
        }
    };
    tokio::join!(storing, maintaining);
    let twice = "SELECT string_agg(place, '; ') FROM (
                     SELECT received_day::text || ': '
                            || string_agg(tableoid::regclass || ' has offset ' || origin_offset, ', ') AS place
                     FROM events GROUP BY received_day HAVING count(*) > 1) rows";
    assert_eq!(scalar::<Option<String>>(&database, twice).await, None, "an event is stored once");
    let account = ledger::totals(&database).await.unwrap();
    assert_eq!((account.events, account.outcomes["duplicate"], account.counted), (20, 80, 20));
}
