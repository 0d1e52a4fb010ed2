//! Rate leases: how many events an API key may send.

use async_trait::async_trait;

use crate::DependencyError;

/// A per-minute limit shared by all instances. Its tokens are granted in blocks, so that there is one counter write per
/// block and not one per request.
#[async_trait]
pub trait RateLeases: Send + Sync {
    /// Takes up to `want` tokens of `bucket` in the window numbered `minute`, which has `limit` tokens in all.
    ///
    /// Returns how many were granted, 0 to `want`. The sum of grants of one bucket and window never exceeds
    /// `limit`, whatever the concurrency; after an `Err` the tokens of that call may be lost, never doubled.
    async fn take(&self, bucket: &str, minute: i64, want: u32, limit: u32) -> Result<u32, DependencyError>;
}
