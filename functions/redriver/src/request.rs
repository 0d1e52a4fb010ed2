//! What a redriver can be asked to do.

use std::collections::BTreeMap;

use event::{Origin, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::RedriverError;
use crate::letter::Letter;

/// Copies sent in a second unless told otherwise.
const DEFAULT_RATE: u32 = 100;
/// More than a processor should be asked to take beside live traffic.
const MAX_RATE: u32 = 10_000;
/// Parked letters of one answer unless told otherwise.
const DEFAULT_LIMIT: usize = 100;
/// Some hundred bytes each, far below Lambda's 6 MB.
const MAX_LIMIT: usize = 1_000;
/// Longest text of a filter or name, in characters; an event id has at most 256 bytes.
const MAX_TEXT_CHARS: usize = 256;

/// Which letters are meant: those that meet every condition given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filters {
    /// The tag of the reason.
    pub reason: Option<String>,
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    pub tenant: Option<String>,
    pub event_id: Option<String>,
    pub origin: Option<Origin>,
    /// Failed at that instant or later.
    pub failed_from: Option<Timestamp>,
    /// Failed before that instant.
    pub failed_until: Option<Timestamp>,
}

impl Filters {
    pub fn meets(&self, letter: &Letter) -> bool {
        let is =
            |wanted: &Option<String>, found: Option<&str>| wanted.as_deref().is_none_or(|wanted| found == Some(wanted));
        let by_headers = is(&self.reason, Some(&letter.reason))
            && self.origin.as_ref().is_none_or(|origin| *origin == letter.id.origin)
            && self.failed_from.is_none_or(|from| letter.failed_at >= from)
            && self.failed_until.is_none_or(|until| letter.failed_at < until);
        if !by_headers || (self.event_type.is_none() && self.tenant.is_none() && self.event_id.is_none()) {
            return by_headers;
        }
        let subject = letter.subject();
        is(&self.event_type, subject.event_type.as_deref())
            && is(&self.tenant, subject.tenant.as_deref())
            && is(&self.event_id, subject.event_id.as_deref())
    }

    fn check(&self) -> Result<(), RedriverError> {
        let texts = [
            ("reason", &self.reason),
            ("type", &self.event_type),
            ("tenant", &self.tenant),
            ("event_id", &self.event_id),
        ];
        for (field, text) in texts {
            check_text(field, text.as_deref())?;
        }
        match (self.failed_from, self.failed_until) {
            (Some(from), Some(until)) if from >= until => Err(bad("failed_until", "not after \"failed_from\"")),
            _ => Ok(()),
        }
    }
}

/// Where to start in the dead letter topic: for a partition, the first offset to look at.
pub type Offsets = BTreeMap<i32, i64>;

/// A request, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    List { filters: Filters, from: Offsets },
    Redrive { filters: Filters, from: Offsets, until: Offsets, dry_run: bool, max_per_sec: u32 },
    Parked { filters: Filters, from_key: String, limit: usize },
    Release { filters: Filters, from_key: String, dry_run: bool, max_per_sec: u32 },
    Audit { day: Option<Timestamp> },
}

impl Request {
    /// Its name in the audit trail.
    pub const fn action(&self) -> &'static str {
        match self {
            Request::List { .. } => "list",
            Request::Redrive { .. } => "redrive",
            Request::Parked { .. } => "parked",
            Request::Release { .. } => "release",
            Request::Audit { .. } => "audit",
        }
    }

    /// The request, and who makes it, as they say.
    ///
    /// # Errors
    /// If a field is missing, unknown, malformed or out of bounds.
    pub fn parse(event: &RawValue) -> Result<(Self, Option<String>), RedriverError> {
        let fields: Fields = serde_json::from_str(event.get()).map_err(RedriverError::Request)?;
        let (request, by) = match fields {
            Fields::List { filters, from, by } => (Request::List { filters, from: offsets("from", from)? }, by),
            Fields::Redrive { filters, from, until, dry_run, max_per_sec, by } => {
                let (from, until) = (offsets("from", from)?, offsets("until", until)?);
                let max_per_sec = rate(max_per_sec)?;
                (Request::Redrive { filters, from, until, dry_run, max_per_sec }, by)
            }
            Fields::Parked { filters, from_key, limit, by } => {
                let limit = limit.unwrap_or(DEFAULT_LIMIT);
                if !(1..=MAX_LIMIT).contains(&limit) {
                    return Err(bad("limit", format!("not 1 to {MAX_LIMIT}")));
                }
                (Request::Parked { filters, from_key, limit }, by)
            }
            Fields::Release { filters, from_key, dry_run, max_per_sec, by } => {
                let max_per_sec = rate(max_per_sec)?;
                (Request::Release { filters, from_key, dry_run, max_per_sec }, by)
            }
            Fields::Audit { day, by } => (Request::Audit { day: day.map(|day| parse_day(&day)).transpose()? }, by),
        };
        match &request {
            Request::List { filters, .. }
            | Request::Redrive { filters, .. }
            | Request::Parked { filters, .. }
            | Request::Release { filters, .. } => filters.check()?,
            Request::Audit { .. } => {}
        }
        check_text("by", by.as_deref())?;
        Ok((request, by))
    }
}

#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "lowercase", deny_unknown_fields)]
enum Fields {
    List {
        #[serde(default)]
        filters: Filters,
        // Text, because serde reads the fields of a tagged enum from a buffer that knows no numbers as keys.
        #[serde(default)]
        from: BTreeMap<String, i64>,
        by: Option<String>,
    },
    Redrive {
        #[serde(default)]
        filters: Filters,
        #[serde(default)]
        from: BTreeMap<String, i64>,
        #[serde(default)]
        until: BTreeMap<String, i64>,
        #[serde(default)]
        dry_run: bool,
        max_per_sec: Option<u32>,
        by: Option<String>,
    },
    Parked {
        #[serde(default)]
        filters: Filters,
        #[serde(default)]
        from_key: String,
        limit: Option<usize>,
        by: Option<String>,
    },
    Release {
        #[serde(default)]
        filters: Filters,
        #[serde(default)]
        from_key: String,
        #[serde(default)]
        dry_run: bool,
        max_per_sec: Option<u32>,
        by: Option<String>,
    },
    Audit {
        day: Option<String>,
        by: Option<String>,
    },
}

fn bad(field: &'static str, problem: impl Into<String>) -> RedriverError {
    RedriverError::Field { field, problem: problem.into() }
}

fn check_text(field: &'static str, text: Option<&str>) -> Result<(), RedriverError> {
    let Some(text) = text else { return Ok(()) };
    if text.is_empty() || text.chars().count() > MAX_TEXT_CHARS || text.chars().any(char::is_control) {
        return Err(bad(field, format!("not 1 to {MAX_TEXT_CHARS} characters without control characters")));
    }
    Ok(())
}

fn rate(max_per_sec: Option<u32>) -> Result<u32, RedriverError> {
    match max_per_sec.unwrap_or(DEFAULT_RATE) {
        rate if (1..=MAX_RATE).contains(&rate) => Ok(rate),
        _ => Err(bad("max_per_sec", format!("not 1 to {MAX_RATE}"))),
    }
}

fn offsets(field: &'static str, offsets: BTreeMap<String, i64>) -> Result<Offsets, RedriverError> {
    let offset = |(partition, offset): (String, i64)| match partition.parse::<i32>() {
        Ok(partition) if partition >= 0 && offset >= 0 => Ok((partition, offset)),
        Ok(_) | Err(_) => Err(bad(field, "not a map from partition to offset")),
    };
    offsets.into_iter().map(offset).collect()
}

fn parse_day(day: &str) -> Result<Timestamp, RedriverError> {
    Timestamp::parse(&format!("{day}T00:00:00Z")).map_err(|_| bad("day", "not YYYY-MM-DD"))
}

#[cfg(test)]
mod tests {
    use pipeline::chain;
    use testkit::samples::sample;

    use super::*;

    fn parse(text: &str) -> Result<(Request, Option<String>), String> {
        Request::parse(&RawValue::from_string(text.to_owned()).unwrap()).map_err(|error| chain(&error))
    }

    #[test]
    fn samples_are_read() {
        let list = Request::List { filters: Filters::default(), from: Offsets::new() };
        assert_eq!(parse(&sample("redriver", "list")), Ok((list, None)));
        let filters = Filters { reason: Some("schema_violation".into()), ..Filters::default() };
        let dry_run = Request::Redrive {
            filters: filters.clone(),
            from: Offsets::new(),
            until: Offsets::new(),
            dry_run: true,
            max_per_sec: 100,
        };
        assert_eq!(parse(&sample("redriver", "dry-run")), Ok((dry_run, Some("ada".into()))));
        let filters = Filters {
            event_type: Some("transaction".into()),
            tenant: Some("acme".into()),
            failed_from: Some(Timestamp::parse("2026-11-20T18:00:00Z").unwrap()),
            failed_until: Some(Timestamp::parse("2026-11-20T19:00:00Z").unwrap()),
            ..filters
        };
        let from = Offsets::from([(0, 120), (1, 80)]);
        let until = Offsets::from([(0, 500), (1, 90)]);
        let redrive = Request::Redrive { filters, from, until, dry_run: false, max_per_sec: 200 };
        assert_eq!(parse(&sample("redriver", "redrive")), Ok((redrive, Some("ada".into()))));
        assert_eq!(parse(&sample("redriver", "parked")).unwrap().0.action(), "parked");
        let filters = Filters { origin: Some(Origin::new("raw-events", 0, 5)), ..Filters::default() };
        let release = Request::Release { filters, from_key: String::new(), dry_run: false, max_per_sec: 100 };
        assert_eq!(parse(&sample("redriver", "release")), Ok((release, Some("ada".into()))));
        let day = Some(Timestamp::parse("2026-11-20T00:00:00Z").unwrap());
        assert_eq!(parse(&sample("redriver", "audit")), Ok((Request::Audit { day }, None)));
    }

    #[test]
    fn bad_requests_are_told_field_and_choices() {
        let cases = [
            (sample("redriver", "bad"), "field \"max_per_sec\" is not 1 to 10000"),
            ("{}".into(), "missing field `action`"),
            ("7".into(), "the request cannot be read"),
            (r#"{"action":"purge"}"#.into(), "expected one of `list`, `redrive`, `parked`, `release`, `audit`"),
            (r#"{"action":"list","dry_run":true}"#.into(), "unknown field `dry_run`"),
            (r#"{"action":"list","filters":{"ip":"::1"}}"#.into(), "unknown field `ip`"),
            (r#"{"action":"list","filters":{"origin":"x"}}"#.into(), "an origin is"),
            (r#"{"action":"list","filters":{"failed_from":"today"}}"#.into(), "not an RFC 3339 date-time"),
            (r#"{"action":"list","filters":{"reason":""}}"#.into(), "field \"reason\" is not 1 to 256"),
            (
                r#"{"action":"list","filters":{"failed_from":"2026-11-20T18:00:00Z","failed_until":"2026-11-20T18:00:00Z"}}"#
                    .into(),
                "field \"failed_until\" is not after",
            ),
            (r#"{"action":"redrive","max_per_sec":0}"#.into(), "field \"max_per_sec\" is not 1 to 10000"),
            (r#"{"action":"redrive","from":{"a":1}}"#.into(), "field \"from\" is not a map"),
            (r#"{"action":"redrive","from":{"0":-1}}"#.into(), "field \"from\" is not a map"),
            (r#"{"action":"redrive","until":{"0":-1}}"#.into(), "field \"until\" is not a map"),
            (r#"{"action":"parked","limit":0}"#.into(), "field \"limit\" is not 1 to 1000"),
            (r#"{"action":"audit","day":"monday"}"#.into(), "field \"day\" is not YYYY-MM-DD"),
        ];
        for (request, expected) in cases {
            let error = parse(&request).unwrap_err();
            assert!(error.contains(expected), "{request}: {error}");
        }
    }
}
