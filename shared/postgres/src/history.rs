//! What the database knows about one event.

use std::collections::BTreeMap;

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use event::{EventKey, Timestamp};
use pipeline::ports::{EventHistory, History, LedgerEntry, MAX_HISTORY, StoredEvent};
use pipeline::{DependencyError, Position};
use time::OffsetDateTime;
use tokio_postgres::Row;

use crate::database::{Database, RollbackOnDrop, in_one_round_trip};
use crate::error::PostgresError;
use crate::ledger::{Corrupt, entry_from_row, origin_from_row, risk_from_row, trace_from_row};
use crate::statement::{Parameter, parameter};

/// One row more than is returned, to find out whether there are more.
const LIMIT: i64 = MAX_HISTORY as i64 + 1;

/// One probe of the unique key per day partition.
const EVENTS: &str = "
    SELECT status, event_type, origin_topic, origin_partition, origin_offset, origin_digest, trace_id, received_at, occurred_at, stored_at,
           risk_score, risk_reasons, rules_version, scored_at
    FROM events WHERE tenant = $1 AND event_id = $2 ORDER BY received_at LIMIT $3";

/// The outcomes that are not in the index.
const RECORDS_BY_KEY: &str = "
    SELECT * FROM record_outcomes
    WHERE tenant = $1 AND event_id = $2 AND outcome NOT IN ('valid', 'fraud')
    ORDER BY recorded_at, topic, partition, record_offset LIMIT $3";

/// A foreign producer may have written a wrong origin header, and a client may send a wrong position. So an entry is
/// returned only if it has the key. LATERAL with OFFSET: one index probe per position, whatever the statistics.
const RECORDS_BY_POSITION: &str = "
    SELECT e.* FROM (
        SELECT w.topic, w.partition, w.record_offset
        FROM unnest($3::text[], $4::int4[], $5::int8[]) AS w (topic, partition, record_offset)
        UNION
        (SELECT origin_topic, origin_partition, origin_offset FROM events
         WHERE tenant = $1 AND event_id = $2 ORDER BY received_at LIMIT $6)
    ) w
    CROSS JOIN LATERAL (
        SELECT * FROM record_outcomes o
        WHERE o.topic = w.topic AND o.partition = w.partition AND o.record_offset = w.record_offset
        OFFSET 0
    ) e
    WHERE e.tenant = $1 AND e.event_id = $2";

const NOT_REACHED: &str = "
    SELECT w.topic, w.partition, w.record_offset
    FROM unnest($1::text[], $2::int4[], $3::int8[]) WITH ORDINALITY AS w (topic, partition, record_offset, ordinal)
    LEFT JOIN checkpoints c ON c.topic = w.topic AND c.partition = w.partition
    WHERE c.next_offset IS NULL OR w.record_offset >= c.next_offset
    ORDER BY w.ordinal";

/// [`EventHistory`] on Postgres.
#[derive(Clone, Debug)]
pub struct PostgresEventHistory {
    database: Database,
}

impl PostgresEventHistory {
    pub fn new(database: Database) -> Self {
        PostgresEventHistory { database }
    }

    async fn history(&self, key: &EventKey, positions: &[Position]) -> Result<History, PostgresError> {
        let client = self.database.connection().await?;
        let result = self.database.within(read(&client, key, positions)).await;
        self.database.give_back(client, result)
    }
}

#[async_trait]
impl EventHistory for PostgresEventHistory {
    async fn look_up(&self, key: &EventKey, positions: &[Position]) -> Result<History, DependencyError> {
        self.history(key, positions).await.map_err(|error| error.into_dependency("looking an event up"))
    }
}

/// One round trip: requests are sent in the order in which they are first polled.
async fn read(client: &ClientWrapper, key: &EventKey, positions: &[Position]) -> Result<History, PostgresError> {
    let (tenant, id) = (key.tenant.as_str(), key.id.as_str());
    let topics: Vec<&str> = positions.iter().map(|position| &*position.topic).collect();
    let partitions: Vec<i32> = positions.iter().map(|position| position.partition).collect();
    let offsets: Vec<i64> = positions.iter().map(|position| position.offset).collect();
    let (tenant, id, limit) = (parameter(&tenant), parameter(&id), parameter(&LIMIT));
    let of_positions = [parameter(&topics), parameter(&partitions), parameter(&offsets)];
    let of_key = [tenant, id, limit];
    let of_both: Vec<Parameter<'_>> = of_key[..2].iter().chain(&of_positions).chain(&of_key[2..]).cloned().collect();
    let transaction = RollbackOnDrop::new(client);
    in_one_round_trip!(
        // One snapshot for all statements: a record that is processed at the same time is either not reached yet or
        // found.
        _begun = client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"),
        events = client.query_typed(EVENTS, &of_key),
        by_key = client.query_typed(RECORDS_BY_KEY, &of_key),
        by_position = client.query_typed(RECORDS_BY_POSITION, &of_both),
        not_reached = client.query_typed(NOT_REACHED, &of_positions),
        _committed = client.batch_execute("COMMIT"),
    );
    transaction.finish();

    let is_cut = events.len() > MAX_HISTORY || by_key.len() > MAX_HISTORY;
    // An entry that both statements found counts once.
    let found = by_position.iter().chain(by_key.iter().take(MAX_HISTORY)).map(|row| {
        let entry = entry_from_row(row)?;
        Ok((entry.position.clone(), entry))
    });
    let found: BTreeMap<Position, LedgerEntry> = found.collect::<Result<_, PostgresError>>()?;
    let mut records: Vec<LedgerEntry> = found.into_values().collect();
    records.sort_by_key(|entry| entry.recorded_at);
    Ok(History {
        stored: events.iter().take(MAX_HISTORY).map(stored_from_row).collect::<Result<_, _>>()?,
        records,
        is_cut,
        not_reached: not_reached.iter().map(position_from_row).collect::<Result<_, _>>()?,
    })
}

fn position_from_row(row: &Row) -> Result<Position, PostgresError> {
    Ok(Position::new(row.try_get::<_, &str>("topic")?, row.try_get("partition")?, row.try_get("record_offset")?))
}

fn stored_from_row(row: &Row) -> Result<StoredEvent, PostgresError> {
    Ok(StoredEvent {
        outcome: row.try_get::<_, &str>("status")?.parse().map_err(|_| Corrupt("events").column("status"))?,
        event_type: row.try_get("event_type")?,
        origin: origin_from_row(row)?,
        trace_id: trace_from_row(row, "events")?,
        received_at: row.try_get::<_, OffsetDateTime>("received_at")?.into(),
        occurred_at: row.try_get::<_, Option<OffsetDateTime>>("occurred_at")?.map(Timestamp::from),
        stored_at: row.try_get::<_, OffsetDateTime>("stored_at")?.into(),
        risk: risk_from_row(row)?,
        scored_at: row.try_get::<_, Option<OffsetDateTime>>("scored_at")?.map(Timestamp::from),
    })
}
