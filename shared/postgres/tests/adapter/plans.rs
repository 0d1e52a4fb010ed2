//! The statements of the processor use only unique keys, even in tables that have no statistics yet.

use std::time::Duration;

use event::{PayloadHash, TenantId, Timestamp};
use pipeline::Position;
use pipeline::ports::{Claim, ClaimStore, EventStore};
use pipeline::tracked::{Decided, Tracked};
use postgres::{Database, PostgresClaims, PostgresEventStore};
use testkit::contracts::store::DEDUP_WINDOW;
use testkit::events::{event, stored, valid};

use super::{config, database_url, execute, scalar};

fn record(offset: i64) -> Tracked<'static, Decided> {
    let received_at = Timestamp::from_millis(1_800_000_000_000 + offset);
    let event = event(&TenantId::new("acme").unwrap(), &format!("id-{offset}"), "{}", received_at);
    stored(Position::new("raw-events", 0, offset), event, valid(None))
}

#[tokio::test]
async fn only_unique_keys_are_probed() {
    let url = database_url().await;
    let database = Database::connect(&config(&url)).await.unwrap();
    postgres::migrations::apply(&database).await.unwrap();
    for table in ["events_default", "record_outcomes", "claims"] {
        execute(&database, &format!("ALTER TABLE {table} SET (autovacuum_enabled = off)")).await;
    }
    let store = PostgresEventStore::new(database.clone(), DEDUP_WINDOW);
    let claims = PostgresClaims::new(database.clone(), Duration::from_secs(60));
    for batch in 0..8 {
        let records: Vec<_> = (batch * 100..batch * 100 + 200).map(record).collect();
        let wanted: Vec<Claim> = records
            .iter()
            .map(|record| Claim {
                key: record.key().cloned().unwrap(),
                origin: record.origin.clone(),
                payload_hash: PayloadHash::of(b"{}"),
            })
            .collect();
        claims.claim(&wanted, Timestamp::EPOCH).await.unwrap();
        store.record(&records, Timestamp::EPOCH).await.unwrap();
    }
    // A backend reports its statistics when its connection ends, if not before.
    drop((store, claims, database));
    let database = Database::connect(&config(&url)).await.unwrap();
    let probes = "SELECT coalesce(min(idx_scan), 0)::int8 FROM pg_stat_user_tables
                  WHERE relname IN ('events_default', 'record_outcomes', 'claims')";
    while scalar::<i64>(&database, probes).await < 1_600 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let others = "SELECT string_agg(indexrelname::text, ' ') FROM pg_stat_user_indexes
                  WHERE relname IN ('events_default', 'record_outcomes', 'claims')
                    AND indexrelname NOT LIKE '%pkey' AND idx_scan > 0";
    assert_eq!(scalar::<Option<String>>(&database, others).await, None);
    let read = "SELECT sum(seq_tup_read)::int8 FROM pg_stat_user_tables
                WHERE relname IN ('events_default', 'record_outcomes', 'claims')";
    assert_eq!(scalar::<i64>(&database, read).await, 0);
}
