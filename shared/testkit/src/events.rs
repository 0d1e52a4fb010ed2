//! Short ways to make events and decided records for tests.
#![expect(clippy::expect_used, reason = "a test helper: invalid sample values fail the test")]

use std::borrow::Cow;

use event::{EventId, EventKey, Facts, IdSource, PayloadHash, RecordDigest, TenantId, Timestamp};
use pipeline::ports::RiskScore;
use pipeline::tracked::{Decided, Event, Known, Payload, State, Tracked};
use pipeline::{Outcome, Position};
use serde_json::value::RawValue;

/// The client's JSON.
pub fn payload(json: &str) -> Payload<'static> {
    Payload(Cow::Owned(RawValue::from_string(json.to_owned()).expect("JSON")))
}

/// A click with every optional field set and an id chosen by the client.
pub fn event(tenant: &TenantId, id: &str, json: &str, received_at: Timestamp) -> Event<'static> {
    Event {
        key: EventKey { tenant: tenant.clone(), id: EventId::new(id).expect("an id") },
        id_source: IdSource::Client,
        event_type: "click".into(),
        schema_version: 1,
        received_at,
        undated: false,
        occurred_at: Some(received_at),
        ip: Some([203, 0, 113, 7].into()),
        user_agent: Some("test".into()),
        user_id: Some("u-1".into()),
        facts: Facts::of_data("click", json),
        payload_hash: PayloadHash::of(json.as_bytes()),
        payload: payload(json),
    }
}

/// A record that is its own first copy, and whose event is to be stored.
pub fn stored(position: Position, event: Event<'static>, decided: Decided) -> Tracked<'static, Decided> {
    first_copy(position, State::Open { event, found: decided })
}

/// The decision to store an event as `valid`.
pub fn valid(risk: Option<RiskScore>) -> Decided {
    Decided { outcome: Outcome::Valid, risk }
}

/// A record that is its own first copy, and is closed without a row.
pub fn closed(position: Position, key: Option<EventKey>, outcome: Outcome, reason: &str) -> Tracked<'static, Decided> {
    let known = Known::Partly { key, event_type: None, received_at: None, ip: None, facts: Facts::NONE };
    let state = State::Closed { outcome, reason: reason.to_owned(), known };
    first_copy(position, state)
}

/// The digest of the records that these functions make.
pub const DIGEST: RecordDigest = RecordDigest([7; RecordDigest::BYTES]);

/// A record that is its own first copy.
pub fn first_copy(position: Position, state: State<'static, Decided>) -> Tracked<'static, Decided> {
    let origin = position.as_origin(Some(DIGEST));
    Tracked { position, digest: Some(DIGEST), incarnation: None, origin, trace_id: None, state }
}
