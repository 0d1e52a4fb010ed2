//! Runs the claims contract on its fake, and tests the fake's faults.

use std::time::Duration;

use async_trait::async_trait;
use event::{EventId, EventKey, Origin, PayloadHash, TenantId, Timestamp};
use pipeline::ports::{Claim, ClaimStore, ClaimVerdict};
use pipeline::{DependencyError, ErrorClass};
use testkit::contracts::claims::{claims_contract, held_claims_contract};
use testkit::fakes::claims::FakeClaims;

const TTL: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    claims_contract(&FakeClaims::new(TTL), TTL).await;
    held_claims_contract(&FakeClaims::new(TTL), TTL).await;
}

#[tokio::test]
async fn a_lost_answer_is_own_when_repeated_and_a_failure_leaves_nothing() {
    let store = FakeClaims::new(TTL);
    let claim = Claim {
        key: EventKey { tenant: TenantId::new("acme").unwrap(), id: EventId::new("a").unwrap() },
        origin: Origin::new("raw-events", 0, 1),
        payload_hash: PayloadHash::of(b"a"),
    };
    let ask = async || store.claim(std::slice::from_ref(&claim), Timestamp::EPOCH).await;

    store.faults.fail(1, ErrorClass::Overload);
    assert_eq!(ask().await.unwrap_err().class, ErrorClass::Overload);
    assert_eq!(store.owner(&claim.key), None);

    store.faults.lose_answer(1, ErrorClass::Transient);
    assert!(ask().await.is_err());
    assert_eq!(store.owner(&claim.key), Some(claim.origin.clone()));
    assert_eq!(ask().await.unwrap(), [ClaimVerdict::Own]);
}

/// A store that treats a redelivery as a duplicate, and so loses an event whose processor died after the claim.
struct WithoutOwnerCheck(FakeClaims);

#[async_trait]
impl ClaimStore for WithoutOwnerCheck {
    async fn claim(&self, claims: &[Claim], now: Timestamp) -> Result<Vec<ClaimVerdict>, DependencyError> {
        let mut verdicts = self.0.claim(claims, now).await?;
        for (claim, verdict) in claims.iter().zip(&mut verdicts) {
            if *verdict == ClaimVerdict::Own {
                *verdict = ClaimVerdict::Taken { owner: claim.origin.clone(), same_payload: true };
            }
        }
        Ok(verdicts)
    }
}

#[tokio::test]
#[should_panic = "a redelivery is not a duplicate"]
async fn the_contract_finds_a_store_without_owner_check() {
    claims_contract(&WithoutOwnerCheck(FakeClaims::new(TTL)), TTL).await;
}

#[tokio::test]
#[should_panic = "left == right"]
async fn the_contract_finds_a_claim_that_ends_early() {
    claims_contract(&FakeClaims::new(TTL - Duration::from_millis(1)), TTL).await;
}
