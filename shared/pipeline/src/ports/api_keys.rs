//! API keys: who may send.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use event::{TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use strum::{EnumString, IntoStaticStr};

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

/// A text that is not the hash of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not 64 hexadecimal digits")]
pub struct KeyHashError;

impl FromStr for KeyHash {
    type Err = KeyHashError;

    fn from_str(text: &str) -> Result<Self, KeyHashError> {
        let mut hash = [0; 32];
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(KeyHashError);
        }
        for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| KeyHashError)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| KeyHashError)?;
        }
        Ok(KeyHash(hash))
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

/// Who holds a key, and so how far it is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, EnumString, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum KeyKind {
    /// A server that keeps the key secret. It may say for each event which client it came from (`client_ip`); its own
    /// address is not the client's, so it is neither stored nor limited nor scored. Only the key's own limit holds.
    Server,
    /// Browsers and apps, where anyone can read the key. The address that sends is the client's.
    Publishable,
}

impl KeyKind {
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// Something that a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, EnumString, strum::Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Scope {
    /// Send events.
    Write,
    /// Look up events of its tenant.
    Read,
    /// What concerns the whole installation or other tenants.
    Operate,
}

/// What is stored about an API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    pub hash: KeyHash,
    pub tenant: TenantId,
    /// A name for people, such as `web` or `collector-eu-1`. Unlike the key, it is shown in logs.
    pub name: String,
    pub kind: KeyKind,
    pub scopes: BTreeSet<Scope>,
    /// Events per minute, if different from the default.
    pub rate_limit_per_min: Option<u32>,
    /// How many events may come at once, if different from the default.
    pub burst: Option<u32>,
    /// The key is not accepted from this instant on; `None` if it does not expire.
    pub expires_at: Option<Timestamp>,
    pub revoked: bool,
}

impl ApiKey {
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }
}

#[async_trait]
pub trait ApiKeys: Send + Sync {
    /// The key with that hash, also if it is revoked or expired. A consistent read: a key put before the call is found.
    async fn find(&self, hash: &KeyHash) -> Result<Option<ApiKey>, DependencyError>;
    /// Creates or replaces a key.
    async fn put(&self, key: &ApiKey) -> Result<(), DependencyError>;
    /// All keys, also those that are revoked or expired, in any order.
    async fn list(&self) -> Result<Vec<ApiKey>, DependencyError>;
}
