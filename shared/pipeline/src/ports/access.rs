//! Who may send, and how much: API keys, rate leases, address counters and the block list.

use std::fmt;

use async_trait::async_trait;
use event::{AddressKey, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
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

/// Per-minute allowance shared by all instances, handed out in blocks so that counter writes are bounded by
/// blocks and not by requests.
#[async_trait]
pub trait RateLeases: Send + Sync {
    /// Takes up to `want` tokens of `bucket` in the window numbered `minute`, of which there are `limit` in all.
    ///
    /// Returns how many were granted, 0 to `want`. The sum of grants of one bucket and window never exceeds
    /// `limit`, whatever the concurrency; after an `Err` the tokens of that call may be lost, never doubled.
    async fn take(&self, bucket: &str, minute: i64, want: u32, limit: u32) -> Result<u32, DependencyError>;
}

/// New events of one address in one minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressCount {
    pub address: AddressKey,
    /// Minutes since the epoch, of `received_at`.
    pub minute: i64,
    pub count: u32,
}

#[async_trait]
pub trait AddressCounters: Send + Sync {
    /// Adds each count and returns each new total. Atomic per address and minute.
    ///
    /// After an `Err` some counts may have been added; repeating then counts them twice, which only makes the
    /// limit stricter for that minute.
    async fn add(&self, counts: &[AddressCount]) -> Result<Vec<u64>, DependencyError>;
}

/// An entry of the block list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    pub address: AddressKey,
    /// Events received before this instant are not affected. An operator's block starts at the epoch, so that it
    /// also covers what waits in Kafka; an automatic one starts at the breach.
    pub from: Timestamp,
    /// Events received at or after this instant are not affected; `None` blocks until it is taken off.
    pub until: Option<Timestamp>,
    pub reason: String,
}

impl Block {
    pub fn covers(&self, received_at: Timestamp) -> bool {
        received_at >= self.from && self.until.is_none_or(|until| received_at < until)
    }

    /// An operator's entry has no end or starts at the epoch; an automatic one has an end and starts at a breach.
    pub fn is_operators(&self) -> bool {
        self.until.is_none() || self.from == Timestamp::EPOCH
    }

    /// Whether `newer` replaces this entry of the same address: always, unless this is an operator's that is
    /// still in force when an automatic one starts.
    pub fn gives_way_to(&self, newer: &Block) -> bool {
        newer.is_operators() || !self.is_operators() || self.until.is_some_and(|until| until <= newer.from)
    }
}

#[async_trait]
pub trait BlockList: Send + Sync {
    /// All entries, also lapsed ones that have not been removed yet.
    async fn list(&self) -> Result<Vec<Block>, DependencyError>;
    /// Adds entries, in their order. An address already listed gets the newer entry if the older one
    /// [gives way](Block::gives_way_to), and otherwise stays as it is.
    async fn block(&self, blocks: &[Block]) -> Result<(), DependencyError>;
    /// Whether the address was listed.
    async fn unblock(&self, address: AddressKey) -> Result<bool, DependencyError>;
}
