//! What a replayer can be asked to do.

use std::collections::{BTreeMap, BTreeSet};

use archive::Filter;
use event::Timestamp;
use pipeline::topic;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::ReplayerError;

/// Records in a second unless told otherwise: a fraction of what Postgres takes beside live traffic.
const DEFAULT_RATE: u32 = 1_000;
/// More than one connection to Postgres records.
pub const MAX_RATE: u32 = 50_000;
/// Longest name of a run or version, in characters.
const MAX_LABEL_CHARS: usize = 64;
/// Longest type, tenant or function, in characters. The ARN of a function has at most 170.
const MAX_TEXT_CHARS: usize = 256;

/// What to do with the records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub enum Action {
    /// Rebuild the rows that outcomes tell of.
    Restore,
    /// Process records once more, as that version.
    Reprocess {
        version: String,
        /// The scorer's function; the configured one unless named.
        #[serde(skip_serializing_if = "Option::is_none")]
        scorer: Option<String>,
    },
}

/// Which records are meant, and what for. Two invocations with equal orders do the same work.
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
    /// Of the archived topic; empty is all of them.
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

    /// What of the order the archive's reader understands.
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

    /// Whether a record with that type and tenant is meant.
    pub fn means(&self, event_type: Option<&str>, tenant: Option<&str>) -> bool {
        let is =
            |wanted: &Option<String>, found: Option<&str>| wanted.as_deref().is_none_or(|wanted| found == Some(wanted));
        is(&self.event_type, event_type) && is(&self.tenant, tenant)
    }
}

/// For a partition, an offset.
pub type Offsets = BTreeMap<i32, i64>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Only count, from there on. Nothing is written, not even how far it came.
    DryRun { start: Offsets },
    /// Do it, from where the run of that name is.
    Run { name: String },
}

/// A request, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub order: Order,
    pub mode: Mode,
    /// Most records in a second.
    pub rate: u32,
}

impl Request {
    /// # Errors
    /// If a field is missing, unknown, malformed or out of bounds.
    pub fn parse(event: &RawValue) -> Result<Self, ReplayerError> {
        let fields: Fields = serde_json::from_str(event.get()).map_err(ReplayerError::Request)?;
        fields.check()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ActionName {
    Restore,
    Reprocess,
}

/// One flat object for both actions, so that serde can name every unknown field.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    action: ActionName,
    run: Option<String>,
    version: Option<String>,
    scorer: Option<String>,
    // As text, so that what is wrong can be told with the field's name.
    from: Option<String>,
    until: Option<String>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    tenant: Option<String>,
    partitions: Option<Vec<i32>>,
    start: Option<Offsets>,
    rate: Option<u32>,
    #[serde(default)]
    dry_run: bool,
}

impl Fields {
    fn check(self) -> Result<Request, ReplayerError> {
        let action = match (self.action, self.version, self.scorer) {
            (ActionName::Restore, None, None) => Action::Restore,
            (ActionName::Restore, Some(_), _) => return Err(bad("version", "only for \"reprocess\"")),
            (ActionName::Restore, None, Some(_)) => return Err(bad("scorer", "only for \"reprocess\"")),
            (ActionName::Reprocess, None, _) => {
                return Err(bad("version", "missing: name the version under which the new outcomes are to be kept"));
            }
            (ActionName::Reprocess, Some(version), scorer) => {
                check_text("scorer", scorer.as_deref())?;
                Action::Reprocess { version: label("version", version)?, scorer }
            }
        };
        check_text("type", self.event_type.as_deref())?;
        check_text("tenant", self.tenant.as_deref())?;
        let order = Order {
            action,
            from: instant("from", self.from)?,
            until: instant("until", self.until)?,
            event_type: self.event_type,
            tenant: self.tenant,
            partitions: partitions(self.partitions)?,
        };
        if order.from.zip(order.until).is_some_and(|(from, until)| from >= until) {
            return Err(bad("until", "not after \"from\""));
        }
        let rate = self.rate.unwrap_or(DEFAULT_RATE);
        if !(1..=MAX_RATE).contains(&rate) {
            return Err(bad("rate", format!("not 1 to {MAX_RATE} records a second")));
        }
        let run = self.run.map(|run| label("run", run)).transpose()?;
        let mode = match (self.dry_run, run, self.start) {
            (true, _, start) => Mode::DryRun { start: offsets(start.unwrap_or_default())? },
            (false, _, Some(_)) => return Err(bad("start", "only for a dry run: a run knows where it was")),
            (false, Some(name), None) => Mode::Run { name },
            (false, None, None) => {
                return Err(bad(
                    "run",
                    "missing: name the run, so that it can go on if it is stopped, or set \"dry_run\"",
                ));
            }
        };
        Ok(Request { order, mode, rate })
    }
}

fn bad(field: &'static str, problem: impl Into<String>) -> ReplayerError {
    ReplayerError::Field { field, problem: problem.into() }
}

fn label(field: &'static str, text: String) -> Result<String, ReplayerError> {
    let allowed = |char: char| char.is_ascii_alphanumeric() || matches!(char, '.' | '_' | '-');
    if text.is_empty() || text.len() > MAX_LABEL_CHARS || !text.chars().all(allowed) {
        return Err(bad(field, format!("not 1 to {MAX_LABEL_CHARS} letters, digits, dots, dashes and underscores")));
    }
    Ok(text)
}

fn check_text(field: &'static str, text: Option<&str>) -> Result<(), ReplayerError> {
    let Some(text) = text else { return Ok(()) };
    if text.is_empty() || text.chars().count() > MAX_TEXT_CHARS || text.chars().any(char::is_control) {
        return Err(bad(field, format!("not 1 to {MAX_TEXT_CHARS} characters without control characters")));
    }
    Ok(())
}

fn instant(field: &'static str, text: Option<String>) -> Result<Option<Timestamp>, ReplayerError> {
    let parse = |text: String| {
        Timestamp::parse(&text)
            .map_err(|_| bad(field, format!("{text:?} and no RFC 3339 date-time, such as 2026-11-20T18:00:00Z")))
    };
    text.map(parse).transpose()
}

fn partitions(list: Option<Vec<i32>>) -> Result<BTreeSet<i32>, ReplayerError> {
    let Some(list) = list else { return Ok(BTreeSet::new()) };
    if list.is_empty() || list.iter().any(|partition| *partition < 0) {
        return Err(bad("partitions", "not a list of partitions, such as [0, 1]; leave it out for all"));
    }
    Ok(list.into_iter().collect())
}

fn offsets(start: Offsets) -> Result<Offsets, ReplayerError> {
    if start.iter().any(|(partition, offset)| *partition < 0 || *offset < 0) {
        return Err(bad("start", "not a map from partition to offset, such as {\"0\": 120}"));
    }
    Ok(start)
}

#[cfg(test)]
mod tests {
    use pipeline::chain;
    use testkit::samples::sample;

    use super::*;

    fn parse(text: &str) -> Result<Request, String> {
        Request::parse(&RawValue::from_string(text.to_owned()).unwrap()).map_err(|error| chain(&error))
    }

    fn everything(action: Action) -> Order {
        Order { action, from: None, until: None, event_type: None, tenant: None, partitions: BTreeSet::new() }
    }

    #[test]
    fn samples_are_read() {
        let restore =
            Request { order: everything(Action::Restore), mode: Mode::Run { name: "rebuild-1".into() }, rate: 5_000 };
        assert_eq!(parse(&sample("replayer", "restore")), Ok(restore));
        let order = Order {
            from: Some(Timestamp::parse("2026-11-20T18:00:00Z").unwrap()),
            until: Some(Timestamp::parse("2026-11-20T19:00:00Z").unwrap()),
            event_type: Some("transaction".into()),
            tenant: Some("acme".into()),
            partitions: BTreeSet::from([0, 1]),
            ..everything(Action::Restore)
        };
        let dry_run = Request { order, mode: Mode::DryRun { start: Offsets::from([(0, 120)]) }, rate: 1_000 };
        assert_eq!(parse(&sample("replayer", "dry-run")), Ok(dry_run));
        let action = Action::Reprocess { version: "rules-2".into(), scorer: Some("scorer".into()) };
        let reprocess =
            Request { order: everything(action), mode: Mode::Run { name: "rules-2-all".into() }, rate: 1_000 };
        assert_eq!(parse(&sample("replayer", "reprocess")), Ok(reprocess));
    }

    #[test]
    fn bad_requests_are_told_field_and_choices() {
        let restore = |fields: &str| format!(r#"{{"action":"restore","run":"a",{fields}}}"#);
        let cases = [
            (sample("replayer", "bad"), "field \"version\" is missing: name the version"),
            ("{}".into(), "missing field `action`"),
            ("7".into(), "the request cannot be read"),
            (r#"{"action":"purge"}"#.into(), "unknown variant `purge`, expected `restore` or `reprocess`"),
            (r#"{"action":"restore"}"#.into(), "field \"run\" is missing: name the run"),
            (restore(r#""ip":"::1""#), "unknown field `ip`"),
            (restore(r#""from":"today""#), "field \"from\" is \"today\" and no RFC 3339 date-time, such as"),
            (
                restore(r#""from":"2026-11-20T18:00:00Z","until":"2026-11-20T18:00:00Z""#),
                "field \"until\" is not after \"from\"",
            ),
            (restore(r#""version":"2""#), "field \"version\" is only for \"reprocess\""),
            (restore(r#""scorer":"s""#), "field \"scorer\" is only for \"reprocess\""),
            (restore(r#""rate":0"#), "field \"rate\" is not 1 to 50000"),
            (restore(r#""partitions":[]"#), "field \"partitions\" is not a list of partitions"),
            (restore(r#""partitions":[-1]"#), "field \"partitions\" is not a list of partitions"),
            (restore(r#""start":{"0":1}"#), "field \"start\" is only for a dry run"),
            (restore(r#""dry_run":true,"start":{"0":-1}"#), "field \"start\" is not a map"),
            (restore(r#""tenant":"""#), "field \"tenant\" is not 1 to 256"),
            (r#"{"action":"restore","run":"a b"}"#.into(), "field \"run\" is not 1 to 64 letters"),
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
        let again = r#"{"action":"restore","run":"b","partitions":[1,2],"from":"2026-11-20T18:00:00Z","rate":5}"#;
        assert_eq!(order(again), first);
    }

    #[test]
    fn what_is_not_told_is_not_meant() {
        let order = Order { tenant: Some("acme".into()), ..everything(Action::Restore) };
        assert!(order.means(None, Some("acme")));
        assert!(!order.means(Some("click"), Some("other")) && !order.means(None, None));
    }
}
