//! What statistics keep of an event: the members that its type declares as dimensions, measures and distinct.

use std::borrow::Cow;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use crate::Form;
use crate::json::Value;

/// What statistics count the events of a type by: `types/<type>/type.yaml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeDefinition {
    /// Members by whose values events are counted.
    pub dimensions: &'static [&'static str],
    /// Two dimensions whose values are counted together.
    pub pairs: &'static [[&'static str; 2]],
    /// Members whose numbers are summed.
    pub measures: &'static [&'static str],
    /// The member whose different values are estimated.
    pub distinct: Option<&'static str>,
}

/// For each folder under `types/`, in the order of their names.
const DEFINITIONS: &[(&str, TypeDefinition)] = include!(concat!(env!("OUT_DIR"), "/definitions.rs"));

impl TypeDefinition {
    /// That of an event type; `None` if this build does not have it.
    pub fn of(event_type: &str) -> Option<&'static Self> {
        DEFINITIONS.iter().find(|(name, _)| *name == event_type).map(|(_, definition)| definition)
    }

    /// Every dimension of any type, each once.
    pub fn all_dimensions() -> impl Iterator<Item = &'static str> {
        let all: std::collections::BTreeSet<_> =
            DEFINITIONS.iter().flat_map(|(_, definition)| definition.dimensions).copied().collect();
        all.into_iter()
    }
}

/// Longest text that counts as the value of a dimension, in bytes.
const MAX_VALUE_BYTES: usize = 256;

/// What is kept of one event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The dimensions and measures that the event has, as a JSON object whose values are texts, numbers and booleans.
    /// `None` if it has none.
    pub fields: Option<String>,
    /// A hash of the distinct member: enough to estimate how many there are, and not the user's name.
    pub subject: Option<i64>,
    /// A [`term`] for each of the event's dimensions.
    pub terms: SmallVec<[i64; 4]>,
}

impl Facts {
    pub const NONE: Facts = Facts { fields: None, subject: None, terms: SmallVec::new_const() };

    /// Those of an event of this type whose data is stored: its bytes as the client sent them, or the data of a CloudEvent in
    /// binary mode. None if this build does not have the type, or the data is no JSON.
    pub fn of_data(event_type: &str, data: &str) -> Self {
        let Ok(json) = Value::parse(data.as_bytes()) else { return Facts::default() };
        facts(event_type, Form::of(&json).payload(&json))
    }

    /// Reads them from an event's payload.
    pub fn of(definition: &TypeDefinition, payload: &Value<'_>) -> Self {
        let kept = Fields { definition, payload };
        let terms = kept.dimensions().filter_map(|(name, value)| Some(term(name, &text(value)?))).collect();
        // A map of texts, numbers and booleans can always be written.
        let fields = kept.members().next().and_then(|_| serde_json::to_string(&kept).ok());
        let subject = definition.distinct.and_then(|name| payload.get(name)).and_then(subject);
        Facts { fields, subject, terms }
    }
}

/// What stands for a member and its value in an index: the first 8 bytes of the SHA-256 of `<name>=<value>`, so that one index
/// serves every member that any type declares. A number or a truth value has the text that JSON has for it.
pub fn term(name: &str, value: &str) -> i64 {
    first_bytes(Sha256::new().chain_update(name).chain_update("=").chain_update(value))
}

/// Those of an event of this type with this payload; none if this build does not have the type.
pub(crate) fn facts(event_type: &str, payload: &Value<'_>) -> Facts {
    TypeDefinition::of(event_type).map_or_else(Facts::default, |definition| Facts::of(definition, payload))
}

/// The first 8 bytes of the SHA-256 of the value's text.
fn subject(value: &Value<'_>) -> Option<i64> {
    match value {
        Value::String(_) | Value::Number(_) => Some(first_bytes(Sha256::new().chain_update(&*text(value)?))),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn first_bytes(hash: Sha256) -> i64 {
    let digest: [u8; 32] = hash.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    i64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// That of a value which has one: a text, a number or a truth value.
fn text<'a>(value: &'a Value<'_>) -> Option<Cow<'a, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(value) => Some(Cow::Borrowed(if *value { "true" } else { "false" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

struct Fields<'a> {
    definition: &'a TypeDefinition,
    payload: &'a Value<'a>,
}

impl<'a> Fields<'a> {
    fn members(&self) -> impl Iterator<Item = (&'static str, &'a Value<'a>)> {
        self.dimensions().chain(self.present(self.definition.measures, is_measure))
    }

    fn dimensions(&self) -> impl Iterator<Item = (&'static str, &'a Value<'a>)> {
        self.present(self.definition.dimensions, is_dimension)
    }

    /// Those of the members that the event has with a value that counts.
    fn present(
        &self,
        names: &'static [&'static str],
        counts: fn(&Value<'_>) -> bool,
    ) -> impl Iterator<Item = (&'static str, &'a Value<'a>)> {
        let payload = self.payload;
        names.iter().filter_map(move |name| Some((*name, payload.get(name).filter(|value| counts(value))?)))
    }
}

fn is_dimension(value: &Value<'_>) -> bool {
    match value {
        Value::String(text) => text.len() <= MAX_VALUE_BYTES,
        Value::Number(_) | Value::Bool(_) => true,
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

fn is_measure(value: &Value<'_>) -> bool {
    matches!(value, Value::Number(_))
}

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.members() {
            match value {
                Value::String(text) => map.serialize_entry(name, text)?,
                Value::Number(number) => map.serialize_entry(name, number)?,
                Value::Bool(value) => map.serialize_entry(name, value)?,
                Value::Null | Value::Array(_) | Value::Object(_) => {}
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(event_type: &str, payload: &str) -> Facts {
        Facts::of(TypeDefinition::of(event_type).unwrap(), &Value::parse(payload.as_bytes()).unwrap())
    }

    #[test]
    fn declared_members_are_kept_and_no_others() {
        let click = facts(
            "click",
            r#"{"user_id":"u1","campaign_id":"c\u00001","geo_country":null,"device_type":["x"],"note":"n"}"#,
        );
        assert_eq!(click.fields.as_deref(), Some(r#"{"campaign_id":"c\u00001"}"#));
        assert_eq!(click.subject, facts("click", r#"{"user_id":"u1"}"#).subject);
        assert_ne!(click.subject, facts("click", r#"{"user_id":"u2"}"#).subject);
        let transaction = facts("transaction", r#"{"user_id":"u1","amount":12.50,"currency":"EUR","metadata":{}}"#);
        assert_eq!(transaction.fields.as_deref(), Some(r#"{"currency":"EUR","amount":12.5}"#));
        let long = "x".repeat(257);
        assert_eq!(facts("click", &format!(r#"{{"campaign_id":"{long}"}}"#)), Facts::default());
        assert_eq!(facts("page_view", r#"{"bytes":"-","status":"-"}"#).fields.as_deref(), Some(r#"{"status":"-"}"#));
    }

    #[test]
    fn each_dimension_has_a_term_and_no_other_member() {
        let terms = |event_type, payload| facts(event_type, payload).terms.into_vec();
        assert_eq!(terms("click", r#"{"campaign_id":"c1","user_id":"u1"}"#), [term("campaign_id", "c1")]);
        let page_view = r#"{"method":true,"status":404,"bytes":12}"#;
        assert_eq!(terms("page_view", page_view), [term("method", "true"), term("status", "404")]);
        assert_eq!(terms("page_view", r#"{"method":null,"status":["404"]}"#), [0_i64; 0]);
        // Stored rows have it.
        assert_eq!(term("campaign_id", "c1"), i64::from_be_bytes([0x5f, 0x64, 0xba, 0x8b, 0x3a, 0x21, 0xee, 0xeb]));
    }
}
