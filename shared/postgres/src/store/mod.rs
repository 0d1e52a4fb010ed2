//! Recording a batch in one transaction and two round trips.
//!
//! The first round trip takes the lock of each Kafka partition and reads what is stored already. Then [`mod@plan`]
//! decides, and the second round trip writes and commits. Rejected: one statement with `ON CONFLICT DO NOTHING
//! RETURNING` and data-modifying CTEs. It saves one round trip, but two copies in one batch, copies across midnight and
//! payload comparison would become SQL that is hard to test, and the statement's snapshot does not show a row that was
//! skipped because of a concurrent insert. Here a concurrent insert violates the unique key, the transaction starts
//! over, and then it sees that row.

mod plan;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use event::{AddressKey, PayloadHash, RecordDigest, Timestamp};
use pipeline::decisions::recording::StoredCopy;
use pipeline::ports::{EventStore, LedgerEntry};
use pipeline::tracked::{Decided, Tracked};
use pipeline::{DependencyError, Position, TraceId};
use time::{Date, OffsetDateTime};
use tokio_postgres::Row;

use self::plan::{Found, IncarnationSpan, LogAccount, LogKey, NewEvent, Plan, Span, plan, storable_record};
use crate::aggregates::{ADD_UNAGGREGATED, SpanTexts};
use crate::counts::{ADD_COUNTS, CountChange, CountColumns};
use crate::database::{Database, RollbackOnDrop, in_one_round_trip};
use crate::error::PostgresError;
use crate::ledger::{Corrupt, entry_from_row, origin_from_row};
use crate::search::terms_of;
use crate::statement::{Parameters, Ready, SqlType, parameter};
use crate::text::join;

/// How often a batch starts over because another transaction stored one of its events in the meantime. Copies of an
/// event share a Kafka partition and its lock, so this needs a foreign producer or a changed number of partitions.
const ATTEMPTS: u32 = 5;

/// Takes the row locks of the partitions, in the order of their keys so that two batches cannot deadlock. From then on
/// no other transaction records these partitions, and later statements see everything that was committed before.
///
/// It also advances the checkpoints, as if every record were new and of the present incarnation, because so it is nearly
/// always. The answer has the spans before and after, so that [`mod@plan`] sees when it is not.
const LOCK_PARTITIONS: &str = "
    INSERT INTO checkpoints AS c (topic, partition, floor_offset, next_offset, updated_at)
    SELECT w.topic, w.partition, w.floor_offset, w.next_offset, $5
    FROM unnest($1::text[], $2::int4[], $3::int8[], $4::int8[]) AS w (topic, partition, floor_offset, next_offset)
    ON CONFLICT (topic, partition) DO UPDATE SET
        floor_before = c.floor_offset,
        next_before = c.next_offset,
        floor_offset = least(c.floor_offset, excluded.floor_offset),
        next_offset = greatest(c.next_offset, excluded.next_offset),
        updated_at = excluded.updated_at
    RETURNING topic, partition, incarnation, floor_before, next_before, floor_offset, next_offset";

const CORRECT_CHECKPOINTS: &str = "
    UPDATE checkpoints c SET incarnation = w.incarnation, floor_offset = w.floor_offset, next_offset = w.next_offset
    FROM unnest($1::text[], $2::int4[], $3::int4[], $4::int8[], $5::int8[])
        AS w (topic, partition, incarnation, floor_offset, next_offset)
    WHERE c.topic = w.topic AND c.partition = w.partition";

const ADD_ENDED_LOGS: &str = "
    INSERT INTO ended_logs AS l (topic, partition, incarnation, floor_offset, next_offset, updated_at)
    SELECT w.topic, w.partition, w.incarnation, w.floor_offset, w.next_offset, $6
    FROM unnest($1::text[], $2::int4[], $3::int4[], $4::int8[], $5::int8[])
        AS w (topic, partition, incarnation, floor_offset, next_offset)
    ON CONFLICT (topic, partition, incarnation) DO UPDATE SET
        floor_offset = least(l.floor_offset, excluded.floor_offset),
        next_offset = greatest(l.next_offset, excluded.next_offset),
        updated_at = excluded.updated_at";

/// With LATERAL and OFFSET, here and in the next statement, the planner can only use one index probe per record. It
/// could turn a join into a scan of the whole table while there are few statistics. A position has more than one entry
/// only if its log was made again.
pub(crate) const FIND_ENTRIES: &str = "
    SELECT w.ordinal, e.*
    FROM unnest($1::int4[], $2::text[], $3::int4[], $4::int8[]) AS w (ordinal, topic, partition, record_offset)
    CROSS JOIN LATERAL (
        SELECT o.topic, o.partition, o.record_offset, o.incarnation, o.digest, o.origin_topic, o.origin_partition,
               o.origin_offset, o.origin_digest, o.tenant, o.event_id, o.outcome, o.reason, o.risk_score,
               o.risk_reasons, o.rules_version, o.recorded_at, o.trace_id
        FROM record_outcomes o
        WHERE o.topic = w.topic AND o.partition = w.partition AND o.record_offset = w.record_offset
        ORDER BY o.incarnation
        OFFSET 0
    ) e";

/// A copy is of the same day (the unique key) or within the window, so a record has at most one copy per day of its window;
/// the oldest comes last. The days of the whole batch, $9 and $10, decide which partitions are planned for.
const FIND_COPIES: &str = "
    SELECT w.ordinal, e.received_at, e.payload_hash, e.origin_topic, e.origin_partition, e.origin_offset, e.origin_digest
    FROM unnest($1::int4[], $2::text[], $3::text[], $4::date[], $5::date[], $6::date[],
                $7::timestamptz[], $8::timestamptz[])
        AS w (ordinal, tenant, event_id, day, first_day, last_day, after, before)
    CROSS JOIN LATERAL (
        SELECT e.received_at, e.payload_hash, e.origin_topic, e.origin_partition, e.origin_offset, e.origin_digest
        FROM events e
        WHERE e.tenant = w.tenant AND e.event_id = w.event_id
          AND e.received_day BETWEEN $9 AND $10
          AND e.received_day BETWEEN w.first_day AND w.last_day
          AND (e.received_day = w.day OR e.received_at > w.after AND e.received_at < w.before)
        OFFSET 0
    ) e
    ORDER BY e.received_at DESC";

/// No ON CONFLICT, because a row that exists after all must cause an error; see the comment of the module.
const INSERT_EVENTS: &str = "
    INSERT INTO events (
        received_day, tenant, event_id, event_type, schema_version, status, received_at, occurred_at, ip_address,
        user_agent, user_id, payload_hash, payload, risk_score, risk_reasons, rules_version, scored_at,
        origin_topic, origin_partition, origin_offset, origin_digest, stored_at, trace_id, terms)
    SELECT w.received_day, w.tenant, w.event_id, w.event_type, w.schema_version, w.status, w.received_at, w.occurred_at,
           w.ip_address, w.user_agent, w.user_id, w.payload_hash, w.payload, w.risk_score,
           string_to_array(w.risk_reasons, E'\\x1f'), w.rules_version,
           CASE WHEN w.risk_score IS NOT NULL THEN $20::timestamptz END,
           w.origin_topic, w.origin_partition, w.origin_offset, w.origin_digest, $20, w.trace_id,
           w.terms::int8[]
    FROM unnest($1::date[], $2::text[], $3::text[], $4::text[], $5::int8[], $6::text[], $7::timestamptz[],
                $8::timestamptz[], $9::inet[], $10::text[], $11::text[], $12::bytea[], $13::text[], $14::int2[],
                $15::text[], $16::text[], $17::text[], $18::int4[], $19::int8[], $21::bytea[],
                $22::bytea[], $23::text[])
        AS w (received_day, tenant, event_id, event_type, schema_version, status, received_at, occurred_at, ip_address,
              user_agent, user_id, payload_hash, payload, risk_score, risk_reasons, rules_version, origin_topic,
              origin_partition, origin_offset, origin_digest, trace_id, terms)";

const INSERT_ENTRIES: &str = "
    INSERT INTO record_outcomes (
        topic, partition, record_offset, origin_topic, origin_partition, origin_offset, tenant, event_id, outcome,
        reason, risk_score, risk_reasons, rules_version, incarnation, digest, origin_digest, recorded_at, trace_id,
        event_type, received_at, subject, fields, address)
    SELECT w.topic, w.partition, w.record_offset, w.origin_topic, w.origin_partition, w.origin_offset, w.tenant,
           w.event_id, w.outcome, w.reason, w.risk_score, string_to_array(w.risk_reasons, E'\\x1f'), w.rules_version,
           w.incarnation, w.digest, w.origin_digest, $17, w.trace_id, w.event_type, w.received_at, w.subject, w.fields,
           w.address
    FROM unnest($1::text[], $2::int4[], $3::int8[], $4::text[], $5::int4[], $6::int8[], $7::text[], $8::text[],
                $9::text[], $10::text[], $11::int2[], $12::text[], $13::text[], $14::int4[], $15::bytea[], $16::bytea[],
                $18::bytea[], $19::text[], $20::timestamptz[], $21::int8[], $22::text[], $23::inet[])
        AS w (topic, partition, record_offset, origin_topic, origin_partition, origin_offset, tenant, event_id, outcome,
              reason, risk_score, risk_reasons, rules_version, incarnation, digest, origin_digest, trace_id, event_type,
              received_at, subject, fields, address)";

/// [`EventStore`] on Postgres.
#[derive(Clone, Debug)]
pub struct PostgresEventStore {
    database: Database,
    dedup_window: Duration,
    on_begun: fn(topic: &str),
    puts_back: bool,
}

impl PostgresEventStore {
    /// Two records with one key are copies if they were received less than `dedup_window` apart, or on the same UTC
    /// day.
    pub fn new(database: Database, dedup_window: Duration) -> Self {
        PostgresEventStore { database, dedup_window, on_begun: |_topic| {}, puts_back: false }
    }

    /// Calls `on_begun` for each log of which another incarnation has begun, once that is committed.
    #[must_use]
    pub fn announcing(self, on_begun: fn(topic: &str)) -> Self {
        PostgresEventStore { on_begun, ..self }
    }

    /// Also puts back the row of an event that the ledger has as stored, if it is gone. The counts still have it. Not for
    /// the processor: a redelivery would bring back events that have expired.
    #[must_use]
    pub fn putting_back(self) -> Self {
        PostgresEventStore { puts_back: true, ..self }
    }

    async fn record_all(
        &self,
        records: &[Tracked<'_, Decided>],
        now: Timestamp,
    ) -> Result<Vec<LedgerEntry>, PostgresError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let storable: Vec<_> = records.iter().map(storable_record).collect();
        let records: Vec<&Tracked<'_, Decided>> = storable.iter().map(|record| &**record).collect();
        for _ in 0..ATTEMPTS {
            let client = self.database.connection().await?;
            let result = self.database.within(self.attempt(&client, &records, now)).await;
            match self.database.give_back(client, result) {
                Err(error) if error.is_unique_violation() => {
                    tracing::debug!("another transaction stored an event of this batch: starting the transaction over");
                }
                result => return result,
            }
        }
        Err(PostgresError::Contention)
    }

    async fn attempt(
        &self,
        client: &ClientWrapper,
        records: &[&Tracked<'_, Decided>],
        now: Timestamp,
    ) -> Result<Vec<LedgerEntry>, PostgresError> {
        let statements = Statements::ready(&self.database, client).await?;
        let transaction = RollbackOnDrop::new(client);
        let (accounts, found) = self.look(client, &statements, records, now).await?;
        let mut plan = plan(records.iter().copied().zip(found), &accounts, self.dedup_window, now);
        if !self.puts_back {
            plan.absent.clear();
        }
        pipeline::failpoint!("postgres::in-transaction");
        write(client, &statements, &plan, now).await?;
        pipeline::failpoint!("postgres::committed");
        transaction.finish();
        if !plan.absent.is_empty() {
            tracing::info!(
                events = plan.absent.len(),
                "events that the ledger has as stored had no row and have one again"
            );
        }
        for (topic, partition) in &plan.begun {
            (self.on_begun)(topic);
            tracing::warn!(
                topic = &**topic,
                partition,
                "another record is at a position that is recorded: this log was made again or lost its tail, and its next \
                 incarnation begins"
            );
        }
        Ok(plan.entries.into_iter().map(|planned| planned.entry).collect())
    }

    /// Begins, locks the partitions and reads what is stored about each record, in one round trip: requests are sent in
    /// the order in which they are first polled.
    async fn look(
        &self,
        client: &ClientWrapper,
        statements: &Statements,
        records: &[&Tracked<'_, Decided>],
        now: Timestamp,
    ) -> Result<(BTreeMap<LogKey, LogAccount>, Vec<Found>), PostgresError> {
        let partitions = PartitionColumns::of(records.iter().map(|record| &record.position));
        let positions = PositionColumns::of(records.iter().map(|record| &record.position));
        let keys = KeyColumns::of(records, self.dedup_window);
        let days = keys.days();
        let now = now.to_utc();
        let lock = partitions.parameters(&now);
        let find_entries = positions.parameters();
        in_one_round_trip!(
            _begun = client.batch_execute(self.database.begin()),
            accounts = statements.lock_partitions.query(client, &lock),
            entries = statements.find_entries.query(client, &find_entries),
            copies = async {
                match &days {
                    // Never with a name: a plan for any days locks every partition there is.
                    Some(days) => client.query_typed(FIND_COPIES, &keys.parameters(days)).await,
                    None => Ok(Vec::new()),
                }
            },
        );
        let mut found = Vec::new();
        found.resize_with(records.len(), Found::default);
        for row in &entries {
            of_ordinal(&mut found, row)?.entries.push(entry_from_row(row)?);
        }
        for row in &copies {
            of_ordinal(&mut found, row)?.copy = Some(copy_from_row(row)?);
        }
        Ok((accounts.iter().map(account_from_row).collect::<Result<_, _>>()?, found))
    }
}

#[async_trait]
impl EventStore for PostgresEventStore {
    async fn record(
        &self,
        records: &[Tracked<'_, Decided>],
        now: Timestamp,
    ) -> Result<Vec<LedgerEntry>, DependencyError> {
        self.record_all(records, now).await.map_err(|error| error.into_dependency("recording a batch"))
    }
}

/// What a batch sends more than once in the life of a connection.
struct Statements {
    lock_partitions: Ready,
    find_entries: Ready,
    insert_events: Ready,
    insert_entries: Ready,
    add_counts: Ready,
    add_unaggregated: Ready,
}

impl Statements {
    async fn ready(database: &Database, client: &ClientWrapper) -> Result<Self, PostgresError> {
        let sql = [LOCK_PARTITIONS, FIND_ENTRIES, INSERT_EVENTS, INSERT_ENTRIES, ADD_COUNTS, ADD_UNAGGREGATED];
        let [lock_partitions, find_entries, insert_events, insert_entries, add_counts, add_unaggregated] =
            database.ready(client, sql).await?;
        Ok(Statements { lock_partitions, find_entries, insert_events, insert_entries, add_counts, add_unaggregated })
    }
}

/// Writes and commits in one round trip. If a statement fails, the server turns the COMMIT into a rollback.
async fn write(
    client: &ClientWrapper,
    statements: &Statements,
    Plan { entries, new_events, absent, corrections, begun: _ }: &Plan<'_, '_>,
    now: Timestamp,
) -> Result<(), PostgresError> {
    let at = now.to_utc();
    if !corrections.is_empty() {
        let (present, ended) = (SpanColumns::of(&corrections.present), SpanColumns::of(&corrections.ended));
        let ended = ended.parameters().into_iter().chain([parameter(&at)]).collect::<Vec<_>>();
        client.execute_typed(CORRECT_CHECKPOINTS, &present.parameters()).await?;
        client.execute_typed(ADD_ENDED_LOGS, &ended).await?;
    }
    let commit = client.batch_execute("COMMIT");
    let new_entries = || entries.iter().filter(|planned| planned.new.is_some()).map(|planned| &planned.entry);
    // In the order of the unique key, as everywhere, so that two batches with the same events cannot deadlock.
    let mut rows: Vec<&NewEvent<'_, '_>> = new_events.iter().chain(absent).collect();
    rows.sort_by(|a, b| (&a.event.key, day_of(a)).cmp(&(&b.event.key, day_of(b))));
    if new_entries().next().is_none() && rows.is_empty() {
        return Ok(commit.await?);
    }
    let ledger = EntryColumns::of(new_entries());
    let facts = FactColumns::of(entries.iter().filter_map(|planned| planned.new), at);
    let ledger = ledger.parameters(&at).into_iter().chain(facts.parameters()).collect::<Vec<_>>();
    let unaggregated = SpanTexts::of(new_entries().map(|entry| (&entry.position, None)));
    let unaggregated = unaggregated.parameters(&at);
    if rows.is_empty() {
        in_one_round_trip!(
            _inserted = statements.insert_entries.execute(client, &ledger),
            _noted = statements.add_unaggregated.execute(client, &unaggregated),
            _committed = commit,
        );
        return Ok(());
    }
    let counts = CountColumns::of(new_events.iter().map(|&NewEvent { event, decided, .. }| CountChange {
        received_at: event.received_at,
        tenant: event.key.tenant.as_str(),
        event_type: &event.event_type,
        outcome: decided.outcome,
        by: 1,
    }));
    let counts = counts.parameters();
    let insert_events = insert_events(client, &statements.insert_events, &rows, &at);
    in_one_round_trip!(
        _stored = insert_events,
        _recorded = statements.insert_entries.execute(client, &ledger),
        _noted = statements.add_unaggregated.execute(client, &unaggregated),
        _counted = statements.add_counts.execute(client, &counts),
        _committed = commit,
    );
    Ok(())
}

fn day_of(new: &NewEvent<'_, '_>) -> Date {
    new.event.received_at.to_utc().date()
}

/// One column of the rows to insert.
fn column<'r, 'a, T>(events: &[&NewEvent<'r, 'a>], of: impl Fn(&NewEvent<'r, 'a>) -> T) -> Vec<T> {
    events.iter().map(|event| of(event)).collect()
}

/// Inserts the rows of new events, column by column.
async fn insert_events(
    client: &ClientWrapper,
    statement: &Ready,
    events: &[&NewEvent<'_, '_>],
    at: &OffsetDateTime,
) -> Result<u64, PostgresError> {
    let risk_reasons = |new: &NewEvent<'_, '_>| new.decided.risk.as_ref().map(|risk| join(&risk.reasons));
    let rows = statement
        .execute(
            client,
            &[
                parameter(&column(events, day_of)),
                parameter(&column(events, |new| new.event.key.tenant.as_str())),
                parameter(&column(events, |new| new.event.key.id.as_str())),
                parameter(&column(events, |new| &*new.event.event_type)),
                parameter(&column(events, |new| i64::from(new.event.schema_version))),
                parameter(&column(events, |new| new.decided.outcome.as_str())),
                parameter(&column(events, |new| new.event.received_at.to_utc())),
                parameter(&column(events, |new| new.event.occurred_at.map(Timestamp::to_utc))),
                parameter(&column(events, |new| new.event.ip)),
                parameter(&column(events, |new| new.event.user_agent.as_deref())),
                parameter(&column(events, |new| new.event.user_id.as_deref())),
                parameter(&column(events, |new| new.event.payload_hash.0.as_slice())),
                parameter(&column(events, |new| new.event.payload.as_str())),
                parameter(&column(events, |new| new.decided.risk.as_ref().map(|risk| i16::from(risk.score)))),
                parameter(&column(events, risk_reasons)),
                parameter(&column(events, |new| new.decided.risk.as_ref().map(|risk| &*risk.rules_version))),
                parameter(&column(events, |new| &*new.origin.topic)),
                parameter(&column(events, |new| new.origin.partition)),
                parameter(&column(events, |new| new.origin.offset)),
                parameter(at),
                parameter(&column(events, |new| new.origin.digest.as_ref().map(RecordDigest::as_bytes))),
                parameter(&column(events, |new| new.trace_id.map(TraceId::as_bytes))),
                parameter(&terms_of(events.iter().map(|new| new.event))),
            ],
        )
        .await?;
    Ok(rows)
}

/// The finding for the record of one row of the answer.
fn of_ordinal<'f>(found: &'f mut [Found], row: &Row) -> Result<&'f mut Found, PostgresError> {
    found.get_mut(ordinal(row)?).ok_or(PostgresError::Row { table: "the answer", column: "ordinal" })
}

pub(crate) fn ordinal(row: &Row) -> Result<usize, PostgresError> {
    usize::try_from(row.try_get::<_, i32>("ordinal")?)
        .map_err(|_| PostgresError::Row { table: "the answer", column: "ordinal" })
}

fn copy_from_row(row: &Row) -> Result<StoredCopy, PostgresError> {
    let bad_hash = |_| Corrupt("events").column("payload_hash");
    Ok(StoredCopy {
        payload_hash: PayloadHash(row.try_get::<_, &[u8]>("payload_hash")?.try_into().map_err(bad_hash)?),
        origin: origin_from_row(row)?,
    })
}

fn account_from_row(row: &Row) -> Result<(LogKey, LogAccount), PostgresError> {
    let before = match (row.try_get("floor_before")?, row.try_get("next_before")?) {
        (Some(floor), Some(next)) => Some(Span { floor, next }),
        (None, _) | (_, None) => None,
    };
    let account = LogAccount {
        incarnation: row.try_get("incarnation")?,
        before,
        locked: Span { floor: row.try_get("floor_offset")?, next: row.try_get("next_offset")? },
    };
    Ok(((row.try_get::<_, &str>("topic")?.into(), row.try_get("partition")?), account))
}

/// Lists are far shorter than `i32::MAX`: an invocation has at most 6 MB.
fn ordinal_of(index: usize) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}

#[derive(Default)]
struct PartitionColumns<'a> {
    topic: Vec<&'a str>,
    partition: Vec<i32>,
    floor_offset: Vec<i64>,
    next_offset: Vec<i64>,
}

impl<'a> PartitionColumns<'a> {
    fn of(positions: impl IntoIterator<Item = &'a Position>) -> Self {
        let mut spans = BTreeMap::<(&str, i32), Span>::new();
        for position in positions {
            let span = Span::of(position.offset);
            let spans = spans.entry((&position.topic, position.partition));
            spans.and_modify(|known| *known = known.and(span)).or_insert(span);
        }
        let mut columns = Self::default();
        for ((topic, partition), Span { floor, next }) in spans {
            columns.topic.push(topic);
            columns.partition.push(partition);
            columns.floor_offset.push(floor);
            columns.next_offset.push(next);
        }
        columns
    }

    fn parameters<'b>(&'b self, now: &'b OffsetDateTime) -> Parameters<'b, 5> {
        [
            parameter(&self.topic),
            parameter(&self.partition),
            parameter(&self.floor_offset),
            parameter(&self.next_offset),
            parameter(now),
        ]
    }
}

#[derive(Default)]
struct SpanColumns<'a> {
    topic: Vec<&'a str>,
    partition: Vec<i32>,
    incarnation: Vec<i32>,
    floor_offset: Vec<i64>,
    next_offset: Vec<i64>,
}

impl<'a> SpanColumns<'a> {
    fn of(spans: &'a [IncarnationSpan]) -> Self {
        let mut columns = Self::default();
        for IncarnationSpan { log: (topic, partition), incarnation, span } in spans {
            columns.topic.push(topic);
            columns.partition.push(*partition);
            columns.incarnation.push(*incarnation);
            columns.floor_offset.push(span.floor);
            columns.next_offset.push(span.next);
        }
        columns
    }

    fn parameters(&self) -> Parameters<'_, 5> {
        [
            parameter(&self.topic),
            parameter(&self.partition),
            parameter(&self.incarnation),
            parameter(&self.floor_offset),
            parameter(&self.next_offset),
        ]
    }
}

#[derive(Default)]
pub(crate) struct PositionColumns<'a> {
    ordinal: Vec<i32>,
    topic: Vec<&'a str>,
    partition: Vec<i32>,
    record_offset: Vec<i64>,
}

impl<'a> PositionColumns<'a> {
    pub(crate) fn of(positions: impl IntoIterator<Item = &'a Position>) -> Self {
        let mut columns = Self::default();
        for (index, position) in positions.into_iter().enumerate() {
            columns.ordinal.push(ordinal_of(index));
            columns.topic.push(&position.topic);
            columns.partition.push(position.partition);
            columns.record_offset.push(position.offset);
        }
        columns
    }

    pub(crate) fn parameters(&self) -> Parameters<'_, 4> {
        [parameter(&self.ordinal), parameter(&self.topic), parameter(&self.partition), parameter(&self.record_offset)]
    }
}

/// The events to store.
#[derive(Default)]
struct KeyColumns<'a> {
    ordinal: Vec<i32>,
    tenant: Vec<&'a str>,
    event_id: Vec<&'a str>,
    day: Vec<Date>,
    first_day: Vec<Date>,
    last_day: Vec<Date>,
    after: Vec<OffsetDateTime>,
    before: Vec<OffsetDateTime>,
}

impl<'a> KeyColumns<'a> {
    fn of(records: &[&'a Tracked<'_, Decided>], window: Duration) -> Self {
        let window_ms = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
        let mut columns = Self::default();
        for (index, record) in records.iter().enumerate() {
            let Some((event, _)) = record.open() else { continue };
            let after = Timestamp::from_millis(event.received_at.as_millis().saturating_sub(window_ms)).to_utc();
            let before = event.received_at.plus(window).to_utc();
            columns.ordinal.push(ordinal_of(index));
            columns.tenant.push(event.key.tenant.as_str());
            columns.event_id.push(event.key.id.as_str());
            columns.day.push(event.received_at.to_utc().date());
            columns.first_day.push(after.date());
            columns.last_day.push(before.date());
            columns.after.push(after);
            columns.before.push(before);
        }
        columns
    }

    /// The first and the last day on which a copy may be; `None` if there is no event.
    fn days(&self) -> Option<(Date, Date)> {
        Some((*self.first_day.iter().min()?, *self.last_day.iter().max()?))
    }

    fn parameters<'b>(&'b self, (first_day, last_day): &'b (Date, Date)) -> Parameters<'b, 10> {
        [
            parameter(&self.ordinal),
            parameter(&self.tenant),
            parameter(&self.event_id),
            parameter(&self.day),
            parameter(&self.first_day),
            parameter(&self.last_day),
            parameter(&self.after),
            parameter(&self.before),
            parameter(first_day),
            parameter(last_day),
        ]
    }
}

#[derive(Default)]
pub(crate) struct EntryColumns<'a> {
    topic: Vec<&'a str>,
    partition: Vec<i32>,
    record_offset: Vec<i64>,
    origin_topic: Vec<&'a str>,
    origin_partition: Vec<i32>,
    origin_offset: Vec<i64>,
    tenant: Vec<Option<&'a str>>,
    event_id: Vec<Option<&'a str>>,
    outcome: Vec<&'static str>,
    reason: Vec<&'a str>,
    risk_score: Vec<Option<i16>>,
    risk_reasons: Vec<Option<String>>,
    rules_version: Vec<Option<&'a str>>,
    incarnation: Vec<i32>,
    digest: Vec<Option<&'a [u8]>>,
    origin_digest: Vec<Option<&'a [u8]>>,
    trace_id: Vec<Option<&'a [u8]>>,
}

impl<'a> EntryColumns<'a> {
    pub(crate) fn of(entries: impl IntoIterator<Item = &'a LedgerEntry>) -> Self {
        let mut columns = Self::default();
        for entry in entries {
            columns.topic.push(&entry.position.topic);
            columns.partition.push(entry.position.partition);
            columns.record_offset.push(entry.position.offset);
            columns.origin_topic.push(&entry.origin.topic);
            columns.origin_partition.push(entry.origin.partition);
            columns.origin_offset.push(entry.origin.offset);
            columns.tenant.push(entry.key.as_ref().map(|key| key.tenant.as_str()));
            columns.event_id.push(entry.key.as_ref().map(|key| key.id.as_str()));
            columns.outcome.push(entry.outcome.as_str());
            columns.reason.push(&entry.reason);
            columns.risk_score.push(entry.risk.as_ref().map(|risk| i16::from(risk.score)));
            columns.risk_reasons.push(entry.risk.as_ref().map(|risk| join(&risk.reasons)));
            columns.rules_version.push(entry.risk.as_ref().map(|risk| &*risk.rules_version));
            columns.incarnation.push(entry.position.incarnation);
            columns.digest.push(entry.digest.as_ref().map(RecordDigest::as_bytes));
            columns.origin_digest.push(entry.origin.digest.as_ref().map(RecordDigest::as_bytes));
            columns.trace_id.push(entry.trace_id.as_ref().map(TraceId::as_bytes));
        }
        columns
    }

    /// The records with their recording times: one time for all, or one for each.
    pub(crate) fn parameters<'b>(&'b self, at: &'b impl SqlType) -> Parameters<'b, 18> {
        [
            parameter(&self.topic),
            parameter(&self.partition),
            parameter(&self.record_offset),
            parameter(&self.origin_topic),
            parameter(&self.origin_partition),
            parameter(&self.origin_offset),
            parameter(&self.tenant),
            parameter(&self.event_id),
            parameter(&self.outcome),
            parameter(&self.reason),
            parameter(&self.risk_score),
            parameter(&self.risk_reasons),
            parameter(&self.rules_version),
            parameter(&self.incarnation),
            parameter(&self.digest),
            parameter(&self.origin_digest),
            parameter(at),
            parameter(&self.trace_id),
        ]
    }
}

/// What statistics need of each new ledger row; see the migrations `V9__aggregates.sql` and `V11__addresses.sql`.
#[derive(Default)]
struct FactColumns<'a> {
    event_type: Vec<Option<&'a str>>,
    received_at: Vec<Option<OffsetDateTime>>,
    subject: Vec<Option<i64>>,
    fields: Vec<Option<&'a str>>,
    address: Vec<Option<IpAddr>>,
}

impl<'a> FactColumns<'a> {
    /// A record without a time counts as received when it is recorded, as its outcome says.
    fn of(records: impl Iterator<Item = &'a Tracked<'a, Decided>>, at: OffsetDateTime) -> Self {
        let mut columns = Self::default();
        for record in records {
            let undated = record.event().is_some_and(|event| event.undated);
            let received_at = if undated { Some(at) } else { record.received_at().map(Timestamp::to_utc) };
            columns.event_type.push(record.event_type());
            columns.received_at.push(received_at);
            columns.subject.push(record.facts().subject);
            columns.fields.push(record.facts().fields.as_deref());
            columns.address.push(record.ip().map(|ip| AddressKey::of(ip).into()));
        }
        columns
    }

    fn parameters(&self) -> Parameters<'_, 5> {
        [
            parameter(&self.event_type),
            parameter(&self.received_at),
            parameter(&self.subject),
            parameter(&self.fields),
            parameter(&self.address),
        ]
    }
}
