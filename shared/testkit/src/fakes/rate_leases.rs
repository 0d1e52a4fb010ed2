//! Rate leases in memory.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use pipeline::ports::RateLeases;
use pipeline::{Dependency, DependencyError};

use crate::fakes::Faults;

#[derive(Debug, Default)]
pub struct FakeRateLeases {
    pub faults: Faults,
    /// Tokens granted, by bucket and minute.
    leased: Mutex<HashMap<(String, i64), u32>>,
}

impl FakeRateLeases {
    fn apply<T>(&self, effect: impl FnOnce(&mut HashMap<(String, i64), u32>) -> T) -> Result<T, DependencyError> {
        let effect = || effect(&mut self.leased.lock().unwrap_or_else(PoisonError::into_inner));
        self.faults.apply(Dependency::Dynamodb, effect)
    }
}

#[async_trait]
impl RateLeases for FakeRateLeases {
    async fn take(&self, bucket: &str, minute: i64, want: u32, limit: u32) -> Result<u32, DependencyError> {
        self.apply(|leased| {
            let leased = leased.entry((bucket.to_owned(), minute)).or_default();
            let granted = want.min(limit.saturating_sub(*leased));
            *leased += granted;
            granted
        })
    }
}
