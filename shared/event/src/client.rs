//! One event as a client sends it: a plain JSON object, or a CloudEvent 1.0.
//!
//! | form | event members | payload (what the schema applies to) |
//! |---|---|---|
//! | plain | `type`/`event_type`, `id`/`event_id`, `timestamp`/`time`, `schema_version`, `client_ip` | the whole object |
//! | CloudEvent, structured | `type`, `id`, `source`, `specversion`, `time`, `schemaversion`, `clientip` | the member `data` |
//! | CloudEvent, binary | the same as attributes beside the body | the body |
//!
//! Who receives the event says which form it has ([`Form`]). Later, and in a record of another producer, a member
//! `specversion` tells a structured CloudEvent from a plain event; so a plain event must not have one.
//!
//! A member of a plain event may be there in both spellings if the values are equal. `null` counts as absent.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::de::Error as _;
use serde_json::value::RawValue;
use strum::EnumCount;

use crate::canonical::{self, CanonicalError};
use crate::facts::{Facts, facts};
use crate::json::Value;
use crate::violation::Violation;
use crate::{EventId, IdError, IdSource, Timestamp};

/// Why bytes are not an event. Each of these is the sender's error: the same bytes fail again.
#[derive(Debug, thiserror::Error, EnumCount)]
pub enum EventError {
    #[error("the event is not valid JSON")]
    Malformed(#[source] serde_json::Error),
    #[error("the event is not a JSON object")]
    NotAnObject,
    #[error("unknown event type {0:?}")]
    UnknownType(String),
    #[error("event type {event_type} has no schema version {version}")]
    UnknownVersion { event_type: String, version: u32 },
    #[error("{}", joined(.0))]
    Invalid(Vec<Violation>),
    /// Our own failure, not the sender's. It cannot be caused by writing, because the target is memory.
    #[error("cannot compute the fingerprint of the event")]
    Fingerprint(#[source] CanonicalError),
}

fn joined(violations: &[Violation]) -> String {
    violations.iter().map(Violation::to_string).collect::<Vec<_>>().join("; ")
}

impl EventError {
    /// One of each kind, for what documents an interface. The length of the array is checked by the compiler.
    pub fn of_each_kind() -> [Self; Self::COUNT] {
        [
            EventError::Malformed(serde_json::Error::custom("expected value at line 1 column 1")),
            EventError::NotAnObject,
            EventError::UnknownType("clik".to_owned()),
            EventError::UnknownVersion { event_type: "click".to_owned(), version: 9 },
            EventError::Invalid(vec![Violation::new("/amount", "type", "value is not of type \"number\"")]),
            EventError::Fingerprint(CanonicalError::Id(IdError::Event)),
        ]
    }

    /// Short name of the cause, from a fixed list, for metrics and for grouping dead letters.
    pub const fn tag(&self) -> &'static str {
        match self {
            EventError::Malformed(_) => "malformed_json",
            EventError::NotAnObject => "not_an_object",
            EventError::UnknownType(_) => "unknown_type",
            EventError::UnknownVersion { .. } => "unknown_schema_version",
            EventError::Invalid(_) => "schema_violation",
            EventError::Fingerprint(_) => "fingerprint",
        }
    }

    /// The violations by field, if the error is about fields.
    pub fn violations(&self) -> &[Violation] {
        match self {
            EventError::Invalid(violations) => violations,
            EventError::Malformed(_)
            | EventError::NotAnObject
            | EventError::UnknownType(_)
            | EventError::UnknownVersion { .. }
            | EventError::Fingerprint(_) => &[],
        }
    }

    /// Limits the length of a name that the sender chose, so that it cannot fill logs and answers.
    pub(crate) fn unknown_type(name: &str) -> Self {
        EventError::UnknownType(name.chars().take(64).collect())
    }
}

/// The form of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Plain,
    Structured,
    Binary,
}

impl Form {
    /// The form of a JSON text that is not the body of a binary CloudEvent, if nothing else says it.
    pub(crate) fn of(json: &Value<'_>) -> Self {
        if json.get("specversion").is_some() { Form::Structured } else { Form::Plain }
    }

    /// What the schema applies to.
    pub(crate) fn payload<'v, 'a>(self, json: &'v Value<'a>) -> &'v Value<'a> {
        match self {
            Form::Plain | Form::Binary => json,
            Form::Structured => json.get("data").unwrap_or(&Value::Null),
        }
    }

    /// Where the payload is, as a JSON pointer.
    pub(crate) const fn payload_pointer(self) -> &'static str {
        match self {
            Form::Plain | Form::Binary => "",
            Form::Structured => "/data",
        }
    }
}

/// The protocol whose headers hold the attributes of a CloudEvent in binary mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    Http,
    Kafka,
}

impl Binding {
    /// What the name of such a header begins with (HTTP binding 1.0.2, section 3.1.3.1; Kafka binding 1.0.2, section
    /// 3.2.4.1).
    pub const fn prefix(self) -> &'static str {
        match self {
            Binding::Http => "ce-",
            Binding::Kafka => "ce_",
        }
    }
}

/// An event that conforms to its schema.
#[derive(Debug)]
pub struct ClientEvent<'a> {
    pub event_type: Cow<'a, str>,
    /// The schema version it was checked against.
    pub schema: u32,
    /// When it happened by the client's clock, if the client sent it.
    pub occurred_at: Option<Timestamp>,
    /// The address the event says it came from. Only a trusted collector may send it; the caller must check that.
    pub client_ip: Option<IpAddr>,
    /// The client's bytes, without white space around them.
    pub data: &'a RawValue,
    pub(crate) requested_version: Option<u32>,
    client_id: Option<EventId>,
    json: Value<'a>,
    form: Form,
}

impl<'a> ClientEvent<'a> {
    /// Reads the members that every event has, and collects their violations. Without a form, the event itself says
    /// which it has.
    pub(crate) fn parse(bytes: &'a [u8], form: Option<Form>) -> Result<(Self, Vec<Violation>), EventError> {
        let json = Value::parse(bytes).map_err(EventError::Malformed)?;
        let data = serde_json::from_slice(bytes).map_err(EventError::Malformed)?;
        if !json.is_object() {
            return Err(EventError::NotAnObject);
        }
        let form = form.unwrap_or_else(|| Form::of(&json));
        let mut violations = Vec::new();
        let fields = match form {
            Form::Plain | Form::Binary => {
                if Form::of(&json) == Form::Structured {
                    let message = "a CloudEvent needs the media type application/cloudevents+json";
                    violations.push(Violation::new("/specversion", "mediaType", message));
                }
                plain_fields(&json, &mut violations)
            }
            Form::Structured => {
                attribute_types(&json, &mut violations);
                if json.get("data_base64").is_some() {
                    violations.push(Violation::new("/data_base64", "type", "data must be JSON, in the member data"));
                }
                cloud_event_fields(&MemberAttributes(&json), &mut violations)
            }
        };
        Ok((Self::new(fields, data, json, form), violations))
    }

    /// Like [`ClientEvent::parse`], for a CloudEvent in binary mode.
    pub(crate) fn parse_binary(
        binding: Binding,
        attributes: &BTreeMap<String, String>,
        body: &'a [u8],
    ) -> Result<(Self, Vec<Violation>), EventError> {
        let json = Value::parse(body).map_err(EventError::Malformed)?;
        let data = serde_json::from_slice(body).map_err(EventError::Malformed)?;
        let mut violations = Vec::new();
        let fields = cloud_event_fields(&HeaderAttributes { binding, values: attributes }, &mut violations);
        Ok((Self::new(fields, data, json, Form::Binary), violations))
    }

    fn new(fields: Fields<'a>, data: &'a RawValue, json: Value<'a>, form: Form) -> Self {
        ClientEvent {
            event_type: fields.event_type,
            schema: 0,
            occurred_at: fields.occurred_at,
            client_ip: fields.client_ip,
            data,
            requested_version: fields.schema_version,
            client_id: fields.id,
            json,
            form,
        }
    }

    pub(crate) const fn form(&self) -> Form {
        self.form
    }

    pub(crate) fn payload(&self) -> &Value<'a> {
        self.form.payload(&self.json)
    }

    /// The user the event is about, if it names one.
    pub fn user_id(&self) -> Option<Cow<'a, str>> {
        user_id(self.payload())
    }

    /// What statistics keep of the event.
    pub fn facts(&self) -> Facts {
        facts(&self.event_type, self.payload())
    }

    /// The name of the member with [`ClientEvent::client_ip`] in a violation.
    pub const fn client_ip_field(&self) -> &'static str {
        match self.form {
            Form::Plain => "/client_ip",
            Form::Structured => "/clientip",
            Form::Binary => "ce-clientip",
        }
    }

    /// Whether the event itself has an id.
    pub const fn has_id(&self) -> bool {
        self.client_id.is_some()
    }

    /// The event's id: the client's own id in the event, else `idempotency_key`, else the fingerprint of everything the
    /// client sent.
    ///
    /// # Errors
    /// [`EventError::Invalid`] if the id is the fingerprint and the event has a number too large for it.
    pub fn identify(&self, idempotency_key: Option<&EventId>) -> Result<(EventId, IdSource), EventError> {
        if let Some(id) = self.client_id.as_ref().or(idempotency_key) {
            return Ok((id.clone(), IdSource::Client));
        }
        match canonical::fingerprint(&self.json) {
            Ok(id) => Ok((id, IdSource::Fingerprint)),
            Err(CanonicalError::InexactNumber { pointer }) => {
                Err(EventError::Invalid(vec![Violation::new(pointer, "exactNumber", canonical::INEXACT)]))
            }
            Err(error @ (CanonicalError::Write(_) | CanonicalError::Id(_))) => Err(EventError::Fingerprint(error)),
        }
    }
}

/// The members that every event has, in each form.
struct Fields<'a> {
    /// Empty if it is missing; the violations then say so.
    event_type: Cow<'a, str>,
    id: Option<EventId>,
    occurred_at: Option<Timestamp>,
    schema_version: Option<u32>,
    client_ip: Option<IpAddr>,
}

fn plain_fields<'a>(json: &Value<'a>, violations: &mut Vec<Violation>) -> Fields<'a> {
    let event_type = aliased(json, ["type", "event_type"], violations).filter(|(_, name)| !name.is_empty());
    if event_type.is_none() && violations.is_empty() {
        violations.push(Violation::new("/type", "required", "\"type\" is a required property"));
    }
    let id = aliased(json, ["id", "event_id"], violations);
    let at = aliased(json, ["timestamp", "time"], violations);
    let address = text(json, "client_ip", violations);
    let schema_version = match json.get("schema_version") {
        None | Some(Value::Null) => None,
        Some(Value::Number(number)) if number.as_u64().is_some_and(|version| version > 0) => {
            number.as_u64().map(|version| u32::try_from(version).unwrap_or(u32::MAX))
        }
        Some(_) => {
            violations.push(Violation::new("/schema_version", "type", "value is not a positive integer"));
            None
        }
    };
    Fields {
        event_type: event_type.map(|(_, value)| value).unwrap_or_default(),
        id: id.and_then(|(name, value)| event_id(format_args!("/{name}"), &value, violations)),
        occurred_at: at.and_then(|(name, value)| instant(format_args!("/{name}"), &value, violations)),
        schema_version,
        client_ip: address.and_then(|value| ip_address("/client_ip", &value, violations)),
    }
}

/// A member of type string; null counts as absent.
fn text<'a>(json: &Value<'a>, name: &str, violations: &mut Vec<Violation>) -> Option<Cow<'a, str>> {
    match json.get(name) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            violations.push(Violation::new(format!("/{name}"), "type", "value is not of type \"string\""));
            None
        }
    }
}

/// A member with two spellings, and the spelling that was used.
fn aliased<'a>(
    json: &Value<'a>,
    names: [&'static str; 2],
    violations: &mut Vec<Violation>,
) -> Option<(&'static str, Cow<'a, str>)> {
    let [name, alias] = names;
    match (text(json, name, violations), text(json, alias, violations)) {
        (Some(value), Some(other)) if value != other => {
            let message = format!("{name} and {alias} are the same field but have different values");
            violations.push(Violation::new(format!("/{alias}"), "conflict", message));
            None
        }
        (Some(value), _) => Some((name, value)),
        (None, Some(value)) => Some((alias, value)),
        (None, None) => None,
    }
}

// The name of the field becomes text only for a violation.
fn event_id(field: impl fmt::Display, value: &str, violations: &mut Vec<Violation>) -> Option<EventId> {
    EventId::new(value)
        .map_err(|error| violations.push(Violation::new(field.to_string(), "format", error.to_string())))
        .ok()
}

fn instant(field: impl fmt::Display, value: &str, violations: &mut Vec<Violation>) -> Option<Timestamp> {
    Timestamp::parse(value)
        .map_err(|_| {
            let message = "value is not a \"date-time\" (RFC 3339)";
            violations.push(Violation::new(field.to_string(), "format", message));
        })
        .ok()
}

fn ip_address(field: impl fmt::Display, value: &str, violations: &mut Vec<Violation>) -> Option<IpAddr> {
    value
        .parse::<IpAddr>()
        .map(|address| address.to_canonical())
        .map_err(|_| {
            let message = "value is not an IPv4 or IPv6 address";
            violations.push(Violation::new(field.to_string(), "format", message));
        })
        .ok()
}

/// Context attributes of a CloudEvent, in a JSON object or in headers.
trait ContextAttributes<'a> {
    /// What the name of an attribute begins with in a violation.
    fn prefix(&self) -> &'static str;
    /// The attribute as text; an empty one counts as absent.
    fn get(&self, name: &str) -> Option<Cow<'a, str>>;
}

struct MemberAttributes<'v, 'a>(&'v Value<'a>);

impl<'a> ContextAttributes<'a> for MemberAttributes<'_, 'a> {
    fn prefix(&self) -> &'static str {
        "/"
    }

    fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        match self.0.get(name)? {
            Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
            // Extensions may be numbers; `attribute_types` refuses other attributes that are.
            Value::Number(number) if !TEXT_ATTRIBUTES.contains(&name) => Some(Cow::Owned(number.to_string())),
            Value::Number(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

struct HeaderAttributes<'m> {
    binding: Binding,
    values: &'m BTreeMap<String, String>,
}

impl<'a> ContextAttributes<'a> for HeaderAttributes<'_> {
    fn prefix(&self) -> &'static str {
        self.binding.prefix()
    }

    fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        self.values.get(name).filter(|text| !text.is_empty()).map(|text| Cow::Owned(text.clone()))
    }
}

/// Attributes of the specification that are texts, and not empty (CloudEvents 1.0.2, sections 3.1.1 and 3.1.2).
const TEXT_ATTRIBUTES: [&str; 8] =
    ["id", "source", "specversion", "type", "datacontenttype", "dataschema", "subject", "time"];

/// Extension attributes that say something to us. One of another type would be passed over without a word.
const OUR_EXTENSIONS: [&str; 2] = ["schemaversion", "clientip"];

/// Members of a structured CloudEvent that are no attributes.
const DATA_MEMBERS: [&str; 2] = ["data", "data_base64"];

/// Checks the types of the attributes: extensions may also be a boolean or an integer of 32 bits (section 3.1 and the
/// JSON format 1.0.2, section 2.2).
fn attribute_types(json: &Value<'_>, violations: &mut Vec<Violation>) {
    let Value::Object(members) = json else { return };
    for (name, value) in members.iter().filter(|(name, _)| !DATA_MEMBERS.contains(&&**name)) {
        let is_text = TEXT_ATTRIBUTES.contains(&&**name);
        let (fits, expected) = match value {
            Value::Null => (true, ""),
            Value::String(text) => (!is_text || !text.is_empty(), "a non-empty string"),
            Value::Bool(_) if is_text => (false, "a non-empty string"),
            Value::Bool(_) => (!OUR_EXTENSIONS.contains(&&**name), "a string or an integer"),
            Value::Number(number) if !is_text => {
                (number.as_i64().is_some_and(|number| i32::try_from(number).is_ok()), "an integer of 32 bits")
            }
            Value::Number(_) => (false, "a non-empty string"),
            Value::Array(_) | Value::Object(_) if is_text => (false, "a non-empty string"),
            Value::Array(_) | Value::Object(_) => (false, "a string, a boolean or an integer"),
        };
        if !fits && violations.len() < MAX_ATTRIBUTE_VIOLATIONS {
            let field = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
            violations.push(Violation::new(field, "type", format!("value is not {expected}")));
        }
    }
}

/// A client cannot make the answer as long as it likes with attributes that it made up.
const MAX_ATTRIBUTE_VIOLATIONS: usize = 16;

/// CloudEvents 1.0.2, section 3: `id`, `source`, `specversion` and `type` are required and not empty.
fn cloud_event_fields<'a, A: ContextAttributes<'a>>(attributes: &A, violations: &mut Vec<Violation>) -> Fields<'a> {
    let prefix = attributes.prefix();
    let mut required = |name: &str| {
        let value = attributes.get(name);
        let field = || format!("{prefix}{name}");
        // One that is there with another type has been named.
        if value.is_none() && !violations.iter().any(|violation| violation.field == field()) {
            let message = format!("a CloudEvent needs a {name} that is a non-empty string");
            violations.push(Violation::new(field(), "required", message));
        }
        value
    };
    let event_type = required("type").unwrap_or_default();
    let (id, source) = (required("id"), required("source"));
    if required("specversion").is_some_and(|version| version != "1.0") {
        violations.push(Violation::new(format!("{prefix}specversion"), "const", "this service accepts only \"1.0\""));
    }
    if let Some(content_type) = attributes.get("datacontenttype")
        && !is_json(&content_type)
    {
        violations.push(Violation::new(format!("{prefix}datacontenttype"), "const", "data must be JSON"));
    }
    let schema_version = attributes.get("schemaversion").and_then(|text| {
        let version = text.parse().ok().filter(|version| *version > 0);
        if version.is_none() {
            let field = format!("{prefix}schemaversion");
            violations.push(Violation::new(field, "type", "value is not a positive integer"));
        }
        version
    });
    Fields {
        event_type,
        id: source.zip(id).and_then(|(source, id)| cloud_event_id(prefix, &source, &id, violations)),
        occurred_at: attributes.get("time").and_then(|value| instant(format_args!("{prefix}time"), &value, violations)),
        schema_version,
        client_ip: attributes
            .get("clientip")
            .and_then(|value| ip_address(format_args!("{prefix}clientip"), &value, violations)),
    }
}

/// What a CloudEvent's source and id are joined by. No URI reference has it (RFC 3986, appendix A), so the first one ends the
/// source.
const SOURCE_END: char = '|';

/// CloudEvents 1.0.2, section 3.1.1: source and id together identify an event. ADR 23 says why they are spelled so.
fn cloud_event_id(prefix: &str, source: &str, id: &str, violations: &mut Vec<Violation>) -> Option<EventId> {
    if source.contains(SOURCE_END) {
        let message = format!("a source is a URI reference, which has no {SOURCE_END:?}");
        violations.push(Violation::new(format!("{prefix}source"), "format", message));
        return None;
    }
    EventId::new(&format!("{source}{SOURCE_END}{id}"))
        .map_err(|error| {
            let message = format!("source and id, joined by {SOURCE_END:?}, are the event's id: {error}");
            violations.push(Violation::new(format!("{prefix}id"), "format", message));
        })
        .ok()
}

/// A user id with control characters is ignored: Postgres cannot store a NUL, and scoring needs only a name. Events
/// with one are refused now ([`user_id_violation`]); records from before that are still read.
pub(crate) fn user_id<'a>(payload: &Value<'a>) -> Option<Cow<'a, str>> {
    match payload.get("user_id") {
        // The clone of borrowed text is borrowed.
        Some(Value::String(user)) if !user.contains(char::is_control) => Some(user.clone()),
        Some(_) | None => None,
    }
}

/// A user id that could not be stored, and would be missing without a word.
pub(crate) fn user_id_violation(payload: &Value<'_>, pointer: &str) -> Option<Violation> {
    let user = payload.get("user_id").and_then(Value::as_str)?;
    user.contains(char::is_control)
        .then(|| Violation::new(format!("{pointer}/user_id"), "controlCharacter", "value has a control character"))
}

/// A media type without its parameters. Only space and tab around it belong to the header (RFC 9110, section 5.6.3).
pub fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim_matches([' ', '\t'])
}

/// Whether a media type is JSON: `application/json`, `text/json` or `…+json`, with any parameters.
pub fn is_json(media_type: &str) -> bool {
    let essence = essence(media_type);
    let suffix = |end: &str| {
        essence.len() >= end.len()
            && essence.as_bytes()[essence.len() - end.len()..].eq_ignore_ascii_case(end.as_bytes())
    };
    suffix("/json") || suffix("+json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Envelope;
    use crate::schema::Registry;

    fn registry() -> Registry {
        Registry::embedded().unwrap()
    }

    /// The violated fields and rules, or the tag of another error.
    fn broken(text: &str) -> Vec<String> {
        match registry().read(text.as_bytes()) {
            Ok(_) => vec![],
            Err(EventError::Invalid(violations)) => {
                violations.iter().map(|violation| format!("{} {}", violation.field, violation.rule)).collect()
            }
            Err(error) => vec![error.tag().to_owned()],
        }
    }

    #[test]
    fn reads_a_plain_event() {
        let text =
            br#" {"event_type":"transaction","event_id":"t-1","time":"2026-11-20T18:02:00+02:00","schema_version":1,
            "user_id":"u-1","amount":9.5,"currency":"EUR","client_ip":"::ffff:192.0.2.1"} "#;
        let registry = registry();
        let event = registry.read(text).unwrap();
        assert_eq!((&*event.event_type, event.schema, event.user_id().as_deref()), ("transaction", 1, Some("u-1")));
        assert_eq!(event.occurred_at.unwrap().to_string(), "2026-11-20T16:02:00.000Z");
        assert_eq!(event.client_ip, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(event.data.get().as_bytes(), text.trim_ascii());
        let (id, source) = event.identify(Some(&EventId::new("key").unwrap())).unwrap();
        assert_eq!((id.as_str(), source), ("t-1", IdSource::Client));
    }

    #[test]
    fn the_id_is_the_clients_else_the_key_else_the_fingerprint() {
        let registry = registry();
        let event = registry.read(br#"{"type":"page_view","path":"/"}"#).unwrap();
        let key = EventId::new("key").unwrap();
        assert_eq!(event.identify(Some(&key)).unwrap(), (key, IdSource::Client));
        let spaced = registry.read(br#"{ "path": "/", "id": null, "type": "page_view" }"#).unwrap();
        let (id, source) = event.identify(None).unwrap();
        assert_eq!((id.as_str().len(), source), (64, IdSource::Fingerprint));
        assert_ne!(spaced.identify(None).unwrap().0, id, "null was sent, so it is part of what was sent");
        let reordered = registry.read(br#"{ "path": "/", "type": "page_view" }"#).unwrap();
        assert_eq!(reordered.identify(None).unwrap().0, id);
    }

    #[test]
    fn a_user_with_control_characters_is_refused_at_the_door_and_nobody_in_old_records() {
        for user in ["a\\u0000b", "\\n", "\\u007f", "\\u0085"] {
            let data = format!(r#"{{"user_id":"{user}","path":"/"}}"#);
            let plain = data.replace("{", r#"{"type":"page_view","#);
            assert_eq!(broken(&plain), ["/user_id controlCharacter"]);
            let structured =
                format!(r#"{{"specversion":"1.0","type":"page_view","source":"/","id":"a","data":{data}}}"#);
            assert_eq!(broken(&structured), ["/data/user_id controlCharacter"]);
            assert_eq!(user_id(&Value::parse(data.as_bytes()).unwrap()), None);
        }
        assert_eq!(broken(r#"{"type":"page_view","path":"/","user_id":"Zoë\u00a0😀"}"#), [""; 0]);
    }

    #[test]
    fn an_inexact_number_needs_an_id() {
        let registry = registry();
        let without = registry.read(br#"{"type":"page_view","path":"/","n":[9007199254740993]}"#).unwrap();
        let error = without.identify(None).unwrap_err();
        assert_eq!((&*error.violations()[0].field, &*error.violations()[0].rule), ("/n/0", "exactNumber"));
        let with = registry.read(br#"{"type":"page_view","path":"/","n":[9007199254740993],"id":"a"}"#).unwrap();
        assert!(with.identify(None).is_ok());
    }

    #[test]
    fn an_extension_that_is_ours_has_a_type_that_can_be_read() {
        let with = |extension: &str| {
            let event = r#"{"specversion":"1.0","type":"page_view","source":"/","id":"a","data":{"path":"/"},"#;
            broken(&format!("{event}{extension}}}"))
        };
        assert_eq!(with(r#""schemaversion":false"#), ["/schemaversion type"]);
        assert_eq!(with(r#""clientip":true"#), ["/clientip type"]);
        assert_eq!(with(r#""clientip":7"#), ["/clientip format"]);
        for good in [r#""sampled":true"#, r#""schemaversion":"1""#, r#""schemaversion":1"#, r#""clientip":null"#] {
            assert_eq!(with(good), [""; 0], "{good}");
        }
    }

    #[test]
    fn names_every_broken_field_at_once() {
        assert_eq!(
            broken(
                r#"{"type":"transaction","id":7,"timestamp":"today","client_ip":"host","schema_version":1,"amount":"9","currency":"eur"}"#
            ),
            [
                "/id type",
                "/timestamp format",
                "/client_ip format",
                "/user_id required",
                "/amount type",
                "/currency pattern"
            ]
        );
        assert_eq!(
            broken(r#"{"type":"sensor","device_id":"d","reading":1,"unit":"C","location":{"lat":91}}"#),
            ["/location/lon required", "/location/lat maximum"]
        );
    }

    #[test]
    fn two_spellings_must_agree() {
        let page = |members: &str| broken(&format!(r#"{{"path":"/",{members}}}"#));
        assert_eq!(page(r#""type":"page_view","event_type":"page_view","id":"a","event_id":"a""#), [""; 0]);
        assert_eq!(page(r#""type":"page_view","event_type":"click""#), ["/event_type conflict"]);
        assert_eq!(page(r#""type":"page_view","id":"a","event_id":"b""#), ["/event_id conflict"]);
        assert_eq!(
            page(r#""type":"page_view","time":"2026-01-01T00:00:00Z","timestamp":"2026-01-01T00:00:01Z""#),
            ["/time conflict"]
        );
    }

    #[test]
    fn unknown_types_and_versions_are_named() {
        assert_eq!(broken(r#"{"type":"nothing"}"#), ["unknown_type"]);
        assert_eq!(broken(r#"{"type":"click","schema_version":99}"#), ["unknown_schema_version"]);
        assert_eq!(broken(r#"{"type":"click","schema_version":18446744073709551615}"#), ["unknown_schema_version"]);
        assert_eq!(broken(r#"{"path":"/"}"#), ["/type required"]);
        assert_eq!(broken(r#"{"type":""}"#), ["/type required"]);
        assert_eq!(broken("[1]"), ["not_an_object"]);
        assert_eq!(broken("{"), ["malformed_json"]);
        assert_eq!(broken(r#"{"type":"click","type":"click"}"#), ["malformed_json"]);
    }

    #[test]
    fn messages_hold_no_values() {
        let error = registry().read(br#"{"type":"transaction","user_id":"u","amount":"s3cret","currency":"s3cret"}"#);
        let text = error.unwrap_err().to_string();
        assert!(text.contains("/amount") && !text.contains("s3cret"), "{text}");
    }

    #[test]
    fn page_views_of_real_logs_are_accepted() {
        for members in [
            r#""path":"/","method":"GET","protocol":"HTTP/1.1","status":200,"bytes":203023,"referrer":"http://x/","user_agent":"M"#,
            r#""path":"/","status":304,"bytes":"-","referrer":"-","user_agent":"-"#,
            r#""path":"-","method":null,"status":null,"bytes":null,"user_agent":"x"#,
            r#""path":"*","method":"OPTIONS"#,
        ] {
            assert_eq!(broken(&format!(r#"{{"type":"page_view",{members}"}}"#)), [""; 0], "{members}");
        }
        assert_eq!(broken(r#"{"type":"page_view","path":"/","bytes":-1}"#), ["/bytes anyOf"]);
    }

    const STRUCTURED: &str = r#"{"specversion":"1.0","type":"click","source":"/web","id":"c-1","time":"2026-11-20T18:02:00Z","schemaversion":1,"clientip":"192.0.2.7","data":{"user_id":"u-1","campaign_id":"k"}}"#;

    #[test]
    fn reads_a_structured_cloud_event() {
        let registry = registry();
        let event = registry.read(STRUCTURED.as_bytes()).unwrap();
        assert_eq!(event.data.get(), STRUCTURED);
        assert_eq!(
            (event.user_id().as_deref(), event.client_ip.is_some(), event.occurred_at.is_some()),
            (Some("u-1"), true, true)
        );
        assert_eq!(event.identify(None).unwrap(), (EventId::new("/web|c-1").unwrap(), IdSource::Client));
    }

    #[test]
    fn a_cloud_event_is_known_by_its_source_and_its_id() {
        let registry = registry();
        let id = |source: &str, id: &str| {
            let text = STRUCTURED.replace("\"/web\"", &format!("{source:?}")).replace("\"c-1\"", &format!("{id:?}"));
            registry.read(text.as_bytes()).map(|event| event.identify(None).unwrap().0.as_str().to_owned())
        };
        assert_eq!(id("/web", "c-2").unwrap(), "/web|c-2");
        assert_eq!(id("/app", "c-1").unwrap(), "/app|c-1");
        assert_eq!(id("/app", "a|b").unwrap(), "/app|a|b");
        let longest = "a".repeat(256 - "/app|".len());
        assert_eq!(id("/app", &longest).unwrap().len(), 256);
        for (source, own, expected) in [
            ("/app|a", "b", "/source: a source is a URI reference, which has no '|'"),
            (
                "/app/",
                &*longest,
                "/id: source and id, joined by '|', are the event's id: an event id has 1 to 256 bytes",
            ),
        ] {
            let error = id(source, own).unwrap_err();
            let violation = &error.violations()[0];
            let text = format!("{}: {}", violation.field, violation.message);
            assert!(text.starts_with(expected), "{text}");
        }
    }

    #[test]
    fn checks_a_structured_cloud_event() {
        let with = |from: &str, to: &str| broken(&STRUCTURED.replace(from, to));
        assert_eq!(with(r#""id":"c-1","#, ""), ["/id required"]);
        assert_eq!(with(r#""source":"/web""#, r#""source":"""#), ["/source type"]);
        assert_eq!(with(r#""1.0""#, r#""0.3""#), ["/specversion const"]);
        assert_eq!(with(r#""type":"click","#, ""), ["/type required"]);
        assert_eq!(with(r#""schemaversion":1"#, r#""schemaversion":"x""#), ["/schemaversion type"]);
        assert_eq!(with(r#""campaign_id":"k""#, r#""campaign_id":1"#), ["/data/campaign_id type"]);
        assert_eq!(with(r#","data":{"user_id":"u-1","campaign_id":"k"}"#, ""), ["/data type"]);
        assert_eq!(
            with(r#""data":{"user_id":"u-1","campaign_id":"k"}"#, r#""data_base64":"e30=""#),
            ["/data_base64 type", "/data type"]
        );
        assert_eq!(with(r#""id""#, r#""datacontenttype":"text/xml","id""#), ["/datacontenttype const"]);
    }

    /// Like `broken`, for an event whose form is known.
    fn broken_as(form: Form, text: &str) -> Vec<String> {
        match registry().read_as(form, text.as_bytes()) {
            Ok(_) => vec![],
            Err(error) => {
                error.violations().iter().map(|violation| format!("{} {}", violation.field, violation.rule)).collect()
            }
        }
    }

    #[test]
    fn the_form_is_not_guessed_if_it_is_known() {
        assert_eq!(broken_as(Form::Structured, STRUCTURED), [""; 0]);
        assert_eq!(broken_as(Form::Plain, STRUCTURED)[0], "/specversion mediaType");
        let plain = r#"{"type":"page_view","id":"a","path":"/"}"#;
        assert_eq!(broken_as(Form::Plain, plain), [""; 0]);
        assert_eq!(broken_as(Form::Structured, plain), ["/source required", "/specversion required", "/data type"]);
    }

    #[test]
    fn attributes_have_their_types() {
        let with = |from: &str, to: &str| broken_as(Form::Structured, &STRUCTURED.replace(from, to));
        assert_eq!(with(r#""id":"c-1""#, r#""id":7"#), ["/id type"]);
        assert_eq!(with(r#""id":"c-1""#, r#""id":true"#), ["/id type"]);
        assert_eq!(with(r#""type":"click""#, r#""type":["click"]"#), ["/type type"]);
        assert_eq!(with(r#""1.0""#, "1.0"), ["/specversion type"]);
        assert_eq!(with(r#""time":"2026-11-20T18:02:00Z""#, r#""time":1795197720"#), ["/time type"]);
        assert_eq!(with(r#""id""#, r#""subject":"","id""#), ["/subject type"]);
        assert_eq!(with(r#""id""#, r#""dataschema":{},"id""#), ["/dataschema type"]);
        for (extension, fits) in [
            ("1", true),
            ("-2147483648", true),
            ("true", true),
            ("\"\"", true),
            ("null", true),
            ("2147483648", false),
            ("1.5", false),
            ("[1]", false),
            ("{}", false),
        ] {
            let violations = with(r#""id""#, &format!(r#""comexampleother":{extension},"id""#));
            let expected: &[&str] = if fits { &[] } else { &["/comexampleother type"] };
            assert_eq!(violations, expected, "{extension}");
        }
    }

    #[test]
    fn reads_a_binary_cloud_event() {
        let attributes = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let full = attributes(&[("specversion", "1.0"), ("type", "click"), ("source", "/web"), ("id", "c-1")]);
        let registry = registry();
        let body = br#"{"user_id":"u-1","campaign_id":"k"}"#;
        let event = registry.read_binary(Binding::Http, &full, body).unwrap();
        assert_eq!((event.user_id().as_deref(), event.data.get().as_bytes()), (Some("u-1"), &body[..]));
        assert_eq!(event.identify(None).unwrap().0.as_str(), "/web|c-1");

        let few = attributes(&[("specversion", "1.0"), ("type", "click")]);
        let error = registry.read_binary(Binding::Http, &few, b"[]").unwrap_err();
        let fields: Vec<&str> = error.violations().iter().map(|violation| &*violation.field).collect();
        assert_eq!(fields, ["ce-id", "ce-source", ""]);
    }

    #[test]
    fn an_envelope_is_checked_by_the_same_rules() {
        let registry = registry();
        let envelope = |event_type: &str, schema: u32, more: &str, data: &str| {
            format!(
                r#"{{"envelope":1,"id":"a","id_source":"client","type":"{event_type}","schema":{schema},"tenant":"acme","received_at":"2026-11-20T18:02:00.000Z",{more}"data":{data}}}"#
            )
        };
        let check = |value: &str| {
            let envelope = Envelope::parse(value.as_bytes()).unwrap();
            let checked = registry.check(&envelope)?;
            Ok::<_, EventError>(checked.user_id().map(Cow::into_owned))
        };
        let user = Some("u-1".to_owned());
        let payload = r#"{"user_id":"u-1","campaign_id":"k"}"#;
        assert_eq!(check(&envelope("click", 1, "", payload)).unwrap(), user);
        assert_eq!(check(&envelope("click", 1, "", STRUCTURED)).unwrap(), user);
        let binary = envelope("click", 1, r#""attributes":{"id":"a"},"#, payload);
        assert_eq!(check(&binary).unwrap(), user);
        assert_eq!(check(&envelope("click", 2, "", payload)).unwrap_err().tag(), "unknown_schema_version");
        assert_eq!(check(&envelope("clack", 1, "", payload)).unwrap_err().tag(), "unknown_type");
        assert_eq!(check(&envelope("click", 1, "", "{}")).unwrap_err().tag(), "schema_violation");
        assert_eq!(check(&envelope("click", 1, "", r#"{"a":1,"a":2}"#)).unwrap_err().tag(), "malformed_json");
    }

    #[test]
    fn knows_json_media_types() {
        for (media_type, json) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/vnd.acme.event+json", true),
            ("text/xml", false),
            ("application/jsonp", false),
            (" application/json\t; a=b", true),
            ("application/json\u{a0}", false),
            ("é", false),
            ("", false),
        ] {
            assert_eq!(is_json(media_type), json, "{media_type}");
        }
    }
}
