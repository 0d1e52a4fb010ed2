//! Whether the aggregates of a period are those that its events make.
//!
//! The events are read with their payloads, so what the ledger has of them is checked too. Everything is read in one snapshot,
//! and what is still on the queue is added to the cells, so a period can be verified while events arrive.

use std::collections::{BTreeMap, BTreeSet};

use event::{Facts, Timestamp};
use futures::TryStreamExt as _;
use rust_decimal::Decimal;
use serde::Serialize;
use statistics::{Cell, CellKey, Cells, Change, DistinctSubjects, Fact, RecordStatus};
use time::OffsetDateTime;
use tokio_postgres::{IsolationLevel, Row};

use super::{PostgresAggregates, WAITING, fact_from_row};
use crate::error::PostgresError;
use crate::ledger::Corrupt;
use crate::statement::{Parameters, parameter};

/// The most cells that are named in an answer.
const NAMED: usize = 10;

/// What differs in a period.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Events that were read.
    pub events: u64,
    /// Cells that their records make.
    pub cells: u64,
    /// Cells that are missing, too many or different.
    pub different: u64,
    /// The first of them: what the cell is, what the events make, and what is stored.
    pub examples: Vec<String>,
}

/// What can be compared of a cell: it is made of stored events only.
#[derive(Debug, Default)]
struct Comparable {
    counts: [i64; STORED.len()],
    subjects: DistinctSubjects,
    /// By measure and status.
    sums: BTreeMap<(String, String), Decimal>,
}

const STORED: [RecordStatus; 3] = [RecordStatus::Valid, RecordStatus::Fraud, RecordStatus::Unscored];

impl Comparable {
    fn add(&mut self, cell: &Cell) -> Result<(), PostgresError> {
        for (count, status) in self.counts.iter_mut().zip(STORED) {
            *count += cell.counts.get(status);
        }
        if let Some(subjects) = &cell.subjects {
            self.subjects.merge(&subjects.to_bytes()).map_err(|_| corrupt("subjects"))?;
        }
        for ((measure, status), measured) in &cell.measures {
            *self.sums.entry(((*measure).to_owned(), status.as_str().to_owned())).or_default() += measured.sum;
        }
        Ok(())
    }

    /// As text, in which two can be compared and shown.
    fn told(&self) -> String {
        let [valid, fraud, unscored] = self.counts;
        let subjects = self.subjects.estimate();
        let sums: Vec<String> = self
            .sums
            .iter()
            .map(|((measure, status), sum)| format!("{measure} of {status} {}", sum.normalize()))
            .collect();
        format!("valid {valid}, fraud {fraud}, unscored {unscored}, subjects {subjects} {sums:?}")
    }
}

type Compared = BTreeMap<CellKey, Comparable>;

const EVENTS: &str = "
    SELECT tenant, event_type, received_at, status, risk_score IS NOT NULL AS is_scored, payload
    FROM events WHERE received_at >= $1 AND received_at < $2 AND received_day BETWEEN $3 AND $4";

const CELLS: &str = "
    SELECT tenant, dimension, value, quarter, event_type, second_value, valid, fraud, unscored, subjects
    FROM aggregates WHERE quarter >= $1 AND quarter < $2";

const MEASURES: &str = "
    SELECT tenant, dimension, value, quarter, event_type, second_value, measure, status, sum::text AS sum
    FROM aggregate_measures WHERE quarter >= $1 AND quarter < $2";

impl PostgresAggregates {
    /// Compares the cells of the quarters of an hour from `from` to before `to`, which must be whole quarters, with the rows of
    /// `events`. The cells of events that have expired differ.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn verify(&self, from: Timestamp, to: Timestamp) -> Result<Verification, PostgresError> {
        let (from, to) = (from.to_utc(), to.to_utc());
        let (first_day, last_day) = (from.date(), to.date());
        let mut client = self.database.connection().await?;
        // Dropping it rolls back.
        let transaction =
            client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
        transaction.batch_execute("SET LOCAL statement_timeout = 0").await?;

        let mut made = Cells::default();
        let mut events = 0;
        let wanted: Parameters<'_, 4> = [parameter(&from), parameter(&to), parameter(&first_day), parameter(&last_day)];
        // As a stream, because a day's events may be more than fit into memory.
        let rows = transaction.query_typed_raw(EVENTS, wanted).await?;
        let mut rows = std::pin::pin!(rows);
        while let Some(row) = rows.try_next().await? {
            add_event(&mut made, &row)?;
            events += 1;
        }
        let mut waiting = Cells::default();
        for row in transaction.query_typed(WAITING, &[]).await? {
            if let Some(fact) = fact_from_row(&row)?
                && (from..to).contains(&fact.received_at.to_utc())
            {
                waiting.add(&fact);
            }
        }
        let period = [parameter(&from), parameter(&to)];
        let mut held = compared(&waiting)?;
        for row in transaction.query_typed(CELLS, &period).await? {
            let cell = held.entry(key_from_row(&row)?).or_default();
            for (count, status) in cell.counts.iter_mut().zip(STORED) {
                *count += row.try_get::<_, i64>(status.as_str())?;
            }
            if let Some(subjects) = row.try_get("subjects")? {
                cell.subjects.merge(subjects).map_err(|_| corrupt("subjects"))?;
            }
        }
        for row in transaction.query_typed(MEASURES, &period).await? {
            let sum: Decimal = row.try_get::<_, &str>("sum")?.parse().map_err(|_| corrupt("sum"))?;
            let cell = held.entry(key_from_row(&row)?).or_default();
            *cell.sums.entry((row.try_get("measure")?, row.try_get("status")?)).or_default() += sum;
        }
        Ok(compare(events, &compared(&made)?, &held))
    }
}

fn corrupt(column: &'static str) -> PostgresError {
    Corrupt("aggregates").column(column)
}

/// Counts a row of `events` by what its payload says.
fn add_event(cells: &mut Cells, row: &Row) -> Result<(), PostgresError> {
    let event_type: &str = row.try_get("event_type")?;
    let outcome = row.try_get::<_, &str>("status")?.parse().map_err(|_| Corrupt("events").column("status"))?;
    let facts = Facts::of_data(event_type, row.try_get("payload")?);
    cells.add(&Fact {
        tenant: row.try_get("tenant")?,
        event_type,
        received_at: row.try_get::<_, OffsetDateTime>("received_at")?.into(),
        subject: facts.subject,
        fields: facts.fields.as_deref(),
        // Sketches of addresses are not compared: which ones they forget depends on the order of the records.
        address: None,
        change: Change::Recorded(RecordStatus::of(outcome, row.try_get("is_scored")?)),
    });
    Ok(())
}

fn key_from_row(row: &Row) -> Result<CellKey, PostgresError> {
    Ok(CellKey {
        tenant: row.try_get("tenant")?,
        dimension: row.try_get("dimension")?,
        value: row.try_get("value")?,
        quarter: row.try_get::<_, OffsetDateTime>("quarter")?.into(),
        event_type: row.try_get("event_type")?,
        second_value: row.try_get("second_value")?,
    })
}

fn compared(cells: &Cells) -> Result<Compared, PostgresError> {
    let mut compared = Compared::new();
    for (key, cell) in cells.iter() {
        compared.entry(key.clone()).or_default().add(cell)?;
    }
    Ok(compared)
}

fn compare(events: u64, made: &Compared, held: &Compared) -> Verification {
    let mut verification = Verification { events, cells: made.len() as u64, ..Verification::default() };
    let nothing = Comparable::default();
    let keys: BTreeSet<&CellKey> = made.keys().chain(held.keys()).collect();
    for key in keys {
        let told = |cells: &Compared| cells.get(key).unwrap_or(&nothing).told();
        let (made, held) = (told(made), told(held));
        if made == held {
            continue;
        }
        verification.different += 1;
        if verification.examples.len() < NAMED {
            let CellKey { tenant, dimension, value, quarter, event_type, second_value } = key;
            verification.examples.push(format!(
                "{event_type} of {tenant} at {quarter}, {dimension}={value} {second_value}: the events make {made}; stored is \
                 {held}"
            ));
        }
    }
    verification
}
