//! What is known of one event.

use std::net::IpAddr;

use event::{EventKey, Origin, Timestamp};
use pipeline::Outcome;
use pipeline::ports::{LedgerEntry, RiskScore};
use time::OffsetDateTime;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::database::Database;
use crate::error::PostgresError;
use crate::ledger::{Corrupt, entry_from_row, risk_from_row};

/// A row of `events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// `valid` or `fraud`.
    pub outcome: Outcome,
    pub event_type: String,
    pub origin: Origin,
    pub received_at: Timestamp,
    pub occurred_at: Option<Timestamp>,
    pub ip: Option<IpAddr>,
    pub user_id: Option<String>,
    /// The client's JSON, byte for byte.
    pub payload: String,
    pub risk: Option<RiskScore>,
    pub stored_at: Timestamp,
}

/// An event's row, and the records that came to something else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Usually none or one; one per deduplication window at most. Oldest first.
    pub stored: Vec<StoredEvent>,
    /// Copies, blocked and dead-lettered records, in the order they were recorded, at most a hundred.
    pub others: Vec<LedgerEntry>,
}

impl History {
    pub fn is_empty(&self) -> bool {
        self.stored.is_empty() && self.others.is_empty()
    }
}

/// Looks an event up. One probe of the unique key per day partition, and one of the ledger.
///
/// # Errors
/// If the database fails.
pub async fn of_event(database: &Database, key: &EventKey) -> Result<History, PostgresError> {
    const EVENTS: &str = "
        SELECT status, event_type, origin_topic, origin_partition, origin_offset, received_at, occurred_at, ip_address,
               user_id, payload, risk_score, risk_reasons, rules_version, stored_at
        FROM events WHERE tenant = $1 AND event_id = $2 ORDER BY received_at";
    const OTHERS: &str = "
        SELECT * FROM record_outcomes
        WHERE tenant = $1 AND event_id = $2 AND outcome NOT IN ('valid', 'fraud')
        ORDER BY recorded_at, topic, partition, record_offset LIMIT 100";
    let client = database.connection().await?;
    let result = database
        .within(async {
            let (tenant, id) = (key.tenant.as_str(), key.id.as_str());
            let events = client.prepare_cached(EVENTS).await?;
            let others = client.prepare_cached(OTHERS).await?;
            let key: [&(dyn ToSql + Sync); 2] = [&tenant, &id];
            Ok(tokio::try_join!(client.query(&events, &key), client.query(&others, &key))?)
        })
        .await;
    let (events, others) = Database::settle(client, result)?;
    Ok(History {
        stored: events.iter().map(stored_from_row).collect::<Result<_, _>>()?,
        others: others.iter().map(entry_from_row).collect::<Result<_, _>>()?,
    })
}

fn stored_from_row(row: &Row) -> Result<StoredEvent, PostgresError> {
    Ok(StoredEvent {
        outcome: row.try_get::<_, &str>("status")?.parse().map_err(|_| Corrupt("events").column("status"))?,
        event_type: row.try_get("event_type")?,
        origin: Origin::new(
            row.try_get::<_, &str>("origin_topic")?,
            row.try_get("origin_partition")?,
            row.try_get("origin_offset")?,
        ),
        received_at: row.try_get::<_, OffsetDateTime>("received_at")?.into(),
        occurred_at: row.try_get::<_, Option<OffsetDateTime>>("occurred_at")?.map(Timestamp::from),
        ip: row.try_get("ip_address")?,
        user_id: row.try_get("user_id")?,
        payload: row.try_get("payload")?,
        risk: risk_from_row(row)?,
        stored_at: row.try_get::<_, OffsetDateTime>("stored_at")?.into(),
    })
}
