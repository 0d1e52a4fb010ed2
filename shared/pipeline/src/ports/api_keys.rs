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
    /// The hash of a key as its holder sends it. Keys are long and random, so neither a salt nor a slow hash is needed.
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

/// What is stored about an API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    pub hash: KeyHash,
    pub tenant: TenantId,
    /// A name for people, such as `web` or `collector-eu-1`. Unlike the key, it is shown in logs.
    pub name: String,
    /// Whether the holder is a server that forwards the events of others; its per-event `client_ip` is trusted.
    pub trusted_collector: bool,
    /// Events per minute, if different from the default.
    pub rate_limit_per_min: Option<u32>,
    pub revoked: bool,
}

#[async_trait]
pub trait ApiKeys: Send + Sync {
    /// The key with that hash, also if it is revoked. A consistent read: a key put before the call is found.
    async fn find(&self, hash: &KeyHash) -> Result<Option<ApiKey>, DependencyError>;
    /// Creates or replaces a key.
    async fn put(&self, key: &ApiKey) -> Result<(), DependencyError>;
}
