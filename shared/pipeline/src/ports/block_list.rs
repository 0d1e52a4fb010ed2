//! The block list: addresses whose events are not stored, and exceptions from it.

use std::time::Duration;

use async_trait::async_trait;
use event::{AddressRange, Timestamp};
use serde::{Deserialize, Serialize};

use crate::DependencyError;

/// How long an entry is kept after its end. Records that were received during a block may be processed after it, if they
/// waited in Kafka.
pub const KEEP_BLOCKS: Duration = Duration::from_secs(86_400);

/// An entry of the block list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    pub address: AddressRange,
    /// An exception that an operator made: events from there are neither blocked nor counted. Of the entries that have an
    /// address, that of the smallest range holds.
    #[serde(default)]
    pub allows: bool,
    /// Events received before this instant are not affected. An operator's block starts at the epoch, so that it also
    /// covers events that wait in Kafka; an automatic one starts at the first event over the limit.
    pub from: Timestamp,
    /// Events received at or after this instant are not affected; `None` blocks until the entry is removed.
    pub until: Option<Timestamp>,
    pub reason: String,
}

impl Block {
    pub fn covers(&self, received_at: Timestamp) -> bool {
        received_at >= self.from && self.until.is_none_or(|until| received_at < until)
    }

    /// An operator's entry has no end or starts at the epoch; an automatic one has an end and a later start.
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
    /// All entries, exceptions too, including expired ones that have not been removed yet.
    async fn list(&self) -> Result<Vec<Block>, DependencyError>;
    /// Adds entries, in their order. An address already listed gets the newer entry if the older one
    /// [gives way](Block::gives_way_to), and otherwise stays as it is.
    async fn block(&self, blocks: &[Block]) -> Result<(), DependencyError>;
    /// Removes the entry of exactly this range, and returns whether there was one.
    async fn unblock(&self, address: AddressRange) -> Result<bool, DependencyError>;
}
