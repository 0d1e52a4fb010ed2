//! Statistics: the queue of records that no aggregate counts yet, and counting them.
//!
//! A record is counted in the transaction that takes it off the queue, so it is counted once, however often a run is killed,
//! and in whatever order batches were recorded: late, redriven and replayed records are batches like others. Rejected: a
//! position in each log up to which everything is counted. Rows come below it, when a batch that was given up is replayed.

mod verify;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use deadpool_postgres::ClientWrapper;
use event::{AddressKey, Timestamp};
use pipeline::{Outcome, Position};
use statistics::{AddressFigure, BusyAddresses, Cell, CellKey, Cells, Change, DistinctSubjects, Fact, RecordStatus};
use time::OffsetDateTime;
use tokio_postgres::Row;

pub use self::verify::Verification;
use crate::database::{Database, RollbackOnDrop, in_one_round_trip};
use crate::error::PostgresError;
use crate::ledger::Corrupt;
use crate::statement::{Parameters, parameter};

/// The advisory lock of aggregation: any number that nothing else in this database uses.
const LOCK: i64 = 0x666f_7265_6261_7903;

/// Notes the new records of a batch, and those whose events got an outcome from a late score.
pub(crate) const ADD_UNAGGREGATED: &str = "
    INSERT INTO unaggregated (topic, partition, incarnation, offsets, scored, added_at)
    SELECT w.topic, w.partition, w.incarnation, w.offsets::int8multirange, w.scored, $6
    FROM unnest($1::text[], $2::int4[], $3::int4[], $4::text[], $5::text[])
        AS w (topic, partition, incarnation, offsets, scored)";

/// Positions, by log and by what a late score made of them, as the texts of multiranges.
#[derive(Debug, Default)]
pub(crate) struct SpanTexts<'a> {
    topic: Vec<&'a str>,
    partition: Vec<i32>,
    incarnation: Vec<i32>,
    offsets: Vec<String>,
    scored: Vec<Option<&'static str>>,
}

impl<'a> SpanTexts<'a> {
    /// Each position with the outcome that a late score gave to its event; `None` for a new record.
    pub(crate) fn of(positions: impl Iterator<Item = (&'a Position, Option<Outcome>)>) -> Self {
        let mut logs = BTreeMap::<(&str, i32, i32, Option<Outcome>), Vec<i64>>::new();
        for (Position { topic, partition, incarnation, offset }, scored) in positions {
            logs.entry((topic, *partition, *incarnation, scored)).or_default().push(*offset);
        }
        let mut texts = SpanTexts::default();
        for ((topic, partition, incarnation, scored), offsets) in logs {
            texts.topic.push(topic);
            texts.partition.push(partition);
            texts.incarnation.push(incarnation);
            texts.offsets.push(multirange(offsets));
            texts.scored.push(scored.map(Outcome::as_str));
        }
        texts
    }

    pub(crate) fn parameters<'b>(&'b self, at: &'b OffsetDateTime) -> Parameters<'b, 6> {
        [
            parameter(&self.topic),
            parameter(&self.partition),
            parameter(&self.incarnation),
            parameter(&self.offsets),
            parameter(&self.scored),
            parameter(at),
        ]
    }
}

/// `{[0,5),[6,9)}` for 0 to 4 and 6 to 8.
fn multirange(mut offsets: Vec<i64>) -> String {
    offsets.sort_unstable();
    offsets.dedup();
    let mut text = String::from("{");
    for run in offsets.chunk_by(|a, b| a + 1 == *b) {
        if let [first, ..] = run {
            let separator = if text.len() > 1 { "," } else { "" };
            // Writing to a text cannot fail.
            let _ = write!(text, "{separator}[{first},{})", first + run.len() as i64);
        }
    }
    text + "}"
}

/// The rows of the ledger of batches on the queue. There is no order by position: a batch is counted as a whole. A span whose rows
/// have expired has one row without an outcome, so that no row at all means no batch.
macro_rules! records_of {
    ($batches:literal) => {
        concat!(
            "WITH batches AS (",
            $batches,
            "), spans AS MATERIALIZED (
                SELECT topic, partition, incarnation, scored, lower(span) AS first_offset, upper(span) AS end_offset
                FROM batches CROSS JOIN LATERAL unnest(offsets) AS span
            )
            SELECT s.scored, o.tenant, o.event_type, o.received_at, o.recorded_at, o.outcome,
                   o.risk_score IS NOT NULL AS is_scored, o.subject, o.fields, o.address
            FROM spans s
            LEFT JOIN LATERAL (
                SELECT * FROM record_outcomes o
                WHERE o.topic = s.topic AND o.partition = s.partition AND o.incarnation = s.incarnation
                  AND o.record_offset >= s.first_offset AND o.record_offset < s.end_offset
                OFFSET 0
            ) o ON true"
        )
    };
}

/// Takes batches off the queue.
const TAKE: &str = records_of!(
    "DELETE FROM unaggregated WHERE id IN (SELECT id FROM unaggregated WHERE id <= $1 ORDER BY id LIMIT $2)
     RETURNING topic, partition, incarnation, offsets, scored"
);

const WAITING: &str = records_of!("SELECT topic, partition, incarnation, offsets, scored FROM unaggregated");

const FIND_SUBJECTS: &str = "
    SELECT w.ordinal, a.subjects
    FROM unnest($1::int4[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::text[])
        AS w (ordinal, tenant, dimension, value, quarter, event_type, second_value)
    CROSS JOIN LATERAL (
        SELECT a.subjects FROM aggregates a
        WHERE a.tenant = w.tenant AND a.dimension = w.dimension AND a.value = w.value AND a.quarter = w.quarter
          AND a.event_type = w.event_type AND a.second_value = w.second_value AND a.subjects IS NOT NULL
        OFFSET 0
    ) a";

/// A sketch is written as it is then, because the lock of aggregation is held since it was read; NULL leaves it as it is.
const ADD_CELLS: &str = "
    INSERT INTO aggregates AS a (tenant, dimension, value, quarter, event_type, second_value, valid, fraud, unscored,
                                 duplicate, blocked, dead_lettered, subjects)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::text[], $7::int8[],
                         $8::int8[], $9::int8[], $10::int8[], $11::int8[], $12::int8[], $13::bytea[])
    ON CONFLICT (tenant, dimension, value, quarter, event_type, second_value) DO UPDATE SET
        valid = a.valid + excluded.valid,
        fraud = a.fraud + excluded.fraud,
        unscored = a.unscored + excluded.unscored,
        duplicate = a.duplicate + excluded.duplicate,
        blocked = a.blocked + excluded.blocked,
        dead_lettered = a.dead_lettered + excluded.dead_lettered,
        subjects = coalesce(excluded.subjects, a.subjects)";

const ADD_MEASURES: &str = "
    INSERT INTO aggregate_measures AS m (tenant, dimension, value, quarter, event_type, second_value, measure, status,
                                         events, sum, min, max)
    SELECT w.tenant, w.dimension, w.value, w.quarter, w.event_type, w.second_value, w.measure, w.status, w.events,
           w.sum::numeric, w.min::numeric, w.max::numeric
    FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::text[], $7::text[], $8::text[],
                $9::int8[], $10::text[], $11::text[], $12::text[])
        AS w (tenant, dimension, value, quarter, event_type, second_value, measure, status, events, sum, min, max)
    ON CONFLICT (tenant, dimension, value, quarter, event_type, second_value, measure, status) DO UPDATE SET
        events = m.events + excluded.events,
        sum = m.sum + excluded.sum,
        min = least(m.min, excluded.min),
        max = greatest(m.max, excluded.max)";

const FIND_ADDRESSES: &str = "
    SELECT w.ordinal, a.records, a.events, a.fraud, a.blocked
    FROM unnest($1::int4[], $2::text[], $3::timestamptz[]) AS w (ordinal, tenant, hour)
    CROSS JOIN LATERAL (
        SELECT * FROM aggregate_addresses a WHERE a.tenant = w.tenant AND a.hour = w.hour
        OFFSET 0
    ) a";

/// As they are then, because the lock of aggregation is held since they were read.
const WRITE_ADDRESSES: &str = "
    INSERT INTO aggregate_addresses (tenant, hour, records, events, fraud, blocked)
    SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[])
    ON CONFLICT (tenant, hour) DO UPDATE SET
        records = excluded.records,
        events = excluded.events,
        fraud = excluded.fraud,
        blocked = excluded.blocked";

/// What there is to do when a run begins: nothing recorded later belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// The last batch of the queue.
    last: i64,
    /// Up to where each log of a topic was recorded: topic, partition, next offset.
    recorded: Vec<(String, i32, i64)>,
}

/// What one step has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// Another run is counting.
    Busy,
    /// Records were counted, and there may be more.
    Counted {
        records: u64,
        /// Numbers with too many digits for a sum.
        unmeasured: u64,
    },
    /// Nothing of the pass is left.
    Empty,
}

/// Where a partition's log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnd {
    pub partition: i32,
    pub end_offset: i64,
}

/// The aggregates of one database.
#[derive(Clone, Debug)]
pub struct PostgresAggregates {
    database: Database,
}

impl PostgresAggregates {
    pub fn new(database: Database) -> Self {
        PostgresAggregates { database }
    }

    /// What there is to count now.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn begin(&self) -> Result<Pass, PostgresError> {
        // The checkpoints are read first: a batch that is in them is committed, so it is on the queue or counted.
        let checkpoints = self.database.query("SELECT topic, partition, next_offset FROM checkpoints", &[]).await?;
        let log = |row: &Row| Ok((row.try_get("topic")?, row.try_get("partition")?, row.try_get("next_offset")?));
        let recorded = checkpoints.iter().map(log).collect::<Result<_, PostgresError>>()?;
        let last = self.database.query("SELECT coalesce(max(id), 0) AS last FROM unaggregated", &[]).await?;
        let last = last.first().map_or(Ok(0), |row| row.try_get("last"))?;
        Ok(Pass { last, recorded })
    }

    /// Takes at most so many batches of the pass off the queue, and counts their records, in one transaction.
    ///
    /// # Errors
    /// If the database fails: then nothing is counted, and the batches stay on the queue.
    pub async fn count_some(&self, pass: &Pass, batches: i64) -> Result<Drain, PostgresError> {
        let client = self.database.connection().await?;
        let result = self.database.within(count_some(&client, self.database.begin(), pass.last, batches)).await;
        self.database.give_back(client, result)
    }

    /// Notes where the logs of a topic ended at an instant.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn mark(&self, at: Timestamp, topic: &str, ends: &[LogEnd]) -> Result<(), PostgresError> {
        let (partition, end_offset): (Vec<i32>, Vec<i64>) =
            ends.iter().map(|end| (end.partition, end.end_offset)).unzip();
        let insert = "
            INSERT INTO aggregation_marks (at, topic, partition, end_offset)
            SELECT $1, $2, w.partition, w.end_offset FROM unnest($3::int4[], $4::int8[]) AS w (partition, end_offset)
            ON CONFLICT DO NOTHING";
        let at = at.to_utc();
        let parameters = [parameter(&at), parameter(&topic), parameter(&partition), parameter(&end_offset)];
        self.database.execute(insert, &parameters).await.map(drop)
    }

    /// Once a pass is counted, moves the instant up to which the aggregates are complete to the last mark whose records were
    /// all recorded when the pass began, and forgets the marks up to there.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn complete(&self, pass: &Pass) -> Result<(), PostgresError> {
        let complete = "
            WITH recorded AS (
                SELECT * FROM unnest($1::text[], $2::int4[], $3::int8[]) AS w (topic, partition, next_offset)
            ), reached AS (
                SELECT m.at FROM aggregation_marks m LEFT JOIN recorded r USING (topic, partition)
                GROUP BY m.at HAVING bool_and(m.end_offset <= coalesce(r.next_offset, 0))
                ORDER BY m.at DESC LIMIT 1
            ), forgotten AS (
                DELETE FROM aggregation_marks m USING reached WHERE m.at <= reached.at
            )
            INSERT INTO aggregation_progress AS p (complete_until) SELECT at FROM reached
            ON CONFLICT (only_row) DO UPDATE SET complete_until = greatest(p.complete_until, excluded.complete_until)";
        let (mut topic, mut partition, mut next_offset) = (Vec::new(), Vec::new(), Vec::new());
        for (name, number, next) in &pass.recorded {
            topic.push(name.as_str());
            partition.push(*number);
            next_offset.push(*next);
        }
        let parameters = [parameter(&topic), parameter(&partition), parameter(&next_offset)];
        self.database.execute(complete, &parameters).await.map(drop)
    }

    /// When the oldest batch that is not counted was recorded.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn oldest_uncounted(&self) -> Result<Option<Timestamp>, PostgresError> {
        let rows = self.database.query("SELECT added_at FROM unaggregated ORDER BY id LIMIT 1", &[]).await?;
        let at = rows.first().map(|row| row.try_get::<_, OffsetDateTime>("added_at")).transpose()?;
        Ok(at.map(Timestamp::from))
    }
}

async fn count_some(client: &ClientWrapper, begin: &str, last: i64, batches: i64) -> Result<Drain, PostgresError> {
    let transaction = RollbackOnDrop::new(client);
    let take = [parameter(&last), parameter(&batches)];
    let lock = [parameter(&LOCK)];
    in_one_round_trip!(
        _begun = client.batch_execute(begin),
        locked = client.query_typed("SELECT pg_try_advisory_xact_lock($1) AS held", &lock),
    );
    if !locked.first().map_or(Ok(false), |row| row.try_get("held"))? {
        return Ok(Drain::Busy);
    }
    let rows = client.query_typed(TAKE, &take).await?;
    let mut cells = Cells::default();
    let mut records = 0;
    for row in &rows {
        records += u64::from(row.try_get::<_, Option<&str>>("outcome")?.is_some());
        if let Some(fact) = fact_from_row(row)? {
            cells.add(&fact);
        }
    }
    let columns = CellColumns::of(&cells);
    let sketches = merged_sketches(client, &cells, &columns).await?;
    let (counts, measures) = (columns.counts(&sketches), MeasureColumns::of(&cells));
    let measures = measures.parameters();
    let addresses = merged_addresses(client, &cells).await?;
    let addresses = addresses.parameters();
    pipeline::failpoint!("postgres::aggregating");
    in_one_round_trip!(
        _cells = client.execute_typed(ADD_CELLS, &counts),
        _measures = client.execute_typed(ADD_MEASURES, &measures),
        _addresses = client.execute_typed(WRITE_ADDRESSES, &addresses),
        _committed = client.batch_execute("COMMIT"),
    );
    transaction.finish();
    pipeline::failpoint!("postgres::aggregated");
    if rows.is_empty() {
        return Ok(Drain::Empty);
    }
    Ok(Drain::Counted { records, unmeasured: cells.unmeasured })
}

/// `None` for a record that is no event of a tenant and type: statistics have no place for it, and the ledger counts it.
fn fact_from_row(row: &Row) -> Result<Option<Fact<'_>>, PostgresError> {
    let (Some(tenant), Some(event_type)) = (row.try_get("tenant")?, row.try_get("event_type")?) else {
        return Ok(None);
    };
    let corrupt = |column| Corrupt("record_outcomes").column(column);
    let outcome = |text: &str, column| text.parse::<Outcome>().map_err(|_| corrupt(column));
    let recorded = outcome(row.try_get("outcome")?, "outcome")?;
    let change = match row.try_get::<_, Option<&str>>("scored")? {
        Some(scored) => Change::ScoredLate(RecordStatus::of(outcome(scored, "scored")?, true)),
        None => Change::Recorded(RecordStatus::of(recorded, row.try_get("is_scored")?)),
    };
    let received_at = row.try_get::<_, Option<OffsetDateTime>>("received_at")?;
    let received_at = received_at.map_or_else(|| row.try_get::<_, OffsetDateTime>("recorded_at"), Ok)?.into();
    Ok(Some(Fact {
        tenant,
        event_type,
        received_at,
        subject: row.try_get("subject")?,
        fields: row.try_get("fields")?,
        address: row.try_get::<_, Option<IpAddr>>("address")?.map(AddressKey::of),
        change,
    }))
}

/// The sketch of each cell, with what is stored of it; `None` where there is nothing new.
async fn merged_sketches(
    client: &ClientWrapper,
    cells: &Cells,
    columns: &CellColumns<'_>,
) -> Result<Vec<Option<Vec<u8>>>, PostgresError> {
    let mut sketches: Vec<Option<DistinctSubjects>> = cells.iter().map(|(_, cell)| cell.subjects.clone()).collect();
    let ordinals: Vec<i32> = (0..).take(sketches.len()).collect();
    let [tenant, dimension, value, quarter, event_type, second_value] = columns.keys.parameters();
    let wanted = [parameter(&ordinals), tenant, dimension, value, quarter, event_type, second_value];
    for row in client.query_typed(FIND_SUBJECTS, &wanted).await? {
        let corrupt = || Corrupt("aggregates").column("subjects");
        let at = usize::try_from(row.try_get::<_, i32>("ordinal")?).map_err(|_| corrupt())?;
        if let Some(Some(sketch)) = sketches.get_mut(at) {
            sketch.merge(row.try_get("subjects")?).map_err(|_| corrupt())?;
        }
    }
    Ok(sketches.into_iter().map(|sketch| sketch.map(|sketch| sketch.to_bytes())).collect())
}

/// The addresses of each tenant and hour, with what is stored of them.
async fn merged_addresses<'a>(client: &ClientWrapper, cells: &'a Cells) -> Result<AddressColumns<'a>, PostgresError> {
    let mut columns = AddressColumns::default();
    let mut sketches = Vec::new();
    for ((tenant, hour), addresses) in cells.addresses() {
        columns.tenant.push(tenant);
        columns.hour.push(hour.to_utc());
        sketches.push(addresses.clone());
    }
    let ordinals: Vec<i32> = (0..).take(sketches.len()).collect();
    let wanted = [parameter(&ordinals), parameter(&columns.tenant), parameter(&columns.hour)];
    for row in client.query_typed(FIND_ADDRESSES, &wanted).await? {
        let corrupt = || Corrupt("aggregate_addresses").column("records");
        let at = usize::try_from(row.try_get::<_, i32>("ordinal")?).map_err(|_| corrupt())?;
        merge_addresses(sketches.get_mut(at).ok_or_else(corrupt)?, &row)?;
    }
    for (column, count) in columns.counts.iter_mut().zip(AddressFigure::ALL) {
        column.extend(sketches.iter().map(|addresses| addresses.to_bytes(*count)));
    }
    Ok(columns)
}

/// Adds a row of `aggregate_addresses`, whose columns have the names of the figures.
pub(crate) fn merge_addresses(addresses: &mut BusyAddresses, row: &Row) -> Result<(), PostgresError> {
    for count in AddressFigure::ALL {
        let column = count.as_str();
        let merged = addresses.merge(*count, row.try_get(column)?);
        merged.map_err(|_| Corrupt("aggregate_addresses").column(column))?;
    }
    Ok(())
}

#[derive(Default)]
struct AddressColumns<'a> {
    tenant: Vec<&'a str>,
    hour: Vec<OffsetDateTime>,
    /// A column for each count, in their order.
    counts: [Vec<Vec<u8>>; AddressFigure::ALL.len()],
}

impl AddressColumns<'_> {
    fn parameters(&self) -> Parameters<'_, 6> {
        let [records, events, fraud, blocked] = &self.counts;
        [
            parameter(&self.tenant),
            parameter(&self.hour),
            parameter(records),
            parameter(events),
            parameter(fraud),
            parameter(blocked),
        ]
    }
}

#[derive(Default)]
struct KeyColumns<'a> {
    tenant: Vec<&'a str>,
    dimension: Vec<&'a str>,
    value: Vec<&'a str>,
    quarter: Vec<OffsetDateTime>,
    event_type: Vec<&'a str>,
    second_value: Vec<&'a str>,
}

impl<'a> KeyColumns<'a> {
    fn push(&mut self, key: &'a CellKey) {
        self.tenant.push(&key.tenant);
        self.dimension.push(&key.dimension);
        self.value.push(&key.value);
        self.quarter.push(key.quarter.to_utc());
        self.event_type.push(&key.event_type);
        self.second_value.push(&key.second_value);
    }

    fn parameters(&self) -> Parameters<'_, 6> {
        [
            parameter(&self.tenant),
            parameter(&self.dimension),
            parameter(&self.value),
            parameter(&self.quarter),
            parameter(&self.event_type),
            parameter(&self.second_value),
        ]
    }
}

struct CellColumns<'a> {
    keys: KeyColumns<'a>,
    /// A column for each status, in their order.
    counts: Vec<Vec<i64>>,
}

impl<'a> CellColumns<'a> {
    fn of(cells: &'a Cells) -> Self {
        let mut keys = KeyColumns::default();
        cells.iter().for_each(|(key, _)| keys.push(key));
        let count =
            |status: &RecordStatus| cells.iter().map(|(_, cell): (_, &Cell)| cell.counts.get(*status)).collect();
        CellColumns { keys, counts: RecordStatus::ALL.iter().map(count).collect() }
    }

    fn counts<'b>(&'b self, sketches: &'b Vec<Option<Vec<u8>>>) -> Vec<crate::statement::Parameter<'b>> {
        let counts = self.counts.iter().map(parameter);
        self.keys.parameters().into_iter().chain(counts).chain([parameter(sketches)]).collect()
    }
}

#[derive(Default)]
struct MeasureColumns<'a> {
    keys: KeyColumns<'a>,
    measure: Vec<&'static str>,
    status: Vec<&'static str>,
    events: Vec<i64>,
    sum: Vec<String>,
    min: Vec<String>,
    max: Vec<String>,
}

impl<'a> MeasureColumns<'a> {
    fn of(cells: &'a Cells) -> Self {
        let mut columns = Self::default();
        for (key, cell) in cells.iter() {
            for ((measure, status), measured) in &cell.measures {
                columns.keys.push(key);
                columns.measure.push(measure);
                columns.status.push(status.as_str());
                columns.events.push(measured.events);
                columns.sum.push(measured.sum.to_string());
                columns.min.push(measured.min.to_string());
                columns.max.push(measured.max.to_string());
            }
        }
        columns
    }

    fn parameters(&self) -> Parameters<'_, 12> {
        let [tenant, dimension, value, quarter, event_type, second_value] = self.keys.parameters();
        [
            tenant,
            dimension,
            value,
            quarter,
            event_type,
            second_value,
            parameter(&self.measure),
            parameter(&self.status),
            parameter(&self.events),
            parameter(&self.sum),
            parameter(&self.min),
            parameter(&self.max),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_become_ranges_that_hold_exactly_them() {
        assert_eq!(multirange(vec![7, 0, 1, 2, 6, 2]), "{[0,3),[6,8)}");
        assert_eq!(multirange(vec![5]), "{[5,6)}");
        let positions = [("b", 0, 3), ("a", 1, 1), ("a", 1, 2), ("b", 0, 1)]
            .map(|(topic, partition, offset)| Position::new(topic, partition, offset));
        let texts = SpanTexts::of(positions.iter().map(|position| (position, None)));
        assert_eq!(
            (texts.topic, texts.offsets),
            (vec!["a", "b"], vec!["{[1,3)}".to_owned(), "{[1,2),[3,4)}".to_owned()])
        );
        let outcomes = [Outcome::Fraud, Outcome::Valid, Outcome::Valid, Outcome::Valid].map(Some);
        let texts = SpanTexts::of(positions.iter().zip(outcomes));
        assert_eq!(texts.offsets, ["{[1,3)}", "{[1,2)}", "{[3,4)}"]);
        assert_eq!(texts.scored, [Some("valid"), Some("valid"), Some("fraud")]);
    }
}
