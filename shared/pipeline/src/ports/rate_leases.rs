//! Rate leases: how much a key may send.

use async_trait::async_trait;

use crate::DependencyError;

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
