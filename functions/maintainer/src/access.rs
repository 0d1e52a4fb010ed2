//! The operator's commands on API keys and the block list.

use event::{AddressKey, TenantId, Timestamp};
use pipeline::ports::{ApiKey, ApiKeys, Block, BlockList, KeyHash};
use serde::Serialize;

use crate::error::MaintainerError;

/// Marks a text as a key of ours, so that people and secret scanners recognise it.
const KEY_PREFIX: &str = "fb_";

/// The answer to `create-key`: the only time that the key itself is shown.
#[derive(Debug, Serialize)]
pub struct CreatedKey {
    pub key: String,
    /// What is stored of it; names the key to `revoke-key`.
    pub key_hash: String,
    pub tenant: TenantId,
    pub name: String,
    pub trusted_collector: bool,
    pub rate_limit_per_min: Option<u32>,
}

/// 32 random bytes of the system's source, as text.
fn new_key() -> Result<String, MaintainerError> {
    let mut bytes = [0; 32];
    // The generator that TLS keys come from: already linked, unlike a crate of random numbers.
    rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes).map_err(|_| MaintainerError::Random)?;
    Ok(format!("{KEY_PREFIX}{}", base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes)))
}

pub async fn create_key(
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

/// Ends a key's validity; a second time changes nothing.
pub async fn revoke_key(keys: &dyn ApiKeys, hash: KeyHash) -> Result<(), MaintainerError> {
    let key = keys.find(&hash).await.map_err(MaintainerError::Access)?.ok_or(MaintainerError::UnknownKey)?;
    keys.put(&ApiKey { revoked: true, ..key }).await.map_err(MaintainerError::Access)?;
    tracing::info!(key_hash = %hash, "API key revoked");
    Ok(())
}

/// Starts at the epoch, so that it also covers what waits in Kafka.
pub async fn block(
    blocks: &dyn BlockList,
    address: AddressKey,
    reason: String,
    until: Option<Timestamp>,
) -> Result<Block, MaintainerError> {
    let block = Block { address, from: Timestamp::EPOCH, until, reason };
    blocks.block(std::slice::from_ref(&block)).await.map_err(MaintainerError::Access)?;
    tracing::info!(address = %address, "address blocked by an operator");
    Ok(block)
}

/// Whether the address was listed.
pub async fn unblock(blocks: &dyn BlockList, address: AddressKey) -> Result<bool, MaintainerError> {
    let was_listed = blocks.unblock(address).await.map_err(MaintainerError::Access)?;
    tracing::info!(address = %address, was_listed, "address unblocked by an operator");
    Ok(was_listed)
}

/// Blocks that have not ended at `now`, by address.
pub async fn list_blocks(blocks: &dyn BlockList, now: Timestamp) -> Result<Vec<Block>, MaintainerError> {
    let mut listed = blocks.list().await.map_err(MaintainerError::Access)?;
    listed.retain(|block| block.until.is_none_or(|until| now < until));
    listed.sort_by_key(|block| block.address);
    Ok(listed)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use testkit::fakes::access::FakeAccess;

    use super::*;

    #[tokio::test]
    async fn a_key_is_found_by_its_hash_until_it_is_revoked() {
        let access = FakeAccess::default();
        let tenant = TenantId::new("acme").unwrap();
        let created = create_key(&access, tenant.clone(), "web".into(), false, None).await.unwrap();
        assert!(created.key.starts_with("fb_") && created.key.len() == 46, "{}", created.key);
        let hash = KeyHash::of(created.key.as_bytes());
        assert_eq!(created.key_hash, hash.to_string());
        let stored = access.find(&hash).await.unwrap().unwrap();
        assert_eq!((stored.tenant.clone(), stored.revoked), (tenant.clone(), false));
        let other = create_key(&access, tenant, "web".into(), false, None).await.unwrap();
        assert_ne!(other.key, created.key);

        for _ in 0..2 {
            revoke_key(&access, hash).await.unwrap();
            assert!(access.find(&hash).await.unwrap().unwrap().revoked);
        }
        assert!(!access.find(&KeyHash::of(other.key.as_bytes())).await.unwrap().unwrap().revoked);
        let unknown = revoke_key(&access, KeyHash::of(b"fb_unknown")).await.unwrap_err();
        assert!(matches!(unknown, MaintainerError::UnknownKey));
    }

    #[tokio::test]
    async fn blocks_are_listed_until_they_end_or_are_lifted() {
        let access = FakeAccess::default();
        let now = Timestamp::from_millis(1_000_000);
        let end = now.plus(Duration::from_secs(60));
        let (a, b): (AddressKey, AddressKey) = ("203.0.113.7".parse().unwrap(), "2001:db8::/64".parse().unwrap());
        let block_a = block(&access, a, "scraping".into(), Some(end)).await.unwrap();
        assert!(block_a.covers(Timestamp::EPOCH), "also what was received before");
        let block_b = block(&access, b, "abuse".into(), None).await.unwrap();
        assert_eq!(list_blocks(&access, now).await.unwrap(), [block_a, block_b.clone()]);
        assert_eq!(list_blocks(&access, end).await.unwrap(), [block_b]);
        assert!(unblock(&access, b).await.unwrap());
        assert!(!unblock(&access, b).await.unwrap());
        assert_eq!(list_blocks(&access, end).await.unwrap(), []);
    }
}
