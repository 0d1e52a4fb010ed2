//! The contract of every store of API keys.
//!
//! The key is new in every run, so a store need not be empty and runs may share it.
#![expect(clippy::expect_used, reason = "a contract suite fails by panicking")]

use std::collections::BTreeSet;

use event::{TenantId, Timestamp};
use pipeline::ports::{ApiKey, ApiKeys, KeyHash, KeyKind, Scope};

use super::{answer, random};

pub async fn api_keys_contract(store: &dyn ApiKeys) {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&random().to_be_bytes());
    let key = ApiKey {
        hash: KeyHash(hash),
        tenant: TenantId::new("contract").expect("a tenant"),
        name: "collector-eu-1 “ü”".to_owned(),
        kind: KeyKind::Server,
        scopes: BTreeSet::from([Scope::Write, Scope::Read, Scope::Operate]),
        rate_limit_per_min: Some(u32::MAX),
        burst: Some(1),
        expires_at: Some(Timestamp::from_millis(1_795_197_720_123)),
        revoked: false,
    };
    assert_eq!(answer(store.find(&key.hash).await), None, "an unknown key");
    answer(store.put(&key).await);
    assert_eq!(answer(store.find(&key.hash).await), Some(key.clone()), "a key is found at once");

    assert!(answer(store.list().await).contains(&key), "and listed");

    let revoked = ApiKey {
        kind: KeyKind::Publishable,
        scopes: BTreeSet::from([Scope::Write]),
        rate_limit_per_min: None,
        burst: None,
        expires_at: None,
        revoked: true,
        ..key
    };
    answer(store.put(&revoked).await);
    let found = answer(store.find(&revoked.hash).await);
    assert_eq!(found.as_ref(), Some(&revoked), "the whole new version is found, also if it is revoked");
    let listed: Vec<ApiKey> = answer(store.list().await).into_iter().filter(|key| key.hash == revoked.hash).collect();
    assert_eq!(listed, [revoked], "and listed once");
}
