//! What statistics say: reading the cells that the aggregator wrote.
//!
//! The server does the arithmetic of time zones, with its own list of them. Periods are groups of quarters, so hours and days
//! of any length and offset come out right: those of 22 to 26 hours, hours that come twice, zones that move by half an hour.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use event::{TenantId, Timestamp};
use futures::TryStreamExt as _;
use pipeline::DependencyError;
use statistics::{
    BusyAddresses, DistinctSubjects, MAX_SECOND_VALUES, MeasureSums, Period, Range, RecordStatus, ReportRequest,
    Statistics, StatisticsReport, StatusCounts, TopAddresses, TopValues, ValueCounts,
};
use time::OffsetDateTime;
use tokio::sync::OnceCell;
use tokio_postgres::Row;

use crate::aggregates::merge_addresses;
use crate::database::{Database, RollbackOnDrop, in_one_round_trip};
use crate::error::PostgresError;
use crate::ledger::Corrupt;
use crate::statement::{Parameters, parameter};

const SECOND_VALUES_LIMIT: i64 = MAX_SECOND_VALUES as i64;

/// Known to every server, so that requests without a time zone need not wait for the list.
const UTC: &str = "UTC";

const PROGRESS: &str = "SELECT complete_until FROM aggregation_progress";

/// Hours are truncated without leaving the offset, and days to the first of two midnights: a period's quarters follow one
/// another. The truncated instant is only a name for the group. It may lie before the period if the zone moved by less than
/// an hour, and so it is not the start.
const PERIODS: &str = "
    SELECT name, start, extract(epoch FROM (start AT TIME ZONE $4) - (start AT TIME ZONE 'UTC'))::int4 AS ahead_sec
    FROM (
        SELECT date_trunc($3, quarter, $4) AS name, min(quarter) AS start
        FROM generate_series($1, $2 - interval '15 minutes', interval '15 minutes') AS quarter
        GROUP BY 1
    ) p
    ORDER BY start";

const COUNTS: &str = "
    SELECT date_trunc($6, quarter, $7) AS name, event_type, sum(valid)::int8 AS valid, sum(fraud)::int8 AS fraud,
           sum(unscored)::int8 AS unscored, sum(duplicate)::int8 AS duplicate, sum(blocked)::int8 AS blocked,
           sum(dead_lettered)::int8 AS dead_lettered
    FROM aggregates
    WHERE tenant = $1 AND dimension = $2 AND value = $3 AND quarter >= $4 AND quarter < $5
    GROUP BY 1, 2";

const SUBJECTS: &str = "
    SELECT subjects FROM aggregates
    WHERE tenant = $1 AND dimension = $2 AND value = $3 AND quarter >= $4 AND quarter < $5 AND subjects IS NOT NULL";

const MEASURES: &str = "
    SELECT event_type, measure, sum(events)::int8 AS events, trim_scale(sum(sum))::text AS sum,
           trim_scale(min(min))::text AS min, trim_scale(max(max))::text AS max
    FROM aggregate_measures
    WHERE tenant = $1 AND dimension = $2 AND value = $3 AND quarter >= $4 AND quarter < $5 AND status = 'valid'
    GROUP BY event_type, measure";

/// One index range for each pair.
const SECOND_VALUES: &str = "
    SELECT p.ordinal::int4 AS ordinal, c.*
    FROM unnest($2::text[]) WITH ORDINALITY AS p (pair, ordinal)
    CROSS JOIN LATERAL (
        SELECT second_value AS value, sum(valid)::int8 AS valid, sum(fraud)::int8 AS fraud,
               sum(unscored)::int8 AS unscored, sum(duplicate)::int8 AS duplicate, sum(blocked)::int8 AS blocked,
               sum(dead_lettered)::int8 AS dead_lettered
        FROM aggregates
        WHERE tenant = $1 AND dimension = p.pair AND value = $3 AND quarter >= $4 AND quarter < $5
        GROUP BY second_value
        HAVING sum(valid + fraud + unscored) > 0
        ORDER BY sum(valid + fraud + unscored) DESC, second_value
        LIMIT $6
    ) c
    ORDER BY p.ordinal, c.valid + c.fraud + c.unscored DESC, c.value";

/// The index has the value before the quarter. So this goes from one value to the next by one probe each, and reads of each
/// only the range, not the quarters of all years.
const TOP_VALUES: &str = "
    WITH RECURSIVE found AS (
        (SELECT value FROM aggregates WHERE tenant = $1 AND dimension = $2 ORDER BY value LIMIT 1)
        UNION ALL
        SELECT (SELECT a.value FROM aggregates a
                WHERE a.tenant = $1 AND a.dimension = $2 AND a.value > f.value ORDER BY a.value LIMIT 1)
        FROM found f WHERE f.value IS NOT NULL
    )
    SELECT f.value, c.valid, c.fraud, c.unscored, c.duplicate, c.blocked, c.dead_lettered
    FROM found f
    CROSS JOIN LATERAL (
        SELECT sum(valid)::int8 AS valid, sum(fraud)::int8 AS fraud, sum(unscored)::int8 AS unscored,
               sum(duplicate)::int8 AS duplicate, sum(blocked)::int8 AS blocked,
               sum(dead_lettered)::int8 AS dead_lettered,
               sum(valid + fraud + unscored + duplicate + blocked + dead_lettered) AS records
        FROM aggregates a
        WHERE a.tenant = $1 AND a.dimension = $2 AND a.value = f.value AND a.quarter >= $3 AND a.quarter < $4
    ) c
    WHERE c.records > 0
    ORDER BY c.records DESC, f.value
    LIMIT $5";

const ADDRESSES: &str = "
    SELECT records, events, fraud, blocked FROM aggregate_addresses WHERE tenant = $1 AND hour >= $2 AND hour < $3";

/// [`Statistics`] on Postgres.
#[derive(Clone, Debug)]
pub struct PostgresStatistics {
    database: Database,
    /// The server reads a file for each of them.
    timezones: Arc<OnceCell<BTreeSet<String>>>,
}

impl PostgresStatistics {
    pub fn new(database: Database) -> Self {
        PostgresStatistics { database, timezones: Arc::default() }
    }

    /// Statements would take other texts too, such as `XYZ-05:17`, whose hours are not made of quarters.
    async fn knows(&self, timezone: &str) -> Result<bool, PostgresError> {
        if timezone == UTC {
            return Ok(true);
        }
        let read = async || {
            let rows = self.database.query("SELECT name FROM pg_timezone_names", &[]).await?;
            rows.iter().map(|row| Ok(row.try_get("name")?)).collect::<Result<_, PostgresError>>()
        };
        Ok(self.timezones.get_or_try_init(read).await?.contains(timezone))
    }

    async fn read_report(&self, request: &ReportRequest) -> Result<Option<StatisticsReport>, PostgresError> {
        if !self.knows(&request.timezone).await? {
            return Ok(None);
        }
        let client = self.database.connection().await?;
        let result = self.database.within(report(&client, self.database.begin_reading(), request)).await;
        self.database.give_back(client, result).map(Some)
    }

    async fn read_top_values(
        &self,
        tenant: &TenantId,
        dimension: &'static str,
        range: Range,
        limit: u16,
    ) -> Result<TopValues, PostgresError> {
        let client = self.database.connection().await?;
        let read = top_values(&client, self.database.begin_reading(), tenant, dimension, range, limit);
        let result = self.database.within(read).await;
        self.database.give_back(client, result)
    }

    async fn read_top_addresses(
        &self,
        tenant: &TenantId,
        range: Range,
        limit: u16,
    ) -> Result<TopAddresses, PostgresError> {
        let client = self.database.connection().await?;
        let read = top_addresses(&client, self.database.begin_reading(), tenant, range, limit);
        let result = self.database.within(read).await;
        self.database.give_back(client, result)
    }
}

#[async_trait]
impl Statistics for PostgresStatistics {
    async fn report(&self, request: &ReportRequest) -> Result<Option<StatisticsReport>, DependencyError> {
        self.read_report(request).await.map_err(|error| error.into_dependency("reading statistics"))
    }

    async fn top_values(
        &self,
        tenant: &TenantId,
        dimension: &'static str,
        range: Range,
        limit: u16,
    ) -> Result<TopValues, DependencyError> {
        let read = self.read_top_values(tenant, dimension, range, limit).await;
        read.map_err(|error| error.into_dependency("reading the values of a dimension"))
    }

    async fn top_addresses(
        &self,
        tenant: &TenantId,
        range: Range,
        limit: u16,
    ) -> Result<TopAddresses, DependencyError> {
        let read = self.read_top_addresses(tenant, range, limit).await;
        read.map_err(|error| error.into_dependency("reading the busiest addresses"))
    }
}

async fn report(
    client: &ClientWrapper,
    begin: &str,
    request: &ReportRequest,
) -> Result<StatisticsReport, PostgresError> {
    let ReportRequest { part, range, interval, timezone, pairs } = request;
    let (tenant, dimension, value) = (part.tenant.as_str(), part.dimension, part.value.as_str());
    let (from, to) = (range.from.to_utc(), range.to.to_utc());
    let (interval, timezone, pairs) = (interval.as_str(), timezone.as_str(), pairs.to_vec());
    let cells = [parameter(&tenant), parameter(&dimension), parameter(&value), parameter(&from), parameter(&to)];
    let of_range: Parameters<'_, 4> = [parameter(&from), parameter(&to), parameter(&interval), parameter(&timezone)];
    let mut of_counts = cells.to_vec();
    of_counts.extend([parameter(&interval), parameter(&timezone)]);
    let of_pairs = [
        parameter(&tenant),
        parameter(&pairs),
        parameter(&value),
        parameter(&from),
        parameter(&to),
        parameter(&SECOND_VALUES_LIMIT),
    ];
    let transaction = RollbackOnDrop::new(client);
    in_one_round_trip!(
        _begun = client.batch_execute(begin),
        progress = client.query_typed(PROGRESS, &[]),
        periods = client.query_typed(PERIODS, &of_range),
        counts = client.query_typed(COUNTS, &of_counts),
        measures = client.query_typed(MEASURES, &cells),
        second_values = client.query_typed(SECOND_VALUES, &of_pairs),
    );
    let distinct = distinct(client, &cells).await?;
    client.batch_execute("COMMIT").await?;
    transaction.finish();

    let mut found = vec![Vec::new(); pairs.len()];
    for row in &second_values {
        let ordinal = row.try_get::<_, i32>("ordinal")?;
        let of_pair = usize::try_from(ordinal).ok().and_then(|ordinal| found.get_mut(ordinal.checked_sub(1)?));
        of_pair.ok_or_else(|| Corrupt("aggregates").column("dimension"))?.push(value_from_row(row)?);
    }
    Ok(StatisticsReport {
        complete_until: complete_until(&progress)?,
        periods: periods_from_rows(&periods, &counts)?,
        distinct: distinct.estimate(),
        measures: measures.iter().map(sums_from_row).collect::<Result<_, _>>()?,
        second_values: found,
    })
}

/// One by one, for there may be many, of up to 4 kB each.
async fn distinct(client: &ClientWrapper, cells: &Parameters<'_, 5>) -> Result<DistinctSubjects, PostgresError> {
    let mut all = DistinctSubjects::new();
    let rows = client.query_typed_raw(SUBJECTS, cells.iter().cloned()).await?;
    let mut rows = std::pin::pin!(rows);
    while let Some(row) = rows.try_next().await? {
        all.merge(row.try_get("subjects")?).map_err(|_| Corrupt("aggregates").column("subjects"))?;
    }
    Ok(all)
}

async fn top_values(
    client: &ClientWrapper,
    begin: &str,
    tenant: &TenantId,
    dimension: &'static str,
    range: Range,
    limit: u16,
) -> Result<TopValues, PostgresError> {
    let (tenant, limit) = (tenant.as_str(), i64::from(limit));
    let (from, to) = (range.from.to_utc(), range.to.to_utc());
    let parameters = [parameter(&tenant), parameter(&dimension), parameter(&from), parameter(&to), parameter(&limit)];
    let transaction = RollbackOnDrop::new(client);
    in_one_round_trip!(
        _begun = client.batch_execute(begin),
        progress = client.query_typed(PROGRESS, &[]),
        values = client.query_typed(TOP_VALUES, &parameters),
        _committed = client.batch_execute("COMMIT"),
    );
    transaction.finish();
    let values = values.iter().map(value_from_row).collect::<Result<_, _>>()?;
    Ok(TopValues { complete_until: complete_until(&progress)?, values })
}

async fn top_addresses(
    client: &ClientWrapper,
    begin: &str,
    tenant: &TenantId,
    range: Range,
    limit: u16,
) -> Result<TopAddresses, PostgresError> {
    let tenant = tenant.as_str();
    let (from, to) = (range.from.to_utc(), range.to.to_utc());
    let transaction = RollbackOnDrop::new(client);
    in_one_round_trip!(_begun = client.batch_execute(begin), progress = client.query_typed(PROGRESS, &[]),);
    let mut all = BusyAddresses::default();
    let hours = [parameter(&tenant), parameter(&from), parameter(&to)];
    let rows = client.query_typed_raw(ADDRESSES, hours.iter().cloned()).await?;
    let mut rows = std::pin::pin!(rows);
    while let Some(row) = rows.try_next().await? {
        merge_addresses(&mut all, &row)?;
    }
    client.batch_execute("COMMIT").await?;
    transaction.finish();
    Ok(TopAddresses {
        complete_until: complete_until(&progress)?,
        addresses: all.top(limit.into()),
        error: all.error(),
    })
}

fn complete_until(rows: &[Row]) -> Result<Option<Timestamp>, PostgresError> {
    let at = rows.first().map(|row| row.try_get::<_, OffsetDateTime>("complete_until")).transpose()?;
    Ok(at.map(Timestamp::from))
}

fn periods_from_rows(periods: &[Row], counts: &[Row]) -> Result<Vec<Period>, PostgresError> {
    let mut by_name = BTreeMap::<OffsetDateTime, BTreeMap<String, StatusCounts>>::new();
    for row in counts {
        by_name.entry(row.try_get("name")?).or_default().insert(row.try_get("event_type")?, counts_from_row(row)?);
    }
    let period = |row: &Row| {
        Ok(Period {
            start: row.try_get::<_, OffsetDateTime>("start")?.into(),
            ahead_sec: row.try_get("ahead_sec")?,
            by_type: by_name.remove(&row.try_get("name")?).unwrap_or_default(),
        })
    };
    periods.iter().map(period).collect()
}

/// The columns have the names of the statuses.
fn counts_from_row(row: &Row) -> Result<StatusCounts, PostgresError> {
    let mut counts = StatusCounts::default();
    for status in RecordStatus::ALL {
        counts.add(*status, row.try_get(status.as_str())?);
    }
    Ok(counts)
}

fn value_from_row(row: &Row) -> Result<ValueCounts, PostgresError> {
    Ok(ValueCounts { value: row.try_get("value")?, counts: counts_from_row(row)? })
}

fn sums_from_row(row: &Row) -> Result<((String, String), MeasureSums), PostgresError> {
    let sums = MeasureSums {
        events: row.try_get("events")?,
        sum: row.try_get("sum")?,
        min: row.try_get("min")?,
        max: row.try_get("max")?,
    };
    Ok(((row.try_get("event_type")?, row.try_get("measure")?), sums))
}
