//! The operators' commands on API keys.

use std::collections::BTreeSet;
use std::time::Duration;

use event::{TenantId, Timestamp};
use pipeline::ports::{ApiKey, ApiKeys, KeyHash, KeyKind, Scope};
use serde::Serialize;

use crate::error::MaintainerError;
use crate::random;
use crate::request::{NewKey, Rotation};

/// The start of our API keys, by which people and secret scanners recognise them and what they are good for.
const fn prefix(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Server => "fb_server_",
        KeyKind::Publishable => "fb_public_",
    }
}

/// The answer to `create-key` and `rotate-key`: the only time that the key itself is shown.
#[derive(Debug, Serialize)]
pub struct CreatedKey {
    pub key: String,
    #[serde(flatten)]
    pub shown: ShownKey,
}

/// A key as lists and the audit trail show it.
#[derive(Debug, Serialize)]
pub struct ShownKey {
    /// The hash that is stored instead of the key; the other commands accept it.
    pub key_hash: String,
    pub tenant: TenantId,
    pub name: String,
    pub kind: KeyKind,
    pub scopes: BTreeSet<Scope>,
    pub rate_limit_per_min: Option<u32>,
    pub burst: Option<u32>,
    pub expires_at: Option<Timestamp>,
    pub state: KeyState,
}

/// Whether a key is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    Valid,
    Expired,
    Revoked,
}

impl ShownKey {
    fn of(key: ApiKey, now: Timestamp) -> Self {
        let state = match (key.revoked, key.is_expired(now)) {
            (true, _) => KeyState::Revoked,
            (false, true) => KeyState::Expired,
            (false, false) => KeyState::Valid,
        };
        ShownKey {
            key_hash: key.hash.to_string(),
            tenant: key.tenant,
            name: key.name,
            kind: key.kind,
            scopes: key.scopes,
            rate_limit_per_min: key.rate_limit_per_min,
            burst: key.burst,
            expires_at: key.expires_at,
            state,
        }
    }
}

/// The answer to `rotate-key`.
#[derive(Debug, Serialize)]
pub struct RotatedKey {
    #[serde(flatten)]
    pub new: CreatedKey,
    pub old: ShownKey,
}

/// 32 random bytes from the system's random source, as text.
fn new_key(kind: KeyKind) -> Result<String, MaintainerError> {
    let bytes: [u8; 32] = random::bytes()?;
    Ok(format!("{}{}", prefix(kind), base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes)))
}

async fn store(keys: &dyn ApiKeys, key: String, stored: ApiKey, now: Timestamp) -> Result<CreatedKey, MaintainerError> {
    keys.put(&stored).await.map_err(MaintainerError::Access)?;
    Ok(CreatedKey { key, shown: ShownKey::of(stored, now) })
}

pub async fn create(keys: &dyn ApiKeys, new: NewKey, now: Timestamp) -> Result<CreatedKey, MaintainerError> {
    let key = new_key(new.kind)?;
    let stored = ApiKey {
        hash: KeyHash::of(key.as_bytes()),
        tenant: new.tenant,
        name: new.name.into(),
        kind: new.kind,
        scopes: new.scopes,
        rate_limit_per_min: new.rate_limit_per_min,
        burst: new.burst,
        expires_at: new.expires_in.map(|time| now.plus(time)),
        revoked: false,
    };
    store(keys, key, stored, now).await
}

/// Makes a new key that may do the same, and lets the old one expire after `grace`, so that its holders have time to
/// change over.
pub async fn rotate(keys: &dyn ApiKeys, rotation: Rotation, now: Timestamp) -> Result<RotatedKey, MaintainerError> {
    let old = find(keys, rotation.hash).await?;
    if old.revoked || old.is_expired(now) {
        return Err(MaintainerError::DeadKey);
    }
    let key = new_key(old.kind)?;
    let expires_at = rotation.expires_in.map(|time| now.plus(time));
    let stored = ApiKey { hash: KeyHash::of(key.as_bytes()), expires_at, ..old.clone() };
    let new = store(keys, key, stored, now).await?;
    let old = end(keys, old, now, rotation.grace).await?;
    Ok(RotatedKey { new, old })
}

async fn end(keys: &dyn ApiKeys, old: ApiKey, now: Timestamp, grace: Duration) -> Result<ShownKey, MaintainerError> {
    let end = now.plus(grace);
    let old = ApiKey { expires_at: Some(old.expires_at.map_or(end, |earlier| earlier.min(end))), ..old };
    keys.put(&old).await.map_err(MaintainerError::Access)?;
    Ok(ShownKey::of(old, now))
}

/// Revokes a key. Revoking it again changes nothing.
pub async fn revoke(keys: &dyn ApiKeys, hash: KeyHash, now: Timestamp) -> Result<ShownKey, MaintainerError> {
    let key = ApiKey { revoked: true, ..find(keys, hash).await? };
    keys.put(&key).await.map_err(MaintainerError::Access)?;
    Ok(ShownKey::of(key, now))
}

async fn find(keys: &dyn ApiKeys, hash: KeyHash) -> Result<ApiKey, MaintainerError> {
    keys.find(&hash).await.map_err(MaintainerError::Access)?.ok_or(MaintainerError::UnknownKey)
}

/// The keys of one tenant or of all, by tenant and name.
pub async fn list(
    keys: &dyn ApiKeys,
    tenant: Option<&TenantId>,
    now: Timestamp,
) -> Result<Vec<ShownKey>, MaintainerError> {
    let mut found = keys.list().await.map_err(MaintainerError::Access)?;
    found.retain(|key| tenant.is_none_or(|tenant| key.tenant == *tenant));
    found.sort_by(|a, b| (a.tenant.as_str(), &a.name, a.hash.0).cmp(&(b.tenant.as_str(), &b.name, b.hash.0)));
    Ok(found.into_iter().map(|key| ShownKey::of(key, now)).collect())
}

#[cfg(test)]
mod tests {
    use testkit::fakes::api_keys::FakeApiKeys;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_197_720_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn new(name: &str, kind: KeyKind, expires_in: Option<Duration>) -> NewKey {
        NewKey {
            tenant: TenantId::new("acme").unwrap(),
            name: name.to_owned().try_into().unwrap(),
            kind,
            scopes: BTreeSet::from([Scope::Write]),
            rate_limit_per_min: Some(600),
            burst: None,
            expires_in,
        }
    }

    #[tokio::test]
    async fn a_key_is_found_by_its_hash_until_it_is_revoked() {
        let store = FakeApiKeys::default();
        let created = create(&store, new("web", KeyKind::Publishable, None), NOW).await.unwrap();
        assert!(created.key.starts_with("fb_public_") && created.key.len() == 53, "{}", created.key);
        let hash = KeyHash::of(created.key.as_bytes());
        assert_eq!(created.shown.key_hash, hash.to_string());
        let stored = store.find(&hash).await.unwrap().unwrap();
        assert_eq!((stored.kind, stored.revoked), (KeyKind::Publishable, false));
        let other = create(&store, new("web", KeyKind::Server, None), NOW).await.unwrap();
        assert!(other.key.starts_with("fb_server_") && other.key[10..] != created.key[10..]);

        for _ in 0..2 {
            assert_eq!(revoke(&store, hash, NOW).await.unwrap().state, KeyState::Revoked);
            assert!(store.find(&hash).await.unwrap().unwrap().revoked);
        }
        assert!(!store.find(&KeyHash::of(other.key.as_bytes())).await.unwrap().unwrap().revoked);
        let unknown = revoke(&store, KeyHash::of(b"fb_unknown"), NOW).await.unwrap_err();
        assert!(matches!(unknown, MaintainerError::UnknownKey));
    }

    #[tokio::test]
    async fn a_rotated_key_works_on_for_a_while_beside_the_new_one() {
        let store = FakeApiKeys::default();
        let first = create(&store, new("api", KeyKind::Server, None), NOW).await.unwrap();
        let hash = KeyHash::of(first.key.as_bytes());
        let rotation = |grace| Rotation { hash, grace, expires_in: Some(DAY * 90) };
        let rotated = rotate(&store, rotation(DAY), NOW).await.unwrap();
        assert_ne!(rotated.new.key, first.key);
        assert_eq!(rotated.old.expires_at, Some(NOW.plus(DAY)));
        let new = store.find(&KeyHash::of(rotated.new.key.as_bytes())).await.unwrap().unwrap();
        assert_eq!((new.name.as_str(), new.rate_limit_per_min), ("api", Some(600)));
        assert_eq!(new.expires_at, Some(NOW.plus(DAY * 90)));
        let old = store.find(&hash).await.unwrap().unwrap();
        assert!(!old.is_expired(NOW) && old.is_expired(NOW.plus(DAY)));

        let again = rotate(&store, rotation(DAY * 7), NOW).await.unwrap();
        assert_eq!(again.old.expires_at, Some(NOW.plus(DAY)), "never later than it was");
        let dead = rotate(&store, rotation(DAY), NOW.plus(DAY)).await.unwrap_err();
        assert!(matches!(dead, MaintainerError::DeadKey));
    }

    #[tokio::test]
    async fn a_list_has_every_key_with_its_state_and_never_the_key() {
        let store = FakeApiKeys::default();
        let short = create(&store, new("b", KeyKind::Server, Some(DAY)), NOW).await.unwrap();
        create(&store, new("a", KeyKind::Publishable, None), NOW).await.unwrap();
        let listed = list(&store, None, NOW.plus(DAY)).await.unwrap();
        let states: Vec<(&str, KeyState)> = listed.iter().map(|key| (key.name.as_str(), key.state)).collect();
        assert_eq!(states, [("a", KeyState::Valid), ("b", KeyState::Expired)]);
        assert!(!serde_json::to_string(&listed).unwrap().contains(&short.key));
        let other = TenantId::new("other").unwrap();
        assert!(list(&store, Some(&other), NOW).await.unwrap().is_empty());
    }
}
