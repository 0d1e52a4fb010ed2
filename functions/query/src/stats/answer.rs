//! What a client reads about statistics. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;

use event::Timestamp;
use serde::Serialize;
use serde::ser::{Error as _, SerializeMap as _, Serializer};
use statistics::{
    MeasureSums, Period, RELATIVE_ERROR, Range, RecordStatus, ReportRequest, StatisticsReport, StatusCounts, Subset,
    TopValues, ValueCounts,
};
use time::UtcOffset;
use time::format_description::well_known::Rfc3339;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::question::CAMPAIGN_PAIRS;
use crate::time_range::TimeRange;

const CLICK: &str = "click";
const IMPRESSION: &str = "impression";

#[derive(Debug, Serialize, ToSchema)]
pub struct StatsAnswer<'a> {
    #[serde(flatten)]
    #[schema(ignore)]
    about: About<'a>,
    range: RangeOfSeries<'a>,
    /// Everything received before it is counted.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    complete_until: Option<Timestamp>,
    /// Stored events.
    events: i64,
    /// Records of each type, by status.
    #[schema(value_type = BTreeMap<String, Shown>)]
    by_type: BTreeMap<&'a str, Shown>,
    #[serde(flatten)]
    #[schema(ignore)]
    campaign: Option<CampaignFigures<'a>>,
    distinct_users: DistinctUsers,
    /// Of the stored events.
    #[schema(required)]
    fraud_share: Option<f64>,
    /// Of all records.
    #[schema(required)]
    duplicate_share: Option<f64>,
    /// Of all records.
    #[schema(required)]
    blocked_share: Option<f64>,
    /// By type and measure.
    #[schema(value_type = BTreeMap<String, BTreeMap<String, Measured>>)]
    measures: BTreeMap<&'a str, BTreeMap<&'a str, Measured<'a>>>,
    series: Vec<Entry<'a>>,
}

/// Absent for all records of the tenant.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum About<'a> {
    Campaign { campaign_id: &'a str },
    Value { dimension: &'a str, value: &'a str },
    Everything {},
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SeriesRange)]
pub(crate) struct RangeOfSeries<'a> {
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    to: Timestamp,
    #[schema(schema_with = crate::schemas::interval)]
    interval: &'static str,
    timezone: &'a str,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CampaignFigures<'a> {
    #[schema(required)]
    click_through_rate: Option<f64>,
    by_country: Vec<Value<'a>>,
    by_device: Vec<Value<'a>>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ValueFigures)]
pub(crate) struct Value<'a> {
    value: &'a str,
    events: i64,
    fraud: i64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DistinctUsers {
    estimate: u64,
    relative_error: f64,
}

/// Texts, because a JSON number that many readers round would lose digits.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MeasureFigures)]
pub(crate) struct Measured<'a> {
    events: i64,
    sum: &'a str,
    min: &'a str,
    max: &'a str,
}

/// An hour or a day.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SeriesEntry)]
pub(crate) struct Entry<'a> {
    /// With the offset that the time zone has then.
    #[serde(serialize_with = "local")]
    #[schema(value_type = String, format = DateTime)]
    start: (Timestamp, i32),
    /// Stored events.
    events: i64,
    #[schema(value_type = BTreeMap<String, i64>)]
    by_type: BTreeMap<&'a str, i64>,
    fraud: i64,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct TopValuesAnswer<'a> {
    dimension: &'a str,
    range: TimeRange,
    #[schema(value_type = Option<String>, format = DateTime, required)]
    complete_until: Option<Timestamp>,
    values: Vec<TopValue<'a>>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TopValue<'a> {
    value: &'a str,
    records: i64,
    events: i64,
    #[serde(flatten)]
    by_status: Shown,
}

/// Each status with its number. What is below zero until its record is counted is shown as none.
#[derive(Debug)]
pub(crate) struct Shown(StatusCounts);

impl PartialSchema for Shown {
    fn schema() -> RefOr<Schema> {
        let number = || ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
        let add = |object: ObjectBuilder, status: &RecordStatus| {
            object.property(status.as_str(), number()).required(status.as_str())
        };
        RecordStatus::ALL.iter().fold(ObjectBuilder::new().schema_type(Type::Object), add).into()
    }
}

impl ToSchema for Shown {
    fn name() -> Cow<'static, str> {
        "StatusFigures".into()
    }
}

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(RecordStatus::ALL.len()))?;
        for status in RecordStatus::ALL {
            map.serialize_entry(status.as_str(), &shown(&self.0, *status))?;
        }
        map.end()
    }
}

/// What is below zero until its record is counted is shown as none.
pub(crate) fn shown(counts: &StatusCounts, status: RecordStatus) -> i64 {
    counts.get(status).max(0)
}

/// RFC 3339 with the offset that the time zone has at this instant.
fn local<S: Serializer>(start: &(Timestamp, i32), serializer: S) -> Result<S::Ok, S::Error> {
    let (at, ahead_sec) = *start;
    let offset = UtcOffset::from_whole_seconds(ahead_sec).map_err(S::Error::custom)?;
    serializer.serialize_str(&at.to_utc().to_offset(offset).format(&Rfc3339).map_err(S::Error::custom)?)
}

/// To six places; `None` if there is nothing to divide by.
pub(super) fn share(part: i64, whole: i64) -> Option<f64> {
    (whole > 0).then(|| (part as f64 / whole as f64 * 1e6).round() / 1e6)
}

/// The sums of a report, and parts of them.
pub(crate) struct CampaignShares<'a> {
    pub all: StatusCounts,
    pub by_type: BTreeMap<&'a str, StatusCounts>,
    /// Clicks, as a part of impressions.
    pub click_through: Option<f64>,
    /// Of the stored events.
    pub fraud: Option<f64>,
    /// Of all records.
    pub duplicate: Option<f64>,
    /// Of all records.
    pub blocked: Option<f64>,
}

impl<'a> CampaignShares<'a> {
    pub fn of(report: &'a StatisticsReport) -> Self {
        let mut by_type = BTreeMap::<&str, StatusCounts>::new();
        for (event_type, counts) in report.periods.iter().flat_map(|period| &period.by_type) {
            by_type.entry(event_type).or_default().merge(counts);
        }
        let all: StatusCounts = by_type.values().sum();
        let stored = |event_type| by_type.get(event_type).map_or(0, StatusCounts::stored);
        CampaignShares {
            click_through: share(stored(CLICK), stored(IMPRESSION)),
            fraud: share(shown(&all, RecordStatus::Fraud), all.stored()),
            duplicate: share(shown(&all, RecordStatus::Duplicate), all.records()),
            blocked: share(shown(&all, RecordStatus::Blocked), all.records()),
            all,
            by_type,
        }
    }
}

impl<'a> StatsAnswer<'a> {
    pub fn new(request: &'a ReportRequest, report: &'a StatisticsReport) -> Self {
        let ReportRequest { part: Subset { tenant: _, dimension, value }, range, interval, timezone, pairs } = request;
        let CampaignShares { all, by_type, click_through, fraud, duplicate, blocked } = CampaignShares::of(report);
        let campaign = match report.second_values.as_slice() {
            [countries, devices] if *pairs == CAMPAIGN_PAIRS => Some(CampaignFigures {
                click_through_rate: click_through,
                by_country: countries.iter().map(Value::of).collect(),
                by_device: devices.iter().map(Value::of).collect(),
            }),
            _ => None,
        };
        let mut measures = BTreeMap::<&str, BTreeMap<&str, Measured<'_>>>::new();
        for ((event_type, measure), MeasureSums { events, sum, min, max }) in &report.measures {
            let measured = Measured { events: *events, sum, min, max };
            measures.entry(event_type).or_default().insert(measure, measured);
        }
        StatsAnswer {
            about: match (dimension, &campaign) {
                (_, Some(_)) => About::Campaign { campaign_id: value },
                (&"", None) => About::Everything {},
                (dimension, None) => About::Value { dimension, value },
            },
            range: RangeOfSeries { from: range.from, to: range.to, interval: interval.as_str(), timezone },
            complete_until: report.complete_until,
            events: all.stored(),
            campaign,
            distinct_users: DistinctUsers { estimate: report.distinct, relative_error: RELATIVE_ERROR },
            fraud_share: fraud,
            duplicate_share: duplicate,
            blocked_share: blocked,
            measures,
            series: report.periods.iter().map(Entry::of).collect(),
            by_type: by_type.into_iter().map(|(event_type, counts)| (event_type, Shown(counts))).collect(),
        }
    }
}

impl<'a> Value<'a> {
    fn of(ValueCounts { value, counts }: &'a ValueCounts) -> Self {
        Value { value, events: counts.stored(), fraud: shown(counts, RecordStatus::Fraud) }
    }
}

impl<'a> Entry<'a> {
    fn of(Period { start, ahead_sec, by_type }: &'a Period) -> Self {
        let stored = by_type.iter().map(|(event_type, counts)| (event_type.as_str(), counts.stored()));
        Entry {
            start: (*start, *ahead_sec),
            events: by_type.values().map(StatusCounts::stored).sum(),
            by_type: stored.filter(|(_, stored)| *stored > 0).collect(),
            fraud: by_type.values().map(|counts| shown(counts, RecordStatus::Fraud)).sum(),
        }
    }
}

impl<'a> TopValuesAnswer<'a> {
    pub fn new(dimension: &'a str, range: Range, top: &'a TopValues) -> Self {
        let value = |ValueCounts { value, counts }: &'a ValueCounts| TopValue {
            value,
            records: counts.records(),
            events: counts.stored(),
            by_status: Shown(*counts),
        };
        TopValuesAnswer {
            dimension,
            range: range.into(),
            complete_until: top.complete_until,
            values: top.values.iter().map(value).collect(),
        }
    }
}
