//! Rate leases in memory.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use pipeline::ports::{Grant, RateLeases, TokenRequest};
use pipeline::token_bucket::{self, FullAt};
use pipeline::{Dependency, DependencyError};

use crate::fakes::Faults;

#[derive(Debug, Default)]
pub struct FakeRateLeases {
    pub faults: Faults,
    buckets: Mutex<HashMap<String, FullAt>>,
}

#[async_trait]
impl RateLeases for FakeRateLeases {
    async fn take(&self, bucket: &str, request: TokenRequest) -> Result<Grant, DependencyError> {
        self.faults.apply(Dependency::Dynamodb, || {
            let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
            let full_at = buckets.get(bucket).copied();
            let taken = token_bucket::take(full_at, &request);
            if let Some(full_at) = token_bucket::after(full_at, taken) {
                buckets.insert(bucket.to_owned(), full_at);
            }
            taken.grant()
        })
    }
}
