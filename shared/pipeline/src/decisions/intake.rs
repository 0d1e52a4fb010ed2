//! Which records of a batch hold an event, and why the others do not.
//!
//! A record on `raw-events` holds an envelope, as ingest writes it, or a bare event as a client would send it, as other
//! producers write it. Both are checked against their schema here: anyone with a Kafka client can write an envelope, so
//! an envelope does not prove that ingest has checked the event.

use std::borrow::Cow;
use std::collections::BTreeMap;

use event::schema::Registry;
use event::{
    Binding, ENVELOPE_VERSION, Envelope, EnvelopeError, EventError, Facts, Form, TenantId, Timestamp, essence,
};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::tracked::{Event, Known, Payload, Read, State, Tracked};
use crate::{Header, Outcome, Reason, ReasonTag, Record, RecordHeaders};

/// Longest detail of a reason, in bytes. It goes into the ledger and into a header of a dead letter, and a sender can
/// make it as long as the names of its members.
const MAX_DETAIL_BYTES: usize = 512;

/// How records are read.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'r> {
    pub registry: &'r Registry,
    /// The tenant of bare events.
    pub foreign_tenant: &'r TenantId,
    /// When bare events without a time were received.
    pub now: Timestamp,
}

/// The members by which an envelope of any version is told from an event that happens to have a member `envelope`.
#[derive(Default, Deserialize)]
struct EnvelopeMarks<'a> {
    #[serde(borrow)]
    envelope: Option<&'a RawValue>,
    tenant: Option<IgnoredAny>,
}

impl<'a> EnvelopeMarks<'a> {
    fn of(value: &'a [u8]) -> Self {
        // An array would be read as the members in their order.
        let is_object = value.trim_ascii_start().starts_with(b"{");
        if is_object { serde_json::from_slice(value).unwrap_or_default() } else { EnvelopeMarks::default() }
    }

    fn has_version(&self) -> bool {
        self.envelope.is_some_and(|version| version.get().parse::<u64>().is_ok())
    }

    fn is_envelope(&self) -> bool {
        self.has_version() && self.tenant.is_some()
    }
}

/// The header with the media type of the value (CloudEvents Kafka binding 1.0.2, section 3).
const CONTENT_TYPE: &str = "content-type";

impl Reader<'_> {
    /// Reads a batch of records, in their order.
    pub fn read_all<'a>(self, records: impl IntoIterator<Item = &'a Record>) -> Vec<Tracked<'a, Read>> {
        records.into_iter().map(|record| self.read(record)).collect()
    }

    /// Reads a record: it is open if it holds an event that meets its schema, else `dead_lettered`.
    pub fn read<'a>(self, record: &'a Record) -> Tracked<'a, Read> {
        let state = match self.event(record) {
            Ok(event) => State::Open { event, found: Read },
            Err((reason, known)) => {
                State::Closed { outcome: Outcome::DeadLettered, reason: reason.to_string(), known: *known }
            }
        };
        let digest = record.digest();
        Tracked {
            position: record.position.clone(),
            digest,
            incarnation: None,
            origin: record.origin(digest),
            trace_id: record.trace().map(|trace| trace.trace_id),
            state,
        }
    }

    fn event<'a>(self, record: &'a Record) -> Result<Event<'a>, (Reason, Box<Known<'a>>)> {
        let unreadable = |reason| (reason, Box::new(Known::NOTHING));
        if let Some(problem) = record.undecodable {
            return Err(unreadable(Reason::new(ReasonTag::Undecodable, problem)));
        }
        let Some(value) = &record.value else { return Err(unreadable(Reason::new(ReasonTag::Tombstone, ""))) };
        if value.is_empty() {
            return Err(unreadable(Reason::new(ReasonTag::EmptyValue, "")));
        }
        let error = match Envelope::parse(value) {
            Ok(envelope) => {
                return match self.registry.check(&envelope) {
                    Ok(data) => Ok(event_of(&envelope, data.user_id(), data.facts(&envelope.event_type))),
                    Err(error) => Err((reason_of(&error), Box::new(self.known(&envelope)))),
                };
            }
            Err(error) => error,
        };
        let marks = EnvelopeMarks::of(value);
        let bare = if marks.is_envelope() { None } else { Some(self.read_bare(record, value)) };
        match bare {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) if !marks.has_version() => Err(unreadable(reason_of(&error))),
            Some(Err(_)) | None => Err(unreadable(reason_of_envelope(&error))),
        }
    }

    /// Reads an event as a client would send it, plain or as a CloudEvent in either mode, and treats it as if ingest had accepted it for the foreign tenant when
    /// its first copy was written. Producers that may write to `raw-events` are trusted, so the event's `client_ip` is
    /// used.
    fn read_bare<'a>(self, record: &Record, value: &'a [u8]) -> Result<Event<'a>, EventError> {
        let event = if is_structured(&record.headers) {
            self.registry.read_as(Form::Structured, value)?
        } else {
            match cloud_event_attributes(&record.headers) {
                Some(attributes) => self.registry.read_binary(Binding::Kafka, &attributes, value)?,
                None => self.registry.read(value)?,
            }
        };
        let (id, id_source) = event.identify(None)?;
        let received_at = record.origin_timestamp();
        let envelope = Envelope {
            envelope: ENVELOPE_VERSION,
            id,
            id_source,
            event_type: event.event_type.clone(),
            schema: event.schema,
            tenant: self.foreign_tenant.clone(),
            received_at: received_at.unwrap_or(self.now),
            occurred_at: event.occurred_at,
            ip: event.client_ip,
            user_agent: None,
            attributes: None,
            data: event.data,
        };
        Ok(Event { undated: received_at.is_none(), ..event_of(&envelope, event.user_id(), event.facts()) })
    }

    /// What is known about an event that does not meet its schema.
    fn known(self, envelope: &Envelope<'_>) -> Known<'static> {
        Known::Partly {
            key: Some(envelope.key()),
            event_type: self.registry.known_type(&envelope.event_type).map(Cow::Borrowed),
            received_at: Some(envelope.received_at),
            ip: envelope.ip,
            facts: Facts::NONE,
        }
    }
}

/// Whether the media type says that the value is a CloudEvent with its attributes (Kafka binding 1.0.2, section 3).
fn is_structured(headers: &RecordHeaders) -> bool {
    headers
        .parse::<String>(CONTENT_TYPE)
        .is_some_and(|media_type| essence(&media_type).eq_ignore_ascii_case("application/cloudevents+json"))
}

/// The attributes of a CloudEvent in binary mode, without their prefix; `None` unless `ce_specversion` is among the headers.
/// The last header of a name counts. One that is not UTF-8 counts as absent, so that an odd extension spoils nothing.
fn cloud_event_attributes(headers: &RecordHeaders) -> Option<BTreeMap<String, String>> {
    let attribute = |header: &Header| {
        let name = header.name.strip_prefix(Binding::Kafka.prefix())?.to_owned();
        Some((name, String::from_utf8(header.value.as_deref()?.to_vec()).unwrap_or_default()))
    };
    let mut attributes: BTreeMap<String, String> = headers.0.iter().filter_map(attribute).collect();
    if !attributes.contains_key("specversion") {
        return None;
    }
    attributes.extend(headers.parse(CONTENT_TYPE).map(|media_type| ("datacontenttype".to_owned(), media_type)));
    Some(attributes)
}

fn reason_of_envelope(error: &EnvelopeError) -> Reason {
    match error {
        EnvelopeError::UnknownVersion(_) => Reason::new(ReasonTag::UnknownEnvelopeVersion, bounded(&error.to_string())),
        EnvelopeError::Malformed(source) => Reason::new(ReasonTag::MalformedEnvelope, bounded(&source.to_string())),
    }
}

fn event_of<'a>(envelope: &Envelope<'a>, user_id: Option<Cow<'a, str>>, facts: Facts) -> Event<'a> {
    Event {
        key: envelope.key(),
        id_source: envelope.id_source,
        event_type: envelope.event_type.clone(),
        schema_version: envelope.schema,
        received_at: envelope.received_at,
        undated: false,
        occurred_at: envelope.occurred_at,
        ip: envelope.ip,
        user_agent: envelope.user_agent.clone(),
        user_id,
        facts,
        payload_hash: envelope.payload_hash(),
        payload: Payload(Cow::Borrowed(envelope.data)),
    }
}

fn reason_of(error: &EventError) -> Reason {
    let detail = match error {
        EventError::Malformed(source) => source.to_string(),
        EventError::NotAnObject => "a record holds one event, which is a JSON object".to_owned(),
        EventError::UnknownType(_)
        | EventError::UnknownVersion { .. }
        | EventError::Invalid(_)
        | EventError::Fingerprint(_) => error.to_string(),
    };
    Reason::new(ReasonTag::of_event(error), bounded(&detail))
}

/// Cuts a detail to its limit, and replaces control characters: Postgres stores no NUL, and logs need no escapes.
fn bounded(detail: &str) -> String {
    let end = detail.floor_char_boundary(MAX_DETAIL_BYTES);
    detail[..end].chars().map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::samples::record;
    use super::*;

    const ENVELOPE: &str = r#"{"envelope":1,"id":"a","id_source":"client","type":"click","schema":1,"tenant":"acme","received_at":"2026-11-20T18:02:00.000Z","ip":"203.0.113.7","data":{ "type":"click" , "id":"a","user_id":"u-1","campaign_id":"c"}}"#;

    fn read_record(record: Record) -> Tracked<'static, Read> {
        let registry = Registry::embedded().unwrap();
        let foreign_tenant = TenantId::new("kafka").unwrap();
        let record: &'static Record = Box::leak(Box::new(record));
        Reader { registry: &registry, foreign_tenant: &foreign_tenant, now: Timestamp::EPOCH }.read(record)
    }

    /// The event of a record that holds one.
    fn read(value: &str) -> Event<'static> {
        event(read_record(record(5, Some(value), &[])))
    }

    fn event(record: Tracked<'static, Read>) -> Event<'static> {
        match record.state {
            State::Open { event, .. } => event,
            State::Closed { reason, .. } => panic!("closed: {reason}"),
        }
    }

    fn reason_why(record: Tracked<'static, Read>) -> String {
        match record.state {
            State::Closed { outcome: Outcome::DeadLettered, reason, .. } => reason,
            other => panic!("{other:?}"),
        }
    }

    fn reason(value: Option<&str>) -> String {
        reason_why(read_record(record(5, value, &[])))
    }

    #[test]
    fn reads_an_envelope() {
        let record = read_record(record(5, Some(ENVELOPE), &[]));
        assert_eq!(record.origin, record.position.as_origin(record.digest));
        let candidate = event(record);
        assert_eq!(candidate.key.to_string(), "acme/a");
        assert_eq!((candidate.event_type.as_ref(), candidate.schema_version), ("click", 1));
        assert_eq!(candidate.user_id.as_deref(), Some("u-1"));
        assert_eq!(candidate.ip, Some("203.0.113.7".parse().unwrap()));
        assert_eq!(candidate.payload.as_str(), r#"{ "type":"click" , "id":"a","user_id":"u-1","campaign_id":"c"}"#);
    }

    #[test]
    fn reads_a_bare_event_for_the_foreign_tenant() {
        let value = r#" {"type":"click","id":"b","user_id":"u-2","campaign_id":"c","client_ip":"198.51.100.4"} "#;
        let candidate = read(value);
        assert_eq!(candidate.key.to_string(), "kafka/b");
        assert_eq!(candidate.received_at, Timestamp::from_millis(1_005));
        assert_eq!(candidate.ip, Some("198.51.100.4".parse().unwrap()));
        assert_eq!(candidate.payload.as_str(), value.trim());
        // An event without an id is identified by its fingerprint, which ignores white space.
        let one = read(r#"{"type":"click","user_id":"u","campaign_id":"c"}"#);
        let other = read(r#"{ "user_id":"u","campaign_id":"c", "type":"click" }"#);
        assert_eq!((&one.key, one.payload_hash), (&other.key, other.payload_hash));
    }

    #[test]
    fn a_bare_copy_keeps_the_time_of_the_first_one() {
        let headers = [("origin", "raw-events/2/9"), ("origin-timestamp", "77")];
        let value = r#"{"type":"click","id":"b","user_id":"u","campaign_id":"c"}"#;
        let record = read_record(record(5, Some(value), &headers));
        assert_eq!(record.origin.to_string(), "raw-events/2/9");
        assert_eq!(event(record).received_at, Timestamp::from_millis(77));
    }

    #[test]
    fn an_instant_far_off_is_taken_as_it_is() {
        for at in ["9999-12-31T23:59:59.999Z", "1969-01-01T00:00:00.000Z"] {
            let value = ENVELOPE.replace("2026-11-20T18:02:00.000Z", at);
            assert_eq!(read(&value).received_at.to_string(), at);
        }
    }

    #[test]
    fn what_is_not_an_event_is_closed_with_a_bounded_tag() {
        let unknown_version = ENVELOPE.replace(r#""envelope":1"#, r#""envelope":2"#);
        let no_id = ENVELOPE.replace(r#""id":"a","id_source""#, r#""id_source""#);
        let unknown_type = ENVELOPE.replace(r#""type":"click","schema""#, r#""type":"clack","schema""#);
        let unknown_schema = ENVELOPE.replace(r#""schema":1"#, r#""schema":9"#);
        let violation = ENVELOPE.replace(r#""user_id":"u-1""#, r#""user_id":7"#);
        let table: &[(Option<&str>, &str)] = &[
            (None, "tombstone"),
            (Some(""), "empty-value"),
            (Some(" "), "malformed-json: "),
            (Some("not json"), "malformed-json: "),
            (Some("\u{0}"), "malformed-json: "),
            (Some("[]"), "not-an-object"),
            (Some("7"), "not-an-object"),
            (Some("{}"), "schema-violation: /type breaks required: "),
            (Some(r#"{"type":"clack"}"#), "unknown-type: "),
            (Some(r#"{"type":"click","user_id":7,"campaign_id":"c"}"#), "schema-violation: /user_id breaks type: "),
            (Some(&unknown_version), "unknown-envelope-version: "),
            (Some(&no_id), "malformed-envelope: missing field `id`"),
            (Some(&unknown_type), "unknown-type: "),
            (Some(&unknown_schema), "unknown-schema-version: "),
            (Some(&violation), "schema-violation: /user_id breaks type: "),
        ];
        for (value, expected) in table {
            let reason = reason(*value);
            assert!(reason.starts_with(expected), "{value:?}: {reason}");
        }
        let undecodable = Record { undecodable: Some("the key is not base64"), ..record(5, Some(ENVELOPE), &[]) };
        assert_eq!(reason_why(read_record(undecodable)), "undecodable: the key is not base64");
    }

    #[test]
    fn an_event_may_have_a_member_that_is_called_envelope() {
        let with = |envelope: &str| {
            format!(r#"{{"type":"sensor","id":"a","device_id":"d","reading":1,"unit":"m","envelope":{envelope}}}"#)
        };
        for envelope in ["\"padded\"", "null", "{\"width\":7}", "[]", "1", "2", "-1", "1.5", "true"] {
            let read = read_record(record(5, Some(&with(envelope)), &[]));
            assert_eq!(read.key().map(ToString::to_string).as_deref(), Some("kafka/a"), "{envelope}: {read:?}");
        }
        let of_a_later_build = with("2").replace("\"type\"", "\"tenant\":\"acme\",\"type\"");
        assert!(reason(Some(&of_a_later_build)).starts_with("unknown-envelope-version: "));
        assert!(reason(Some(r#"{"envelope":2,"body":[]}"#)).starts_with("unknown-envelope-version: "));
        for array in ["[2]", "[1,\"acme\"]", " [1, 2, 3]"] {
            let reason = reason(Some(array));
            assert_eq!(reason, "not-an-object: a record holds one event, which is a JSON object", "{array}");
        }
        assert!(reason(Some(r#"{"envelope":"x","body":[]}"#)).starts_with("schema-violation: /type"));
    }

    #[test]
    fn a_cloud_event_is_read_in_both_modes() {
        let data = r#"{"device_id":"d","reading":1,"unit":"m"}"#;
        let all = [("ce_specversion", "1.0"), ("ce_type", "sensor"), ("ce_source", "/s"), ("ce_id", "a")];
        let binary = |headers: &[(&'static str, &str)]| read_record(record(5, Some(data), headers));
        let without = |name: &str| all.into_iter().filter(|(other, _)| *other != name).collect::<Vec<_>>();
        let with = |name: &'static str, value: &'static str| all.into_iter().chain([(name, value)]).collect::<Vec<_>>();
        for headers in [
            with("ce_time", "2026-11-20T18:00:00Z"),
            with("content-type", "application/json; charset=utf-8"),
            with("ce_ID", "names are in lower case"),
            [vec![("ce_id", "an earlier header of the same name")], all.to_vec()].concat(),
        ] {
            let read = binary(&headers);
            assert_eq!(read.key().map(ToString::to_string).as_deref(), Some("kafka//s|a"), "{headers:?}: {read:?}");
            assert!(read.open().is_some() && read.event_type() == Some("sensor"));
        }
        for (headers, reason) in [
            (without("ce_id"), "schema-violation: ce_id breaks required: "),
            (without("ce_source"), "schema-violation: ce_source breaks required: "),
            (without("ce_type"), "schema-violation: ce_type breaks required: "),
            (with("content-type", "application/xml"), "schema-violation: ce_datacontenttype breaks const: "),
            // Without this one it is no CloudEvent in binary mode.
            (without("ce_specversion"), "schema-violation: /type breaks required: "),
        ] {
            let found = reason_why(binary(&headers));
            assert!(found.starts_with(reason), "{headers:?}: {found}");
        }
        let whole = format!(r#"{{"specversion":"1.0","type":"sensor","source":"/s","id":"a","data":{data}}}"#);
        for content_type in
            ["application/cloudevents+json; charset=utf-8", "Application/CloudEvents+JSON", "application/json"]
        {
            let read = read_record(record(5, Some(&whole), &[("content-type", content_type)]));
            assert!(read.open().is_some(), "{content_type}: {read:?}");
        }
        let structured =
            reason_why(read_record(record(5, Some(data), &[("content-type", "application/cloudevents+json")])));
        assert!(structured.starts_with("schema-violation: /type breaks required: a CloudEvent needs"), "{structured}");
    }

    #[test]
    fn headers_that_are_no_text_spoil_nothing() {
        let event = r#"{"type":"sensor","id":"a","device_id":"d","reading":1,"unit":"m"}"#;
        let odd = |name: &'static str, value: Option<&'static [u8]>| Header {
            name: name.into(),
            value: value.map(Into::into),
        };
        let names =
            ["content-type", "ce_type", "ce_odd", "traceparent", "origin", "origin-timestamp", "attempt", "", "x"];
        for (name, value) in
            names.into_iter().flat_map(|name| [(name, None), (name, Some(&b"\xff\x00"[..])), (name, Some(&b""[..]))])
        {
            let mut record = record(5, Some(event), &[]);
            record.headers.0.push(odd(name, value));
            let read = read_record(record);
            assert!(read.open().is_some(), "{name} {value:?}: {read:?}");
            assert!(read.origin.is_same(&"raw-events/0/5".parse().unwrap()));
        }
        let cloud_event = [("ce_specversion", "1.0"), ("ce_type", "sensor"), ("ce_source", "/s"), ("ce_id", "a")];
        let mut binary = record(5, Some(event), &cloud_event);
        binary.headers.0.push(odd("ce_odd", Some(b"\xff")));
        assert!(read_record(binary).open().is_some());
    }

    #[test]
    fn a_closed_envelope_keeps_what_is_known_of_its_event() {
        let violation = ENVELOPE.replace(r#""user_id":"u-1""#, r#""user_id":7"#);
        let closed = read_record(record(5, Some(&violation), &[]));
        assert_eq!(closed.key().unwrap().to_string(), "acme/a");
        assert_eq!(closed.event_type(), Some("click"));
        assert!(closed.ip().is_some() && closed.received_at().is_some());
    }

    #[test]
    fn a_detail_is_bounded_and_free_of_control_characters() {
        let name = format!("{}\\u0000{}", "a".repeat(20), "é".repeat(2_000));
        let reason = reason(Some(&format!(r#"{{"envelope":1,"id_source":"{name}"}}"#)));
        assert!(reason.starts_with("malformed-envelope: "), "{reason}");
        assert!(reason.len() <= MAX_DETAIL_BYTES + 64, "{}", reason.len());
        assert!(!reason.chars().any(char::is_control), "{reason}");
    }

    #[test]
    fn a_batch_keeps_the_order_of_its_records() {
        let records = [record(1, Some("x"), &[]), record(2, Some(ENVELOPE), &[]), record(3, None, &[])];
        let registry = Registry::embedded().unwrap();
        let foreign_tenant = TenantId::new("kafka").unwrap();
        let reader = Reader { registry: &registry, foreign_tenant: &foreign_tenant, now: Timestamp::EPOCH };
        let read: Vec<(i64, bool)> =
            reader.read_all(&records).iter().map(|record| (record.position.offset, record.open().is_some())).collect();
        assert_eq!(read, [(1, false), (2, true), (3, false)]);
    }
}
