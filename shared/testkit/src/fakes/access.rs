//! API keys, rate leases, address counters and the block list in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use event::AddressKey;
use pipeline::ports::{AddressCount, AddressCounters, ApiKey, ApiKeys, Block, BlockList, KeyHash, RateLeases};
use pipeline::{Dependency, DependencyError};

use crate::fakes::Faults;

/// All four ports of access control. One queue of faults befalls the calls of all of them.
#[derive(Debug, Default)]
pub struct FakeAccess {
    pub faults: Faults,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    keys: HashMap<KeyHash, ApiKey>,
    /// Tokens handed out, by bucket and minute.
    leased: HashMap<(String, i64), u32>,
    /// Events counted, by address and minute.
    counts: HashMap<(AddressKey, i64), u64>,
    blocks: BTreeMap<AddressKey, Block>,
}

impl FakeAccess {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply<T>(&self, effect: impl FnOnce(&mut State) -> T) -> Result<T, DependencyError> {
        self.faults.apply(Dependency::Dynamodb, || effect(&mut self.state()))
    }
}

#[async_trait]
impl ApiKeys for FakeAccess {
    async fn find(&self, hash: &KeyHash) -> Result<Option<ApiKey>, DependencyError> {
        self.apply(|state| state.keys.get(hash).cloned())
    }

    async fn put(&self, key: &ApiKey) -> Result<(), DependencyError> {
        self.apply(|state| {
            state.keys.insert(key.hash, key.clone());
        })
    }
}

#[async_trait]
impl RateLeases for FakeAccess {
    async fn take(&self, bucket: &str, minute: i64, want: u32, limit: u32) -> Result<u32, DependencyError> {
        self.apply(|state| {
            let leased = state.leased.entry((bucket.to_owned(), minute)).or_default();
            let granted = want.min(limit.saturating_sub(*leased));
            *leased += granted;
            granted
        })
    }
}

#[async_trait]
impl AddressCounters for FakeAccess {
    async fn add(&self, counts: &[AddressCount]) -> Result<Vec<u64>, DependencyError> {
        self.apply(|state| {
            let total = |count: &AddressCount| {
                let total = state.counts.entry((count.address, count.minute)).or_default();
                *total += u64::from(count.count);
                *total
            };
            counts.iter().map(total).collect()
        })
    }
}

#[async_trait]
impl BlockList for FakeAccess {
    async fn list(&self) -> Result<Vec<Block>, DependencyError> {
        self.apply(|state| state.blocks.values().cloned().collect())
    }

    async fn block(&self, blocks: &[Block]) -> Result<(), DependencyError> {
        self.apply(|state| {
            for block in blocks {
                if state.blocks.get(&block.address).is_none_or(|listed| listed.gives_way_to(block)) {
                    state.blocks.insert(block.address, block.clone());
                }
            }
        })
    }

    async fn unblock(&self, address: AddressKey) -> Result<bool, DependencyError> {
        self.apply(|state| state.blocks.remove(&address).is_some())
    }
}
