//! Address counters in memory.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use event::AddressKey;
use pipeline::ports::{AddressCount, AddressCounters, MinuteTotal};
use pipeline::{Dependency, DependencyError};

use crate::fakes::Faults;

#[derive(Debug, Default)]
pub struct FakeAddressCounters {
    pub faults: Faults,
    /// Events counted, by address and minute.
    totals: Mutex<HashMap<(AddressKey, i64), u64>>,
}

impl FakeAddressCounters {
    fn apply<T>(&self, effect: impl FnOnce(&mut HashMap<(AddressKey, i64), u64>) -> T) -> Result<T, DependencyError> {
        let effect = || effect(&mut self.totals.lock().unwrap_or_else(PoisonError::into_inner));
        self.faults.apply(Dependency::Dynamodb, effect)
    }
}

#[async_trait]
impl AddressCounters for FakeAddressCounters {
    async fn add(&self, counts: &[AddressCount]) -> Result<Vec<u64>, DependencyError> {
        self.apply(|totals| {
            let total = |count: &AddressCount| {
                let total = totals.entry((count.address, count.minute)).or_default();
                *total += u64::from(count.count);
                *total
            };
            counts.iter().map(total).collect()
        })
    }

    async fn totals(&self, address: AddressKey) -> Result<Vec<MinuteTotal>, DependencyError> {
        self.apply(|totals| {
            let of_address = totals.iter().filter(|((counted, _), _)| *counted == address);
            let mut found: Vec<MinuteTotal> =
                of_address.map(|((_, minute), events)| MinuteTotal { minute: *minute, events: *events }).collect();
            found.sort_unstable();
            found
        })
    }

    async fn forget(&self, address: AddressKey) -> Result<(), DependencyError> {
        self.apply(|totals| totals.retain(|(counted, _), _| *counted != address))
    }
}
