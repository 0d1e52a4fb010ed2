//! The contract of every store of API keys.
//!
//! The key is new in every run, so a store need not be empty and runs may share it.
#![expect(clippy::expect_used, reason = "a contract suite fails by panicking")]

use event::TenantId;
use pipeline::ports::{ApiKey, ApiKeys, KeyHash};

use super::{answer, random};

pub async fn api_keys_contract(store: &dyn ApiKeys) {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&random().to_be_bytes());
    let key = ApiKey {
        hash: KeyHash(hash),
        tenant: TenantId::new("contract").expect("a tenant"),
        name: "collector-eu-1 “ü”".to_owned(),
        trusted_collector: true,
        rate_limit_per_min: Some(u32::MAX),
        revoked: false,
    };
    assert_eq!(answer(store.find(&key.hash).await), None, "an unknown key");
    answer(store.put(&key).await);
    assert_eq!(answer(store.find(&key.hash).await), Some(key.clone()), "a key is found at once");

    let revoked = ApiKey { rate_limit_per_min: None, revoked: true, trusted_collector: false, ..key };
    answer(store.put(&revoked).await);
    assert_eq!(
        answer(store.find(&revoked.hash).await),
        Some(revoked),
        "the whole new version is found, also if it is revoked"
    );
}
