//! Records for the tests of the decisions.

use std::borrow::Cow;

use bytes::Bytes;
use event::{EventId, EventKey, Facts, IdSource, Origin, PayloadHash, RecordDigest, TenantId, Timestamp};
use serde_json::value::RawValue;

use crate::ports::LedgerEntry;
use crate::tracked::{Event, Payload, Read, State, Tracked};
use crate::{Header, Outcome, Position, Record, RecordHeaders};

/// A short way to make an open record for a table test: it is its own first copy, received at the epoch.
pub fn read(origin_text: &str, id: &str, payload: &str) -> Tracked<'static, Read> {
    let origin = origin(origin_text);
    let event = Event {
        key: EventKey { tenant: TenantId::new("acme").unwrap(), id: EventId::new(id).unwrap() },
        id_source: IdSource::Client,
        event_type: Cow::Borrowed("click"),
        schema_version: 1,
        received_at: Timestamp::EPOCH,
        undated: false,
        occurred_at: None,
        ip: None,
        user_agent: None,
        user_id: None,
        facts: Facts::default(),
        payload_hash: PayloadHash::of(payload.as_bytes()),
        payload: Payload(Cow::Borrowed(RawValue::NULL)),
    };
    let position = Position::new(origin.topic.clone(), origin.partition, origin.offset);
    let digest = Some(RecordDigest([1; RecordDigest::BYTES]));
    Tracked { position, digest, incarnation: None, origin, trace_id: None, state: State::Open { event, found: Read } }
}

/// Records from `(origin, id, payload)`, whose positions are in the order given.
pub fn batch(records: &[(&str, &str, &str)]) -> Vec<Tracked<'static, Read>> {
    let at = |((origin, id, payload), offset): (&(&str, &str, &str), i64)| Tracked {
        position: Position::new("raw-events", 0, offset),
        ..read(origin, id, payload)
    };
    records.iter().zip(0..).map(at).collect()
}

/// The entry of a valid event.
pub fn entry<S>(record: &Tracked<'_, S>) -> LedgerEntry {
    LedgerEntry {
        position: record.position.clone(),
        digest: record.digest,
        origin: record.origin.clone(),
        trace_id: record.trace_id,
        key: record.key().cloned(),
        outcome: Outcome::Valid,
        reason: String::new(),
        risk: None,
        recorded_at: Timestamp::EPOCH,
    }
}

pub fn origin(text: &str) -> Origin {
    text.parse().unwrap()
}

pub fn record(offset: i64, value: Option<&str>, headers: &[(&'static str, &str)]) -> Record {
    Record {
        position: Position::new("raw-events", 0, offset),
        timestamp: Timestamp::from_millis(1_000 + offset),
        key: Some(Bytes::from_static(b"acme/a")),
        value: value.map(|value| Bytes::from(value.to_owned())),
        headers: RecordHeaders(
            headers.iter().map(|(name, value)| Header::read(name, Some(Bytes::from((*value).to_owned())))).collect(),
        ),
        undecodable: None,
    }
}
