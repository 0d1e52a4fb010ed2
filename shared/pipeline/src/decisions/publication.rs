//! Makes the records to publish for a batch, and for events that were scored late.
//!
//! They are made only from the record and its ledger entry, never from the decisions of this run: after a crash the
//! ledger may hold the entry of an earlier run, and what is published again must be byte-equal to what that run
//! published.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use bytes::{Bytes, BytesMut};
use event::{EventId, IdSource, Origin, RecordDigest, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ports::{LateOutcome, LedgerEntry, NewRecord};
use crate::tracked::{Decided, Event, Tracked};
use crate::{Header, Outcome, ReasonTag, Record, TraceId, header, topic};

/// Longest `traceparent` that is passed on, in bytes. That of version 00 has 55 (W3C Trace Context, section 3.2).
const MAX_TRACEPARENT_BYTES: usize = 256;

/// The suffix of the id of an outcome that announces a late score, `<topic>/<partition>/<offset>#scored`.
pub(super) const SCORED_LATER: &str = "#scored";

/// The value of a record on `processed-events`. Holds everything that the ledger and `events` have about the record, so
/// that both can be restored from outcomes alone ([`super::restoration`]).
#[derive(Serialize, Deserialize)]
pub(super) struct OutcomeValue<'a> {
    /// The position of the record on `raw-events`, with its incarnation, which identifies the outcome, because each
    /// record has one. With the suffix `#scored`, it identifies the late score of the event that the record stored.
    #[serde(borrow)]
    pub outcome_id: Cow<'a, str>,
    pub outcome: Outcome,
    #[serde(borrow)]
    pub reason: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<EventId>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Timestamp>,
    pub recorded_at: Timestamp,
    pub origin: Origin,
    /// That of the record itself, if it differs from the origin's: it is a copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<RecordDigest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<TraceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk_score: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk_reasons: Option<Cow<'a, [String]>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules_version: Option<Cow<'a, str>>,
    /// What statistics keep of an event that is not stored ([`event::Facts`]); of a stored one, `data` has it.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub fields: Option<&'a RawValue>,
    /// As 16 hexadecimal digits, because readers of JSON may round so large a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    // The fields from here on are only set for stored events.
    /// Version of the schema that `data` meets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_source: Option<IdSource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Cow<'a, str>>,
    /// The client's JSON, byte for byte.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub data: Option<&'a RawValue>,
}

/// Writes outcomes into one buffer: their keys, values and header values are pieces of it, and the bytes of a piece are
/// freed with the last piece of its batch.
#[derive(Debug)]
pub struct OutcomeWriter {
    /// Empty between calls.
    buffer: BytesMut,
    /// A value while it is written: JSON comes in many small parts, which cost more to append to shared bytes.
    json: Vec<u8>,
    outcome_id: String,
}

impl OutcomeWriter {
    /// What an outcome has besides the bytes of its record, roughly.
    const OVERHEAD: usize = 512;

    /// A writer for the outcomes of these records.
    pub fn new(records: &[Record]) -> Self {
        let value = |record: &Record| record.value.as_ref().map_or(0, Bytes::len);
        let bytes: usize = records.iter().map(|record| value(record) + Self::OVERHEAD).sum();
        OutcomeWriter { buffer: BytesMut::with_capacity(bytes), json: Vec::new(), outcome_id: String::new() }
    }

    /// The outcome of a record, for `processed-events`, with the `traceparent` of the record. Its key is the event's
    /// key, so that an event's outcomes stay in one partition; if there is no event, the key is the origin.
    ///
    /// # Errors
    /// Never in practice: everything in an outcome can be written as JSON.
    pub fn outcome(
        &mut self,
        record: &Tracked<'_, Decided>,
        entry: &LedgerEntry,
        traceparent: Option<&[u8]>,
    ) -> Result<NewRecord, serde_json::Error> {
        // A redelivery must publish the same bytes, so the ledger's time counts, not that of this run.
        let undated = record.event().is_some_and(|event| event.undated);
        let received_at = if undated { Some(entry.recorded_at) } else { record.received_at() };
        let about = (record.event_type(), received_at, record.ip());
        let traceparent = traceparent.filter(|value| value.len() <= MAX_TRACEPARENT_BYTES);
        self.write("", entry, about, record.event(), traceparent)
    }

    fn write(
        &mut self,
        id_suffix: &'static str,
        entry: &LedgerEntry,
        (event_type, received_at, ip): (Option<&str>, Option<Timestamp>, Option<IpAddr>),
        event: Option<&Event<'_>>,
        traceparent: Option<&[u8]>,
    ) -> Result<NewRecord, serde_json::Error> {
        let stored = event.filter(|_| entry.outcome.is_stored());
        let facts = event.filter(|_| stored.is_none()).map(|event| &event.facts);
        self.outcome_id.clear();
        append(&mut self.outcome_id, format_args!("{}{id_suffix}", entry.position));
        let value = OutcomeValue {
            outcome_id: Cow::Borrowed(&self.outcome_id),
            outcome: entry.outcome,
            reason: Cow::Borrowed(&entry.reason),
            tenant: entry.key.as_ref().map(|key| key.tenant.clone()),
            id: entry.key.as_ref().map(|key| key.id.clone()),
            event_type: event_type.map(Cow::Borrowed),
            received_at,
            recorded_at: entry.recorded_at,
            origin: entry.origin.clone(),
            digest: entry.digest.filter(|_| entry.digest != entry.origin.digest),
            trace_id: entry.trace_id,
            ip,
            user_id: event.and_then(|event| event.user_id.as_deref()).map(Cow::Borrowed),
            risk_score: entry.risk.as_ref().map(|risk| risk.score),
            risk_reasons: entry.risk.as_ref().map(|risk| Cow::Borrowed(risk.reasons.as_slice())),
            rules_version: entry.risk.as_ref().map(|risk| Cow::Borrowed(&*risk.rules_version)),
            fields: facts.and_then(|facts| facts.fields.as_deref()).map(serde_json::from_str).transpose()?,
            subject: facts.and_then(|facts| facts.subject).map(|subject| format!("{subject:016x}")),
            schema: stored.map(|event| event.schema_version),
            id_source: stored.map(|event| event.id_source),
            occurred_at: stored.and_then(|event| event.occurred_at),
            user_agent: stored.and_then(|event| event.user_agent.as_deref()).map(Cow::Borrowed),
            data: stored.map(|event| &*event.payload.0),
        };
        self.json.clear();
        serde_json::to_writer(&mut self.json, &value)?;
        self.buffer.extend_from_slice(&self.json);
        let value = self.piece();
        let mut headers = Vec::with_capacity(5);
        if let Some(key) = &entry.key {
            headers.push(Header::new(header::EVENT_ID, self.text(&key.id)));
        }
        if let Some(event_type) = event_type {
            headers.push(Header::new(header::EVENT_TYPE, self.text(event_type)));
        }
        if let Some(traceparent) = traceparent {
            self.buffer.extend_from_slice(traceparent);
            headers.push(Header::new(header::TRACEPARENT, self.piece()));
        }
        let origin = self.text(&entry.origin);
        let key = match &entry.key {
            Some(key) => self.text(key),
            None => origin.clone(),
        };
        headers.push(Header::new(header::ORIGIN, origin));
        headers.push(Header::new(header::OUTCOME, entry.outcome.as_str()));
        Ok(NewRecord { topic: topic::PROCESSED_EVENTS, key: Some(key), value: Some(value), headers })
    }

    /// What was written since the last piece.
    fn piece(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }

    fn text(&mut self, text: impl fmt::Display) -> Bytes {
        append(&mut self.buffer, format_args!("{text}"));
        self.piece()
    }
}

/// Writing to memory does not fail, and nothing written here has a `Display` that fails.
fn append(to: &mut impl fmt::Write, text: fmt::Arguments<'_>) {
    let _ = to.write_fmt(text);
}

/// The second outcome of an event that was stored unscored, in the format of the first and in the same partition. It
/// has no `traceparent`, because that is not stored.
///
/// # Errors
/// Never in practice, as for [`OutcomeWriter::outcome`].
pub fn late_outcome(late: &LateOutcome) -> Result<NewRecord, serde_json::Error> {
    let LateOutcome { event, origin, position, outcome, risk, scored_at } = late;
    let entry = LedgerEntry {
        position: position.clone(),
        // The first outcome has it; nothing is made from that of a late one.
        digest: None,
        origin: origin.clone(),
        trace_id: None,
        key: Some(event.key.clone()),
        outcome: *outcome,
        reason: ReasonTag::ScoredLater.to_string(),
        risk: Some(risk.clone()),
        recorded_at: *scored_at,
    };
    let about = (Some(&*event.event_type), Some(event.received_at), event.ip);
    OutcomeWriter::new(&[]).write(SCORED_LATER, &entry, about, Some(event), None)
}

#[cfg(test)]
mod tests {
    use event::TenantId;
    use event::schema::Registry;

    use super::super::intake::Reader;
    use super::super::samples::record;
    use super::*;
    use crate::Position;
    use crate::dead_letter::dead_letter;
    use crate::ports::RiskScore;
    use crate::tracked::Read;

    const ENVELOPE: &str = r#"{"envelope":1,"id":"a","id_source":"client","type":"click","schema":1,"tenant":"acme","received_at":"2026-11-20T18:02:00.000Z","occurred_at":"2026-11-20T18:01:00.000Z","ip":"203.0.113.7","user_agent":"curl","data":{ "type":"click" , "id":"a","user_id":"u-1","campaign_id":"c"}}"#;

    /// The outcome and the dead letter of one record.
    fn publish(
        record: &Record,
        outcome_is: Outcome,
        reason: &str,
        risk: Option<RiskScore>,
    ) -> (NewRecord, Option<NewRecord>) {
        let registry = Registry::embedded().unwrap();
        let foreign_tenant = TenantId::new("kafka").unwrap();
        let reader = Reader { registry: &registry, foreign_tenant: &foreign_tenant, now: Timestamp::EPOCH };
        let tracked = reader.read(record).advance(|_, Read| Decided { outcome: Outcome::Valid, risk: None });
        let entry = LedgerEntry {
            position: record.position.clone(),
            digest: tracked.digest,
            origin: tracked.origin.clone(),
            trace_id: tracked.trace_id,
            key: tracked.key().cloned(),
            outcome: outcome_is,
            reason: reason.to_owned(),
            risk,
            recorded_at: Timestamp::from_millis(0),
        };
        let traceparent = record.headers.get(header::TRACEPARENT);
        let outcome = OutcomeWriter::new(&[]).outcome(&tracked, &entry, traceparent).unwrap();
        (outcome, dead_letter(record, &entry))
    }

    fn text(bytes: Option<&Bytes>) -> &str {
        std::str::from_utf8(bytes.unwrap()).unwrap()
    }

    /// The member that the outcome of a copy has for the copy's own digest.
    fn digest_member(record: &Record) -> String {
        format!(",\"digest\":\"{}\"", record.digest().unwrap())
    }

    fn headers(record: &NewRecord) -> Vec<(&str, &str)> {
        record.headers.iter().map(|header| (&*header.name, text(header.value.as_ref()))).collect()
    }

    #[test]
    fn a_stored_event_goes_out_with_its_score_and_data() {
        let risk = RiskScore { score: 100, reasons: vec!["private-range".into()], rules_version: "1".into() };
        let record = record(5, Some(ENVELOPE), &[("traceparent", "00-1-2-01"), ("origin", "raw-events/9/1")]);
        let (outcome, dead_letter) = publish(&record, Outcome::Fraud, "", Some(risk));
        assert_eq!(outcome.topic, "processed-events");
        assert_eq!(text(outcome.key.as_ref()), "acme/a");
        assert_eq!(
            text(outcome.value.as_ref()).replace(&digest_member(&record), ""),
            concat!(
                r#"{"outcome_id":"raw-events/0/5","outcome":"fraud","reason":"","tenant":"acme","id":"a","type":"click","#,
                r#""received_at":"2026-11-20T18:02:00.000Z","recorded_at":"1970-01-01T00:00:00.000Z","#,
                r#""origin":"raw-events/9/1","ip":"203.0.113.7","user_id":"u-1","risk_score":100,"#,
                r#""risk_reasons":["private-range"],"rules_version":"1","schema":1,"id_source":"client","#,
                r#""occurred_at":"2026-11-20T18:01:00.000Z","user_agent":"curl","#,
                r#""data":{ "type":"click" , "id":"a","user_id":"u-1","campaign_id":"c"}}"#
            )
        );
        assert_eq!(
            headers(&outcome),
            [
                ("event-id", "a"),
                ("event-type", "click"),
                ("traceparent", "00-1-2-01"),
                ("origin", "raw-events/9/1"),
                ("outcome", "fraud")
            ]
        );
        assert_eq!(dead_letter, None);
    }

    #[test]
    fn a_late_outcome_is_the_first_one_with_the_score() {
        let risk = RiskScore { score: 100, reasons: vec!["private-range".into()], rules_version: "1".into() };
        let (first, _) = publish(&record(5, Some(ENVELOPE), &[]), Outcome::Valid, "", None);
        let registry = Registry::embedded().unwrap();
        let foreign_tenant = TenantId::new("kafka").unwrap();
        let stored = record(5, Some(ENVELOPE), &[]);
        let read = Reader { registry: &registry, foreign_tenant: &foreign_tenant, now: Timestamp::EPOCH }.read(&stored);
        let late = LateOutcome {
            event: read.event().unwrap().clone().into_owned(),
            origin: read.origin.clone(),
            position: Position::new("raw-events", 0, 5),
            outcome: Outcome::Fraud,
            risk,
            scored_at: Timestamp::from_millis(60_000),
        };
        let second = late_outcome(&late).unwrap();
        assert_eq!((second.topic, &second.key), (first.topic, &first.key));
        let outcome = |value: &str| ("outcome".to_owned(), value.to_owned());
        let owned = |record| {
            headers(record).into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<Vec<_>>()
        };
        let mut expected = owned(&first);
        *expected.last_mut().unwrap() = outcome("fraud");
        assert_eq!(owned(&second), expected);
        let expected = text(first.value.as_ref())
            .replace(
                "raw-events/0/5\",\"outcome\":\"valid\",\"reason\":\"\"",
                "raw-events/0/5#scored\",\"outcome\":\"fraud\",\"reason\":\"scored-later\"",
            )
            .replace("1970-01-01T00:00:00.000Z", "1970-01-01T00:01:00.000Z")
            .replace(
                "\"schema\":",
                "\"risk_score\":100,\"risk_reasons\":[\"private-range\"],\"rules_version\":\"1\",\"schema\":",
            );
        assert_eq!(text(second.value.as_ref()), expected);
        assert_eq!(late_outcome(&late).unwrap(), second);
    }

    #[test]
    fn the_outcomes_of_two_records_at_one_position_have_ids_of_their_own() {
        let record = record(5, Some(ENVELOPE), &[]);
        let registry = Registry::embedded().unwrap();
        let foreign_tenant = TenantId::new("kafka").unwrap();
        let reader = Reader { registry: &registry, foreign_tenant: &foreign_tenant, now: Timestamp::EPOCH };
        let tracked = reader.read(&record).advance(|_, Read| Decided { outcome: Outcome::Valid, risk: None });
        let id = |incarnation| {
            let entry = LedgerEntry {
                position: record.position.clone().in_incarnation(incarnation),
                ..super::super::samples::entry(&tracked)
            };
            let outcome = OutcomeWriter::new(&[]).outcome(&tracked, &entry, None).unwrap();
            serde_json::from_slice::<OutcomeValue<'_>>(&outcome.value.unwrap()).unwrap().outcome_id.into_owned()
        };
        assert_eq!([id(0), id(2)], ["raw-events/0/5", "raw-events/0/5@2"]);
    }

    #[test]
    fn an_event_that_is_not_stored_goes_out_without_its_data() {
        let (outcome, dead_letter) =
            publish(&record(5, Some(ENVELOPE), &[]), Outcome::Duplicate, "already-claimed: raw-events/0/1", None);
        let value = text(outcome.value.as_ref());
        assert!(value.contains(r#""outcome":"duplicate","reason":"already-claimed: raw-events/0/1""#), "{value}");
        for absent in ["data", "risk", "user_agent", "schema"] {
            assert!(!value.contains(absent), "{absent} in {value}");
        }
        assert_eq!(dead_letter, None);
    }

    #[test]
    fn a_dead_letter_keeps_everything_and_adds_ours_at_the_end() {
        let original = record(
            5,
            Some("\u{1}not json"),
            &[("origin", "raw-events/2/7"), ("attempt", "2"), ("origin-timestamp", "88"), ("error-class", "forged")],
        );
        let (outcome, dead_letter) = publish(&original, Outcome::DeadLettered, "malformed-json: expected value", None);
        let dead_letter = dead_letter.unwrap();
        assert_eq!(dead_letter.topic, "dead-letter-events");
        assert_eq!((&dead_letter.key, &dead_letter.value), (&original.key, &original.value));
        assert_eq!(dead_letter.headers[..4], original.headers.0[..]);
        assert_eq!(
            headers(&dead_letter)[4..],
            [
                ("origin", "raw-events/2/7"),
                ("origin-timestamp", "88"),
                ("error-class", "malformed-json"),
                ("error-reason", "malformed-json: expected value"),
                ("failed-at", "1970-01-01T00:00:00.000Z"),
                ("attempt", "2"),
            ]
        );
        // The outcome of a record without an event is keyed by its origin.
        assert_eq!(text(outcome.key.as_ref()), "raw-events/2/7");
        assert_eq!(
            text(outcome.value.as_ref()).replace(&digest_member(&original), ""),
            concat!(
                r#"{"outcome_id":"raw-events/0/5","outcome":"dead_lettered","reason":"malformed-json: expected value","#,
                r#""recorded_at":"1970-01-01T00:00:00.000Z","origin":"raw-events/2/7"}"#
            )
        );
    }

    #[test]
    fn a_tombstone_stays_one() {
        let (_, dead_letter) = publish(&record(5, None, &[]), Outcome::DeadLettered, "tombstone", None);
        let dead_letter = dead_letter.unwrap();
        assert_eq!(dead_letter.value, None);
        assert_eq!(headers(&dead_letter)[2], ("error-class", "tombstone"));
    }
}
