//! The hot path probes unique keys and nothing else, also in tables that have no statistics yet.

use std::time::Duration;

use event::{EventId, EventKey, PayloadHash, TenantId, Timestamp};
use pipeline::ports::{Claim, ClaimStore, EventRow, EventStore, Verdict, VerdictKind};
use pipeline::{Outcome, Position};
use postgres::{Database, PostgresClaims, PostgresEventStore};
use testkit::contracts::store::DEDUP_WINDOW;

use super::{config, database_url, execute, scalar};

fn verdict(offset: i64) -> Verdict {
    let position = Position::new("raw-events", 0, offset);
    let row = EventRow {
        event_type: "click".into(),
        schema_version: 1,
        received_at: Timestamp::from_millis(1_800_000_000_000 + offset),
        occurred_at: None,
        ip: Some([203, 0, 113, 7].into()),
        user_agent: None,
        user_id: None,
        payload_hash: PayloadHash::of(b"{}"),
        payload: "{}".into(),
        risk: None,
    };
    let key = EventKey { tenant: TenantId::new("acme").unwrap(), id: EventId::new(&format!("id-{offset}")).unwrap() };
    let kind = VerdictKind::Store { outcome: Outcome::Valid, row: Box::new(row) };
    Verdict { origin: position.as_origin(), position, key: Some(key), kind }
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
        let verdicts: Vec<Verdict> = (batch * 100..batch * 100 + 200).map(verdict).collect();
        let wanted: Vec<Claim> = verdicts
            .iter()
            .map(|verdict| Claim {
                key: verdict.key.clone().unwrap(),
                origin: verdict.origin.clone(),
                payload_hash: PayloadHash::of(b"{}"),
            })
            .collect();
        claims.claim(&wanted, Timestamp::EPOCH).await.unwrap();
        store.record(verdicts, Timestamp::EPOCH).await.unwrap();
    }
    // A backend reports its figures at the latest when its connection ends.
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
