//! Decides about one event of a request: a record for `raw-events`, or the reason for refusing it. Pure.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::IpAddr;

use bytes::{BufMut as _, Bytes, BytesMut};
use event::limits::{Item, LimitError, Limits};
use event::schema::{Registry, Violation};
use event::{Binding, ENVELOPE_VERSION, Envelope, EventError, EventId, Form, IdSource, TimeDoubt, Timestamp};
use pipeline::ports::{ApiKey, KeyKind, NewRecord};
use pipeline::{Header, header, topic};
use serde_json::value::to_raw_value;

use crate::IngestError;
use crate::answer::IdFrom;

/// What all events of a request have in common.
#[derive(Debug)]
pub struct Sender<'r> {
    pub key: &'r ApiKey,
    /// The verified address; `None` if the platform does not name it.
    pub address: Option<IpAddr>,
    pub user_agent: Option<&'r str>,
    pub traceparent: Bytes,
    pub received_at: Timestamp,
    /// Only for a single event.
    pub idempotency_key: Option<EventId>,
    /// The form of the events, as the media type says it.
    pub form: EventForm,
}

/// The form of the events of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventForm {
    Plain,
    /// CloudEvents with their data in a member.
    Structured,
    /// One CloudEvent, with its attributes in headers.
    Binary(BTreeMap<String, String>),
}

impl EventForm {
    const fn attributes(&self) -> Option<&BTreeMap<String, String>> {
        match self {
            EventForm::Plain | EventForm::Structured => None,
            EventForm::Binary(attributes) => Some(attributes),
        }
    }
}

/// An event that may be published.
#[derive(Debug)]
pub struct Acceptable {
    pub id: EventId,
    pub id_from: IdFrom,
    pub time_doubt: Option<TimeDoubt>,
    pub event_type: &'static str,
    pub record: NewRecord,
}

/// Checks one event and builds its record. The record is written into `buffer`, which the events of a request share, so
/// that a record has no memory of its own; whatever `buffer` holds is overwritten.
///
/// # Errors
/// [`IngestError`] with what the sender must correct.
pub fn decide(
    item: Item<'_>,
    sender: &Sender<'_>,
    registry: &Registry,
    limits: &Limits,
    buffer: &mut BytesMut,
) -> Result<Acceptable, IngestError> {
    let bytes = item.within(limits)?;
    let event = match &sender.form {
        EventForm::Plain => registry.read_as(Form::Plain, bytes),
        EventForm::Structured => registry.read_as(Form::Structured, bytes),
        EventForm::Binary(attributes) => registry.read_binary(Binding::Http, attributes, bytes),
    };
    let event = event.map_err(|error| match error {
        EventError::UnknownType(name) => {
            let known: Vec<&str> = registry.types().map(|(name, _)| name).collect();
            IngestError::UnknownType { name, known: known.join(", ") }
        }
        other => IngestError::Event(other),
    })?;
    let ip = match (sender.key.kind, event.client_ip) {
        (KeyKind::Server, client) => client,
        (KeyKind::Publishable, None) => sender.address,
        (KeyKind::Publishable, Some(_)) => {
            let message = "only a server's API key may send the client's address";
            let violation = Violation::new(event.client_ip_field(), "serverKey", message);
            return Err(EventError::Invalid(vec![violation]).into());
        }
    };
    let (id, id_source) = event.identify(sender.idempotency_key.as_ref())?;
    let id_from = match id_source {
        IdSource::Fingerprint => IdFrom::Fingerprint,
        IdSource::Client if event.has_id() => IdFrom::Client,
        IdSource::Client => IdFrom::IdempotencyKey,
    };
    let attributes = sender.form.attributes().map(to_raw_value).transpose().map_err(EventError::Malformed)?;
    if attributes.as_ref().is_some_and(|attributes| attributes.get().len() + bytes.len() > limits.item_bytes) {
        return Err(LimitError::ItemTooLarge { limit: limits.item_bytes }.into());
    }
    let time_doubt = event.occurred_at.and_then(|at| at.doubt(sender.received_at));
    let event_type = registry.known_type(&event.event_type).unwrap_or_default();
    let envelope = Envelope {
        envelope: ENVELOPE_VERSION,
        id: id.clone(),
        id_source,
        event_type: event.event_type,
        schema: event.schema,
        tenant: sender.key.tenant.clone(),
        received_at: sender.received_at,
        occurred_at: event.occurred_at,
        ip,
        user_agent: sender.user_agent.map(Into::into),
        attributes: attributes.as_deref(),
        data: event.data,
    };
    let record = record(&envelope, event_type, sender.traceparent.clone(), buffer).map_err(EventError::Malformed)?;
    Ok(Acceptable { id, id_from, time_doubt, event_type, record })
}

/// Writes the key and the value of a record into `buffer`, and takes them out of it without copying.
fn record(
    envelope: &Envelope<'_>,
    event_type: &'static str,
    traceparent: Bytes,
    buffer: &mut BytesMut,
) -> Result<NewRecord, serde_json::Error> {
    let id = envelope.id.as_str();
    // An error while writing leaves a part of a record.
    buffer.clear();
    write!(buffer.writer(), "{}", envelope.key()).map_err(serde_json::Error::io)?;
    let key = buffer.split().freeze();
    serde_json::to_writer(buffer.writer(), envelope)?;
    let value = buffer.split().freeze();
    let headers = vec![
        // The key ends in the id.
        Header::new(header::EVENT_ID, key.slice(key.len() - id.len()..)),
        Header::new(header::EVENT_TYPE, event_type),
        Header::new(header::TRACEPARENT, traceparent),
    ];
    Ok(NewRecord { topic: topic::RAW_EVENTS, key: Some(key), value: Some(value), headers })
}

/// Room for the records of `items`, so that the buffer rarely grows.
pub fn record_bytes(items: &[Item<'_>]) -> usize {
    items.iter().map(|item| item.size() + ENVELOPE_BYTES).sum()
}

/// What a record has besides its data: the envelope and the key, with short names and a usual user agent.
const ENVELOPE_BYTES: usize = 384;
