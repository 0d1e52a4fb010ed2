use event::{TenantId, Timestamp};
use pipeline::ErrorClass;
use postgres::{Database, PostgresStatistics};
use statistics::{
    AddressFigure, Cells, QUARTER_MS, Range, RecordStatus, ReportRequest, SeriesInterval, Statistics as _,
    StatisticsReport, Subset, quarter_of,
};
use testkit::contracts::statistics::statistics_contract;
use tokio_postgres::types::{ToSql, Type};

use super::{database, empty_database, execute, scalar, unhurried};

/// Writes cells of which there are none yet.
async fn add(database: &Database, cells: &Cells) {
    let client = database.connection().await.unwrap();
    for ((tenant, hour), addresses) in cells.addresses() {
        let hour = hour.to_utc();
        let sketches: Vec<_> = AddressFigure::ALL.iter().map(|count| addresses.to_bytes(*count)).collect();
        let mut parameters: Vec<(&(dyn ToSql + Sync), Type)> = vec![(tenant, Type::TEXT), (&hour, Type::TIMESTAMPTZ)];
        parameters.extend(sketches.iter().map(|sketch| (sketch as &(dyn ToSql + Sync), Type::BYTEA)));
        let insert = "INSERT INTO aggregate_addresses VALUES ($1, $2, $3, $4, $5, $6)";
        client.execute_typed(insert, &parameters).await.unwrap();
    }
    for (key, cell) in cells.iter() {
        let quarter = key.quarter.to_utc();
        let subjects = cell.subjects.as_ref().map(|subjects| subjects.to_bytes());
        let counts: Vec<i64> = RecordStatus::ALL.iter().map(|status| cell.counts.get(*status)).collect();
        let mut parameters: Vec<(&(dyn ToSql + Sync), Type)> = vec![
            (&key.tenant, Type::TEXT),
            (&key.dimension, Type::TEXT),
            (&key.value, Type::TEXT),
            (&quarter, Type::TIMESTAMPTZ),
            (&key.event_type, Type::TEXT),
            (&key.second_value, Type::TEXT),
        ];
        let of_key = parameters.clone();
        parameters.extend(counts.iter().map(|count| (count as &(dyn ToSql + Sync), Type::INT8)));
        parameters.push((&subjects, Type::BYTEA));
        let insert = "INSERT INTO aggregates VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
        client.execute_typed(insert, &parameters).await.unwrap();
        for ((measure, status), measured) in &cell.measures {
            let numbers = [measured.sum, measured.min, measured.max].map(|number| number.to_string());
            let status = status.as_str();
            let mut parameters = of_key.clone();
            parameters.extend([(measure as &(dyn ToSql + Sync), Type::TEXT), (&status, Type::TEXT)]);
            parameters.push((&measured.events, Type::INT8));
            parameters.extend(numbers.iter().map(|number| (number as &(dyn ToSql + Sync), Type::TEXT)));
            let insert = "INSERT INTO aggregate_measures
                          VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::numeric, $11::numeric, $12::numeric)";
            client.execute_typed(insert, &parameters).await.unwrap();
        }
    }
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn request(from: &str, to: &str, interval: SeriesInterval, timezone: &str) -> ReportRequest {
    ReportRequest {
        part: Subset { tenant: TenantId::new("acme").unwrap(), dimension: "", value: String::new() },
        range: Range { from: at(from), to: at(to) },
        interval,
        timezone: timezone.to_owned(),
        pairs: &[],
    }
}

/// A click in every quarter of the years, so that a period has as many as it has quarters.
async fn a_click_in_every_quarter(database: &Database, from: &str, to: &str) {
    let insert = format!(
        "INSERT INTO aggregates
         SELECT 'acme', '', '', quarter, 'click', '', 1, 0, 0, 0, 0, 0, NULL
         FROM generate_series('{from}'::timestamptz, '{to}'::timestamptz - interval '1 s', '15 minutes') AS quarter"
    );
    execute(database, &insert).await;
}

async fn read(statistics: &PostgresStatistics, request: &ReportRequest) -> StatisticsReport {
    statistics.report(request).await.unwrap().unwrap()
}

/// Minutes and start of each period. They follow one another from the start of the range to its end, and have the records that
/// came in this time.
fn lengths(report: &StatisticsReport, range: Range) -> Vec<(i64, Timestamp)> {
    let ends = report.periods.iter().skip(1).map(|period| period.start).chain([range.to]);
    assert_eq!(report.periods[0].start, range.from);
    let length = |(period, end): (&statistics::Period, Timestamp)| {
        let length = end.as_millis() - period.start.as_millis();
        assert!(length > 0 && period.start == quarter_of(period.start), "{period:?}");
        assert_eq!(period.by_type["click"].stored(), length / QUARTER_MS, "{period:?}");
        (length / 60_000, period.start)
    };
    report.periods.iter().zip(ends).map(length).collect()
}

#[tokio::test]
async fn the_statistics_keep_the_contract() {
    let database = database().await;
    let statistics = PostgresStatistics::new(database.clone());
    statistics_contract(&statistics, async |cells: &Cells| add(&database, cells).await).await;
}

#[tokio::test]
async fn it_is_told_up_to_when_everything_is_counted() {
    let database = database().await;
    let statistics = PostgresStatistics::new(database.clone());
    let request = request("2026-11-20T12:00:00Z", "2026-11-20T13:00:00Z", SeriesInterval::Hour, "UTC");
    assert_eq!(read(&statistics, &request).await.complete_until, None);
    let top = async || statistics.top_values(&request.part.tenant, "unit", request.range, 1).await.unwrap();
    assert_eq!(top().await.complete_until, None);
    execute(&database, "INSERT INTO aggregation_progress (complete_until) VALUES ('2026-11-20T12:34:56Z')").await;
    let complete_until = Some(at("2026-11-20T12:34:56Z"));
    assert_eq!(read(&statistics, &request).await.complete_until, complete_until);
    assert_eq!(top().await.complete_until, complete_until);
}

#[tokio::test]
async fn days_when_clocks_change_have_their_own_length_and_no_hour_is_lost_or_counted_twice() {
    let database = database().await;
    a_click_in_every_quarter(&database, "2026-01-01", "2027-01-03").await;
    let statistics = PostgresStatistics::new(database);
    let days = [
        // Berlin leaves out 02:00, and later has it twice.
        ("Europe/Berlin", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", 23 * 60),
        ("Europe/Berlin", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", 25 * 60),
        // Havana has midnight twice, and leaves it out.
        ("America/Havana", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z", 25 * 60),
        ("America/Havana", "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z", 23 * 60),
        // Lord Howe moves by half an hour.
        ("Australia/Lord_Howe", "2026-04-04T13:00:00Z", "2026-04-05T13:30:00Z", 24 * 60 + 30),
        ("Australia/Lord_Howe", "2026-10-03T13:30:00Z", "2026-10-04T13:00:00Z", 24 * 60 - 30),
    ];
    for (timezone, from, to, minutes) in days {
        let day = request(from, to, SeriesInterval::Day, timezone);
        assert_eq!(lengths(&read(&statistics, &day).await, day.range), [(minutes, at(from))], "{timezone} {from}");
        let hours = lengths(&read(&statistics, &request(from, to, SeriesInterval::Hour, timezone)).await, day.range);
        let odd: Vec<i64> = hours.iter().map(|(minutes, _)| *minutes).filter(|minutes| *minutes != 60).collect();
        assert_eq!(odd, vec![30; usize::from(minutes % 60 != 0)], "{timezone} {from}: {hours:?}");
    }
    let twice = request("2026-10-24T23:00:00Z", "2026-10-25T02:00:00Z", SeriesInterval::Hour, "Europe/Berlin");
    let report = read(&statistics, &twice).await;
    let ahead: Vec<i32> = report.periods.iter().map(|period| period.ahead_sec / 3600).collect();
    assert_eq!(ahead, [2, 2, 1], "01:00, 02:00 and again 02:00");
}

#[tokio::test]
async fn every_time_zone_of_the_server_has_days_of_whole_quarters() {
    let database = database().await;
    a_click_in_every_quarter(&database, "2026-01-01", "2027-01-03").await;
    // In the years that may be asked about.
    let broken = "SELECT count(*) FROM pg_timezone_names, generate_series(2000, 2099) AS year, unnest('{1,7}'::int[]) AS month
                  WHERE extract(epoch FROM (make_timestamptz(year, month, 1, 0, 0, 0, 'UTC') AT TIME ZONE name))::int8 % 900 <> 0";
    assert_eq!(unhurried::<i64>(&database, broken).await, 0);
    let statistics = PostgresStatistics::new(database.clone());
    // Of the zones whose clocks show the same in every hour of the year, one is checked. posix/X is X.
    let names = "
        SELECT array_agg(name) FROM (
            SELECT min(name) AS name FROM (
                SELECT name, (SELECT hashtext(string_agg((hour AT TIME ZONE name)::text, ',' ORDER BY hour))
                              FROM generate_series('2026-01-01'::timestamptz, '2027-01-02', '1 hour') AS hour) AS clock
                FROM pg_timezone_names WHERE name NOT LIKE 'posix/%'
            ) z GROUP BY clock
        ) r";
    let names: Vec<String> = unhurried(&database, names).await;
    assert!(names.len() > 40, "{names:?}");
    for name in names {
        let year = request("2026-01-01T00:15:00Z", "2027-01-01T00:15:00Z", SeriesInterval::Day, &name);
        let days = lengths(&read(&statistics, &year).await, year.range);
        assert_eq!(days.iter().map(|(minutes, _)| minutes).sum::<i64>(), 365 * 1440, "{name}");
        assert!((365..=367).contains(&days.len()), "{name}: {}", days.len());
        for (minutes, start) in &days[1..days.len() - 1] {
            // Troll moves by two hours.
            assert!((22 * 60..=26 * 60).contains(minutes), "{name}: {start:?} has {minutes} minutes");
        }
    }
}

#[tokio::test]
async fn a_score_before_its_record_takes_nothing_from_the_stored_events() {
    let database = database().await;
    let insert = "INSERT INTO aggregates VALUES
                  ('acme', '', '', '2026-11-20T12:00:00Z', 'click', '', 1, 0, -1, 0, 0, 0, NULL)";
    execute(&database, insert).await;
    let request = request("2026-11-20T12:00:00Z", "2026-11-20T13:00:00Z", SeriesInterval::Hour, "UTC");
    let report = read(&PostgresStatistics::new(database), &request).await;
    let counts = report.periods[0].by_type["click"];
    assert_eq!((counts.get(RecordStatus::Unscored), counts.stored()), (-1, 0));
}

#[tokio::test]
async fn a_damaged_sketch_and_a_missing_table_are_errors_that_leave_no_transaction_open() {
    let database = empty_database().await;
    let statistics = PostgresStatistics::new(database.clone());
    let request = request("2026-11-20T12:00:00Z", "2026-11-20T13:00:00Z", SeriesInterval::Hour, "UTC");
    assert_eq!(statistics.report(&request).await.unwrap_err().tag, "schema");
    postgres::migrations::apply(&database).await.unwrap();
    let insert = "INSERT INTO aggregates VALUES
                  ('acme', '', '', '2026-11-20T12:00:00Z', 'click', '', 1, 0, 0, 0, 0, 0, '\\x01')";
    execute(&database, insert).await;
    let error = statistics.report(&request).await.unwrap_err();
    assert_eq!((error.class, error.tag), (ErrorClass::Permanent, "row"));
    execute(&database, "DELETE FROM aggregates").await;
    for _ in 0..16 {
        assert_eq!(read(&statistics, &request).await.distinct, 0);
    }
    let open = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    assert_eq!(scalar::<i64>(&database, open).await, 0);
}
