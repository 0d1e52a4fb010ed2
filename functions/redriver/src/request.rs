//! The requests of the function.

use std::time::Duration;

use event::{Origin, Timestamp};
use lambda::request::{self, Limit, PartitionOffsets, RequestError, Text, check_range};
use pipeline::dead_letter::DeadLetter;
use pipeline::reason::canonical;
use serde::Deserialize;
use serde_json::value::RawValue;
use strum::{IntoStaticStr, VariantNames};

/// Copies sent per second. The largest value is more than a processor should handle along with live traffic.
pub type MaxPerSec = Limit<10_000, 100>;
/// Seconds that a run works. The largest value is the longest time of a function.
pub type WithinSec = Limit<900, 900>;
/// Parked letters in one answer. Each takes some hundred bytes, so the largest answer stays far below Lambda's 6 MB.
pub type PageLimit = Limit<1_000, 100>;

/// Selects the letters that meet every condition given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filters {
    /// The tag of the reason; the spelling with underscores is accepted too.
    pub reason: Option<Text>,
    #[serde(rename = "type")]
    pub event_type: Option<Text>,
    pub tenant: Option<Text>,
    pub event_id: Option<Text>,
    pub origin: Option<Origin>,
    /// Failed at that instant or later.
    #[serde(alias = "failed_from")]
    pub from: Option<Timestamp>,
    /// Failed before that instant.
    #[serde(alias = "failed_until")]
    pub until: Option<Timestamp>,
}

impl Filters {
    pub fn meets(&self, letter: &DeadLetter) -> bool {
        let is =
            |wanted: &Option<Text>, found: Option<&str>| wanted.as_deref().is_none_or(|wanted| found == Some(wanted));
        let by_headers = self.reason.as_deref().is_none_or(|wanted| canonical(wanted) == letter.reason)
            && self.origin.as_ref().is_none_or(|origin| origin.is_same(&letter.id.origin))
            && self.from.is_none_or(|from| letter.failed_at >= from)
            && self.until.is_none_or(|until| letter.failed_at < until);
        if !by_headers || (self.event_type.is_none() && self.tenant.is_none() && self.event_id.is_none()) {
            return by_headers;
        }
        let subject = letter.subject();
        is(&self.event_type, subject.event_type.as_deref())
            && is(&self.tenant, subject.tenant.as_deref())
            && is(&self.event_id, subject.event_id.as_deref())
    }
}

/// A valid request. The name of each variant in lower case is its action.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, VariantNames, IntoStaticStr)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
#[strum(serialize_all = "lowercase")]
pub enum Request {
    List {
        #[serde(default)]
        filters: Filters,
        #[serde(default, alias = "from")]
        from_offsets: PartitionOffsets,
        #[serde(default)]
        within_sec: WithinSec,
    },
    Redrive {
        #[serde(default)]
        filters: Filters,
        #[serde(default, alias = "from")]
        from_offsets: PartitionOffsets,
        #[serde(default, alias = "until")]
        until_offsets: PartitionOffsets,
        #[serde(default)]
        dry_run: bool,
        #[serde(default)]
        max_per_sec: MaxPerSec,
        #[serde(default)]
        within_sec: WithinSec,
    },
    Parked {
        #[serde(default)]
        filters: Filters,
        #[serde(default)]
        from_key: String,
        #[serde(default)]
        limit: PageLimit,
        #[serde(default)]
        within_sec: WithinSec,
    },
    Release {
        #[serde(default)]
        filters: Filters,
        #[serde(default)]
        from_key: String,
        #[serde(default)]
        dry_run: bool,
        #[serde(default)]
        max_per_sec: MaxPerSec,
        #[serde(default)]
        within_sec: WithinSec,
    },
    /// Lists what the triggers gave up.
    Undelivered {
        /// The function's name.
        function: Option<Text>,
        #[serde(default)]
        from_key: String,
        #[serde(default)]
        limit: PageLimit,
    },
    /// Calls the functions again with what the triggers gave up.
    Deliver {
        function: Option<Text>,
        #[serde(default)]
        from_key: String,
        #[serde(default)]
        dry_run: bool,
    },
    Audit {
        /// Today if absent.
        #[serde(default, deserialize_with = "lambda::request::day")]
        day: Option<Timestamp>,
    },
}

impl Request {
    /// Its name in the audit trail.
    pub fn action(&self) -> &'static str {
        self.into()
    }

    /// How long the run may work.
    pub fn within(&self) -> Duration {
        let seconds = match self {
            Request::List { within_sec, .. }
            | Request::Redrive { within_sec, .. }
            | Request::Parked { within_sec, .. }
            | Request::Release { within_sec, .. } => *within_sec,
            Request::Undelivered { .. } | Request::Deliver { .. } | Request::Audit { .. } => WithinSec::default(),
        };
        Duration::from_secs(seconds.get().into())
    }

    /// Parses the request, and the operator's name in `by`.
    ///
    /// # Errors
    /// If a field is missing, unknown, malformed or out of its range.
    pub fn parse(event: &RawValue) -> Result<(Self, Option<Text>), RequestError> {
        let (request, by) = request::parse(event)?;
        match &request {
            Request::List { filters, .. }
            | Request::Redrive { filters, .. }
            | Request::Parked { filters, .. }
            | Request::Release { filters, .. } => check_range("filters.until", filters.from, filters.until)?,
            Request::Undelivered { .. } | Request::Deliver { .. } | Request::Audit { .. } => {}
        }
        Ok((request, by))
    }
}

#[cfg(test)]
mod tests {
    use pipeline::chain;
    use testkit::samples::sample;

    use super::*;

    fn text(text: &str) -> Option<Text> {
        Text::try_from(text.to_owned()).ok()
    }

    fn parse(text: &str) -> Result<(Request, Option<Text>), String> {
        Request::parse(&RawValue::from_string(text.to_owned()).unwrap()).map_err(|error| chain(&error))
    }

    #[test]
    fn samples_are_read() {
        let within_sec = WithinSec::default();
        let list = Request::List { filters: Filters::default(), from_offsets: PartitionOffsets::default(), within_sec };
        assert_eq!(parse(&sample("redriver", "list")), Ok((list, None)));
        let filters = Filters { reason: text("schema-violation"), ..Filters::default() };
        let dry_run = Request::Redrive {
            filters: filters.clone(),
            from_offsets: PartitionOffsets::default(),
            until_offsets: PartitionOffsets::default(),
            dry_run: true,
            max_per_sec: MaxPerSec::default(),
            within_sec,
        };
        assert_eq!(parse(&sample("redriver", "dry-run")), Ok((dry_run, text("ada"))));
        let filters = Filters {
            event_type: text("transaction"),
            tenant: text("acme"),
            from: Some(Timestamp::parse("2026-11-20T18:00:00Z").unwrap()),
            until: Some(Timestamp::parse("2026-11-20T19:00:00Z").unwrap()),
            ..filters
        };
        let from_offsets = PartitionOffsets::from([(0, 120), (1, 80)]);
        let until_offsets = PartitionOffsets::from([(0, 500), (1, 90)]);
        let redrive = Request::Redrive {
            filters,
            from_offsets,
            until_offsets,
            dry_run: false,
            max_per_sec: MaxPerSec::try_from(200).unwrap(),
            within_sec,
        };
        assert_eq!(parse(&sample("redriver", "redrive")), Ok((redrive, text("ada"))));
        assert_eq!(parse(&sample("redriver", "parked")).unwrap().0.action(), "parked");
        let filters = Filters { origin: Some(Origin::new("raw-events", 0, 5)), ..Filters::default() };
        let release = Request::Release {
            filters,
            from_key: String::new(),
            dry_run: false,
            max_per_sec: MaxPerSec::default(),
            within_sec,
        };
        assert_eq!(parse(&sample("redriver", "release")), Ok((release, text("ada"))));
        let undelivered = Request::Undelivered { function: None, from_key: String::new(), limit: PageLimit::default() };
        assert_eq!(parse(&sample("redriver", "undelivered")), Ok((undelivered, None)));
        let deliver = Request::Deliver { function: text("processor"), from_key: String::new(), dry_run: false };
        assert_eq!(parse(&sample("redriver", "deliver")), Ok((deliver, text("ada"))));
        let day = Some(Timestamp::parse("2026-11-20T00:00:00Z").unwrap());
        assert_eq!(parse(&sample("redriver", "audit")), Ok((Request::Audit { day }, None)));
    }

    #[test]
    fn names_of_before_are_still_understood() {
        let now = r#"{"action":"redrive","from_offsets":{"0":1},"until_offsets":{"0":9},"filters":{"from":"2026-11-20T18:00:00Z","until":"2026-11-20T19:00:00Z"}}"#;
        let before = r#"{"action":"redrive","from":{"0":1},"until":{"0":9},"filters":{"failed_from":"2026-11-20T18:00:00Z","failed_until":"2026-11-20T19:00:00Z"}}"#;
        assert_eq!(parse(before), parse(now));
        assert_eq!(parse(r#"{"action":"list","from":{"0":1}}"#), parse(r#"{"action":"list","from_offsets":{"0":1}}"#));
    }

    #[test]
    fn a_refusal_names_field_and_choices() {
        let cases = [
            (sample("redriver", "bad"), "field \"max_per_sec\": not 1 to 10000"),
            ("{}".into(), "field \"action\": missing"),
            ("7".into(), "the request is not a JSON object"),
            (
                r#"{"action":"purge"}"#.into(),
                "expected one of list, redrive, parked, release, undelivered, deliver, audit",
            ),
            (r#"{"action":"list","dry_run":true}"#.into(), "unknown field `dry_run`"),
            (r#"{"action":"list","filters":{"ip":"::1"}}"#.into(), "unknown field `ip`"),
            (r#"{"action":"list","filters":{"origin":"x"}}"#.into(), "field \"filters.origin\": an origin must"),
            (
                r#"{"action":"list","filters":{"from":"today"}}"#.into(),
                "field \"filters.from\": not an RFC 3339 date-time",
            ),
            (r#"{"action":"list","filters":{"reason":""}}"#.into(), "field \"filters.reason\": not 1 to 256"),
            (
                r#"{"action":"list","filters":{"from":"2026-11-20T18:00:00Z","until":"2026-11-20T18:00:00Z"}}"#.into(),
                "field \"filters.until\": not after",
            ),
            (r#"{"action":"redrive","max_per_sec":0}"#.into(), "field \"max_per_sec\": not 1 to 10000"),
            (r#"{"action":"redrive","from_offsets":{"a":1}}"#.into(), "field \"from_offsets\": not a map"),
            (r#"{"action":"redrive","from_offsets":{"0":-1}}"#.into(), "field \"from_offsets\": not a map"),
            (r#"{"action":"redrive","until_offsets":{"0":-1}}"#.into(), "field \"until_offsets\": not a map"),
            (r#"{"action":"list","within_sec":901}"#.into(), "field \"within_sec\": not 1 to 900"),
            (r#"{"action":"parked","limit":0}"#.into(), "field \"limit\": not 1 to 1000"),
            (r#"{"action":"audit","day":"monday"}"#.into(), "field \"day\": not a day, such as 2026-11-20"),
        ];
        for (request, expected) in cases {
            let error = parse(&request).unwrap_err();
            assert!(error.contains(expected), "{request}: {error}");
        }
    }
}
