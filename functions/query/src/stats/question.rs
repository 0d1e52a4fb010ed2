//! What a request for statistics asks for.

use std::time::Duration;

use axum::http::Uri;
use event::{TenantId, Timestamp, TypeDefinition};
use serde::Deserialize;
use statistics::{QUARTER_MS, Range, ReportRequest, SeriesInterval, Subset, quarter_of, storable};
use utoipa::IntoParams;

use crate::error::QueryError;
use crate::parameters::{self, number_within};
use crate::time_range::{self, MAX_HOURS, TimeRange};

/// The dimension that campaigns are.
pub const CAMPAIGN: &str = "campaign_id";
/// What is told about a campaign: its countries, and its devices.
pub const CAMPAIGN_PAIRS: &[&str] = &["campaign_id,geo_country", "campaign_id,device_type"];

const MAX_DAYS: u64 = 400;
const DEFAULT_LIMIT: u16 = 20;
const MAX_LIMIT: u16 = 100;
/// In these years the hours and days of every time zone are made of whole quarters.
const YEARS: std::ops::Range<Timestamp> =
    Timestamp::from_millis(946_684_800_000)..Timestamp::from_millis(4_102_444_800_000);

/// Values are texts, so that the error for a bad one can name it.
#[derive(Debug, Default, Deserialize, IntoParams)]
pub(crate) struct Parameters {
    /// The last so many hours; 24. Not together with `from` and `to`.
    #[param(value_type = u32, required = false, minimum = 1, maximum = 744)]
    pub hours: Option<String>,
    /// The first instant, together with `to`. A `+` is written as `%2B`.
    #[param(value_type = String, required = false, format = DateTime)]
    pub from: Option<String>,
    /// The instant before which the range ends, together with `from`. At most 31 days later; with `interval=day` 400 days.
    #[param(value_type = String, required = false, format = DateTime)]
    pub to: Option<String>,
    #[param(schema_with = crate::schemas::interval)]
    pub interval: Option<String>,
    /// The zone whose hours and days these are, from the IANA time zone database; `UTC`.
    #[param(value_type = String, required = false)]
    pub timezone: Option<String>,
    #[param(schema_with = crate::schemas::dimension)]
    pub dimension: Option<String>,
    /// A value of the dimension.
    #[param(value_type = String, required = false)]
    pub value: Option<String>,
    /// How many values, if the dimension has no `value`; 20.
    #[param(value_type = u16, required = false, minimum = 1, maximum = 100)]
    pub limit: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatsQuestion {
    Report(ReportRequest),
    TopValues { tenant: TenantId, dimension: &'static str, range: Range, limit: u16 },
}

impl StatsQuestion {
    /// About a campaign, or about the part of the records that the parameters name.
    ///
    /// # Errors
    /// If a parameter is wrong, out of bounds, or does not go with the others.
    pub fn read(tenant: TenantId, campaign: Option<String>, uri: &Uri, now: Timestamp) -> Result<Self, QueryError> {
        Self::of(tenant, campaign, parameters::read(uri)?, now)
    }

    /// The same with parameters that are read already.
    ///
    /// # Errors
    /// As above.
    pub fn of(
        tenant: TenantId,
        campaign: Option<String>,
        parameters: Parameters,
        now: Timestamp,
    ) -> Result<Self, QueryError> {
        let Parameters { hours, from, to, interval, timezone, dimension, value, limit } = parameters;
        let refused = |name, problem| Err(QueryError::Parameter { name, problem });
        if campaign.is_some() && (dimension.is_some() || value.is_some()) {
            return refused("dimension", "and value are for /stats: the campaign is in the path");
        }
        let dimension = dimension.map(|name| known_dimension(&name)).transpose()?;
        let part = match (campaign, dimension, value) {
            (Some(campaign), _, _) => Some((CAMPAIGN, campaign, CAMPAIGN_PAIRS)),
            (None, Some(dimension), Some(value)) => Some((dimension, value, &[][..])),
            (None, None, None) => Some(("", String::new(), &[][..])),
            (None, Some(_), None) => None,
            (None, None, Some(_)) => return refused("value", "must be sent together with dimension"),
        };
        let has_series = interval.is_some() || timezone.is_some();
        let interval = interval.map_or(Ok(SeriesInterval::Hour), |interval| known_interval(&interval))?;
        let range = widened(time_range::read(hours, from, to, now)?, interval)?;
        match (part, dimension) {
            (None, Some(dimension)) if !has_series => {
                let limit = limit
                    .map_or(Ok(DEFAULT_LIMIT), |limit| number_within("limit", &limit, 1..=MAX_LIMIT, "1 to 100"))?;
                Ok(StatsQuestion::TopValues { tenant, dimension, range, limit })
            }
            (None, _) => refused("interval", "and timezone need a value: the list of values has no hours or days"),
            (Some(_), _) if limit.is_some() => refused("limit", "is for the values of a dimension, without value"),
            (Some((dimension, value, pairs)), _) => {
                let part = Subset { tenant, dimension, value: storable(&value) };
                let timezone = timezone.unwrap_or_else(|| "UTC".to_owned());
                Ok(StatsQuestion::Report(ReportRequest { part, range, interval, timezone, pairs }))
            }
        }
    }
}

fn known_dimension(name: &str) -> Result<&'static str, QueryError> {
    TypeDefinition::all_dimensions().find(|known| *known == name).ok_or(QueryError::UnknownDimension)
}

fn known_interval(text: &str) -> Result<SeriesInterval, QueryError> {
    let interval = [SeriesInterval::Hour, SeriesInterval::Day].into_iter().find(|known| known.as_str() == text);
    interval.ok_or(QueryError::OutOfBounds { name: "interval", bound: "hour or day" })
}

/// Widened to whole quarters.
fn widened(TimeRange { from, to }: TimeRange, interval: SeriesInterval) -> Result<Range, QueryError> {
    let out_of_bounds = |name, bound| Err(QueryError::OutOfBounds { name, bound });
    if !YEARS.contains(&from) || to > YEARS.end {
        return out_of_bounds("from", "in the years 2000 to 2099, and so must to");
    }
    let length = to.since(from);
    match interval {
        SeriesInterval::Hour if length > Duration::from_secs(MAX_HOURS * 3600) => {
            out_of_bounds("the range", "at most 31 days long with interval=hour; interval=day allows 400 days")
        }
        SeriesInterval::Day if length > Duration::from_secs(MAX_DAYS * 86_400) => {
            out_of_bounds("the range", "at most 400 days long with interval=day")
        }
        SeriesInterval::Hour | SeriesInterval::Day => {
            let to = quarter_of(Timestamp::from_millis(to.as_millis() + QUARTER_MS - 1));
            Ok(Range { from: quarter_of(from), to })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-20T18:02:00.000Z";

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn read(campaign: Option<&str>, query: &str) -> Result<StatsQuestion, QueryError> {
        let tenant = TenantId::new("acme").unwrap();
        StatsQuestion::read(tenant, campaign.map(str::to_owned), &format!("/?{query}").parse().unwrap(), at(NOW))
    }

    fn report(campaign: Option<&str>, query: &str) -> ReportRequest {
        match read(campaign, query).unwrap() {
            StatsQuestion::Report(request) => request,
            other => panic!("{other:?}"),
        }
    }

    fn range(query: &str) -> (Timestamp, Timestamp) {
        let Range { from, to } = report(None, query).range;
        (from, to)
    }

    fn refused(campaign: Option<&str>, query: &str) -> (u16, String) {
        let error = read(campaign, query).unwrap_err();
        (error.status().as_u16(), error.to_string())
    }

    #[test]
    fn a_range_ends_now_or_is_given_and_is_widened_to_whole_quarters() {
        assert_eq!(range(""), (at("2026-11-19T18:00:00Z"), at("2026-11-20T18:15:00Z")));
        assert_eq!(range("hours=1"), (at("2026-11-20T17:00:00Z"), at("2026-11-20T18:15:00Z")));
        let given = "from=2026-11-20T10:07:30%2B01:00&to=2026-11-20T10:30:00Z";
        assert_eq!(range(given), (at("2026-11-20T09:00:00Z"), at("2026-11-20T10:30:00Z")));
        let moment = "from=2026-11-20T10:30:00.000Z&to=2026-11-20T10:30:00.001Z";
        assert_eq!(range(moment), (at("2026-11-20T10:30:00Z"), at("2026-11-20T10:45:00Z")));
    }

    #[test]
    fn the_path_or_the_parameters_name_the_part() {
        let part = |campaign, query| {
            let ReportRequest { part, pairs, .. } = report(campaign, query);
            (part.dimension, part.value, pairs.len())
        };
        assert_eq!(part(Some("c1"), ""), ("campaign_id", "c1".to_owned(), 2));
        assert_eq!(part(None, "dimension=campaign_id&value=c%2F1"), ("campaign_id", "c/1".to_owned(), 0));
        assert_eq!(part(None, "dimension=status&value="), ("status", String::new(), 0));
        assert_eq!(part(None, ""), ("", String::new(), 0));
        assert_eq!(part(Some("c\0"), "").1, "c\u{fffd}", "as cells have it");
        let top = |query| match read(None, query).unwrap() {
            StatsQuestion::TopValues { dimension, limit, .. } => (dimension, limit),
            other @ StatsQuestion::Report(_) => panic!("{other:?}"),
        };
        assert_eq!((top("dimension=unit"), top("dimension=unit&limit=100")), (("unit", 20), ("unit", 100)));
        let day = report(None, "interval=day&timezone=Asia/Kolkata&hours=744");
        assert_eq!((day.interval, day.timezone.as_str()), (SeriesInterval::Day, "Asia/Kolkata"));
        assert_eq!((report(None, "").interval, report(None, "").timezone.as_str()), (SeriesInterval::Hour, "UTC"));
    }

    #[test]
    fn the_pairs_of_a_campaign_are_those_that_types_declare() {
        for event_type in ["click", "impression"] {
            let declared = TypeDefinition::of(event_type).unwrap().pairs.iter().map(|pair| pair.join(","));
            assert_eq!(declared.collect::<Vec<_>>(), CAMPAIGN_PAIRS, "{event_type}");
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_told_with_the_bound() {
        let from = |from: &str, to: &str, rest: &str| format!("from={from}T00:00:00Z&to={to}T00:00:00Z{rest}");
        for (query, detail) in [
            ("hours=0".to_owned(), "hours must be 1 to 744"),
            ("hours=745".to_owned(), "hours must be 1 to 744"),
            ("interval=week".to_owned(), "interval must be hour or day"),
            ("dimension=unit&limit=0".to_owned(), "limit must be 1 to 100"),
            ("dimension=unit&limit=101".to_owned(), "limit must be 1 to 100"),
            (from("2026-11-20", "2026-11-20", ""), "from must be before to"),
            (
                format!(
                    "{}&interval=hour",
                    from("2026-01-01", "2026-02-01", "").replace("to=2026-02-01T00:00:00Z", "to=2026-02-01T00:00:01Z")
                ),
                "the range must be at most 31 days long with interval=hour; interval=day allows 400 days",
            ),
            (
                from("2026-01-01", "2027-02-06", "&interval=day"),
                "the range must be at most 400 days long with interval=day",
            ),
            (from("1999-12-31", "2000-01-01", ""), "from must be in the years 2000 to 2099, and so must to"),
            (from("2099-12-31", "2100-01-02", ""), "from must be in the years 2000 to 2099, and so must to"),
        ] {
            assert_eq!(refused(None, &query), (422, detail.to_owned()), "{query}");
        }
        let (status, detail) = refused(None, "dimension=user_id");
        assert_eq!(status, 422);
        assert!(TypeDefinition::all_dimensions().all(|known| detail.contains(known)), "{detail}");
        for longest in [from("2026-01-01", "2026-02-01", ""), from("2026-01-01", "2027-02-05", "&interval=day")] {
            assert!(read(None, &longest).is_ok(), "{longest}");
        }
    }

    #[test]
    fn what_cannot_be_read_or_does_not_go_together_is_a_bad_request() {
        for query in [
            "hours=x",
            "hours=-1",
            "hours=1&hours=2",
            "from=2026-11-20&to=2026-11-21",
            "from=2026-11-20T10:00:00+01:00&to=2026-11-20T10:30:00Z",
            "from=2026-11-20T10:00:00Z",
            "to=2026-11-20T10:00:00Z",
            "hours=1&to=2026-11-20T10:00:00Z",
            "value=1",
            "limit=5",
            "dimension=unit&limit=x",
            "dimension=unit&value=1&limit=5",
            "dimension=unit&interval=day",
            "dimension=unit&timezone=UTC",
            "timezone=%ff",
        ] {
            assert_eq!(refused(None, query).0, 400, "{query}");
        }
        for query in ["dimension=unit", "value=1", "limit=5"] {
            assert_eq!(refused(Some("c1"), query).0, 400, "{query}");
        }
    }
}
