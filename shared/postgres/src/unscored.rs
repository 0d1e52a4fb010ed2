//! Late scores: finding the events that wait for one, storing the scores, and the outbox of late outcomes.

use std::borrow::Cow;

use async_trait::async_trait;
use deadpool_postgres::{ClientWrapper, Object};
use event::{EventId, EventKey, Facts, IdSource, PayloadHash, TenantId, Timestamp};
use pipeline::ports::{EventPlace, LateOutcome, LateScore, UnscoredEvent, UnscoredEvents};
use pipeline::tracked::{Event, Payload};
use pipeline::{DependencyError, Outcome, Position};
use serde_json::value::RawValue;
use time::macros::date;
use time::{Date, OffsetDateTime};
use tokio_postgres::Row;

use crate::aggregates::{ADD_UNAGGREGATED, SpanTexts};
use crate::counts::{ADD_COUNTS, CountChange, CountColumns};
use crate::database::{Database, RollbackOnDrop, in_one_round_trip};
use crate::error::PostgresError;
use crate::ledger::{Corrupt, origin_from_row, risk_from_row};
use crate::statement::{Parameter, Parameters, parameter};
use crate::text::{join, storable_list, storable_shared};

/// Payloads in one answer of `unpublished`, in bytes. The first entry is returned whatever its size.
const MAX_PAYLOAD_BYTES: i64 = 4_000_000;

/// The condition on the day excludes partitions; the order is that of the index of unscored events. A record with
/// another key at the row's origin is not its record: origins come from headers and can be wrong.
const FIND: &str = "
    SELECT e.*, coalesce(o.topic, e.origin_topic) AS topic, coalesce(o.partition, e.origin_partition) AS partition,
           coalesce(o.record_offset, e.origin_offset) AS record_offset, coalesce(o.incarnation, 0) AS incarnation
    FROM (
        SELECT tenant, event_id, received_at, event_type, ip_address, user_id,
               origin_topic, origin_partition, origin_offset, origin_digest
        FROM events
        WHERE risk_score IS NULL AND received_day >= $1 AND (received_at, tenant, event_id) > ($2, $3, $4)
        ORDER BY received_at, tenant, event_id
        LIMIT $5
    ) e
    LEFT JOIN LATERAL (
        SELECT topic, partition, record_offset, incarnation FROM record_outcomes o
        WHERE o.tenant = e.tenant AND o.event_id = e.event_id AND o.outcome = 'valid' AND o.risk_score IS NULL
          AND o.origin_topic = e.origin_topic AND o.origin_partition = e.origin_partition
          AND o.origin_offset = e.origin_offset AND o.origin_digest IS NOT DISTINCT FROM e.origin_digest
        ORDER BY o.recorded_at, o.topic, o.partition, o.record_offset
        LIMIT 1
    ) o ON true
    ORDER BY e.received_at, e.tenant, e.event_id";

/// Locks the events that are still unscored and skips those that another transaction has locked, because that one is
/// scoring them. So nothing waits or deadlocks. With `IS NULL` as the condition, the planner could use the index of
/// unscored events for each probe by key, and would read the whole backlog each time.
const LOCK: &str = "
    SELECT w.ordinal, e.event_type
    FROM unnest($1::int4[], $2::date[], $3::text[], $4::text[]) AS w (ordinal, received_day, tenant, event_id)
    CROSS JOIN LATERAL (
        SELECT e.event_type FROM events e
        WHERE e.tenant = w.tenant AND e.event_id = w.event_id AND e.received_day = w.received_day
          AND coalesce(e.risk_score, -1) < 0
        FOR UPDATE SKIP LOCKED
    ) e
    ORDER BY w.ordinal";

const SCORE: &str = "
    UPDATE events e
    SET risk_score = w.risk_score, risk_reasons = string_to_array(w.risk_reasons, E'\\x1f'),
        rules_version = w.rules_version, status = w.status, scored_at = $8
    FROM unnest($1::date[], $2::text[], $3::text[], $4::text[], $5::int2[], $6::text[], $7::text[])
        AS w (received_day, tenant, event_id, status, risk_score, risk_reasons, rules_version)
    WHERE e.tenant = w.tenant AND e.event_id = w.event_id AND e.received_day = w.received_day";

/// An existing entry is kept, because the late outcome is made from the event's row.
const ADD_TO_OUTBOX: &str = "
    INSERT INTO late_scores (received_day, tenant, event_id, topic, partition, record_offset, incarnation)
    SELECT * FROM unnest($1::date[], $2::text[], $3::text[], $4::text[], $5::int4[], $6::int8[], $7::int4[])
    ON CONFLICT DO NOTHING";

/// The inner limit is on rows, the outer condition on bytes. Lengths are read without the payloads.
const UNPUBLISHED: &str = "
    SELECT * FROM (
        SELECT p.*, sum(octet_length(p.payload)) OVER (ORDER BY p.received_day, p.tenant, p.event_id)
                        - octet_length(p.payload) AS bytes_before
        FROM (
            SELECT l.topic, l.partition, l.record_offset, l.incarnation, e.*
            FROM late_scores l
            CROSS JOIN LATERAL (
                SELECT * FROM events e
                WHERE e.tenant = l.tenant AND e.event_id = l.event_id AND e.received_day = l.received_day
                LIMIT 1
            ) e
            WHERE (l.received_day, l.tenant, l.event_id) > ($1, $2, $3)
            ORDER BY l.received_day, l.tenant, l.event_id
            LIMIT $4
        ) p
    ) p
    WHERE p.bytes_before < $5
    ORDER BY p.received_day, p.tenant, p.event_id";

const MARK_PUBLISHED: &str = "
    DELETE FROM late_scores l
    USING unnest($1::date[], $2::text[], $3::text[]) AS w (received_day, tenant, event_id)
    WHERE l.received_day = w.received_day AND l.tenant = w.tenant AND l.event_id = w.event_id";

/// [`UnscoredEvents`] on Postgres.
#[derive(Clone, Debug)]
pub struct PostgresUnscoredEvents {
    database: Database,
}

impl PostgresUnscoredEvents {
    pub fn new(database: Database) -> Self {
        PostgresUnscoredEvents { database }
    }

    async fn query(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, PostgresError> {
        let client: Object = self.database.connection().await?;
        let result = self.database.within(async { Ok(client.query_typed(sql, parameters).await?) }).await;
        self.database.give_back(client, result)
    }

    async fn find_after(&self, after: Option<&EventPlace>, limit: i64) -> Result<Vec<UnscoredEvent>, PostgresError> {
        let (day, received_at, tenant, id) = cursor(after);
        let parameters =
            [parameter(&day), parameter(&received_at), parameter(&tenant), parameter(&id), parameter(&limit)];
        let rows = self.query(FIND, &parameters).await?;
        rows.iter().map(unscored_from_row).collect()
    }

    async fn count_all(&self) -> Result<u64, PostgresError> {
        let rows = self.query("SELECT count(*) AS events FROM events WHERE risk_score IS NULL", &[]).await?;
        let count: i64 = rows.first().map_or(Ok(0), |row| row.try_get("events"))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    async fn settle_all(&self, scores: Vec<LateScore>, now: Timestamp) -> Result<Vec<LateScore>, PostgresError> {
        if scores.is_empty() {
            return Ok(Vec::new());
        }
        let scores: Vec<LateScore> = scores.into_iter().map(storable_score).collect();
        let client = self.database.connection().await?;
        let result = self.database.within(settle(&client, self.database.begin(), scores, now)).await;
        self.database.give_back(client, result)
    }

    async fn outbox_after(&self, after: Option<&EventPlace>, limit: i64) -> Result<Vec<LateOutcome>, PostgresError> {
        let (day, _, tenant, id) = cursor(after);
        let parameters =
            [parameter(&day), parameter(&tenant), parameter(&id), parameter(&limit), parameter(&MAX_PAYLOAD_BYTES)];
        let rows = self.query(UNPUBLISHED, &parameters).await?;
        rows.iter().map(late_outcome_from_row).collect()
    }

    async fn take_off(&self, places: &[EventPlace]) -> Result<(), PostgresError> {
        let PlaceColumns { day, tenant, event_id } = PlaceColumns::of(places);
        let parameters = [parameter(&day), parameter(&tenant), parameter(&event_id)];
        self.query(MARK_PUBLISHED, &parameters).await.map(drop)
    }
}

#[async_trait]
impl UnscoredEvents for PostgresUnscoredEvents {
    async fn find(&self, after: Option<&EventPlace>, limit: usize) -> Result<Vec<UnscoredEvent>, DependencyError> {
        let found = self.find_after(after, sql_limit(limit)).await;
        found.map_err(|error| error.into_dependency("finding unscored events"))
    }

    async fn count(&self) -> Result<u64, DependencyError> {
        self.count_all().await.map_err(|error| error.into_dependency("counting unscored events"))
    }

    async fn settle(&self, scores: Vec<LateScore>, now: Timestamp) -> Result<Vec<LateScore>, DependencyError> {
        self.settle_all(scores, now).await.map_err(|error| error.into_dependency("storing late scores"))
    }

    async fn unpublished(&self, after: Option<&EventPlace>, limit: usize) -> Result<Vec<LateOutcome>, DependencyError> {
        let entries = self.outbox_after(after, sql_limit(limit)).await;
        entries.map_err(|error| error.into_dependency("reading the outbox"))
    }

    async fn mark_published(&self, places: &[EventPlace]) -> Result<(), DependencyError> {
        self.take_off(places).await.map_err(|error| error.into_dependency("clearing the outbox"))
    }
}

/// Locks and reads in one round trip, writes and commits in a second. If a statement fails, the server turns the COMMIT
/// into a rollback.
async fn settle(
    client: &ClientWrapper,
    begin: &str,
    scores: Vec<LateScore>,
    now: Timestamp,
) -> Result<Vec<LateScore>, PostgresError> {
    let transaction = RollbackOnDrop::new(client);
    let ordinals: Vec<i32> = (0..).take(scores.len()).collect();
    let wanted = PlaceColumns::of(scores.iter().map(|score| &score.event.place));
    let wanted = [parameter(&ordinals), parameter(&wanted.day), parameter(&wanted.tenant), parameter(&wanted.event_id)];
    in_one_round_trip!(
        // The condition of the locking is checked on the row as it is when it is locked.
        _begun = client.batch_execute(begin),
        locked = client.query_typed(LOCK, &wanted),
    );
    let mut types = Vec::with_capacity(locked.len());
    for row in &locked {
        types.push((row.try_get::<_, i32>("ordinal")?, row.try_get::<_, &str>("event_type")?));
    }
    let mut types = types.into_iter().peekable();
    let mut settled = Vec::with_capacity(locked.len());
    let mut counted = Vec::with_capacity(locked.len());
    for (score, ordinal) in scores.into_iter().zip(0_i32..) {
        if let Some((_, event_type)) = types.next_if(|(locked, _)| *locked == ordinal) {
            settled.push(score);
            counted.push(event_type);
        }
    }
    let columns = ScoreColumns::of(&settled);
    let at = now.to_utc();
    // They were stored without a score, so they were counted as valid.
    let moved = settled.iter().zip(counted.iter().copied()).filter(|(score, _)| score.outcome != Outcome::Valid);
    let changes = moved.flat_map(|(score, event_type)| {
        [(Outcome::Valid, -1), (score.outcome, 1)].map(|(outcome, by)| CountChange {
            received_at: score.event.place.received_at,
            tenant: score.event.place.key.tenant.as_str(),
            event_type,
            outcome,
            by,
        })
    });
    let counts = CountColumns::of(changes);
    let scored = columns.scores(&at);
    let entries = columns.outbox();
    let counts = counts.parameters();
    let unaggregated = SpanTexts::of(settled.iter().map(|score| (&score.event.position, Some(score.outcome))));
    let unaggregated = unaggregated.parameters(&at);
    pipeline::failpoint!("postgres::late-scores");
    in_one_round_trip!(
        _scored = client.execute_typed(SCORE, &scored),
        _added = client.execute_typed(ADD_TO_OUTBOX, &entries),
        _counted = client.execute_typed(ADD_COUNTS, &counts),
        _noted = client.execute_typed(ADD_UNAGGREGATED, &unaggregated),
        _committed = client.batch_execute("COMMIT"),
    );
    transaction.finish();
    Ok(settled)
}

/// As for the processor's scores, every character that Postgres cannot store is replaced.
fn storable_score(mut score: LateScore) -> LateScore {
    score.risk.reasons = storable_list(score.risk.reasons);
    score.risk.rules_version = storable_shared(score.risk.rules_version);
    score
}

fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn day(place: &EventPlace) -> Date {
    place.received_at.to_utc().date()
}

/// No [`Timestamp`] is earlier, and Postgres can store it.
pub(crate) const FIRST_DAY: Date = date!(0000 - 01 - 01);

/// Day, time, tenant and id; the events after this place are returned. Ids are not empty, so no event is at the first
/// place.
fn cursor(after: Option<&EventPlace>) -> (Date, OffsetDateTime, &str, &str) {
    match after {
        Some(place) => (day(place), place.received_at.to_utc(), place.key.tenant.as_str(), place.key.id.as_str()),
        None => (FIRST_DAY, FIRST_DAY.midnight().assume_utc(), "", ""),
    }
}

struct PlaceColumns<'a> {
    day: Vec<Date>,
    tenant: Vec<&'a str>,
    event_id: Vec<&'a str>,
}

impl<'a> PlaceColumns<'a> {
    fn of(places: impl IntoIterator<Item = &'a EventPlace>) -> Self {
        let mut columns = PlaceColumns { day: Vec::new(), tenant: Vec::new(), event_id: Vec::new() };
        for place in places {
            columns.day.push(day(place));
            columns.tenant.push(place.key.tenant.as_str());
            columns.event_id.push(place.key.id.as_str());
        }
        columns
    }
}

struct ScoreColumns<'a> {
    places: PlaceColumns<'a>,
    status: Vec<&'static str>,
    risk_score: Vec<i16>,
    risk_reasons: Vec<String>,
    rules_version: Vec<&'a str>,
    topic: Vec<&'a str>,
    partition: Vec<i32>,
    record_offset: Vec<i64>,
    incarnation: Vec<i32>,
}

impl<'a> ScoreColumns<'a> {
    fn of(scores: &'a [LateScore]) -> Self {
        let position = |score: &'a LateScore| &score.event.position;
        ScoreColumns {
            places: PlaceColumns::of(scores.iter().map(|score| &score.event.place)),
            status: scores.iter().map(|score| score.outcome.as_str()).collect(),
            risk_score: scores.iter().map(|score| i16::from(score.risk.score)).collect(),
            risk_reasons: scores.iter().map(|score| join(&score.risk.reasons)).collect(),
            rules_version: scores.iter().map(|score| &*score.risk.rules_version).collect(),
            topic: scores.iter().map(|score| &*position(score).topic).collect(),
            partition: scores.iter().map(|score| position(score).partition).collect(),
            record_offset: scores.iter().map(|score| position(score).offset).collect(),
            incarnation: scores.iter().map(|score| position(score).incarnation).collect(),
        }
    }

    fn scores<'b>(&'b self, now: &'b OffsetDateTime) -> Parameters<'b, 8> {
        let PlaceColumns { day, tenant, event_id } = &self.places;
        [
            parameter(day),
            parameter(tenant),
            parameter(event_id),
            parameter(&self.status),
            parameter(&self.risk_score),
            parameter(&self.risk_reasons),
            parameter(&self.rules_version),
            parameter(now),
        ]
    }

    fn outbox(&self) -> Parameters<'_, 7> {
        let PlaceColumns { day, tenant, event_id } = &self.places;
        [
            parameter(day),
            parameter(tenant),
            parameter(event_id),
            parameter(&self.topic),
            parameter(&self.partition),
            parameter(&self.record_offset),
            parameter(&self.incarnation),
        ]
    }
}

fn corrupt(column: &'static str) -> PostgresError {
    Corrupt("events").column(column)
}

fn key_from_row(row: &Row) -> Result<EventKey, PostgresError> {
    Ok(EventKey {
        tenant: TenantId::new(row.try_get("tenant")?).map_err(|_| corrupt("tenant"))?,
        id: EventId::new(row.try_get("event_id")?).map_err(|_| corrupt("event_id"))?,
    })
}

fn position_from_row(row: &Row) -> Result<Position, PostgresError> {
    Ok(Position::new(row.try_get::<_, &str>("topic")?, row.try_get("partition")?, row.try_get("record_offset")?)
        .in_incarnation(row.try_get("incarnation")?))
}

fn unscored_from_row(row: &Row) -> Result<UnscoredEvent, PostgresError> {
    Ok(UnscoredEvent {
        place: EventPlace {
            received_at: row.try_get::<_, OffsetDateTime>("received_at")?.into(),
            key: key_from_row(row)?,
        },
        event_type: row.try_get("event_type")?,
        ip: row.try_get("ip_address")?,
        user_id: row.try_get("user_id")?,
        origin: origin_from_row(row)?,
        position: position_from_row(row)?,
    })
}

fn late_outcome_from_row(row: &Row) -> Result<LateOutcome, PostgresError> {
    let payload_hash = row.try_get::<_, &[u8]>("payload_hash")?.try_into().map_err(|_| corrupt("payload_hash"))?;
    let payload_hash = PayloadHash(payload_hash);
    let payload = RawValue::from_string(row.try_get("payload")?).map_err(|_| corrupt("payload"))?;
    let key = key_from_row(row)?;
    let text = |column| Ok::<_, PostgresError>(row.try_get::<_, Option<String>>(column)?.map(Cow::Owned));
    let event = Event {
        id_source: IdSource::infer(payload_hash, &key.id, &payload),
        event_type: Cow::Owned(row.try_get("event_type")?),
        schema_version: u32::try_from(row.try_get::<_, i64>("schema_version")?)
            .map_err(|_| corrupt("schema_version"))?,
        received_at: row.try_get::<_, OffsetDateTime>("received_at")?.into(),
        undated: false,
        occurred_at: row.try_get::<_, Option<OffsetDateTime>>("occurred_at")?.map(Timestamp::from),
        ip: row.try_get("ip_address")?,
        user_agent: text("user_agent")?,
        user_id: text("user_id")?,
        // The ledger has them, and it is not written again.
        facts: Facts::default(),
        payload_hash,
        payload: Payload(Cow::Owned(payload)),
        key,
    };
    Ok(LateOutcome {
        event,
        origin: origin_from_row(row)?,
        position: position_from_row(row)?,
        outcome: row.try_get::<_, &str>("status")?.parse().map_err(|_| corrupt("status"))?,
        risk: risk_from_row(row)?.ok_or_else(|| corrupt("risk_score"))?,
        scored_at: row.try_get::<_, OffsetDateTime>("scored_at")?.into(),
    })
}
