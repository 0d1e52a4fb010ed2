//! Address counters: how many new events an address has sent.

use std::time::Duration;

use async_trait::async_trait;
use event::AddressKey;

use crate::DependencyError;

/// How long a counter is kept after its minute. It must still exist while the records of its minute wait in Kafka. If older
/// records are replayed, their counters may be removed repeatedly; the limit is then not exact.
pub const KEEP_COUNTERS: Duration = Duration::from_secs(2 * 86_400);

/// New events of one address in one minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressCount {
    pub address: AddressKey,
    /// Minutes since the epoch, of `received_at`.
    pub minute: i64,
    pub count: u32,
}

/// What was counted of an address in one minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MinuteTotal {
    /// Minutes since the epoch.
    pub minute: i64,
    pub events: u64,
}

#[async_trait]
pub trait AddressCounters: Send + Sync {
    /// Adds each count and returns each new total. Atomic per address and minute.
    ///
    /// After an `Err` some counts may have been added; repeating the call counts them twice, which only makes the
    /// limit stricter for that minute.
    async fn add(&self, counts: &[AddressCount]) -> Result<Vec<u64>, DependencyError>;

    /// The counters of an address that are kept, the earliest first. For operators; the processor does not need it.
    async fn totals(&self, address: AddressKey) -> Result<Vec<MinuteTotal>, DependencyError>;

    /// Sets the counters of every minute of an address to zero.
    async fn forget(&self, address: AddressKey) -> Result<(), DependencyError>;
}
