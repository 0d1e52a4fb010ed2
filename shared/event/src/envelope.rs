//! The value of a record on `raw-events`.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::text::borrowed;
use crate::{EventId, EventKey, PayloadHash, TenantId, Timestamp};

/// The version this build writes and reads.
pub const ENVELOPE_VERSION: u32 = 1;

/// Who chose the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdSource {
    /// The client sent it.
    Client,
    /// The SHA-256 of the canonical JSON of what the client sent.
    Fingerprint,
}

impl IdSource {
    /// The hash by which copies with the same id are compared.
    ///
    /// A fingerprint id is itself a hash of the content that ignores white space, so it is hashed instead of the bytes:
    /// copies that differ only in white space are equal.
    pub fn payload_hash(self, id: &EventId, data: &RawValue) -> PayloadHash {
        match self {
            IdSource::Client => PayloadHash::of(data.get().as_bytes()),
            IdSource::Fingerprint => PayloadHash::of(id.as_str().as_bytes()),
        }
    }

    /// Who chose the id, for an event that is stored with its payload hash but without the source of its id.
    pub fn infer(hash: PayloadHash, id: &EventId, data: &RawValue) -> Self {
        if hash == IdSource::Client.payload_hash(id, data) { IdSource::Client } else { IdSource::Fingerprint }
    }
}

/// What ingest writes for one accepted event. `data` has the client's bytes unchanged.
///
/// Borrows from the record's bytes where possible, so that reading an envelope copies only ids.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub struct Envelope<'a> {
    /// Envelope version; see [`ENVELOPE_VERSION`].
    pub envelope: u32,
    pub id: EventId,
    pub id_source: IdSource,
    #[serde(rename = "type", borrow)]
    pub event_type: std::borrow::Cow<'a, str>,
    /// Version of the event type's schema that the data was checked against.
    pub schema: u32,
    pub tenant: TenantId,
    pub received_at: Timestamp,
    /// When the event happened, by the client's clock, if it said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<Timestamp>,
    /// The verified client address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    #[serde(borrow, default, deserialize_with = "borrowed", skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<std::borrow::Cow<'a, str>>,
    /// CloudEvents context attributes that are not part of `data` (binary mode), as a JSON object.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<&'a RawValue>,
    #[serde(borrow)]
    pub data: &'a RawValue,
}

#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    #[error("the record's value is not an envelope")]
    Malformed(#[source] serde_json::Error),
    #[error("unknown envelope version {0}: this build reads version {ENVELOPE_VERSION}")]
    UnknownVersion(u32),
}

#[derive(Deserialize)]
struct VersionOnly {
    envelope: u32,
}

impl<'a> Envelope<'a> {
    /// Reads the value of a record on `raw-events`.
    ///
    /// A value of another version gives [`EnvelopeError::UnknownVersion`] even if its other fields changed.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        match serde_json::from_slice::<Envelope<'a>>(bytes) {
            Ok(envelope) if envelope.envelope == ENVELOPE_VERSION => Ok(envelope),
            Ok(envelope) => Err(EnvelopeError::UnknownVersion(envelope.envelope)),
            Err(error) => match serde_json::from_slice::<VersionOnly>(bytes) {
                Ok(version) if version.envelope != ENVELOPE_VERSION => {
                    Err(EnvelopeError::UnknownVersion(version.envelope))
                }
                Ok(_) | Err(_) => Err(EnvelopeError::Malformed(error)),
            },
        }
    }

    pub fn key(&self) -> EventKey {
        EventKey { tenant: self.tenant.clone(), id: self.id.clone() }
    }

    /// See [`IdSource::payload_hash`].
    pub fn payload_hash(&self) -> PayloadHash {
        self.id_source.payload_hash(&self.id, self.data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: &str = r#"{"envelope":1,"id":"a","id_source":"client","type":"click","schema":1,"tenant":"acme","received_at":"2026-11-20T18:02:00.000Z","ip":"203.0.113.7","data":{ "type":"click" , "id":"a"}}"#;

    #[test]
    fn keeps_the_clients_bytes() {
        let envelope = Envelope::parse(VALUE.as_bytes()).unwrap();
        assert_eq!(envelope.data.get(), r#"{ "type":"click" , "id":"a"}"#);
        assert_eq!(serde_json::to_string(&envelope).unwrap(), VALUE);
        assert_eq!(envelope.key().to_string(), "acme/a");
    }

    #[test]
    fn names_an_unknown_version_whatever_its_shape() {
        let error = Envelope::parse(br#"{"envelope":2,"body":[]}"#).unwrap_err();
        assert!(matches!(error, EnvelopeError::UnknownVersion(2)), "{error}");
        assert!(matches!(Envelope::parse(b"[]").unwrap_err(), EnvelopeError::Malformed(_)));
    }
}
