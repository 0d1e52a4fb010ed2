//! Redrive marks: one row for each step of a letter.

use std::collections::BTreeMap;

use async_trait::async_trait;
use event::{Origin, Timestamp};
use pipeline::ports::{BeginVerdict, LetterId, Mark, MarkKey, MarkState, RedriveMarks};
use pipeline::{DependencyError, Position};
use time::OffsetDateTime;
use tokio_postgres::Row;

use crate::database::Database;
use crate::error::PostgresError;
use crate::ledger::Corrupt;
use crate::statement::{Parameters, parameter};
use crate::store::ordinal;
use crate::text::storable;

/// Begins the steps that are free, and returns the others. In the order of the keys, so that two runs cannot deadlock.
/// `at` is NULL for a step that another run began after the statement did.
const BEGIN: &str = "
    WITH wanted AS (
        SELECT * FROM unnest($1::int4[], $2::text[], $3::int8[], $4::text[]) AS w (ordinal, origin, attempt, step)
    ), begun AS (
        INSERT INTO redrive_marks AS m (origin, attempt, step, run, at, until)
        SELECT origin, attempt, step, $5, $6, $7 FROM wanted
        ON CONFLICT (origin, attempt, step) DO UPDATE SET run = excluded.run, at = excluded.at, until = excluded.until
        WHERE m.run = excluded.run AND m.until IS NOT NULL OR m.until <= excluded.at
        RETURNING m.origin, m.attempt, m.step
    )
    SELECT w.ordinal, m.at, m.until FROM wanted w LEFT JOIN redrive_marks m USING (origin, attempt, step)
    WHERE (w.origin, w.attempt, w.step) NOT IN (SELECT begun.origin, begun.attempt, begun.step FROM begun)";

const FINISH: &str = "
    INSERT INTO redrive_marks (origin, attempt, step, run, at, until, position)
    SELECT w.origin, w.attempt, w.step, $6, $7, NULL, w.position
    FROM unnest($1::int4[], $2::text[], $3::int8[], $4::text[], $5::text[])
        AS w (ordinal, origin, attempt, step, position)
    ON CONFLICT (origin, attempt, step) DO UPDATE SET
        run = excluded.run, at = excluded.at, until = NULL, position = excluded.position";

const FIND: &str = "
    SELECT w.ordinal, m.run, m.at, m.until, m.position
    FROM unnest($1::int4[], $2::text[], $3::int8[], $4::text[]) AS w (ordinal, origin, attempt, step)
    JOIN redrive_marks m USING (origin, attempt, step)";

const OF_ORIGIN: &str = "SELECT * FROM redrive_marks WHERE origin = $1 ORDER BY attempt, step";

/// [`RedriveMarks`] on Postgres.
#[derive(Clone, Debug)]
pub struct PostgresRedriveMarks {
    database: Database,
}

/// Keys as columns, in the order of the keys; `ordinal` is their place in the call.
struct Keys {
    ordinal: Vec<i32>,
    origin: Vec<String>,
    attempt: Vec<i64>,
    step: Vec<&'static str>,
}

impl Keys {
    fn of<'a>(keys: impl Iterator<Item = &'a MarkKey>) -> Self {
        let mut keys: Vec<(i32, &MarkKey)> = (0..).zip(keys).collect();
        keys.sort_by_key(|(_, key)| *key);
        Keys {
            ordinal: keys.iter().map(|(ordinal, _)| *ordinal).collect(),
            origin: keys.iter().map(|(_, key)| origin_text(&key.letter.origin)).collect(),
            attempt: keys.iter().map(|(_, key)| key.letter.attempt.into()).collect(),
            step: keys.iter().map(|(_, key)| key.step.as_str()).collect(),
        }
    }

    fn parameters(&self) -> Parameters<'_, 4> {
        [parameter(&self.ordinal), parameter(&self.origin), parameter(&self.attempt), parameter(&self.step)]
    }
}

fn origin_text(origin: &Origin) -> String {
    storable(&origin.to_string()).into_owned()
}

impl PostgresRedriveMarks {
    pub fn new(database: Database) -> Self {
        PostgresRedriveMarks { database }
    }

    async fn begin_steps(
        &self,
        keys: &[MarkKey],
        run: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<BeginVerdict>, PostgresError> {
        let columns = Keys::of(keys.iter());
        let (run, at, end) = (storable(run), now.to_utc(), until.to_utc());
        let run = run.as_ref();
        let parameters = [&columns.parameters()[..], &[parameter(&run), parameter(&at), parameter(&end)]].concat();
        let mut verdicts = vec![BeginVerdict::Ours; keys.len()];
        for row in &self.database.query(BEGIN, &parameters).await? {
            let begun = row.try_get::<_, Option<OffsetDateTime>>("at")?.is_some();
            let held = row.try_get::<_, Option<OffsetDateTime>>("until")?.map(Timestamp::from);
            let verdict = match held {
                Some(until) => BeginVerdict::UnderWay { until },
                None if begun => BeginVerdict::Done,
                // Begun just now; for how long is not known. Wait as long as a step of ours takes.
                None => BeginVerdict::UnderWay { until },
            };
            let place = verdicts.get_mut(ordinal(row)?);
            *place.ok_or(PostgresError::Row { table: "the answer", column: "ordinal" })? = verdict;
        }
        Ok(verdicts)
    }

    async fn finish_steps(
        &self,
        done: &[(MarkKey, Option<Position>)],
        run: &str,
        now: Timestamp,
    ) -> Result<(), PostgresError> {
        // A statement cannot change a row twice; the last word of a call counts.
        let mut last = BTreeMap::new();
        last.extend(done.iter().map(|(key, position)| (key, position.as_ref().map(Position::to_string))));
        let columns = Keys::of(last.keys().copied());
        let positions: Vec<Option<&str>> = last.values().map(Option::as_deref).collect();
        let (run, at) = (storable(run), now.to_utc());
        let run = run.as_ref();
        let rest = [parameter(&positions), parameter(&run), parameter(&at)];
        let parameters = [&columns.parameters()[..], &rest].concat();
        self.database.execute(FINISH, &parameters).await.map(drop)
    }

    async fn found(&self, keys: &[MarkKey]) -> Result<Vec<Option<Mark>>, PostgresError> {
        let columns = Keys::of(keys.iter());
        let mut marks = vec![None; keys.len()];
        for row in &self.database.query(FIND, &columns.parameters()).await? {
            let at = ordinal(row)?;
            let (Some(key), Some(place)) = (keys.get(at), marks.get_mut(at)) else {
                return Err(PostgresError::Row { table: "the answer", column: "ordinal" });
            };
            *place = Some(mark_of(row, key.clone())?);
        }
        Ok(marks)
    }

    async fn marks_of(&self, origin: &Origin) -> Result<Vec<Mark>, PostgresError> {
        let rows = self.database.query(OF_ORIGIN, &[parameter(&origin_text(origin))]).await?;
        let corrupt = |column| Corrupt("redrive_marks").column(column);
        let read = |row: &Row| {
            let attempt = u32::try_from(row.try_get::<_, i64>("attempt")?).map_err(|_| corrupt("attempt"))?;
            let step = row.try_get::<_, &str>("step")?.parse().map_err(|_| corrupt("step"))?;
            mark_of(row, MarkKey { letter: LetterId { origin: origin.clone(), attempt }, step })
        };
        rows.iter().map(read).collect()
    }
}

fn mark_of(row: &Row, key: MarkKey) -> Result<Mark, PostgresError> {
    let position = |text: &str| text.parse().map_err(|_| Corrupt("redrive_marks").column("position"));
    let state = match row.try_get::<_, Option<OffsetDateTime>>("until")? {
        Some(until) => MarkState::UnderWay { until: until.into() },
        None => MarkState::Done { position: row.try_get::<_, Option<&str>>("position")?.map(position).transpose()? },
    };
    Ok(Mark { key, run: row.try_get("run")?, at: row.try_get::<_, OffsetDateTime>("at")?.into(), state })
}

#[async_trait]
impl RedriveMarks for PostgresRedriveMarks {
    async fn begin(
        &self,
        keys: &[MarkKey],
        run: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<BeginVerdict>, DependencyError> {
        let verdicts = self.begin_steps(keys, run, now, until).await;
        verdicts.map_err(|error| error.into_dependency("marking letters"))
    }

    async fn finish(
        &self,
        done: &[(MarkKey, Option<Position>)],
        run: &str,
        now: Timestamp,
    ) -> Result<(), DependencyError> {
        let written = self.finish_steps(done, run, now).await;
        written.map_err(|error| error.into_dependency("marking letters as done"))
    }

    async fn find(&self, keys: &[MarkKey]) -> Result<Vec<Option<Mark>>, DependencyError> {
        self.found(keys).await.map_err(|error| error.into_dependency("reading redrive marks"))
    }

    async fn of_origin(&self, origin: &Origin) -> Result<Vec<Mark>, DependencyError> {
        let marks = self.marks_of(origin).await;
        marks.map_err(|error| error.into_dependency("reading an origin's redrive marks"))
    }
}
