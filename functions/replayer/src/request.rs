//! The requests of the function.

use std::collections::BTreeSet;

use archive::Filter;
use event::Timestamp;
use lambda::request::{self, Label, Limit, PartitionOffsets, RequestError, Text, check_range};
use pipeline::topic;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use strum::VariantNames;

/// Records per second. The default is a fraction of what Postgres can handle along with live traffic; the largest value
/// is more than one connection can record.
pub type MaxPerSec = Limit<50_000, 1_000>;

/// What to do with the records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub enum Action {
    /// Rebuild the rows that outcomes describe.
    Restore,
    /// Process records again, as that version.
    Reprocess {
        version: String,
        /// The scorer's function; if absent, the configured one.
        #[serde(skip_serializing_if = "Option::is_none")]
        scorer: Option<String>,
    },
}

/// Which records to process, and how. Two invocations with equal orders do the same work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Order {
    #[serde(flatten)]
    pub action: Action,
    /// Archived at that instant or later, by Kafka's timestamp of the archived record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Archived before that instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Partitions of the archived topic; empty means all of them.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub partitions: BTreeSet<i32>,
}

impl Order {
    /// The topic whose archive is read.
    pub const fn topic(&self) -> &'static str {
        match self.action {
            Action::Restore => topic::PROCESSED_EVENTS,
            Action::Reprocess { .. } => topic::RAW_EVENTS,
        }
    }

    /// The part of the order that the archive's reader can filter by.
    pub fn filter(&self) -> Filter {
        let mut filter = Filter::topic(self.topic());
        if let Some(from) = self.from {
            filter = filter.from(from);
        }
        if let Some(until) = self.until {
            filter = filter.until(until);
        }
        if !self.partitions.is_empty() {
            filter = filter.partitions(self.partitions.iter().copied());
        }
        filter
    }

    /// Whether the order covers a record with that type and tenant.
    pub fn means(&self, event_type: Option<&str>, tenant: Option<&str>) -> bool {
        let is =
            |wanted: &Option<String>, found: Option<&str>| wanted.as_deref().is_none_or(|wanted| found == Some(wanted));
        is(&self.event_type, event_type) && is(&self.tenant, tenant)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Only count, from these offsets on. Nothing is written, not even the progress.
    DryRun { from_offsets: PartitionOffsets },
    /// Do the work, and continue the run of that name.
    Run { name: String },
}

/// A valid request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub order: Order,
    pub mode: Mode,
    pub max_per_sec: MaxPerSec,
}

impl Request {
    /// Parses the request, and the operator's name in `by`.
    ///
    /// # Errors
    /// If a field is missing, unknown, malformed or out of its range.
    pub fn parse(event: &RawValue) -> Result<(Self, Option<Text>), RequestError> {
        let (actions, by) = request::parse(event)?;
        let request = match actions {
            Actions::Restore(fields) => match &fields {
                Fields { version: Some(_), .. } => Err(only_for_reprocess("version")),
                Fields { scorer: Some(_), .. } => Err(only_for_reprocess("scorer")),
                Fields { version: None, scorer: None, .. } => fields.into_request(Action::Restore),
            },
            Actions::Reprocess(mut fields) => match fields.version.take() {
                Some(version) => {
                    let scorer = fields.scorer.take().map(String::from);
                    fields.into_request(Action::Reprocess { version: version.into(), scorer })
                }
                None => Err(RequestError::field(
                    "version",
                    "missing: name the version under which the new outcomes are kept",
                )),
            },
        };
        Ok((request?, by))
    }
}

#[derive(Deserialize, VariantNames)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
enum Actions {
    Restore(Fields),
    Reprocess(Fields),
}

/// The fields of both actions.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    run: Option<Label>,
    version: Option<Label>,
    scorer: Option<Text>,
    #[serde(default)]
    filters: Filters,
    // The older form: filters outside of `filters`.
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    #[serde(rename = "type")]
    event_type: Option<Text>,
    tenant: Option<Text>,
    partitions: Option<Partitions>,
    #[serde(alias = "start")]
    from_offsets: Option<PartitionOffsets>,
    #[serde(default, alias = "rate")]
    max_per_sec: MaxPerSec,
    #[serde(default)]
    dry_run: bool,
}

/// Selects the records that meet every condition given.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filters {
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    #[serde(rename = "type")]
    event_type: Option<Text>,
    tenant: Option<Text>,
    partitions: Option<Partitions>,
}

impl Fields {
    fn into_request(self, action: Action) -> Result<Request, RequestError> {
        let filters = self.filters;
        let order = Order {
            action,
            from: either("from", filters.from, self.from)?,
            until: either("until", filters.until, self.until)?,
            event_type: either("type", filters.event_type, self.event_type)?.map(String::from),
            tenant: either("tenant", filters.tenant, self.tenant)?.map(String::from),
            partitions: either("partitions", filters.partitions, self.partitions)?.unwrap_or_default().0,
        };
        check_range("filters.until", order.from, order.until)?;
        let mode = match (self.dry_run, self.run, self.from_offsets) {
            (true, _, from_offsets) => Mode::DryRun { from_offsets: from_offsets.unwrap_or_default() },
            (false, _, Some(_)) => {
                return Err(RequestError::field(
                    "from_offsets",
                    "only for a dry run: a run remembers its own progress",
                ));
            }
            (false, Some(name), None) => Mode::Run { name: name.into() },
            (false, None, None) => {
                let problem = "missing: name the run, so that it can be continued if it is stopped, or set \"dry_run\"";
                return Err(RequestError::field("run", problem));
            }
        };
        Ok(Request { order, mode, max_per_sec: self.max_per_sec })
    }
}

fn only_for_reprocess(field: &str) -> RequestError {
    RequestError::field(field, "only for \"reprocess\"")
}

/// A filter, which may be given in one of two places.
fn either<T>(field: &str, filter: Option<T>, beside: Option<T>) -> Result<Option<T>, RequestError> {
    match (filter, beside) {
        (Some(_), Some(_)) => Err(RequestError::field(field, "given twice: it belongs in \"filters\"")),
        (filter, beside) => Ok(filter.or(beside)),
    }
}

/// At least one partition.
#[derive(Default, Deserialize)]
#[serde(try_from = "BTreeSet<i32>")]
struct Partitions(BTreeSet<i32>);

impl TryFrom<BTreeSet<i32>> for Partitions {
    type Error = &'static str;

    fn try_from(partitions: BTreeSet<i32>) -> Result<Self, &'static str> {
        if partitions.first().is_none_or(|first| *first < 0) {
            return Err("not a list of partitions, such as [0, 1]; leave it out for all partitions");
        }
        Ok(Partitions(partitions))
    }
}

#[cfg(test)]
mod tests {
    use pipeline::chain;
    use testkit::samples::sample;

    use super::*;

    fn parse(text: &str) -> Result<Request, String> {
        let parsed = Request::parse(&RawValue::from_string(text.to_owned()).unwrap());
        parsed.map(|(request, _)| request).map_err(|error| chain(&error))
    }

    fn everything(action: Action) -> Order {
        Order { action, from: None, until: None, event_type: None, tenant: None, partitions: BTreeSet::new() }
    }

    #[test]
    fn samples_are_read() {
        let restore = Request {
            order: everything(Action::Restore),
            mode: Mode::Run { name: "rebuild-1".into() },
            max_per_sec: MaxPerSec::try_from(5_000).unwrap(),
        };
        assert_eq!(parse(&sample("replayer", "restore")), Ok(restore));
        let order = Order {
            from: Some(Timestamp::parse("2026-11-20T18:00:00Z").unwrap()),
            until: Some(Timestamp::parse("2026-11-20T19:00:00Z").unwrap()),
            event_type: Some("transaction".into()),
            tenant: Some("acme".into()),
            partitions: BTreeSet::from([0, 1]),
            ..everything(Action::Restore)
        };
        let dry_run = Request {
            order,
            mode: Mode::DryRun { from_offsets: PartitionOffsets::from([(0, 120)]) },
            max_per_sec: MaxPerSec::default(),
        };
        assert_eq!(parse(&sample("replayer", "dry-run")), Ok(dry_run));
        let action = Action::Reprocess { version: "rules-2".into(), scorer: Some("scorer".into()) };
        let reprocess = Request {
            order: everything(action),
            mode: Mode::Run { name: "rules-2-all".into() },
            max_per_sec: MaxPerSec::default(),
        };
        assert_eq!(parse(&sample("replayer", "reprocess")), Ok(reprocess));
    }

    #[test]
    fn names_of_before_are_still_understood() {
        let now = r#"{"action":"restore","dry_run":true,"from_offsets":{"0":1},"max_per_sec":5}"#;
        assert_eq!(parse(r#"{"action":"restore","dry_run":true,"start":{"0":1},"rate":5}"#), parse(now));
        let now = r#"{"action":"restore","run":"a","filters":{"type":"click","tenant":"acme","partitions":[1],"from":"2026-11-20T18:00:00Z"}}"#;
        let before = r#"{"action":"restore","run":"a","type":"click","tenant":"acme","partitions":[1],"from":"2026-11-20T18:00:00Z"}"#;
        assert_eq!(parse(before), parse(now));
    }

    #[test]
    fn a_refusal_names_field_and_choices() {
        let restore = |fields: &str| format!(r#"{{"action":"restore","run":"a",{fields}}}"#);
        let cases = [
            (sample("replayer", "bad"), "field \"version\": missing: name the version"),
            ("{}".into(), "field \"action\": missing, expected one of restore, reprocess"),
            ("7".into(), "the request is not a JSON object"),
            (
                r#"{"action":"purge"}"#.into(),
                "field \"action\": \"purge\" is unknown, expected one of restore, reprocess",
            ),
            (r#"{"action":"restore"}"#.into(), "field \"run\": missing: name the run"),
            (restore(r#""ip":"::1""#), "unknown field `ip`"),
            (restore(r#""from":"today""#), "field \"from\": not an RFC 3339 date-time"),
            (
                restore(r#""from":"2026-11-20T18:00:00Z","until":"2026-11-20T18:00:00Z""#),
                "field \"filters.until\": not after \"from\"",
            ),
            (restore(r#""filters":{"ip":"::1"}"#), "field \"filters.ip\": unknown field `ip`"),
            (restore(r#""filters":{"partitions":[]}"#), "field \"filters.partitions\": not a list of partitions"),
            (restore(r#""filters":{"tenant":"a"},"tenant":"b""#), "field \"tenant\": given twice"),
            (restore(r#""version":"2""#), "field \"version\": only for \"reprocess\""),
            (restore(r#""scorer":"s""#), "field \"scorer\": only for \"reprocess\""),
            (restore(r#""max_per_sec":0"#), "field \"max_per_sec\": not 1 to 50000"),
            (restore(r#""partitions":[]"#), "field \"partitions\": not a list of partitions"),
            (restore(r#""partitions":[-1]"#), "field \"partitions\": not a list of partitions"),
            (restore(r#""from_offsets":{"0":1}"#), "field \"from_offsets\": only for a dry run"),
            (restore(r#""dry_run":true,"from_offsets":{"0":-1}"#), "field \"from_offsets\": not a map"),
            (restore(r#""tenant":"""#), "field \"tenant\": not 1 to 256"),
            (r#"{"action":"restore","run":"a b"}"#.into(), "field \"run\": not 1 to 64 letters"),
        ];
        for (request, expected) in cases {
            let error = parse(&request).unwrap_err();
            assert!(error.contains(expected), "{request}: {error}");
        }
    }

    #[test]
    fn an_order_is_the_same_whatever_the_rate() {
        let order = |text: &str| serde_json::to_string(&parse(text).unwrap().order).unwrap();
        let first = order(r#"{"action":"restore","run":"a","partitions":[2,1],"from":"2026-11-20T19:00:00+01:00"}"#);
        assert_eq!(first, r#"{"action":"restore","from":"2026-11-20T18:00:00.000Z","partitions":[1,2]}"#);
        let again =
            r#"{"action":"restore","run":"b","partitions":[1,2],"from":"2026-11-20T18:00:00Z","max_per_sec":5}"#;
        assert_eq!(order(again), first);
    }

    #[test]
    fn what_a_record_does_not_say_does_not_match() {
        let order = Order { tenant: Some("acme".into()), ..everything(Action::Restore) };
        assert!(order.means(None, Some("acme")));
        assert!(!order.means(Some("click"), Some("other")) && !order.means(None, None));
    }
}
