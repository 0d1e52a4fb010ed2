//! API keys in memory.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use pipeline::ports::{ApiKey, ApiKeys, KeyHash};
use pipeline::{Dependency, DependencyError};

use crate::fakes::Faults;

#[derive(Debug, Default)]
pub struct FakeApiKeys {
    pub faults: Faults,
    keys: Mutex<HashMap<KeyHash, ApiKey>>,
}

impl FakeApiKeys {
    fn apply<T>(&self, effect: impl FnOnce(&mut HashMap<KeyHash, ApiKey>) -> T) -> Result<T, DependencyError> {
        let effect = || effect(&mut self.keys.lock().unwrap_or_else(PoisonError::into_inner));
        self.faults.apply(Dependency::Dynamodb, effect)
    }
}

#[async_trait]
impl ApiKeys for FakeApiKeys {
    async fn find(&self, hash: &KeyHash) -> Result<Option<ApiKey>, DependencyError> {
        self.apply(|keys| keys.get(hash).cloned())
    }

    async fn put(&self, key: &ApiKey) -> Result<(), DependencyError> {
        self.apply(|keys| {
            keys.insert(key.hash, key.clone());
        })
    }

    async fn list(&self) -> Result<Vec<ApiKey>, DependencyError> {
        self.apply(|keys| keys.values().cloned().collect())
    }
}
