//! What statistics keep of an event: the members that its type declares as dimensions, measures and distinct.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use sha2::{Digest, Sha256};

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
}

impl Facts {
    pub const NONE: Facts = Facts { fields: None, subject: None };

    /// Those of an event of this type whose data is stored: its bytes as the client sent them, or the data of a CloudEvent in
    /// binary mode. None if this build does not have the type, or the data is no JSON.
    pub fn of_data(event_type: &str, data: &str) -> Self {
        let Ok(json) = Value::parse(data.as_bytes()) else { return Facts::default() };
        facts(event_type, Form::of(&json).payload(&json))
    }

    /// Reads them from an event's payload.
    pub fn of(definition: &TypeDefinition, payload: &Value<'_>) -> Self {
        let fields = Fields { definition, payload };
        // A map of texts, numbers and booleans can always be written.
        let fields = fields.members().next().and_then(|_| serde_json::to_string(&fields).ok());
        let subject = definition.distinct.and_then(|name| payload.get(name)).and_then(subject);
        Facts { fields, subject }
    }
}

/// Those of an event of this type with this payload; none if this build does not have the type.
pub(crate) fn facts(event_type: &str, payload: &Value<'_>) -> Facts {
    TypeDefinition::of(event_type).map_or_else(Facts::default, |definition| Facts::of(definition, payload))
}

/// The first 8 bytes of the SHA-256 of the value's text.
fn subject(value: &Value<'_>) -> Option<i64> {
    let digest = match value {
        Value::String(text) => Sha256::digest(text.as_bytes()),
        Value::Number(number) => Sha256::digest(number.to_string().as_bytes()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    digest.first_chunk().map(|first| i64::from_be_bytes(*first))
}

struct Fields<'a> {
    definition: &'a TypeDefinition,
    payload: &'a Value<'a>,
}

impl<'a> Fields<'a> {
    fn members(&self) -> impl Iterator<Item = (&'static str, &'a Value<'a>)> {
        let TypeDefinition { dimensions, measures, .. } = *self.definition;
        let payload = self.payload;
        let dimensions = dimensions.iter().map(|name| (*name, payload.get(name).filter(|value| is_dimension(value))));
        let measures = measures.iter().map(|name| (*name, payload.get(name).filter(|value| is_measure(value))));
        dimensions.chain(measures).filter_map(|(name, value)| Some((name, value?)))
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
}
