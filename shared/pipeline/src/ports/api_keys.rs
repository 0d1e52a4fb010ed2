//! API keys: who may send.

use std::fmt;

use async_trait::async_trait;
use event::TenantId;
use sha2::{Digest as _, Sha256};

use crate::DependencyError;

/// SHA-256 of an API key. Keys themselves are never stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(pub [u8; 32]);

impl KeyHash {
    /// Of a key as its holder sends it. Keys are long and random, so there is nothing to salt or to slow down.
    pub fn of(key: &[u8]) -> Self {
        KeyHash(Sha256::digest(key).into())
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({self})")
    }
}

/// What is known of an API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    pub hash: KeyHash,
    pub tenant: TenantId,
    /// What people call it: `web`, `collector-eu-1`. Shown in logs, unlike the key.
    pub name: String,
    /// A server that forwards other people's events: its per-event `client_ip` is believed.
    pub trusted_collector: bool,
    /// Events per minute, if other than the default.
    pub rate_limit_per_min: Option<u32>,
    pub revoked: bool,
}

#[async_trait]
pub trait ApiKeys: Send + Sync {
    /// The key with that hash, also if revoked. Consistent: a key put before the call is found.
    async fn find(&self, hash: &KeyHash) -> Result<Option<ApiKey>, DependencyError>;
    /// Creates or replaces.
    async fn put(&self, key: &ApiKey) -> Result<(), DependencyError>;
}
