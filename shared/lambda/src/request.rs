//! The requests of operators: a JSON object with an `action` and its fields.
//!
//! Every function reads its requests with this module, so that names and limits are the same everywhere, and every
//! error names the field and what it may contain.

use std::collections::BTreeMap;
use std::ops::Deref;

use event::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use serde_path_to_error::Segment;
use strum::VariantNames;

use crate::schedule::is_scheduled;

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("the request is not a JSON object")]
    NotAnObject(#[source] serde_json::Error),
    /// A field is missing, or two fields contradict each other.
    #[error("the fields of the request do not fit its action: {problem}")]
    Fields { problem: String },
    /// The field's path, such as `filters.reason`.
    #[error("field \"{field}\": {problem}")]
    Field { field: String, problem: String },
}

impl RequestError {
    /// Short name of the cause, for Lambda's `errorType`.
    pub const TAG: &str = "bad-request";

    pub fn field(field: &str, problem: impl Into<String>) -> Self {
        RequestError::Field { field: field.to_owned(), problem: problem.into() }
    }
}

/// Reads a request into an enum with a variant for each action, and the name that the caller gives in `by`.
///
/// `R` derives serde's `Deserialize` and strum's `VariantNames` with the same spelling. A field that is `null` counts
/// as absent.
///
/// # Errors
/// If a field is missing, unknown, malformed or out of its range.
pub fn parse<R: DeserializeOwned + VariantNames>(event: &RawValue) -> Result<(R, Option<Text>), RequestError> {
    let mut fields: Map<String, Value> = serde_json::from_str(event.get()).map_err(RequestError::NotAnObject)?;
    fields.retain(|_, value| !value.is_null());
    let by = fields.remove("by").map(|by| read("by", by)).transpose()?;
    let choices = || R::VARIANTS.join(", ");
    let action: String = match fields.remove("action") {
        Some(action) => read("action", action)?,
        None => return Err(RequestError::field("action", format!("missing, expected one of {}", choices()))),
    };
    if !R::VARIANTS.contains(&action.as_str()) {
        let problem = format!("{action:?} is unknown, expected one of {}", choices());
        return Err(RequestError::Field { field: "action".to_owned(), problem });
    }
    // As an externally tagged enum. For an internally tagged one, serde buffers the fields and loses their paths.
    let tagged = Value::Object(Map::from_iter([(action, Value::Object(fields))]));
    Ok((read("", tagged)?, by))
}

/// Like [`parse`]; an event of a schedule becomes `scheduled`.
///
/// # Errors
/// Like [`parse`].
pub fn parse_or_scheduled<R>(event: &RawValue, scheduled: R) -> Result<(R, Option<Text>), RequestError>
where
    R: DeserializeOwned + VariantNames,
{
    if is_scheduled(event).map_err(RequestError::NotAnObject)? { Ok((scheduled, None)) } else { parse(event) }
}

fn read<T: DeserializeOwned>(field: &str, value: Value) -> Result<T, RequestError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let names = error.path().iter().filter_map(|segment| match segment {
            Segment::Map { key } => Some(key.clone()),
            Segment::Seq { index } => Some(index.to_string()),
            // The action.
            Segment::Enum { .. } | Segment::Unknown => None,
        });
        let path: Vec<String> =
            std::iter::once(field.to_owned()).filter(|field| !field.is_empty()).chain(names).collect();
        let problem = in_plain_words(error.inner().to_string());
        if path.is_empty() {
            RequestError::Fields { problem }
        } else {
            RequestError::Field { field: path.join("."), problem }
        }
    })
}

/// serde says which Rust type it expected; an operator is told what the field may contain.
fn in_plain_words(problem: String) -> String {
    let Some((what, expected)) = problem.rsplit_once(", expected ") else { return problem };
    let words = match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number that is not negative",
        "i32" | "i64" | "isize" => "a whole number",
        "a nonzero u16" => "a whole number from 1 to 65535",
        "a nonzero u32" => "a whole number from 1 to 4294967295",
        "a nonzero u64" | "a nonzero usize" => "a whole number of at least 1",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        type_name if type_name.starts_with("struct ") => "an object",
        other => other,
    };
    format!("{what}, expected {words}")
}

/// Reads a UTC day, such as `2026-11-20`, as its first instant: for a field with `deserialize_with`.
///
/// # Errors
/// If it is not a day.
pub fn day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let day = String::deserialize(deserializer)?;
    let start = Timestamp::parse(&format!("{day}T00:00:00Z"));
    start.map(Some).map_err(|_| serde::de::Error::custom("not a day, such as 2026-11-20"))
}

/// Refuses an empty range of time.
///
/// # Errors
/// If `until` is not after `from`. `field` is the name of the field `until`.
pub fn check_range(field: &str, from: Option<Timestamp>, until: Option<Timestamp>) -> Result<(), RequestError> {
    match (from, until) {
        (Some(from), Some(until)) if from >= until => Err(RequestError::field(field, "not after \"from\"")),
        _ => Ok(()),
    }
}

/// Why a value does not fit its field.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(String);

/// A text for lists and logs: 1 to `MAX` characters without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Text<const MAX: usize = 256>(String);

impl<const MAX: usize> TryFrom<String> for Text<MAX> {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        if text.is_empty() || text.chars().count() > MAX || text.chars().any(char::is_control) {
            return Err(ValueError(format!("not 1 to {MAX} characters without control characters")));
        }
        Ok(Text(text))
    }
}

impl<const MAX: usize> Deref for Text<MAX> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> From<Text<MAX>> for String {
    fn from(text: Text<MAX>) -> String {
        text.0
    }
}

/// A name that an operator chooses: 1 to 64 ASCII letters, digits, dots, dashes and underscores.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Label(String);

impl Label {
    const MAX_CHARS: usize = 64;
}

impl TryFrom<String> for Label {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        let allowed = |char: char| char.is_ascii_alphanumeric() || matches!(char, '.' | '_' | '-');
        if text.is_empty() || text.len() > Label::MAX_CHARS || !text.chars().all(allowed) {
            let max = Label::MAX_CHARS;
            return Err(ValueError(format!("not 1 to {max} letters, digits, dots, dashes and underscores")));
        }
        Ok(Label(text))
    }
}

impl From<Label> for String {
    fn from(label: Label) -> String {
        label.0
    }
}

/// A whole number from 1 to `MAX`; `DEFAULT` if the request does not set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct Limit<const MAX: u32, const DEFAULT: u32 = 1>(u32);

impl<const MAX: u32, const DEFAULT: u32> Limit<MAX, DEFAULT> {
    pub const LARGEST: Self = Limit(MAX);

    pub const fn get(self) -> u32 {
        self.0
    }
}

impl<const MAX: u32, const DEFAULT: u32> Default for Limit<MAX, DEFAULT> {
    fn default() -> Self {
        Limit(DEFAULT)
    }
}

impl<const MAX: u32, const DEFAULT: u32> TryFrom<i64> for Limit<MAX, DEFAULT> {
    type Error = ValueError;

    fn try_from(number: i64) -> Result<Self, ValueError> {
        match u32::try_from(number) {
            Ok(number) if (1..=MAX).contains(&number) => Ok(Limit(number)),
            Ok(_) | Err(_) => Err(ValueError(format!("not 1 to {MAX}"))),
        }
    }
}

/// An offset for each partition that is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "BTreeMap<String, i64>")]
pub struct PartitionOffsets(BTreeMap<i32, i64>);

impl TryFrom<BTreeMap<String, i64>> for PartitionOffsets {
    type Error = ValueError;

    fn try_from(offsets: BTreeMap<String, i64>) -> Result<Self, ValueError> {
        let offset = |(partition, offset): (String, i64)| match partition.parse::<i32>() {
            Ok(partition) if partition >= 0 && offset >= 0 => Ok((partition, offset)),
            Ok(_) | Err(_) => Err(ValueError("not a map from partition to offset, such as {\"0\": 120}".to_owned())),
        };
        offsets.into_iter().map(offset).collect::<Result<_, _>>().map(PartitionOffsets)
    }
}

impl<const N: usize> From<[(i32, i64); N]> for PartitionOffsets {
    fn from(offsets: [(i32, i64); N]) -> Self {
        PartitionOffsets(BTreeMap::from(offsets))
    }
}

impl Deref for PartitionOffsets {
    type Target = BTreeMap<i32, i64>;

    fn deref(&self) -> &BTreeMap<i32, i64> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Filters {
        reason: Option<Text>,
    }

    #[derive(Debug, PartialEq, Deserialize, VariantNames)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    #[strum(serialize_all = "kebab-case")]
    enum Request {
        ListAll {},
        Send {
            #[serde(default)]
            filters: Filters,
            #[serde(default)]
            max_per_sec: Limit<10, 5>,
            #[serde(default, alias = "from")]
            from_offsets: PartitionOffsets,
            run: Option<Label>,
        },
        Stop {
            run: Label,
        },
    }

    fn read(text: &str) -> Result<(Request, Option<Text>), String> {
        let event = RawValue::from_string(text.to_owned()).unwrap();
        parse_or_scheduled(&event, Request::ListAll {}).map_err(|error| pipeline::chain(&error))
    }

    #[test]
    fn a_request_is_its_action_and_its_fields() {
        assert_eq!(read(r#"{"action":"list-all"}"#), Ok((Request::ListAll {}, None)));
        assert_eq!(read(r#"{"source":"aws.scheduler"}"#), Ok((Request::ListAll {}, None)));
        let by = Text::try_from("ada".to_owned()).ok();
        let send = Request::Send {
            filters: Filters { reason: Text::try_from("schema".to_owned()).ok() },
            max_per_sec: Limit(5),
            from_offsets: PartitionOffsets::from([(0, 7)]),
            run: None,
        };
        let text = r#"{"by":"ada","action":"send","filters":{"reason":"schema"},"from":{"0":7},"run":null}"#;
        assert_eq!(read(text), Ok((send, by)));
    }

    #[test]
    fn every_refusal_names_the_field_and_what_it_may_hold() {
        let long = format!(r#"{{"action":"send","run":"{}"}}"#, "a".repeat(65));
        let cases = [
            ("7", "the request is not a JSON object: "),
            ("{}", r#"field "action": missing, expected one of list-all, send, stop"#),
            (r#"{"source":"aws.s3"}"#, r#"field "action": missing"#),
            (r#"{"action":7}"#, r#"field "action": invalid type"#),
            (r#"{"action":"purge"}"#, r#"field "action": "purge" is unknown, expected one of list-all, send, stop"#),
            (r#"{"action":"list-all","by":""}"#, r#"field "by": not 1 to 256 characters"#),
            (r#"{"action":"list-all","by":"a\nb"}"#, r#"field "by": not 1 to 256 characters"#),
            (r#"{"action":"list-all","dry":1}"#, r#"field "dry": unknown field `dry`"#),
            (r#"{"action":"send","filters":{"ip":1}}"#, r#"field "filters.ip": unknown field `ip`, expected `reason`"#),
            (r#"{"action":"send","filters":{"reason":""}}"#, r#"field "filters.reason": not 1 to 256"#),
            (r#"{"action":"send","max_per_sec":0}"#, r#"field "max_per_sec": not 1 to 10"#),
            (r#"{"action":"send","max_per_sec":-1}"#, r#"field "max_per_sec": not 1 to 10"#),
            (r#"{"action":"send","max_per_sec":11}"#, r#"field "max_per_sec": not 1 to 10"#),
            (r#"{"action":"send","from":{"a":1}}"#, r#"field "from": not a map from partition to offset, such as"#),
            (r#"{"action":"send","from_offsets":{"0":-1}}"#, r#"field "from_offsets": not a map"#),
            (r#"{"action":"send","from":{},"from_offsets":{}}"#, "duplicate field `from_offsets`"),
            (r#"{"action":"send","run":"a b"}"#, r#"field "run": not 1 to 64 letters"#),
            (r#"{"action":"stop"}"#, "the fields of the request do not fit its action: missing field `run`"),
            (&long, r#"field "run": not 1 to 64 letters"#),
        ];
        for (request, expected) in cases {
            let error = read(request).unwrap_err();
            assert!(error.contains(expected), "{request}: {error}");
        }
    }

    #[test]
    fn a_range_of_time_is_not_empty() {
        let [early, late] = [5, 6].map(|millis| Some(Timestamp::from_millis(millis)));
        assert!(check_range("until", early, late).is_ok() && check_range("until", late, None).is_ok());
        let error = check_range("filters.until", late, late).unwrap_err();
        assert_eq!(error.to_string(), r#"field "filters.until": not after "from""#);
    }
}
