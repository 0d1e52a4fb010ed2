//! Deduplication: who owns an event id.

use async_trait::async_trait;
use event::{EventKey, Origin, PayloadHash, Timestamp};

use crate::DependencyError;

/// A request to own an event id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub key: EventKey,
    pub origin: Origin,
    pub payload_hash: PayloadHash,
}

/// The answer to a [`Claim`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimVerdict {
    /// The id had no owner, or its claim had expired: the caller's origin owns it now.
    New,
    /// This same origin already owns the id: a redelivery, which goes on.
    Own,
    /// Another origin owns it: a duplicate.
    Taken { owner: Origin, same_payload: bool },
}

/// Remembers which origin owns an event id, for the deduplication window.
#[async_trait]
pub trait ClaimStore: Send + Sync {
    /// Claims each id for its origin; the first writer wins, also among concurrent callers.
    ///
    /// The caller sends each key at most once per call. Repeating a call after an error or a crash is safe: for claims
    /// that it wrote before, the answer is then [`ClaimVerdict::Own`]. A claim expires a fixed window after the `now`
    /// of the call that made it, and never earlier; repeating a claim does not extend it.
    async fn claim(&self, claims: &[Claim], now: Timestamp) -> Result<Vec<ClaimVerdict>, DependencyError>;
}

/// A claim as a store holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldClaim {
    pub owner: Origin,
    pub payload_hash: PayloadHash,
    /// The claim holds until then. A store may keep it longer.
    pub expires_at: Timestamp,
}

/// Looks at claims. For operators; the processor does not need it.
#[async_trait]
pub trait HeldClaims: Send + Sync {
    /// The claim of an id, also if it has expired and is not removed yet. A consistent read.
    async fn find(&self, key: &EventKey) -> Result<Option<HeldClaim>, DependencyError>;
}
