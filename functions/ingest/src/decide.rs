//! Decides about one event of a request: a record for `raw-events`, or the reason for refusing it. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;
use event::limits::{Item, LimitError, Limits};
use event::schema::{Registry, Violation};
use event::{ENVELOPE_VERSION, Envelope, EventError, EventId, EventKey, Timestamp};
use pipeline::ports::{ApiKey, NewRecord};
use pipeline::{Header, header, topic};
use serde_json::value::to_raw_value;

use crate::IngestError;

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
    /// Only for a CloudEvent in binary mode.
    pub attributes: Option<BTreeMap<String, String>>,
}

/// An event that may be published.
#[derive(Debug)]
pub struct Acceptable {
    pub id: EventId,
    pub event_type: &'static str,
    pub record: NewRecord,
}

/// Checks one event and builds its record.
///
/// # Errors
/// [`IngestError`] with what the sender must correct.
pub fn decide(
    item: Item<'_>,
    sender: &Sender<'_>,
    registry: &Registry,
    limits: &Limits,
) -> Result<Acceptable, IngestError> {
    let bytes = item.within(limits)?;
    let event = match &sender.attributes {
        Some(attributes) => registry.read_binary(attributes, bytes)?,
        None => registry.read(bytes)?,
    };
    // A collector is not the client, so its own address is not used for its events.
    let ip = match event.client_ip {
        None if sender.key.trusted_collector => None,
        None => sender.address,
        Some(address) if sender.key.trusted_collector => Some(address),
        Some(_) => {
            let message = "only the API key of a trusted collector may send the client's address";
            let violation = Violation::new(event.client_ip_field(), "trustedCollector", message);
            return Err(EventError::Invalid(vec![violation]).into());
        }
    };
    let (id, id_source) = event.identify(sender.idempotency_key.as_ref())?;
    let attributes = sender.attributes.as_ref().map(to_raw_value).transpose().map_err(EventError::Malformed)?;
    if attributes.as_ref().is_some_and(|attributes| attributes.get().len() + bytes.len() > limits.item_bytes) {
        return Err(LimitError::ItemTooLarge { limit: limits.item_bytes }.into());
    }
    let event_type = registry.known_type(&event.event_type).unwrap_or_default();
    let key = EventKey { tenant: sender.key.tenant.clone(), id };
    let envelope = Envelope {
        envelope: ENVELOPE_VERSION,
        id: key.id.clone(),
        id_source,
        event_type: event.event_type,
        schema: event.schema,
        tenant: key.tenant.clone(),
        received_at: sender.received_at,
        occurred_at: event.occurred_at,
        ip,
        user_agent: sender.user_agent.map(Into::into),
        attributes: attributes.as_deref(),
        data: event.data,
    };
    let mut value = Vec::with_capacity(bytes.len() + ENVELOPE_BYTES);
    serde_json::to_writer(&mut value, &envelope).map_err(EventError::Malformed)?;
    let record = NewRecord {
        topic: topic::RAW_EVENTS,
        key: Some(key.to_string().into()),
        value: Some(value.into()),
        headers: vec![
            Header::new(header::EVENT_ID, key.id.as_str().to_owned()),
            Header::new(header::EVENT_TYPE, event_type),
            Header::new(header::TRACEPARENT, sender.traceparent.clone()),
        ],
    };
    Ok(Acceptable { id: key.id, event_type, record })
}

/// Room for what the envelope adds to the data, so that the value is rarely reallocated while it is written.
const ENVELOPE_BYTES: usize = 512;
