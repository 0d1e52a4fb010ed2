use async_trait::async_trait;
use event::{EventId, EventKey, Origin, RecordDigest, TenantId};
use pipeline::ports::{LedgerEntry, RiskScore};
use pipeline::{Position, TraceId};
use postgres::{Database, PostgresEventStore, PostgresReplay};
use testkit::contracts::replay::{ReprocessedView, replay_runs_contract, reprocessed_outcomes_contract};
use testkit::contracts::store::DEDUP_WINDOW;
use time::OffsetDateTime;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::database;

struct View(Database);

#[async_trait]
impl ReprocessedView for View {
    async fn outcomes(&self, version: &str) -> Vec<LedgerEntry> {
        let client = self.0.connection().await.unwrap();
        let sql = "SELECT * FROM reprocessed_outcomes WHERE version = $1 ORDER BY topic, partition, record_offset";
        client.query_typed(sql, &[(&version, Type::TEXT)]).await.unwrap().iter().map(entry).collect()
    }
}

fn entry(row: &Row) -> LedgerEntry {
    let key =
        |tenant: &str, id: &str| EventKey { tenant: TenantId::new(tenant).unwrap(), id: EventId::new(id).unwrap() };
    let digest = |column| row.get::<_, Option<&[u8]>>(column).map(|bytes| RecordDigest(bytes.try_into().unwrap()));
    LedgerEntry {
        position: Position::new(row.get::<_, &str>("topic"), row.get("partition"), row.get("record_offset"))
            .in_incarnation(row.get("incarnation")),
        digest: digest("digest"),
        origin: Origin::new(row.get::<_, &str>("origin_topic"), row.get("origin_partition"), row.get("origin_offset"))
            .with_digest(digest("origin_digest")),
        trace_id: row.get::<_, Option<&[u8]>>("trace_id").and_then(|id| TraceId::from_bytes(id.try_into().unwrap())),
        key: row.get::<_, Option<&str>>("tenant").map(|tenant| key(tenant, row.get("event_id"))),
        outcome: row.get::<_, &str>("outcome").parse().unwrap(),
        reason: row.get("reason"),
        risk: row.get::<_, Option<i16>>("risk_score").map(|score| RiskScore {
            score: u8::try_from(score).unwrap(),
            reasons: row.get("risk_reasons"),
            rules_version: row.get::<_, String>("rules_version").into(),
        }),
        recorded_at: row.get::<_, OffsetDateTime>("reprocessed_at").into(),
    }
}

#[tokio::test]
async fn runs_keep_the_contract() {
    replay_runs_contract(&PostgresReplay::new(database().await)).await;
}

#[tokio::test]
async fn reprocessed_outcomes_keep_the_contract() {
    let database = database().await;
    let store = PostgresEventStore::new(database.clone(), DEDUP_WINDOW);
    reprocessed_outcomes_contract(&PostgresReplay::new(database.clone()), &store, &View(database)).await;
}
