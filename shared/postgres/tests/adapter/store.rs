use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use event::{EventId, EventKey, Facts, IdSource, Origin, PayloadHash, RecordDigest, TenantId, Timestamp};
use pipeline::ports::EventStore;
use pipeline::tracked::{Decided, Event, Tracked};
use pipeline::{ErrorClass, Outcome, Position, TraceId};
use postgres::{Database, PostgresEventStore};
use testkit::contracts::store::{DEDUP_WINDOW, Span, StoreView, StoredRow, store_contract};
use testkit::events::{event, payload, stored, valid};
use time::OffsetDateTime;
use tokio_postgres::types::Type;

use super::{database, execute, scalar};

pub struct View(pub Database);

#[async_trait]
impl StoreView for View {
    async fn events(&self, tenant: &TenantId) -> Vec<StoredRow> {
        let client = self.0.connection().await.unwrap();
        let rows = client
            .query_typed("SELECT * FROM events WHERE tenant = $1", &[(&tenant.as_str(), Type::TEXT)])
            .await
            .unwrap();
        let time = |at: OffsetDateTime| Timestamp::from(at);
        rows.iter()
            .map(|row| {
                let key = EventKey { tenant: tenant.clone(), id: EventId::new(row.get("event_id")).unwrap() };
                let payload = payload(row.get("payload"));
                let payload_hash = PayloadHash(row.get::<_, &[u8]>("payload_hash").try_into().unwrap());
                let text = |column| row.get::<_, Option<String>>(column).map(Cow::Owned);
                let event = Event {
                    id_source: IdSource::infer(payload_hash, &key.id, &payload.0),
                    event_type: row.get::<_, String>("event_type").into(),
                    schema_version: u32::try_from(row.get::<_, i64>("schema_version")).unwrap(),
                    received_at: time(row.get("received_at")),
                    undated: false,
                    occurred_at: row.get::<_, Option<_>>("occurred_at").map(time),
                    ip: row.get("ip_address"),
                    user_agent: text("user_agent"),
                    user_id: text("user_id"),
                    // The row has no facts; the events of the suite are clicks.
                    facts: Facts::of_data("click", payload.as_str()),
                    payload_hash,
                    payload,
                    key,
                };
                StoredRow {
                    event,
                    origin: Origin::new(
                        row.get::<_, &str>("origin_topic"),
                        row.get("origin_partition"),
                        row.get("origin_offset"),
                    )
                    .with_digest(
                        row.get::<_, Option<&[u8]>>("origin_digest")
                            .map(|bytes| RecordDigest(bytes.try_into().unwrap())),
                    ),
                    trace_id: row
                        .get::<_, Option<&[u8]>>("trace_id")
                        .and_then(|bytes| TraceId::from_bytes(bytes.try_into().unwrap())),
                    outcome: row.get::<_, &str>("status").parse().unwrap(),
                    risk: row.get::<_, Option<i16>>("risk_score").map(|score| pipeline::ports::RiskScore {
                        score: u8::try_from(score).unwrap(),
                        reasons: row.get("risk_reasons"),
                        rules_version: row.get::<_, String>("rules_version").into(),
                    }),
                }
            })
            .collect()
    }

    async fn counted(&self, tenant: &TenantId, outcome: Outcome) -> u64 {
        let client = self.0.connection().await.unwrap();
        let sum = "SELECT coalesce(sum(events), 0)::int8 FROM event_counts_hourly WHERE tenant = $1 AND status = $2";
        let row = client
            .query_typed_one(sum, &[(&tenant.as_str(), Type::TEXT), (&outcome.as_str(), Type::TEXT)])
            .await
            .unwrap();
        u64::try_from(row.get::<_, i64>(0)).unwrap()
    }

    async fn span(&self, topic: &str, partition: i32) -> Option<Span> {
        let client = self.0.connection().await.unwrap();
        let span = "SELECT floor_offset, next_offset FROM checkpoints WHERE topic = $1 AND partition = $2";
        let row = client.query_typed_opt(span, &[(&topic, Type::TEXT), (&partition, Type::INT4)]).await.unwrap()?;
        Some(Span { floor: row.get(0), next: row.get(1) })
    }
}

fn store(database: &Database) -> PostgresEventStore {
    PostgresEventStore::new(database.clone(), DEDUP_WINDOW)
}

pub fn record(offset: i64, id: &str) -> Tracked<'static, Decided> {
    let received_at = Timestamp::parse("2026-11-20T12:00:00Z").unwrap();
    let event = event(&TenantId::new("acme").unwrap(), id, "{}", received_at);
    stored(Position::new("raw-events", 0, offset), event, valid(None))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_keeps_the_contract() {
    let database = database().await;
    store_contract(&store(&database), &View(database.clone())).await;
}

#[tokio::test]
async fn a_failed_batch_leaves_nothing_and_its_connection_is_usable() {
    let database = database().await;
    execute(&database, "ALTER TABLE event_counts_hourly ADD CHECK (events < 2)").await;
    let batch = [record(0, "a"), record(1, "b")];
    let error = store(&database).record(&batch, Timestamp::EPOCH).await.unwrap_err();
    assert_eq!((error.class, error.tag), (ErrorClass::Transient, "schema"), "{}", error.source);
    for table in ["events", "record_outcomes", "event_counts_hourly", "checkpoints"] {
        let rows: i64 = scalar(&database, &format!("SELECT count(*) FROM {table}")).await;
        assert_eq!(rows, 0, "{table}");
    }
    let entries = store(&database).record(&[record(0, "a")], Timestamp::EPOCH).await.unwrap();
    assert_eq!(entries[0].outcome, Outcome::Valid);
}

/// The server quotes the row in the details of its error. What we tell goes into logs.
#[tokio::test]
async fn an_error_does_not_tell_the_row_that_it_is_about() {
    let database = database().await;
    execute(&database, "ALTER TABLE events ADD CONSTRAINT no_secret CHECK (event_id <> 'a-secret')").await;
    let error = store(&database).record(&[record(0, "a-secret")], Timestamp::EPOCH).await.unwrap_err();
    let told = format!("{}; {error:?}", pipeline::chain(&error));
    assert!(told.contains("23514") && told.contains("no_secret"), "{told}");
    assert!(!told.contains("a-secret"), "{told}");
}

#[tokio::test]
async fn a_caller_that_gives_up_leaves_no_transaction_open() {
    let database = database().await;
    let blocker = database.connection().await.unwrap();
    blocker.batch_execute("BEGIN; LOCK TABLE checkpoints IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let store = store(&database);
    let batch = [record(0, "a")];
    let recording = store.record(&batch, Timestamp::EPOCH);
    assert!(tokio::time::timeout(Duration::from_millis(300), recording).await.is_err());
    blocker.batch_execute("COMMIT").await.unwrap();
    // The abandoned transaction was next to get the lock. It was rolled back and blocks nobody.
    let entries = store.record(&[record(0, "a")], Timestamp::from_millis(7)).await.unwrap();
    assert_eq!(entries[0].recorded_at, Timestamp::from_millis(7));
    let open: i64 = scalar(
        &database,
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND state LIKE 'idle in transaction%'",
    )
    .await;
    assert_eq!(open, 0);
}

/// Records in these states of the database wait; none of them becomes a dead letter.
#[tokio::test]
async fn a_fault_of_the_store_is_not_the_records() {
    let faults = [
        ("DROP TABLE events_default", "schema"),
        ("ALTER TABLE events ALTER COLUMN schema_version TYPE boolean USING schema_version > 0", "schema"),
        ("ALTER TABLE events DROP COLUMN user_agent", "schema"),
        ("ALTER TABLE record_outcomes ADD COLUMN extra int NOT NULL", "schema"),
        ("SET default_transaction_read_only = on", "read-only"),
    ];
    for (fault, tag) in faults {
        let database = database().await;
        execute(&database, fault).await;
        let recorded = store(&database).record(&[record(0, "a")], Timestamp::EPOCH).await;
        let Err(error) = recorded else { panic!("it was recorded in spite of {fault}") };
        assert_eq!((error.class, error.tag), (ErrorClass::Transient, tag), "{fault}: {}", error.source);
    }
}

#[tokio::test]
async fn a_log_that_was_made_again_is_announced_once() {
    static BEGUN: AtomicUsize = AtomicUsize::new(0);
    let store = store(&database().await).announcing(|topic| {
        assert_eq!(topic, "raw-events");
        BEGUN.fetch_add(1, Ordering::Relaxed);
    });
    let another = || Tracked { digest: Some(RecordDigest([9; RecordDigest::BYTES])), ..record(0, "b") };
    for (record, begun) in [(record(0, "a"), 0), (another(), 1), (another(), 1), (record(0, "a"), 1)] {
        store.record(&[record], Timestamp::EPOCH).await.unwrap();
        assert_eq!(BEGUN.load(Ordering::Relaxed), begun);
    }
}

/// Without the connection being dropped, each of these would fail for as long as it lives.
#[tokio::test]
async fn a_connection_that_cannot_work_any_more_is_replaced() {
    let faults =
        ["SET default_transaction_read_only = on", "DEALLOCATE ALL", "SELECT pg_terminate_backend(pg_backend_pid())"];
    for fault in faults {
        let database = database().await;
        let store = store(&database);
        store.record(&[record(0, "a")], Timestamp::EPOCH).await.unwrap();
        // The pool has this connection only, because nothing ran at the same time.
        let broken = database.connection().await.unwrap().batch_execute(fault).await;
        assert_eq!(broken.is_err(), fault.contains("terminate"), "{fault}");
        let mut attempts = 0;
        while let Err(error) = store.record(&[record(1, "b")], Timestamp::EPOCH).await {
            assert_eq!(error.class, ErrorClass::Transient, "{fault}: {}", error.source);
            attempts += 1;
            assert!(attempts < 2, "{fault}: {}", error.source);
        }
    }
}

#[tokio::test]
async fn a_missing_schema_is_transient() {
    let database = super::empty_database().await;
    let error = store(&database).record(&[record(0, "a")], Timestamp::EPOCH).await.unwrap_err();
    assert_eq!((error.class, error.tag), (ErrorClass::Transient, "schema"));
}
