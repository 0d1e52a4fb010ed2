//! Who may call an HTTP function, and how often.
//!
//! Owns reading an API key from a request, looking it up, caching the answer for seconds, and the key's rate limit. The
//! function owns which scope a request needs and what a token stands for; the adapter owns where keys are stored.

mod credentials;
mod error;
mod rate;

use std::sync::Arc;
use std::time::Duration;

use event::Timestamp;
use pipeline::guard::Guard;
use pipeline::ports::{ApiKey, ApiKeys, KeyHash, KeyKind, Scope};
use pipeline::{Dependency, DependencyError, ErrorClass};
use quick_cache::sync::Cache;
use settings::Settings;
use tokio::time::Instant;

pub use self::credentials::{Credentials, QUERY_PARAMETER};
pub use self::error::KeyError;
pub use self::rate::{Counted, OnStoreError, RateError, RateLimiter, RatePolicy};

/// Cached answers of each kind. Unknown keys have a cache of their own, so that a flood of made-up keys cannot evict
/// the real ones.
const MAX_CACHED: usize = 10_000;

/// A call to the store of keys that took longer than [`KeyCachePolicy::timeout`].
pub fn timeout(store: Dependency, doing: &'static str) -> DependencyError {
    DependencyError {
        dependency: store,
        class: ErrorClass::Transient,
        tag: "timeout",
        doing,
        source: "no answer within ACCESS_TIMEOUT_MS".into(),
    }
}

/// How long answers of the store are cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyCachePolicy {
    /// How long an answer is used without asking again; also the longest time until a revocation takes effect.
    pub fresh: Duration,
    /// How long a known key is still accepted while the store is down.
    pub stale: Duration,
    /// Longest wait for the store.
    pub timeout: Duration,
}

impl KeyCachePolicy {
    /// Reads `API_KEY_CACHE_SEC` (10), `API_KEY_STALE_SEC` (300) and `ACCESS_TIMEOUT_MS` (1000).
    pub fn from_settings(settings: &mut Settings<'_>) -> Self {
        KeyCachePolicy {
            fresh: Duration::from_secs(settings.or("API_KEY_CACHE_SEC", 10)),
            stale: Duration::from_secs(settings.or("API_KEY_STALE_SEC", 300)),
            timeout: Duration::from_millis(settings.or("ACCESS_TIMEOUT_MS", 1_000)),
        }
    }
}

/// A known key, and the time of the store's answer.
#[derive(Clone)]
struct CachedKey {
    key: Arc<ApiKey>,
    at: Instant,
}

/// Looks up keys, and caches both known and unknown ones for seconds.
pub struct Authenticator {
    keys: Arc<dyn ApiKeys>,
    guard: Arc<Guard>,
    policy: KeyCachePolicy,
    known: Cache<KeyHash, CachedKey>,
    unknown: Cache<KeyHash, Instant>,
}

impl Authenticator {
    /// `guard` is the guard of the key store, which functions also use for other things.
    pub fn new(keys: Arc<dyn ApiKeys>, guard: Arc<Guard>, policy: KeyCachePolicy) -> Self {
        Authenticator { keys, guard, policy, known: Cache::new(MAX_CACHED), unknown: Cache::new(MAX_CACHED) }
    }

    /// The key that a request was made with, if it may be used for `scope` at `now`.
    ///
    /// # Errors
    /// [`KeyError`] if the key is not valid, or the store does not answer and the key was not used recently.
    pub async fn authenticate(
        &self,
        credentials: Credentials,
        scope: Scope,
        now: Timestamp,
    ) -> Result<Arc<ApiKey>, KeyError> {
        let key = self.find(&credentials.hash).await?;
        if key.revoked {
            Err(KeyError::Revoked)
        } else if key.is_expired(now) {
            Err(KeyError::Expired)
        } else if credentials.in_url && key.kind == KeyKind::Server {
            Err(KeyError::InUrl)
        } else if !key.scopes.contains(&scope) {
            Err(KeyError::Scope(scope))
        } else {
            Ok(key)
        }
    }

    async fn find(&self, hash: &KeyHash) -> Result<Arc<ApiKey>, KeyError> {
        let now = Instant::now();
        let known = self.known.get(hash);
        if let Some(known) = &known
            && now - known.at < self.policy.fresh
        {
            return Ok(Arc::clone(&known.key));
        }
        if self.unknown.get(hash).is_some_and(|at| now - at < self.policy.fresh) {
            return Err(KeyError::Unknown);
        }
        let find = async {
            let found = tokio::time::timeout(self.policy.timeout, self.keys.find(hash)).await;
            found.unwrap_or_else(|_| Err(timeout(self.guard.dependency(), "finding an API key")))
        };
        match self.guard.call_once("finding an API key", find).await {
            Ok(Some(key)) => {
                let key = Arc::new(key);
                self.unknown.remove(hash);
                self.known.insert(*hash, CachedKey { key: Arc::clone(&key), at: now });
                Ok(key)
            }
            Ok(None) => {
                self.known.remove(hash);
                self.unknown.insert(*hash, now);
                Err(KeyError::Unknown)
            }
            Err(error) => match known {
                Some(known) if now - known.at < self.policy.stale => {
                    tracing::warn!(error = %pipeline::chain(&error), "API keys cannot be looked up: using the cached answer for this key");
                    Ok(known.key)
                }
                Some(_) | None => Err(KeyError::Unavailable(error)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use event::TenantId;
    use pipeline::breaker::{FAILURES_TO_OPEN, OPEN_FOR};
    use testkit::fakes::api_keys::FakeApiKeys;

    use super::*;

    const POLICY: KeyCachePolicy = KeyCachePolicy {
        fresh: Duration::from_secs(10),
        stale: Duration::from_secs(60),
        timeout: Duration::from_secs(1),
    };

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn credentials(key: &str) -> Credentials {
        Credentials { hash: KeyHash::of(key.as_bytes()), in_url: false }
    }

    async fn ask(authenticator: &Authenticator, key: &str) -> Result<Arc<ApiKey>, KeyError> {
        authenticator.authenticate(credentials(key), Scope::Write, NOW).await
    }

    fn key(revoked: bool) -> ApiKey {
        ApiKey {
            hash: KeyHash::of(b"secret"),
            tenant: TenantId::new("acme").unwrap(),
            name: "web".into(),
            kind: KeyKind::Server,
            scopes: BTreeSet::from([Scope::Write]),
            rate_limit_per_min: None,
            burst: None,
            expires_at: None,
            revoked,
        }
    }

    fn guard() -> Arc<Guard> {
        Arc::new(Guard::unobserved(Dependency::Dynamodb, OPEN_FOR))
    }

    async fn authenticator() -> (Arc<FakeApiKeys>, Authenticator) {
        let keys = Arc::new(FakeApiKeys::default());
        keys.put(&key(false)).await.unwrap();
        (Arc::clone(&keys), Authenticator::new(keys, guard(), POLICY))
    }

    #[tokio::test]
    async fn a_key_is_good_for_its_scopes_until_it_expires_and_a_servers_never_in_a_url() {
        let keys = Arc::new(FakeApiKeys::default());
        let expires_at = Some(NOW.plus(Duration::from_millis(1)));
        keys.put(&ApiKey { expires_at, ..key(false) }).await.unwrap();
        let public = ApiKey { hash: KeyHash::of(b"public"), kind: KeyKind::Publishable, ..key(false) };
        keys.put(&public).await.unwrap();
        let authenticator = Authenticator::new(keys, guard(), POLICY);
        let ask = async |key: &str, in_url, scope, now| {
            let credentials = Credentials { in_url, ..credentials(key) };
            authenticator.authenticate(credentials, scope, now).await.map(drop).map_err(|error| error.tag())
        };
        let later = NOW.plus(Duration::from_millis(1));
        assert_eq!(ask("secret", false, Scope::Write, NOW).await, Ok(()));
        assert_eq!(ask("secret", false, Scope::Write, later).await, Err("api_key_expired"));
        assert_eq!(ask("secret", false, Scope::Read, NOW).await, Err("api_key_scope"));
        assert_eq!(ask("secret", false, Scope::Operate, NOW).await, Err("api_key_scope"));
        assert_eq!(ask("secret", true, Scope::Write, NOW).await, Err("api_key_in_url"));
        assert_eq!(ask("public", true, Scope::Write, later).await, Ok(()));
        assert_eq!(ask("public", false, Scope::Read, later).await, Err("api_key_scope"));
    }

    #[tokio::test(start_paused = true)]
    async fn believes_an_answer_for_a_while() {
        let (keys, authenticator) = authenticator().await;
        assert!(ask(&authenticator, "secret").await.is_ok());
        keys.put(&key(true)).await.unwrap();
        assert!(ask(&authenticator, "secret").await.is_ok(), "the answer is fresh");
        tokio::time::advance(POLICY.fresh).await;
        assert!(matches!(ask(&authenticator, "secret").await, Err(KeyError::Revoked)));
    }

    #[tokio::test(start_paused = true)]
    async fn remembers_unknown_keys_too() {
        let keys = Arc::new(FakeApiKeys::default());
        let authenticator = Authenticator::new(Arc::clone(&keys) as Arc<dyn ApiKeys>, guard(), POLICY);
        assert!(matches!(ask(&authenticator, "secret").await, Err(KeyError::Unknown)));
        keys.put(&key(false)).await.unwrap();
        assert!(matches!(ask(&authenticator, "secret").await, Err(KeyError::Unknown)), "the answer is fresh");
        tokio::time::advance(POLICY.fresh).await;
        assert!(ask(&authenticator, "secret").await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_seen_lately_survives_an_outage() {
        let (keys, authenticator) = authenticator().await;
        keys.faults.fail(1, ErrorClass::Transient);
        assert!(
            matches!(ask(&authenticator, "secret").await, Err(KeyError::Unavailable(_))),
            "a key that was never looked up"
        );
        assert!(ask(&authenticator, "secret").await.is_ok());
        keys.faults.fail(2, ErrorClass::Transient);
        tokio::time::advance(POLICY.stale - Duration::from_secs(1)).await;
        assert!(ask(&authenticator, "secret").await.is_ok(), "stale but known");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(matches!(ask(&authenticator, "secret").await, Err(KeyError::Unavailable(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_keeps_failing_is_left_alone() {
        let (keys, authenticator) = authenticator().await;
        assert!(ask(&authenticator, "secret").await.is_ok());
        tokio::time::advance(POLICY.fresh).await;
        keys.faults.fail(FAILURES_TO_OPEN as usize, ErrorClass::Transient);
        for _ in 0..FAILURES_TO_OPEN {
            assert!(ask(&authenticator, "secret").await.is_ok(), "stale but known");
        }
        let error = ask(&authenticator, "other").await.unwrap_err();
        assert!(error.dependency().is_some_and(|error| error.open_breaker().is_some()), "not asked: {error:?}");
        assert!(ask(&authenticator, "secret").await.is_ok(), "the known key is still accepted");
        tokio::time::advance(OPEN_FOR).await;
        assert!(matches!(ask(&authenticator, "other").await, Err(KeyError::Unknown)), "the probe is let through");
    }

    #[tokio::test(start_paused = true)]
    async fn the_cache_is_bounded_and_made_up_keys_do_not_push_out_known_ones() {
        let (keys, authenticator) = authenticator().await;
        assert!(ask(&authenticator, "secret").await.is_ok());
        for n in 0..3 * MAX_CACHED {
            assert!(matches!(ask(&authenticator, &n.to_string()).await, Err(KeyError::Unknown)));
        }
        assert!(authenticator.unknown.len() <= MAX_CACHED);
        keys.faults.fail(1, ErrorClass::Transient);
        assert!(ask(&authenticator, "secret").await.is_ok(), "the answer is remembered");
        assert_eq!(keys.faults.left(), 1, "the store was not asked");
    }
}
