//! Which records of a batch hold an event, and why the others do not.
//!
//! A record on `raw-events` holds an envelope, as ingest writes it, or a bare event as a client would send it, as other
//! producers write it. Both are checked against their schema here: anyone with a Kafka client can write an envelope, so
//! an envelope does not prove that ingest has checked the event.

use std::borrow::Cow;

use event::schema::Registry;
use event::{ENVELOPE_VERSION, Envelope, EnvelopeError, EventError, TenantId, Timestamp};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::tracked::{Event, Known, Payload, Read, State, Tracked};
use crate::{Outcome, Reason, ReasonTag, Record};

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

/// An object with a member `envelope` counts as an envelope.
#[derive(Deserialize)]
struct EnvelopeMark {
    envelope: Option<IgnoredAny>,
}

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
        Tracked { position: record.position.clone(), digest, incarnation: None, origin: record.origin(digest), state }
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
                    Ok(data) => Ok(event_of(&envelope, data.user_id())),
                    Err(error) => Err((reason_of(&error), Box::new(self.known(&envelope)))),
                };
            }
            Err(error) => error,
        };
        match error {
            EnvelopeError::UnknownVersion(_) => {
                Err(unreadable(Reason::new(ReasonTag::UnknownEnvelopeVersion, bounded(&error.to_string()))))
            }
            EnvelopeError::Malformed(source) => {
                // Not an envelope: reading it as a bare event finds what is wrong with it, if anything.
                if let Ok(EnvelopeMark { envelope: Some(_) }) = serde_json::from_slice(value) {
                    let detail = bounded(&source.to_string());
                    return Err(unreadable(Reason::new(ReasonTag::MalformedEnvelope, detail)));
                }
                self.read_bare(record, value).map_err(|error| unreadable(reason_of(&error)))
            }
        }
    }

    /// Reads an event as a client would send it, and treats it as if ingest had accepted it for the foreign tenant when
    /// its first copy was written. Producers that may write to `raw-events` are trusted, so the event's `client_ip` is
    /// used.
    fn read_bare<'a>(self, record: &Record, value: &'a [u8]) -> Result<Event<'a>, EventError> {
        let event = self.registry.read(value)?;
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
        Ok(Event { undated: received_at.is_none(), ..event_of(&envelope, event.user_id()) })
    }

    /// What is known about an event that does not meet its schema.
    fn known(self, envelope: &Envelope<'_>) -> Known<'static> {
        Known::Partly {
            key: Some(envelope.key()),
            event_type: self.registry.known_type(&envelope.event_type).map(Cow::Borrowed),
            received_at: Some(envelope.received_at),
            ip: envelope.ip,
        }
    }
}

fn event_of<'a>(envelope: &Envelope<'a>, user_id: Option<Cow<'a, str>>) -> Event<'a> {
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
        payload_hash: envelope.payload_hash(),
        payload: Payload(Cow::Borrowed(envelope.data)),
    }
}

fn reason_of(error: &EventError) -> Reason {
    let detail = match error {
        EventError::Malformed(source) => source.to_string(),
        EventError::NotAnObject => String::new(),
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
