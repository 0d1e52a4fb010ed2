//! Which records of a batch hold an event, and why the others do not.
//!
//! A record on `raw-events` holds an envelope, which is what ingest writes, or a bare event as a client would send it,
//! which is what other producers write. Both are checked against their schema here: anyone with a Kafka client can
//! write an envelope, so having one proves nothing.

use std::borrow::Cow;
use std::net::IpAddr;

use event::schema::Registry;
use event::{
    ENVELOPE_VERSION, Envelope, EnvelopeError, EventError, EventKey, IdSource, Origin, PayloadHash, TenantId, Timestamp,
};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::reason;
use crate::{Reason, Record};

/// Longest detail of a reason, in bytes. It goes into the ledger and into a header of a dead letter, and a sender can
/// make it as long as the names of its members.
const MAX_DETAIL_BYTES: usize = 512;

/// A record that holds an event which meets its schema. Borrows from the record's bytes.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// Index of its record in the batch.
    pub record: usize,
    pub origin: Origin,
    pub key: EventKey,
    pub id_source: IdSource,
    pub event_type: Cow<'a, str>,
    pub schema_version: u32,
    /// When ingest took the event, or for a bare event Kafka's timestamp of its first copy. Taken as it is, however
    /// far off: refusing an event for a producer's clock would lose it, and every store has room for any instant.
    pub received_at: Timestamp,
    pub occurred_at: Option<Timestamp>,
    pub ip: Option<IpAddr>,
    pub user_agent: Option<Cow<'a, str>>,
    pub user_id: Option<String>,
    pub payload_hash: PayloadHash,
    /// The client's JSON, byte for byte.
    pub data: &'a RawValue,
}

/// A record that holds no event, with what could still be learnt from it.
#[derive(Clone, Debug)]
pub struct Rejection {
    pub origin: Origin,
    pub key: Option<EventKey>,
    /// Only a known type.
    pub event_type: Option<&'static str>,
    pub received_at: Option<Timestamp>,
    pub ip: Option<IpAddr>,
    pub reason: Reason,
}

/// What became of a record.
#[derive(Clone, Debug)]
pub enum Intake {
    /// The candidate with this index.
    Event(usize),
    Rejected(Box<Rejection>),
}

/// How records are read.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'r> {
    pub registry: &'r Registry,
    /// The tenant of bare events.
    pub foreign_tenant: &'r TenantId,
}

/// A batch of records, read.
#[derive(Debug)]
pub struct Batch<'a> {
    records: Vec<&'a Record>,
    intakes: Vec<Intake>,
    candidates: Vec<Candidate<'a>>,
}

impl<'a> Batch<'a> {
    /// Reads the records, which come in the order of topic, partition and offset, each with what of it could not be
    /// decoded.
    pub fn read(records: impl Iterator<Item = (&'a Record, Option<&'static str>)>, reader: Reader<'_>) -> Self {
        let expected = records.size_hint().0;
        let mut batch = Batch {
            records: Vec::with_capacity(expected),
            intakes: Vec::with_capacity(expected),
            candidates: Vec::with_capacity(expected),
        };
        for (index, (record, problem)) in records.enumerate() {
            batch.records.push(record);
            batch.intakes.push(match reader.read(index, record, problem) {
                Ok(candidate) => {
                    batch.candidates.push(candidate);
                    Intake::Event(batch.candidates.len() - 1)
                }
                Err(rejection) => Intake::Rejected(rejection),
            });
        }
        batch
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub fn record(&self, index: usize) -> &'a Record {
        self.records[index]
    }

    pub fn intakes(&self) -> &[Intake] {
        &self.intakes
    }

    /// The records that hold events, in the order of the batch.
    pub fn candidates(&self) -> &[Candidate<'a>] {
        &self.candidates
    }

    /// The candidate that the record at `index` holds, or why it holds none.
    ///
    /// # Errors
    /// The rejection of a record that holds no event.
    pub fn candidate(&self, index: usize) -> Result<&Candidate<'a>, &Rejection> {
        match &self.intakes[index] {
            Intake::Event(candidate) => Ok(&self.candidates[*candidate]),
            Intake::Rejected(rejection) => Err(rejection),
        }
    }
}

/// An object with a member `envelope` is meant to be one.
#[derive(Deserialize)]
struct EnvelopeMark {
    envelope: Option<IgnoredAny>,
}

impl Reader<'_> {
    fn read<'a>(
        self,
        index: usize,
        record: &'a Record,
        problem: Option<&'static str>,
    ) -> Result<Candidate<'a>, Box<Rejection>> {
        let unreadable = |reason| {
            Box::new(Rejection {
                origin: record.origin(),
                key: None,
                event_type: None,
                received_at: None,
                ip: None,
                reason,
            })
        };
        if let Some(problem) = problem {
            return Err(unreadable(Reason::new(reason::UNDECODABLE, problem)));
        }
        let Some(value) = &record.value else { return Err(unreadable(Reason::new(reason::TOMBSTONE, ""))) };
        if value.is_empty() {
            return Err(unreadable(Reason::new(reason::EMPTY_VALUE, "")));
        }
        let error = match Envelope::parse(value) {
            Ok(envelope) => {
                return match self.registry.check(&envelope) {
                    Ok(data) => Ok(candidate(index, record, &envelope, data.user_id())),
                    Err(error) => Err(self.rejected(record, &envelope, &error)),
                };
            }
            Err(error) => error,
        };
        match error {
            EnvelopeError::UnknownVersion(_) => {
                Err(unreadable(Reason::new(reason::UNKNOWN_ENVELOPE, bounded(&error.to_string()))))
            }
            EnvelopeError::Malformed(source) => {
                // Whatever else it is, the reading of bare events says what is wrong with it.
                if let Ok(EnvelopeMark { envelope: Some(_) }) = serde_json::from_slice(value) {
                    let detail = bounded(&source.to_string());
                    return Err(unreadable(Reason::new(reason::MALFORMED_ENVELOPE, detail)));
                }
                self.read_bare(index, record, value).map_err(|error| unreadable(reason_of(&error)))
            }
        }
    }

    /// Reads an event as a client would send it, and treats it as if ingest had taken it for the foreign tenant when
    /// its first copy was written. Whoever may write to `raw-events` is believed about the client's address.
    fn read_bare<'a>(self, index: usize, record: &'a Record, value: &'a [u8]) -> Result<Candidate<'a>, EventError> {
        let event = self.registry.read(value)?;
        let (id, id_source) = event.identify(None)?;
        let envelope = Envelope {
            envelope: ENVELOPE_VERSION,
            id,
            id_source,
            event_type: event.event_type.clone(),
            schema: event.schema,
            tenant: self.foreign_tenant.clone(),
            received_at: record.origin_timestamp(),
            occurred_at: event.occurred_at,
            ip: event.client_ip,
            user_agent: None,
            attributes: None,
            data: event.data,
        };
        Ok(candidate(index, record, &envelope, event.user_id()))
    }

    fn rejected(self, record: &Record, envelope: &Envelope<'_>, error: &EventError) -> Box<Rejection> {
        Box::new(Rejection {
            origin: record.origin(),
            key: Some(envelope.key()),
            event_type: self.registry.known_type(&envelope.event_type),
            received_at: Some(envelope.received_at),
            ip: envelope.ip,
            reason: reason_of(error),
        })
    }
}

fn candidate<'a>(index: usize, record: &Record, envelope: &Envelope<'a>, user_id: Option<&str>) -> Candidate<'a> {
    Candidate {
        record: index,
        origin: record.origin(),
        key: envelope.key(),
        id_source: envelope.id_source,
        event_type: envelope.event_type.clone(),
        schema_version: envelope.schema,
        received_at: envelope.received_at,
        occurred_at: envelope.occurred_at,
        ip: envelope.ip,
        user_agent: envelope.user_agent.clone(),
        user_id: user_id.map(str::to_owned),
        payload_hash: envelope.payload_hash(),
        data: envelope.data,
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
    Reason::new(error.tag(), bounded(&detail))
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

    fn read(value: Option<&str>, problem: Option<&'static str>) -> Result<Candidate<'static>, Box<Rejection>> {
        read_record(record(5, value, &[]), problem)
    }

    fn read_record(record: Record, problem: Option<&'static str>) -> Result<Candidate<'static>, Box<Rejection>> {
        let registry = Registry::embedded().unwrap();
        let foreign_tenant = TenantId::new("kafka").unwrap();
        let record: &'static Record = Box::leak(Box::new(record));
        Reader { registry: &registry, foreign_tenant: &foreign_tenant }.read(0, record, problem)
    }

    fn reason(value: Option<&str>, problem: Option<&'static str>) -> String {
        read(value, problem).unwrap_err().reason.to_string()
    }

    #[test]
    fn reads_an_envelope() {
        let candidate = read(Some(ENVELOPE), None).unwrap();
        assert_eq!(candidate.key.to_string(), "acme/a");
        assert_eq!(candidate.origin.to_string(), "raw-events/0/5");
        assert_eq!((candidate.event_type.as_ref(), candidate.schema_version), ("click", 1));
        assert_eq!(candidate.user_id.as_deref(), Some("u-1"));
        assert_eq!(candidate.ip, Some("203.0.113.7".parse().unwrap()));
        assert_eq!(candidate.data.get(), r#"{ "type":"click" , "id":"a","user_id":"u-1","campaign_id":"c"}"#);
    }

    #[test]
    fn reads_a_bare_event_for_the_foreign_tenant() {
        let value = r#" {"type":"click","id":"b","user_id":"u-2","campaign_id":"c","client_ip":"198.51.100.4"} "#;
        let candidate = read(Some(value), None).unwrap();
        assert_eq!(candidate.key.to_string(), "kafka/b");
        assert_eq!(candidate.received_at, Timestamp::from_millis(1_005));
        assert_eq!(candidate.ip, Some("198.51.100.4".parse().unwrap()));
        assert_eq!(candidate.data.get(), value.trim());
        // Without an id the fingerprint decides, so white space makes no other event.
        let one = read(Some(r#"{"type":"click","user_id":"u","campaign_id":"c"}"#), None).unwrap();
        let other = read(Some(r#"{ "user_id":"u","campaign_id":"c", "type":"click" }"#), None).unwrap();
        assert_eq!((&one.key, one.payload_hash), (&other.key, other.payload_hash));
    }

    #[test]
    fn a_bare_copy_keeps_the_time_of_the_first_one() {
        let headers = [("origin", "raw-events/2/9"), ("origin-timestamp", "77")];
        let candidate = read_record(
            record(5, Some(r#"{"type":"click","id":"b","user_id":"u","campaign_id":"c"}"#), &headers),
            None,
        )
        .unwrap();
        assert_eq!(candidate.origin.to_string(), "raw-events/2/9");
        assert_eq!(candidate.received_at, Timestamp::from_millis(77));
    }

    #[test]
    fn an_instant_far_off_is_taken_as_it_is() {
        for at in ["9999-12-31T23:59:59.999Z", "1969-01-01T00:00:00.000Z"] {
            let value = ENVELOPE.replace("2026-11-20T18:02:00.000Z", at);
            assert_eq!(read(Some(&value), None).unwrap().received_at.to_string(), at);
        }
    }

    #[test]
    fn what_is_no_event_is_rejected_with_a_bounded_tag() {
        let unknown_version = ENVELOPE.replace(r#""envelope":1"#, r#""envelope":2"#);
        let no_id = ENVELOPE.replace(r#""id":"a","id_source""#, r#""id_source""#);
        let unknown_type = ENVELOPE.replace(r#""type":"click","schema""#, r#""type":"clack","schema""#);
        let unknown_schema = ENVELOPE.replace(r#""schema":1"#, r#""schema":9"#);
        let violation = ENVELOPE.replace(r#""user_id":"u-1""#, r#""user_id":7"#);
        let table: &[(Option<&str>, &str)] = &[
            (None, "tombstone"),
            (Some(""), "empty-value"),
            (Some(" "), "malformed_json: "),
            (Some("not json"), "malformed_json: "),
            (Some("\u{0}"), "malformed_json: "),
            (Some("[]"), "not_an_object"),
            (Some("7"), "not_an_object"),
            (Some("{}"), "schema_violation: /type breaks required: "),
            (Some(r#"{"type":"clack"}"#), "unknown_type: "),
            (Some(r#"{"type":"click","user_id":7,"campaign_id":"c"}"#), "schema_violation: /user_id breaks type: "),
            (Some(&unknown_version), "unknown-envelope-version: "),
            (Some(&no_id), "malformed-envelope: missing field `id`"),
            (Some(&unknown_type), "unknown_type: "),
            (Some(&unknown_schema), "unknown_schema_version: "),
            (Some(&violation), "schema_violation: /user_id breaks type: "),
        ];
        for (value, expected) in table {
            let reason = reason(*value, None);
            assert!(reason.starts_with(expected), "{value:?}: {reason}");
        }
        assert_eq!(reason(Some(ENVELOPE), Some("the key is not base64")), "undecodable: the key is not base64");
    }

    #[test]
    fn a_rejected_envelope_keeps_what_is_known_of_its_event() {
        let rejection = read(Some(&ENVELOPE.replace(r#""user_id":"u-1""#, r#""user_id":7"#)), None).unwrap_err();
        assert_eq!(rejection.key.unwrap().to_string(), "acme/a");
        assert_eq!(rejection.event_type, Some("click"));
        assert!(rejection.ip.is_some() && rejection.received_at.is_some());
    }

    #[test]
    fn a_detail_is_bounded_and_free_of_control_characters() {
        let name = format!("{}\\u0000{}", "a".repeat(20), "é".repeat(2_000));
        let reason = reason(Some(&format!(r#"{{"envelope":1,"id_source":"{name}"}}"#)), None);
        assert!(reason.starts_with("malformed-envelope: "), "{reason}");
        assert!(reason.len() <= MAX_DETAIL_BYTES + 64, "{}", reason.len());
        assert!(!reason.chars().any(char::is_control), "{reason}");
    }

    #[test]
    fn a_batch_keeps_the_order_of_its_records() {
        let records = [record(1, Some("x"), &[]), record(2, Some(ENVELOPE), &[]), record(3, None, &[])];
        let registry = Registry::embedded().unwrap();
        let foreign_tenant = TenantId::new("kafka").unwrap();
        let reader = Reader { registry: &registry, foreign_tenant: &foreign_tenant };
        let batch = Batch::read(records.iter().map(|record| (record, None)), reader);
        assert_eq!((batch.len(), batch.candidates().len()), (3, 1));
        assert_eq!(batch.candidates()[0].record, 1);
        assert!(batch.candidate(0).is_err() && batch.candidate(1).is_ok() && batch.candidate(2).is_err());
    }
}
