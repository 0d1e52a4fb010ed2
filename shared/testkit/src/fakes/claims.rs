//! Claims in memory.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use event::{EventKey, Origin, PayloadHash, Timestamp};
use pipeline::ports::{Claim, ClaimStore, ClaimVerdict, HeldClaim, HeldClaims};
use pipeline::{Dependency, DependencyError};

use crate::fakes::Faults;

/// A [`ClaimStore`] in memory.
#[derive(Debug)]
pub struct FakeClaims {
    pub faults: Faults,
    ttl: Duration,
    held: Mutex<HashMap<EventKey, Held>>,
}

#[derive(Debug)]
struct Held {
    owner: Origin,
    payload_hash: PayloadHash,
    expires_at: Timestamp,
}

impl FakeClaims {
    pub fn new(ttl: Duration) -> Self {
        FakeClaims { faults: Faults::default(), ttl, held: Mutex::default() }
    }

    /// The owner of that id, also if its claim has expired.
    pub fn owner(&self, key: &EventKey) -> Option<Origin> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).get(key).map(|held| held.owner.clone())
    }

    fn judge(&self, claims: &[Claim], now: Timestamp) -> Vec<ClaimVerdict> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = |claim: &Claim| match held.get(&claim.key).filter(|held| now < held.expires_at) {
            Some(held) if held.owner.is_same(&claim.origin) => ClaimVerdict::Own,
            Some(held) => {
                ClaimVerdict::Taken { owner: held.owner.clone(), same_payload: held.payload_hash == claim.payload_hash }
            }
            None => {
                let new = Held {
                    owner: claim.origin.clone(),
                    payload_hash: claim.payload_hash,
                    expires_at: now.plus(self.ttl),
                };
                held.insert(claim.key.clone(), new);
                ClaimVerdict::New
            }
        };
        claims.iter().map(verdict).collect()
    }
}

#[async_trait]
impl ClaimStore for FakeClaims {
    async fn claim(&self, claims: &[Claim], now: Timestamp) -> Result<Vec<ClaimVerdict>, DependencyError> {
        self.faults.apply(Dependency::Dynamodb, || self.judge(claims, now))
    }
}

#[async_trait]
impl HeldClaims for FakeClaims {
    async fn find(&self, key: &EventKey) -> Result<Option<HeldClaim>, DependencyError> {
        self.faults.apply(Dependency::Dynamodb, || {
            let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.get(key).map(|held| HeldClaim {
                owner: held.owner.clone(),
                payload_hash: held.payload_hash,
                expires_at: held.expires_at,
            })
        })
    }
}
