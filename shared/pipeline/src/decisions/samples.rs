//! Candidates and records for the tests of the decisions.

use std::borrow::Cow;

use bytes::Bytes;
use event::{EventId, EventKey, IdSource, Origin, PayloadHash, TenantId, Timestamp};
use serde_json::value::RawValue;

use super::intake::Candidate;
use crate::{Header, Position, Record, RecordHeaders};

/// A candidate as short as a test's table wants it.
pub fn candidate(record: usize, origin: &str, id: &str, payload: &str) -> Candidate<'static> {
    Candidate {
        record,
        origin: origin.parse().unwrap(),
        key: EventKey { tenant: TenantId::new("acme").unwrap(), id: EventId::new(id).unwrap() },
        id_source: IdSource::Client,
        event_type: Cow::Borrowed("click"),
        schema_version: 1,
        received_at: Timestamp::EPOCH,
        occurred_at: None,
        ip: None,
        user_agent: None,
        user_id: None,
        payload_hash: PayloadHash::of(payload.as_bytes()),
        data: RawValue::NULL,
    }
}

pub fn origin(text: &str) -> Origin {
    text.parse().unwrap()
}

pub fn record(offset: i64, value: Option<&str>, headers: &[(&str, &str)]) -> Record {
    Record {
        position: Position::new("raw-events", 0, offset),
        timestamp: Timestamp::from_millis(1_000 + offset),
        key: Some(Bytes::from_static(b"acme/a")),
        value: value.map(|value| Bytes::from(value.to_owned())),
        headers: RecordHeaders(
            headers.iter().map(|(name, value)| Header::new(*name, Bytes::from((*value).to_owned()))).collect(),
        ),
    }
}
