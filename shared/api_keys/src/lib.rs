//! Authenticates the callers of an HTTP function.
//!
//! Owns reading an API key from a request, looking it up, and caching the answer for seconds. The function owns what a
//! key may do (rate, collector, which tenant's data); the adapter owns where keys are stored.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use pipeline::guard::Guard;
use pipeline::ports::{ApiKey, ApiKeys, KeyHash};
use pipeline::{Dependency, DependencyError, ErrorClass};
use quick_cache::sync::Cache;
use settings::Settings;
use tokio::time::Instant;

/// Longest key that is accepted, in bytes.
const MAX_KEY_BYTES: usize = 256;
/// Cached answers of each kind. Unknown keys have a cache of their own, so that a flood of made-up keys cannot evict
/// the real ones.
const MAX_CACHED: usize = 10_000;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("send an API key as \"Authorization: Bearer <key>\" or in X-Api-Key")]
    Missing,
    #[error("the API key cannot be read")]
    Unreadable,
    #[error("there are two different API keys, or two different Authorization headers")]
    Conflict,
    #[error("the API key is not known")]
    Unknown,
    #[error("the API key has been revoked")]
    Revoked,
    #[error("API keys cannot be looked up at the moment: try again later")]
    Unavailable(#[source] DependencyError),
}

impl KeyError {
    /// Whether the same request may succeed later.
    pub const fn class(&self) -> ErrorClass {
        match self {
            KeyError::Unavailable(_) => ErrorClass::Transient,
            KeyError::Missing | KeyError::Unreadable | KeyError::Conflict | KeyError::Unknown | KeyError::Revoked => {
                ErrorClass::Permanent
            }
        }
    }

    /// Bounded name of the cause: a metric label, and the last part of the problem's type.
    pub const fn tag(&self) -> &'static str {
        match self {
            KeyError::Missing => "api_key_missing",
            KeyError::Unreadable => "api_key_unreadable",
            KeyError::Conflict => "api_key_conflict",
            KeyError::Unknown => "api_key_unknown",
            KeyError::Revoked => "api_key_revoked",
            KeyError::Unavailable(_) => "api_keys_unavailable",
        }
    }

    pub const fn status(&self) -> StatusCode {
        match self {
            KeyError::Missing | KeyError::Unreadable | KeyError::Unknown => StatusCode::UNAUTHORIZED,
            KeyError::Conflict => StatusCode::BAD_REQUEST,
            KeyError::Revoked => StatusCode::FORBIDDEN,
            KeyError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The failure of the store, if that is the cause.
    pub const fn dependency(&self) -> Option<&DependencyError> {
        match self {
            KeyError::Unavailable(error) => Some(error),
            KeyError::Missing | KeyError::Unreadable | KeyError::Conflict | KeyError::Unknown | KeyError::Revoked => {
                None
            }
        }
    }

    /// The value of `WWW-Authenticate`, which every 401 must have (RFC 9110, section 15.5.2).
    pub fn challenge(&self) -> Option<HeaderValue> {
        (self.status() == StatusCode::UNAUTHORIZED).then_some(HeaderValue::from_static("Bearer realm=\"forebay\""))
    }
}

/// A call to the table of keys that took longer than [`KeyCachePolicy::timeout`].
pub fn timeout(doing: &'static str) -> DependencyError {
    DependencyError {
        dependency: Dependency::Dynamodb,
        class: ErrorClass::Transient,
        tag: "timeout",
        doing,
        source: "no answer within ACCESS_TIMEOUT_MS".into(),
    }
}

/// The hash of the request's key. The key itself is not passed on.
fn presented(headers: &HeaderMap) -> Result<KeyHash, KeyError> {
    let mut keys = Vec::with_capacity(1);
    for value in headers.get_all("x-api-key") {
        keys.push(value.as_bytes());
    }
    let mut authorizations = headers.get_all(header::AUTHORIZATION).iter().map(HeaderValue::as_bytes);
    let first = authorizations.next();
    if authorizations.any(|other| Some(other.trim_ascii()) != first.map(<[u8]>::trim_ascii)) {
        return Err(KeyError::Conflict);
    }
    if let Some(value) = first.map(<[u8]>::trim_ascii_start) {
        let (scheme, token) = value.split_at(value.len().min("Bearer ".len()));
        if scheme.eq_ignore_ascii_case(b"Bearer ") {
            keys.push(token);
        }
    }
    let (first, others) = keys.split_first().ok_or(KeyError::Missing)?;
    let key = first.trim_ascii();
    if others.iter().any(|other| other.trim_ascii() != key) {
        return Err(KeyError::Conflict);
    }
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        return Err(KeyError::Unreadable);
    }
    Ok(KeyHash::of(key))
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

    /// The key that a request was made with.
    ///
    /// # Errors
    /// [`KeyError`] if there is no key, it is not valid, or the store does not answer and the key was not used
    /// recently.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Arc<ApiKey>, KeyError> {
        let hash = presented(headers)?;
        let key = self.find(&hash).await?;
        if key.revoked { Err(KeyError::Revoked) } else { Ok(key) }
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
            found.unwrap_or_else(|_| Err(timeout("finding an API key")))
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
    use event::TenantId;
    use http::{HeaderName, HeaderValue};
    use pipeline::breaker::{FAILURES_TO_OPEN, OPEN_FOR};
    use testkit::fakes::api_keys::FakeApiKeys;

    use super::*;

    const POLICY: KeyCachePolicy = KeyCachePolicy {
        fresh: Duration::from_secs(10),
        stale: Duration::from_secs(60),
        timeout: Duration::from_secs(1),
    };

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn key(revoked: bool) -> ApiKey {
        ApiKey {
            hash: KeyHash::of(b"secret"),
            tenant: TenantId::new("acme").unwrap(),
            name: "web".into(),
            trusted_collector: false,
            rate_limit_per_min: None,
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

    #[test]
    fn reads_a_key_from_either_header() {
        let secret = KeyHash::of(b"secret");
        let hash =
            |pairs: &[(&'static str, &'static str)]| presented(&headers(pairs)).map_err(|error| error.to_string());
        assert_eq!(hash(&[("authorization", "Bearer secret")]), Ok(secret));
        assert_eq!(hash(&[("authorization", "bearer  secret ")]), Ok(secret));
        assert_eq!(hash(&[("x-api-key", "secret")]), Ok(secret));
        assert_eq!(hash(&[("x-api-key", "secret"), ("authorization", "Bearer secret")]), Ok(secret));
        assert_eq!(hash(&[("x-api-key", "secret"), ("authorization", "Basic eDp5")]), Ok(secret));
        let missing = Err(KeyError::Missing.to_string());
        assert_eq!(hash(&[]), missing);
        assert_eq!(hash(&[("authorization", "Basic eDp5")]), missing);
        let unreadable = Err(KeyError::Unreadable.to_string());
        let conflict = Err(KeyError::Conflict.to_string());
        assert_eq!(hash(&[("x-api-key", "other"), ("authorization", "Bearer secret")]), conflict);
        assert_eq!(hash(&[("x-api-key", "secret"), ("x-api-key", "other")]), conflict);
        assert_eq!(hash(&[("authorization", "Bearer secret"), ("authorization", "Bearer other")]), conflict);
        assert_eq!(hash(&[("authorization", "Basic eDp5"), ("authorization", "Bearer secret")]), conflict);
        assert_eq!(hash(&[("authorization", "Bearer secret"), ("authorization", " Bearer secret\t")]), Ok(secret));
        assert_eq!(hash(&[("x-api-key", "")]), unreadable);
        assert_eq!(hash(&[("authorization", "Bearer ")]), unreadable);
    }

    #[tokio::test(start_paused = true)]
    async fn believes_an_answer_for_a_while() {
        let (keys, authenticator) = authenticator().await;
        let secret = headers(&[("x-api-key", "secret")]);
        assert!(authenticator.authenticate(&secret).await.is_ok());
        keys.put(&key(true)).await.unwrap();
        assert!(authenticator.authenticate(&secret).await.is_ok(), "the answer is fresh");
        tokio::time::advance(POLICY.fresh).await;
        assert!(matches!(authenticator.authenticate(&secret).await, Err(KeyError::Revoked)));
    }

    #[tokio::test(start_paused = true)]
    async fn remembers_unknown_keys_too() {
        let keys = Arc::new(FakeApiKeys::default());
        let authenticator = Authenticator::new(Arc::clone(&keys) as Arc<dyn ApiKeys>, guard(), POLICY);
        let secret = headers(&[("x-api-key", "secret")]);
        assert!(matches!(authenticator.authenticate(&secret).await, Err(KeyError::Unknown)));
        keys.put(&key(false)).await.unwrap();
        assert!(matches!(authenticator.authenticate(&secret).await, Err(KeyError::Unknown)), "the answer is fresh");
        tokio::time::advance(POLICY.fresh).await;
        assert!(authenticator.authenticate(&secret).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_seen_lately_survives_an_outage() {
        let (keys, authenticator) = authenticator().await;
        let secret = headers(&[("x-api-key", "secret")]);
        keys.faults.fail(1, ErrorClass::Transient);
        assert!(
            matches!(authenticator.authenticate(&secret).await, Err(KeyError::Unavailable(_))),
            "a key that was never looked up"
        );
        assert!(authenticator.authenticate(&secret).await.is_ok());
        keys.faults.fail(2, ErrorClass::Transient);
        tokio::time::advance(POLICY.stale - Duration::from_secs(1)).await;
        assert!(authenticator.authenticate(&secret).await.is_ok(), "stale but known");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(matches!(authenticator.authenticate(&secret).await, Err(KeyError::Unavailable(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_keeps_failing_is_left_alone() {
        let (keys, authenticator) = authenticator().await;
        let secret = headers(&[("x-api-key", "secret")]);
        assert!(authenticator.authenticate(&secret).await.is_ok());
        tokio::time::advance(POLICY.fresh).await;
        keys.faults.fail(FAILURES_TO_OPEN as usize, ErrorClass::Transient);
        for _ in 0..FAILURES_TO_OPEN {
            assert!(authenticator.authenticate(&secret).await.is_ok(), "stale but known");
        }
        let other = headers(&[("x-api-key", "other")]);
        let error = authenticator.authenticate(&other).await.unwrap_err();
        assert!(error.dependency().is_some_and(|error| error.open_breaker().is_some()), "not asked: {error:?}");
        assert!(authenticator.authenticate(&secret).await.is_ok(), "the known key is still accepted");
        tokio::time::advance(OPEN_FOR).await;
        assert!(matches!(authenticator.authenticate(&other).await, Err(KeyError::Unknown)), "the probe is let through");
    }

    #[tokio::test(start_paused = true)]
    async fn the_cache_is_bounded_and_made_up_keys_do_not_push_out_known_ones() {
        let (keys, authenticator) = authenticator().await;
        let secret = headers(&[("x-api-key", "secret")]);
        assert!(authenticator.authenticate(&secret).await.is_ok());
        for n in 0..3 * MAX_CACHED {
            let made_up = HeaderMap::from_iter([(HeaderName::from_static("x-api-key"), HeaderValue::from(n))]);
            assert!(matches!(authenticator.authenticate(&made_up).await, Err(KeyError::Unknown)));
        }
        assert!(authenticator.unknown.len() <= MAX_CACHED);
        keys.faults.fail(1, ErrorClass::Transient);
        assert!(authenticator.authenticate(&secret).await.is_ok(), "the answer is remembered");
        assert_eq!(keys.faults.left(), 1, "the store was not asked");
    }
}
