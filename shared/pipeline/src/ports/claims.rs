//! Deduplication: who owns an event id.

use async_trait::async_trait;
use event::{EventKey, Origin, PayloadHash, Timestamp};

use crate::DependencyError;

/// A wish to own an event id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub key: EventKey,
    pub origin: Origin,
    pub payload_hash: PayloadHash,
}

/// The answer to a [`Claim`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimVerdict {
    /// Nobody owned the id, or its claim had expired: it is ours from now on.
    New,
    /// The claim is owned by this very origin: a redelivery, which goes on.
    Own,
    /// Another origin owns it: a duplicate.
    Taken { owner: Origin, same_payload: bool },
}

/// Remembers which origin owns an event id, for the deduplication window.
#[async_trait]
pub trait ClaimStore: Send + Sync {
    /// Claims each id for its origin; the first writer wins, also among concurrent callers.
    ///
    /// The caller sends each key at most once per call. Repeating a call after an error or a crash is safe: what
    /// it wrote before is then answered with [`ClaimVerdict::Own`]. A claim expires a fixed window after the
    /// `now` of the call that made it, and never earlier; repeating a claim does not extend it.
    async fn claim(&self, claims: &[Claim], now: Timestamp) -> Result<Vec<ClaimVerdict>, DependencyError>;
}
