//! Rate leases: how many events or requests an API key may send.

use std::time::Duration;

use async_trait::async_trait;
use event::Timestamp;

use crate::DependencyError;
use crate::token_bucket::BucketLimit;

/// A request for tokens of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    pub limit: BucketLimit,
    /// The caller can use this many or none; at least 1, and at most the burst, or it will never get them.
    pub need: u32,
    /// It would take up to this many, to spend them within [`BucketLimit::lend_for`]; at least `need`.
    pub want: u32,
    pub now: Timestamp,
}

/// The answer to a [`TokenRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// `need` to `want` tokens.
    Granted(u32),
    /// Fewer than `need` are there, and none was taken; `need` will be there after this time, if nobody takes them.
    Refused { retry_after: Duration },
}

/// Token buckets shared by all instances. A caller takes several tokens at once, so that there is one write for many
/// requests and not one for each.
#[async_trait]
pub trait RateLeases: Send + Sync {
    /// Takes tokens of `bucket`, which is full if it was never used.
    ///
    /// Whatever the concurrency, no more are granted than [`BucketLimit`] allows; after an `Err` the tokens of that call
    /// may be lost, never doubled.
    async fn take(&self, bucket: &str, request: TokenRequest) -> Result<Grant, DependencyError>;
}
