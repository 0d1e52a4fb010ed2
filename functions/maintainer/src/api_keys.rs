//! The operators' commands on API keys.

use event::TenantId;
use pipeline::ports::{ApiKey, ApiKeys, KeyHash};
use serde::Serialize;

use crate::error::MaintainerError;

/// The prefix of our API keys, by which people and secret scanners recognise them.
const KEY_PREFIX: &str = "fb_";

/// The answer to `create-key`: the only time that the key itself is shown.
#[derive(Debug, Serialize)]
pub struct CreatedKey {
    pub key: String,
    /// The hash that is stored instead of the key; `revoke-key` accepts it.
    pub key_hash: String,
    pub tenant: TenantId,
    pub name: String,
    pub trusted_collector: bool,
    pub rate_limit_per_min: Option<u32>,
}

/// 32 random bytes from the system's random source, as text.
fn new_key() -> Result<String, MaintainerError> {
    let mut bytes = [0; 32];
    // The generator that TLS uses: it is already linked, unlike a crate of random numbers.
    rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes).map_err(|_| MaintainerError::Random)?;
    Ok(format!("{KEY_PREFIX}{}", base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes)))
}

pub async fn create(
    keys: &dyn ApiKeys,
    tenant: TenantId,
    name: String,
    trusted_collector: bool,
    rate_limit_per_min: Option<u32>,
) -> Result<CreatedKey, MaintainerError> {
    let key = new_key()?;
    let hash = KeyHash::of(key.as_bytes());
    let stored = ApiKey { hash, tenant, name, trusted_collector, rate_limit_per_min, revoked: false };
    keys.put(&stored).await.map_err(MaintainerError::Access)?;
    tracing::info!(key_hash = %hash, tenant = stored.tenant.as_str(), name = stored.name, "API key created");
    let ApiKey { tenant, name, .. } = stored;
    Ok(CreatedKey { key, key_hash: hash.to_string(), tenant, name, trusted_collector, rate_limit_per_min })
}

/// Revokes a key. Revoking it again changes nothing.
pub async fn revoke(keys: &dyn ApiKeys, hash: KeyHash) -> Result<(), MaintainerError> {
    let key = keys.find(&hash).await.map_err(MaintainerError::Access)?.ok_or(MaintainerError::UnknownKey)?;
    keys.put(&ApiKey { revoked: true, ..key }).await.map_err(MaintainerError::Access)?;
    tracing::info!(key_hash = %hash, "API key revoked");
    Ok(())
}

#[cfg(test)]
mod tests {
    use testkit::fakes::api_keys::FakeApiKeys;

    use super::*;

    #[tokio::test]
    async fn a_key_is_found_by_its_hash_until_it_is_revoked() {
        let store = FakeApiKeys::default();
        let tenant = TenantId::new("acme").unwrap();
        let created = create(&store, tenant.clone(), "web".into(), false, None).await.unwrap();
        assert!(created.key.starts_with("fb_") && created.key.len() == 46, "{}", created.key);
        let hash = KeyHash::of(created.key.as_bytes());
        assert_eq!(created.key_hash, hash.to_string());
        let stored = store.find(&hash).await.unwrap().unwrap();
        assert_eq!((stored.tenant.clone(), stored.revoked), (tenant.clone(), false));
        let other = create(&store, tenant, "web".into(), false, None).await.unwrap();
        assert_ne!(other.key, created.key);

        for _ in 0..2 {
            revoke(&store, hash).await.unwrap();
            assert!(store.find(&hash).await.unwrap().unwrap().revoked);
        }
        assert!(!store.find(&KeyHash::of(other.key.as_bytes())).await.unwrap().unwrap().revoked);
        let unknown = revoke(&store, KeyHash::of(b"fb_unknown")).await.unwrap_err();
        assert!(matches!(unknown, MaintainerError::UnknownKey));
    }
}
