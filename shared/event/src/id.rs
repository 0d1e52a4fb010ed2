//! Identity: an event's id, its tenant, and both together.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::text::parse_str;

/// Longest id a client may send, in bytes. With the tenant it stays far below DynamoDB's 2,048-byte key limit.
const MAX_ID_BYTES: usize = 256;
/// Longest tenant name, in bytes.
const MAX_TENANT_BYTES: usize = 64;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("an event id has 1 to {MAX_ID_BYTES} bytes and no control characters")]
    Event,
    #[error("a tenant has 1 to {MAX_TENANT_BYTES} characters of a-z, 0-9, '-', '_' or '.'")]
    Tenant,
}

/// An event's id: the client's own, or the fingerprint of what the client sent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct EventId(Arc<str>);

impl EventId {
    pub fn new(text: &str) -> Result<Self, IdError> {
        if text.is_empty() || text.len() > MAX_ID_BYTES || text.chars().any(char::is_control) {
            return Err(IdError::Event);
        }
        Ok(EventId(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_str(deserializer, EventId::new)
    }
}

/// The owner of an API key. Ids belong to a tenant, so equal ids of two tenants do not conflict.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct TenantId(Arc<str>);

impl TenantId {
    pub fn new(text: &str) -> Result<Self, IdError> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
        if text.is_empty() || text.len() > MAX_TENANT_BYTES || !text.bytes().all(allowed) {
            return Err(IdError::Tenant);
        }
        Ok(TenantId(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TenantId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_str(deserializer, TenantId::new)
    }
}

/// Tenant and id: the key of deduplication, and the Kafka key of the event's record.
///
/// Written `tenant/id`. A tenant name contains no `/`, so the two can always be separated.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventKey {
    pub tenant: TenantId,
    pub id: EventId,
}

impl fmt::Display for EventKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.id)
    }
}

/// SHA-256 of an event's content. It distinguishes a retry from another event with the same id.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PayloadHash(pub [u8; 32]);

impl PayloadHash {
    pub fn of(bytes: &[u8]) -> Self {
        PayloadHash(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for PayloadHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PayloadHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PayloadHash({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_bounds() {
        assert!(EventId::new("order-1 / 2").is_ok());
        assert_eq!(EventId::new(""), Err(IdError::Event));
        assert_eq!(EventId::new("a\nb"), Err(IdError::Event));
        assert_eq!(EventId::new(&"x".repeat(257)), Err(IdError::Event));
        assert_eq!(TenantId::new("Acme"), Err(IdError::Tenant));
        assert_eq!(TenantId::new("a/b"), Err(IdError::Tenant));
    }
}
