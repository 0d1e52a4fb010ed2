//! The block list in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use event::AddressRange;
use pipeline::ports::{Block, BlockList};
use pipeline::{Dependency, DependencyError};

use crate::fakes::Faults;

#[derive(Debug, Default)]
pub struct FakeBlockList {
    pub faults: Faults,
    listed: Mutex<BTreeMap<AddressRange, Block>>,
}

impl FakeBlockList {
    fn apply<T>(&self, effect: impl FnOnce(&mut BTreeMap<AddressRange, Block>) -> T) -> Result<T, DependencyError> {
        let effect = || effect(&mut self.listed.lock().unwrap_or_else(PoisonError::into_inner));
        self.faults.apply(Dependency::Dynamodb, effect)
    }
}

#[async_trait]
impl BlockList for FakeBlockList {
    async fn list(&self) -> Result<Vec<Block>, DependencyError> {
        self.apply(|listed| listed.values().cloned().collect())
    }

    async fn block(&self, blocks: &[Block]) -> Result<(), DependencyError> {
        self.apply(|listed| {
            for block in blocks {
                if listed.get(&block.address).is_none_or(|entry| entry.gives_way_to(block)) {
                    listed.insert(block.address, block.clone());
                }
            }
        })
    }

    async fn unblock(&self, address: AddressRange) -> Result<bool, DependencyError> {
        self.apply(|listed| listed.remove(&address).is_some())
    }
}
