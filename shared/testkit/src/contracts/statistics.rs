//! The contract of every [`Statistics`].
#![expect(clippy::expect_used, reason = "a contract suite fails by panicking")]

use event::{AddressKey, TenantId, Timestamp};
use statistics::{
    AddressTotals, Cells, Change, Fact, MeasureSums, QUARTER_MS, Range, RecordStatus, ReportRequest, SeriesInterval,
    Statistics, StatisticsReport, Subset, ValueCounts,
};

use super::unique;

/// Runs the suite. `add` adds cells to what `statistics` reads. Tenants are new in every run.
pub async fn statistics_contract(statistics: &dyn Statistics, add: impl AsyncFn(&Cells)) {
    let case = Case::new(statistics, "counts");
    add(&case.cells()).await;
    add(&Case::new(statistics, "others").cells()).await;
    case.records_are_counted_in_their_periods().await;
    case.a_range_begins_with_its_first_quarter_and_ends_before_its_last().await;
    case.hours_and_days_are_those_of_the_time_zone().await;
    case.no_time_zone_is_guessed().await;
    case.what_a_campaign_has_most_of_comes_first().await;
    case.sums_are_exact_and_of_valid_events_only().await;
    case.the_values_with_the_most_records_come_first().await;
    case.the_addresses_with_the_most_records_come_first().await;
    Case::new(statistics, "empty").nothing_is_known_about_nobody().await;
}

struct Case<'a> {
    statistics: &'a dyn Statistics,
    tenant: TenantId,
}

/// 12:00 is the start of an hour in UTC, and half past an hour in Kolkata.
const NOON: &str = "2026-11-20T12:00:00Z";

fn noon() -> Timestamp {
    Timestamp::parse(NOON).expect("an instant")
}

/// So many quarters after noon.
fn quarter(number: i64) -> Timestamp {
    Timestamp::from_millis(noon().as_millis() + number * QUARTER_MS)
}

fn quarters(from: i64, to: i64) -> Range {
    Range { from: quarter(from), to: quarter(to) }
}

/// That of the user in these cells.
fn address_of(subject: i64) -> AddressKey {
    format!("203.0.113.{subject}").parse().expect("an address")
}

impl<'a> Case<'a> {
    fn new(statistics: &'a dyn Statistics, name: &str) -> Self {
        let unique = unique(name);
        Case { statistics, tenant: TenantId::new(&unique).expect("a tenant") }
    }

    /// Clicks and impressions of two campaigns from noon on, and transactions in the quarter after it.
    fn cells(&self) -> Cells {
        let mut cells = Cells::default();
        let mut add = |event_type, at: i64, subject, fields, status| {
            cells.add(&Fact {
                tenant: self.tenant.as_str(),
                event_type,
                received_at: quarter(at),
                subject: Some(subject),
                fields: Some(fields),
                address: Some(address_of(subject)),
                change: Change::Recorded(status),
            });
        };
        let germany = r#"{"campaign_id":"c1","geo_country":"DE","device_type":"mobile"}"#;
        let france = r#"{"campaign_id":"c1","geo_country":"FR","device_type":"mobile"}"#;
        let other = r#"{"campaign_id":"c2","geo_country":"FR"}"#;
        add("click", 0, 1, france, RecordStatus::Valid);
        add("click", 0, 2, germany, RecordStatus::Fraud);
        add("click", 1, 2, germany, RecordStatus::Unscored);
        add("click", 4, 3, germany, RecordStatus::Valid);
        add("click", 4, 3, france, RecordStatus::Duplicate);
        add("impression", 4, 1, germany, RecordStatus::Valid);
        for subject in 0..7 {
            add("impression", 5, subject, other, RecordStatus::Blocked);
        }
        for amount in [r#"{"amount":0.1}"#, r#"{"amount":0.2}"#, r#"{"amount":12345678901234567.25}"#] {
            add("transaction", 1, 1, amount, RecordStatus::Valid);
        }
        add("transaction", 2, 1, r#"{"amount":-7.50}"#, RecordStatus::Valid);
        add("transaction", 2, 1, r#"{"amount":1000}"#, RecordStatus::Fraud);
        cells
    }

    fn request(&self, range: Range, interval: SeriesInterval, timezone: &str) -> ReportRequest {
        let part = Subset { tenant: self.tenant.clone(), dimension: "", value: String::new() };
        ReportRequest { part, range, interval, timezone: timezone.to_owned(), pairs: &[] }
    }

    fn of_campaign(&self, value: &str, range: Range) -> ReportRequest {
        let part = Subset { tenant: self.tenant.clone(), dimension: "campaign_id", value: value.to_owned() };
        let pairs = &["campaign_id,device_type", "campaign_id,geo_country"];
        ReportRequest { part, pairs, ..self.request(range, SeriesInterval::Hour, "UTC") }
    }

    async fn read(&self, request: ReportRequest) -> StatisticsReport {
        self.statistics.report(&request).await.expect("a report").expect("a known time zone")
    }

    /// `<quarters after noon> <stored> <records>` of each period.
    async fn periods(&self, request: ReportRequest) -> Vec<String> {
        let told = |period: &statistics::Period| {
            let at = (period.start.as_millis() - noon().as_millis()) / QUARTER_MS;
            let sum = |of: fn(&statistics::StatusCounts) -> i64| period.by_type.values().map(of).sum::<i64>();
            format!("{at} {} {}", sum(statistics::StatusCounts::stored), sum(statistics::StatusCounts::records))
        };
        self.read(request).await.periods.iter().map(told).collect()
    }

    async fn records_are_counted_in_their_periods(&self) {
        let report = self.read(self.of_campaign("c1", quarters(-4, 12))).await;
        let starts: Vec<Timestamp> = report.periods.iter().map(|period| period.start).collect();
        assert_eq!(starts, [-4, 0, 4, 8].map(quarter), "also those without records");
        let counts = |period: usize, event_type: &str| {
            let counts = report.periods[period].by_type.get(event_type).copied().unwrap_or_default();
            RecordStatus::ALL.iter().map(|status| counts.get(*status)).collect::<Vec<i64>>()
        };
        assert_eq!(counts(1, "click"), [1, 1, 1, 0, 0, 0]);
        assert_eq!(counts(2, "click"), [1, 0, 0, 1, 0, 0]);
        assert_eq!(counts(2, "impression"), [1, 0, 0, 0, 0, 0]);
        assert!(report.periods[0].by_type.is_empty() && report.periods[3].by_type.is_empty());
        assert_eq!(report.distinct, 3, "those of all quarters, each once");
        let all = self.periods(self.request(quarters(0, 8), SeriesInterval::Hour, "UTC")).await;
        assert_eq!(all, ["0 8 8", "4 2 10"], "of this tenant, in every type");
    }

    async fn a_range_begins_with_its_first_quarter_and_ends_before_its_last(&self) {
        let of = async |from, to| self.periods(self.of_campaign("c1", quarters(from, to))).await;
        assert_eq!(of(0, 1).await, ["0 2 2"], "not the next quarter, which is in the same hour");
        assert_eq!(of(1, 4).await, ["1 1 1"]);
        assert_eq!(of(1, 5).await, ["1 1 1", "4 2 3"]);
        assert_eq!(self.read(self.of_campaign("c1", quarters(1, 4))).await.distinct, 1);
    }

    async fn hours_and_days_are_those_of_the_time_zone(&self) {
        let of = async |interval, timezone| self.periods(self.request(quarters(0, 8), interval, timezone)).await;
        assert_eq!(of(SeriesInterval::Hour, "Asia/Kolkata").await, ["0 6 6", "2 4 12", "6 0 0"], "17:30, 18:00, 19:00");
        assert_eq!(of(SeriesInterval::Hour, "Asia/Kathmandu").await, ["0 2 2", "1 8 9", "5 0 7"]);
        assert_eq!(of(SeriesInterval::Day, "UTC").await, ["0 10 18"]);
        // 18:15 is midnight in Kathmandu.
        let night = self.request(quarters(24, 26), SeriesInterval::Day, "Asia/Kathmandu");
        let report = self.read(night).await;
        let starts: Vec<_> = report.periods.iter().map(|period| (period.start, period.ahead_sec)).collect();
        assert_eq!(starts, [(quarter(24), 20_700), (quarter(25), 20_700)]);
    }

    async fn no_time_zone_is_guessed(&self) {
        for timezone in ["", "Mars/Base", "utc ", "XYZ-05:17", "+05:30", "America/New_York2"] {
            let request = self.request(quarters(0, 4), SeriesInterval::Hour, timezone);
            assert_eq!(self.statistics.report(&request).await.expect("an answer"), None, "{timezone:?}");
        }
    }

    async fn what_a_campaign_has_most_of_comes_first(&self) {
        let told = |values: &Vec<ValueCounts>| {
            values.iter().map(|value| format!("{} {}", value.value, value.counts.stored())).collect::<Vec<_>>()
        };
        let report = self.read(self.of_campaign("c1", quarters(0, 8))).await;
        assert_eq!(report.second_values.iter().map(told).collect::<Vec<_>>(), [vec!["mobile 5"], vec!["DE 4", "FR 1"]]);
        let report = self.read(self.of_campaign("c2", quarters(0, 8))).await;
        assert_eq!(report.second_values, [vec![], vec![]], "what is not stored is not told");
    }

    async fn sums_are_exact_and_of_valid_events_only(&self) {
        let report = self.read(self.request(quarters(0, 8), SeriesInterval::Day, "UTC")).await;
        let [sum, min, max] = ["12345678901234560.05", "-7.5", "12345678901234567.25"].map(str::to_owned);
        let amount = ("transaction".to_owned(), "amount".to_owned());
        assert_eq!(
            report.measures.into_iter().collect::<Vec<_>>(),
            [(amount, MeasureSums { events: 4, sum, min, max })]
        );
    }

    async fn the_values_with_the_most_records_come_first(&self) {
        let top = async |range, limit| {
            let top = self.statistics.top_values(&self.tenant, "campaign_id", range, limit).await.expect("values");
            let told = |value: &ValueCounts| format!("{} {}", value.value, value.counts.records());
            top.values.iter().map(told).collect::<Vec<_>>()
        };
        assert_eq!(top(quarters(0, 8), 20).await, ["c2 7", "c1 6"]);
        assert_eq!(top(quarters(0, 8), 1).await, ["c2 7"]);
        assert_eq!(top(quarters(0, 5), 20).await, ["c1 6"], "none without records");
    }

    async fn the_addresses_with_the_most_records_come_first(&self) {
        let top = async |range, limit| {
            let top = self.statistics.top_addresses(&self.tenant, range, limit).await.expect("addresses");
            assert_eq!(top.error, 0, "so few are counted exactly");
            let told = |AddressTotals { address, records, events, fraud, blocked }: &AddressTotals| {
                format!("{address}: {records} {events} {fraud} {blocked}")
            };
            top.addresses.iter().map(told).collect::<Vec<_>>()
        };
        let (first, both) = (quarters(0, 4), quarters(0, 8));
        assert_eq!(top(first, 20).await, ["203.0.113.1: 6 6 1 0", "203.0.113.2: 2 2 1 0"]);
        assert_eq!(top(both, 3).await, ["203.0.113.1: 8 7 1 1", "203.0.113.2: 3 2 1 1", "203.0.113.3: 3 1 0 1"]);
        assert_eq!(top(quarters(-4, 0), 20).await, [""; 0]);
    }

    async fn nothing_is_known_about_nobody(&self) {
        let report = self.read(self.of_campaign("c1", quarters(0, 8))).await;
        assert_eq!((report.periods.len(), report.distinct, report.measures.len()), (2, 0, 0));
        assert!(report.periods.iter().all(|period| period.by_type.is_empty()));
        let top = self.statistics.top_values(&self.tenant, "campaign_id", quarters(0, 8), 20).await.expect("values");
        assert_eq!(top.values, []);
    }
}
