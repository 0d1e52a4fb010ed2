//! The format of a dead letter: how one is written and read, and how its copy for `raw-events` is made.

use std::borrow::Cow;

use bytes::Bytes;
use event::{TenantId, Timestamp};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::ports::{LedgerEntry, LetterId, NewRecord};
use crate::reason::{canonical, tag_text};
use crate::{Header, Outcome, ReasonTag, Record, TraceContext, header, object_name, topic};

/// The headers that [`dead_letter`] appends to a record's own headers, in this order.
const ADDED_BY_PROCESSOR: [&str; 6] = [
    header::ORIGIN,
    header::ORIGIN_TIMESTAMP,
    header::ERROR_CLASS,
    header::ERROR_REASON,
    header::FAILED_AT,
    header::ATTEMPT,
];

/// The headers that a redrive appends to the first copy's headers.
const ADDED_BY_REDRIVE: [&str; 3] = [header::ORIGIN, header::ORIGIN_TIMESTAMP, header::ATTEMPT];

/// The dead letter of a record, for `dead-letter-events`; `None` unless its outcome is `dead_lettered`.
///
/// Key, value and headers are the record's own, byte for byte. Our headers are appended, and readers take the last
/// header of each name. `error-class` holds the tag of the reason, by which letters are grouped; `error-reason` holds
/// the whole reason. `attempt` is how often the record had been redriven when it failed.
///
/// A record that is too large is not repeated: its letter has the event's key, if it has one, no value, and the headers
/// `event-id` and `quarantine`, the key of the object with its bytes.
pub fn dead_letter(record: &Record, entry: &LedgerEntry) -> Option<NewRecord> {
    match entry.outcome {
        Outcome::DeadLettered => {}
        Outcome::Valid | Outcome::Fraud | Outcome::Duplicate | Outcome::Blocked => return None,
    }
    // What has no time was received when the ledger first saw it.
    let origin_timestamp = record.origin_timestamp().unwrap_or(entry.recorded_at);
    let (key, value, own) = match ReasonTag::of(&entry.reason) {
        Some(ReasonTag::TooLarge) => {
            let event_id = entry.key.as_ref().map(|key| Header::new(header::EVENT_ID, key.id.to_string()));
            let object = Header::new(header::QUARANTINE, object_name::quarantined(&entry.position, entry.digest));
            let key = entry.key.as_ref().map(|key| Bytes::from(key.to_string()));
            (key, None, event_id.into_iter().chain([object]).collect())
        }
        Some(_) | None => (record.key.clone(), record.value.clone(), record.headers.0.clone()),
    };
    let mut headers: Vec<Header> = own;
    headers.reserve_exact(ADDED_BY_PROCESSOR.len());
    headers.extend([
        Header::new(header::ORIGIN, entry.origin.to_string()),
        Header::new(header::ORIGIN_TIMESTAMP, origin_timestamp.as_millis().to_string()),
        Header::new(header::ERROR_CLASS, tag_text(&entry.reason).to_owned()),
        Header::new(header::ERROR_REASON, entry.reason.clone()),
        Header::new(header::FAILED_AT, entry.recorded_at.to_string()),
        Header::new(header::ATTEMPT, record.attempt().to_string()),
    ]);
    Some(NewRecord { topic: topic::DEAD_LETTER_EVENTS, key, value, headers })
}

/// A failed record, as it is on `dead-letter-events` or in a parked object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub id: LetterId,
    /// The tag of the reason, by which letters are grouped, in today's spelling.
    pub reason: String,
    /// The whole reason.
    pub detail: String,
    pub failed_at: Timestamp,
    /// The record with every header.
    pub record: Record,
    /// Kafka's timestamp of the first copy, as in the header.
    origin_timestamp: i64,
    /// How many of the headers, counted from the first, are those of the first copy.
    own_headers: usize,
    /// The key of the object with the record's bytes, if the letter does not have them itself.
    quarantined: Option<String>,
}

/// A record that does not end in the headers of a dead letter.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a dead letter")]
pub struct NotALetter;

impl DeadLetter {
    /// # Errors
    /// If the record was not written by the processor as a dead letter.
    pub fn read(record: Record) -> Result<Self, NotALetter> {
        let headers = &record.headers.0;
        let own_headers = headers.len().checked_sub(ADDED_BY_PROCESSOR.len()).ok_or(NotALetter)?;
        let (own, added) = headers.split_at(own_headers);
        if !names(added).eq(ADDED_BY_PROCESSOR) {
            return Err(NotALetter);
        }
        // The last header of a name counts, and the processor's headers come last.
        let text =
            |name: &str| record.headers.get(name).and_then(|value| std::str::from_utf8(value).ok()).ok_or(NotALetter);
        let origin = text(header::ORIGIN)?.parse().map_err(|_| NotALetter)?;
        let attempt = text(header::ATTEMPT)?.parse().map_err(|_| NotALetter)?;
        let origin_timestamp = text(header::ORIGIN_TIMESTAMP)?.parse().map_err(|_| NotALetter)?;
        let failed_at = Timestamp::parse(text(header::FAILED_AT)?).map_err(|_| NotALetter)?;
        let (reason, detail) =
            (canonical(text(header::ERROR_CLASS)?).to_owned(), text(header::ERROR_REASON)?.to_owned());
        let id = LetterId { origin, attempt };
        // The headers of an earlier redrive are replaced, so that they do not pile up. They are recognised by their
        // values: a record whose own headers end in the same names keeps them unless the values are equal too.
        let own_headers = own.len() - added_before(own, &id, origin_timestamp);
        let quarantined = match own {
            [.., Header { name, value: Some(key) }]
                if reason == ReasonTag::TooLarge.as_str() && name == header::QUARANTINE =>
            {
                Some(str::from_utf8(key).map_err(|_| NotALetter)?.to_owned())
            }
            _ => None,
        };
        Ok(DeadLetter { id, reason, detail, failed_at, record, origin_timestamp, own_headers, quarantined })
    }

    /// The span that made the first copy.
    pub fn trace(&self) -> Option<TraceContext> {
        self.record.trace()
    }

    /// The key of the object with the record's bytes. `None` if the letter has them itself, as all have whose record was
    /// not too large.
    pub fn quarantined(&self) -> Option<&str> {
        self.quarantined.as_deref()
    }

    /// The letter with the record that is in its object.
    #[must_use]
    pub fn with_bytes_of(&self, record: Record) -> DeadLetter {
        let own = &record.headers.0;
        let own_headers = own.len() - added_before(own, &self.id, self.origin_timestamp);
        DeadLetter { record, own_headers, quarantined: None, ..self.clone() }
    }

    /// The copy for `raw-events`: key, value and headers of the first copy byte for byte, then the headers that mark it
    /// as a copy. A letter whose record is quarantined must have its bytes first ([`DeadLetter::with_bytes_of`]).
    pub fn redriven(&self) -> NewRecord {
        let next = LetterId { origin: self.id.origin.clone(), attempt: self.id.attempt.saturating_add(1) };
        let mut headers = self.record.headers.0[..self.own_headers].to_vec();
        headers.extend(added_by_redrive(&next, self.origin_timestamp));
        NewRecord { topic: topic::RAW_EVENTS, key: self.record.key.clone(), value: self.record.value.clone(), headers }
    }

    /// What the letter says about its event.
    pub fn subject(&self) -> Subject<'_> {
        let value = self.record.value.as_deref().unwrap_or_default();
        let named: Named<'_> = serde_json::from_slice(value).unwrap_or_default();
        let header = |name| self.record.headers.get(name).and_then(|value| std::str::from_utf8(value).ok());
        let tenant = match named.envelope {
            Some(_) => named.tenant,
            None => None,
        };
        Subject {
            event_type: named.event_type.or_else(|| header(header::EVENT_TYPE).map(Cow::Borrowed)),
            event_id: named.id.or_else(|| header(header::EVENT_ID).map(Cow::Borrowed)),
            tenant: tenant.or_else(|| tenant_of(self.record.key.as_ref()?).map(Cow::Borrowed)),
        }
    }
}

/// How many headers at the end of a record's own were added by an earlier redrive.
fn added_before(own: &[Header], id: &LetterId, origin_timestamp: i64) -> usize {
    let earlier = added_by_redrive(id, origin_timestamp);
    if own.ends_with(&earlier) { earlier.len() } else { 0 }
}

fn added_by_redrive(id: &LetterId, origin_timestamp: i64) -> [Header; 3] {
    let values = [id.origin.to_string(), origin_timestamp.to_string(), id.attempt.to_string()];
    let mut headers = ADDED_BY_REDRIVE.map(|name| Header { name: name.into(), value: None });
    for (header, value) in headers.iter_mut().zip(values) {
        header.value = Some(Bytes::from(value));
    }
    headers
}

fn names(headers: &[Header]) -> impl Iterator<Item = &str> {
    headers.iter().map(|header| &*header.name)
}

/// The tenant in a key `tenant/id`.
fn tenant_of(key: &[u8]) -> Option<&str> {
    let (tenant, _) = std::str::from_utf8(key).ok()?.split_once('/')?;
    TenantId::new(tenant).ok().map(|_| tenant)
}

/// The members of an envelope of any version, or of an event as a client sends it, that name the event.
#[derive(Default, Deserialize)]
struct Named<'a> {
    envelope: Option<IgnoredAny>,
    #[serde(borrow, alias = "event_id")]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type", alias = "event_type")]
    event_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tenant: Option<Cow<'a, str>>,
}

/// What is known about the event in a letter. Where the value cannot be read, the headers and the key are used.
#[derive(Debug, PartialEq, Eq)]
pub struct Subject<'a> {
    pub event_type: Option<Cow<'a, str>>,
    pub event_id: Option<Cow<'a, str>>,
    pub tenant: Option<Cow<'a, str>>,
}

#[cfg(test)]
mod tests {
    use event::{EventId, EventKey};

    use super::*;
    use crate::{Position, RecordHeaders};

    fn raw(offset: i64, value: Option<&str>, headers: Vec<Header>) -> Record {
        Record {
            position: Position::new("raw-events", 2, offset),
            timestamp: Timestamp::from_millis(88 + offset),
            key: Some(Bytes::from_static(b"acme/a/b")),
            value: value.map(|value| Bytes::from(value.to_owned())),
            headers: RecordHeaders(headers),
            undecodable: None,
        }
    }

    /// What the processor publishes for a record that failed.
    fn dead(record: &Record) -> Record {
        let entry = LedgerEntry {
            position: record.position.clone(),
            digest: record.digest(),
            origin: record.origin(record.digest()),
            trace_id: None,
            key: None,
            outcome: Outcome::DeadLettered,
            reason: "schema: amount: too small".to_owned(),
            risk: None,
            recorded_at: Timestamp::from_millis(5_000),
        };
        let letter = dead_letter(record, &entry).unwrap();
        on_topic(letter, "dead-letter-events")
    }

    #[test]
    fn a_letter_of_an_earlier_build_is_grouped_under_todays_spelling() {
        let original = raw(7, Some("{}"), Vec::new());
        let entry = LedgerEntry {
            position: original.position.clone(),
            digest: original.digest(),
            origin: original.origin(original.digest()),
            trace_id: None,
            key: None,
            outcome: Outcome::DeadLettered,
            reason: "schema_violation: /amount".to_owned(),
            risk: None,
            recorded_at: Timestamp::from_millis(5_000),
        };
        let letter = dead_letter(&original, &entry).unwrap();
        let written = letter.headers.iter().find(|header| header.name == header::ERROR_CLASS).unwrap();
        assert_eq!(
            written.value.as_deref(),
            Some(&b"schema_violation"[..]),
            "an old reason is published again in its old spelling"
        );
        let letter = DeadLetter::read(on_topic(letter, "dead-letter-events")).unwrap();
        assert_eq!((&*letter.reason, &*letter.detail), ("schema-violation", "schema_violation: /amount"));
    }

    fn on_topic(record: NewRecord, topic: &str) -> Record {
        Record {
            position: Position::new(topic, 1, 4),
            timestamp: Timestamp::from_millis(6_000),
            key: record.key,
            value: record.value,
            headers: RecordHeaders(record.headers),
            undecodable: None,
        }
    }

    #[test]
    fn a_redriven_copy_is_the_original_and_three_headers() {
        let hostile = vec![
            Header { name: "none".into(), value: None },
            Header::new("traceparent", Bytes::from_static(b"\xff\x00")),
            Header::new("attempt", "many"),
            Header::new("error-class", "forged"),
        ];
        for (value, headers) in [(Some("\u{1}"), hostile.clone()), (None, hostile), (Some(""), Vec::new())] {
            let original = raw(7, value, headers);
            let letter = DeadLetter::read(dead(&original)).unwrap();
            let origin = original.position.as_origin(original.digest());
            assert_eq!(letter.id, LetterId { origin: origin.clone(), attempt: 0 });
            assert_eq!((letter.reason.as_str(), letter.detail.as_str()), ("schema", "schema: amount: too small"));
            let copy = letter.redriven();
            assert_eq!((copy.topic, &copy.key, &copy.value), ("raw-events", &original.key, &original.value));
            let count = original.headers.0.len();
            assert_eq!(copy.headers[..count], original.headers.0);
            let added = [origin.to_string(), "95".to_owned(), "1".to_owned()];
            let added: Vec<Header> =
                ADDED_BY_REDRIVE.iter().zip(added).map(|(name, value)| Header::new(*name, value)).collect();
            assert_eq!(copy.headers[count..], added);
        }
    }

    #[test]
    fn the_letter_of_a_record_that_is_too_large_points_to_its_bytes() {
        let forged = vec![Header::new(header::QUARANTINE, "quarantine/of-another")];
        let original = raw(7, Some("as if it were large"), forged.clone());
        let mut record = original.clone();
        for attempt in 0..3 {
            let entry = LedgerEntry {
                position: record.position.clone(),
                digest: record.digest(),
                origin: record.origin(record.digest()),
                trace_id: None,
                key: Some(EventKey { tenant: TenantId::new("acme").unwrap(), id: EventId::new("a/b").unwrap() }),
                outcome: Outcome::DeadLettered,
                reason: "too-large: 3000000 bytes".to_owned(),
                risk: None,
                recorded_at: Timestamp::from_millis(5_000),
            };
            let letter =
                DeadLetter::read(on_topic(dead_letter(&record, &entry).unwrap(), "dead-letter-events")).unwrap();
            assert_eq!((&*letter.reason, letter.id.attempt, &letter.record.value), ("too-large", attempt, &None));
            assert_eq!(letter.quarantined(), Some(&*object_name::quarantined(&record.position, record.digest())));
            let subject = letter.subject();
            assert_eq!((subject.tenant.as_deref(), subject.event_id.as_deref()), (Some("acme"), Some("a/b")));
            let letter = letter.with_bytes_of(record);
            assert_eq!(letter.quarantined(), None);
            let copy = letter.redriven();
            assert_eq!((&copy.key, &copy.value), (&original.key, &original.value));
            assert_eq!(copy.headers[..1], forged);
            assert_eq!(copy.headers.len(), 1 + ADDED_BY_REDRIVE.len());
            record = on_topic(copy, "raw-events");
            assert_eq!(record.origin_timestamp(), Some(original.timestamp));
        }
        // Only the processor's own header counts.
        assert_eq!(DeadLetter::read(dead(&original)).unwrap().quarantined(), None);
    }

    #[test]
    fn a_record_without_a_time_is_redriven_with_that_of_the_ledger() {
        let mut record = Record { timestamp: Timestamp::NONE, ..raw(7, Some("x"), Vec::new()) };
        for _ in 0..2 {
            let copy = DeadLetter::read(dead(&record)).unwrap().redriven();
            record = on_topic(copy, "raw-events");
            assert_eq!(record.headers.0.len(), ADDED_BY_REDRIVE.len());
            assert_eq!(record.origin_timestamp(), Some(Timestamp::from_millis(5_000)));
        }
    }

    #[test]
    fn headers_do_not_pile_up_over_redrives() {
        let original = raw(7, Some("x"), vec![Header::new("event-id", "a")]);
        let mut record = original.clone();
        for attempt in 1..=4 {
            let copy = DeadLetter::read(dead(&record)).unwrap().redriven();
            record = on_topic(copy, "raw-events");
            assert_eq!(record.headers.0.len(), 1 + ADDED_BY_REDRIVE.len());
            let first = original.position.as_origin(original.digest());
            assert_eq!((record.attempt(), record.origin(record.digest())), (attempt, first));
            assert_eq!(record.origin_timestamp(), Some(original.timestamp), "the timestamp of the first copy is kept");
        }
    }

    #[test]
    fn headers_of_ones_own_at_the_end_are_kept() {
        // A record of another producer with some of the headers of a redrive: only `origin` is used, because only it is
        // readable.
        let own = vec![Header::new("origin", "raw-events/9/9"), Header::new("attempt", "x")];
        let original = raw(7, Some("x"), own.clone());
        let copy = DeadLetter::read(dead(&original)).unwrap().redriven();
        assert_eq!(copy.headers[..2], own);
        assert_eq!(copy.headers.len(), 5);
    }

    #[test]
    fn an_attempt_at_its_limit_stays_there() {
        let original = raw(7, Some("x"), vec![Header::new("attempt", u32::MAX.to_string())]);
        let copy = DeadLetter::read(dead(&original)).unwrap().redriven();
        assert_eq!(on_topic(copy, "raw-events").attempt(), u32::MAX);
    }

    #[test]
    fn other_records_are_not_letters() {
        let letter = dead(&raw(7, Some("x"), vec![]));
        let without = |index: usize| {
            let mut record = letter.clone();
            record.headers.0.remove(index);
            record
        };
        let with = |index: usize, value: &'static [u8]| {
            let mut record = letter.clone();
            record.headers.0[index].value = Some(Bytes::from_static(value));
            record
        };
        let mut swapped = letter.clone();
        swapped.headers.0.swap(0, 1);
        for record in [
            raw(1, Some("x"), vec![]),
            without(0),
            without(5),
            swapped,
            with(0, b"nowhere"),
            with(1, b"soon"),
            with(2, b"\xff"),
            with(4, b"yesterday"),
            with(5, b"-1"),
        ] {
            assert_eq!(DeadLetter::read(record), Err(NotALetter));
        }
    }

    #[test]
    fn the_subject_comes_from_the_value_or_else_from_headers_and_key() {
        let named = vec![Header::new("event-id", "h-id"), Header::new("event-type", "h-type")];
        let subject = |value: &str| {
            let letter = DeadLetter::read(dead(&raw(7, Some(value), named.clone()))).unwrap();
            let subject = letter.subject();
            let text = |text: Option<Cow<'_, str>>| text.unwrap_or_default().into_owned();
            [text(subject.tenant), text(subject.event_type), text(subject.event_id)]
        };
        assert_eq!(subject(r#"{"envelope":9,"tenant":"t","type":"click","id":"1"}"#), ["t", "click", "1"]);
        assert_eq!(subject(r#"{"event_type":"click","event_id":"1","tenant":"boast"}"#), ["acme", "click", "1"]);
        assert_eq!(subject("not json"), ["acme", "h-type", "h-id"]);
        assert_eq!(subject(r#"{"type":7}"#), ["acme", "h-type", "h-id"]);
    }
}
