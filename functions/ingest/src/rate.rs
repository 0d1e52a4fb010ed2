//! The rate limit of an API key: events per minute, shared by all instances.
//!
//! An instance takes tokens from the store in blocks and spends them by itself, so the store is written once per block
//! and not once per request. Unused tokens of a block expire at the end of its minute. A request gets tokens for all
//! its events or for none. Every event uses a token, valid or not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use event::Timestamp;
use pipeline::guard::Guard;
use pipeline::ports::{ApiKey, KeyHash, RateLeases};
use strum::{EnumString, VariantNames};

/// A block is this part of the limit. It limits the writes per key and minute to this number, plus one for each request
/// that is larger than a block.
const BLOCKS_PER_MINUTE: u32 = 20;
/// Number of keys whose tokens are kept.
const MAX_KEYS: usize = 10_000;

/// What happens while the store of leases is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, EnumString, VariantNames, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub enum OnStoreError {
    /// Each instance applies the limit by itself. Losing events is worse than letting a key exceed its limit.
    #[default]
    Allow,
    /// Requests get the answer 503.
    Deny,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RatePolicy {
    /// Events per minute for a key without a limit of its own.
    pub default_limit: u32,
    pub on_store_error: OnStoreError,
    /// Longest wait for the store.
    pub timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    #[error("the API key has used up its limit of {limit} events per minute")]
    Exceeded { limit: u32, retry_after: Duration },
    #[error("the request has {events} events, more than the API key's limit of {limit} events per minute")]
    NeverFits { events: u32, limit: u32 },
    #[error("the rate limit cannot be checked now")]
    Unavailable,
}

/// The tokens of one key that this instance has.
#[derive(Debug, Default)]
struct Lease {
    minute: i64,
    tokens: u32,
    /// The store has no more tokens for this minute, so it is not asked again.
    exhausted: bool,
    /// Tokens that this instance gave out by itself in this minute, while the store was down.
    ungoverned: u32,
}

impl Lease {
    fn enter(&mut self, minute: i64) {
        if self.minute != minute {
            *self = Lease { minute, ..Lease::default() };
        }
    }

    fn spend(&mut self, events: u32) -> bool {
        let enough = self.tokens >= events;
        if enough {
            self.tokens -= events;
        }
        enough
    }

    /// How many tokens to request, so that there are enough for `events`.
    fn want(&self, events: u32, limit: u32) -> u32 {
        (events - self.tokens.min(events)).max(limit / BLOCKS_PER_MINUTE)
    }

    fn spend_ungoverned(&mut self, events: u32, limit: u32) -> bool {
        let enough = self.ungoverned.saturating_add(events) <= limit;
        if enough {
            self.ungoverned += events;
        }
        enough
    }
}

pub struct RateLimiter {
    leases: Arc<dyn RateLeases>,
    policy: RatePolicy,
    /// With the guard, requests do not wait for the timeout of a store that is down.
    guard: Arc<Guard>,
    /// One lock per key, so that concurrent requests of a key take one block together.
    held: Mutex<HashMap<KeyHash, Arc<tokio::sync::Mutex<Lease>>>>,
}

impl RateLimiter {
    pub fn new(leases: Arc<dyn RateLeases>, guard: Arc<Guard>, policy: RatePolicy) -> Self {
        RateLimiter { leases, policy, guard, held: Mutex::default() }
    }

    /// Takes tokens for `events` events of a key.
    ///
    /// # Errors
    /// [`RateError`]; no tokens have been taken then.
    pub async fn take(&self, key: &ApiKey, events: u32, now: Timestamp) -> Result<(), RateError> {
        let limit = key.rate_limit_per_min.unwrap_or(self.policy.default_limit);
        if events > limit {
            return Err(RateError::NeverFits { events, limit });
        }
        let minute = now.minute();
        let lease = self.lease_of(key.hash, minute);
        let mut lease = lease.lock().await;
        lease.enter(minute);
        if lease.spend(events) {
            return Ok(());
        }
        let exceeded = RateError::Exceeded { limit, retry_after: until_next_minute(now) };
        if lease.exhausted {
            return Err(exceeded);
        }
        let want = lease.want(events, limit);
        match self.ask(key, minute, want, limit).await {
            Some(granted) => {
                lease.tokens = lease.tokens.saturating_add(granted);
                lease.exhausted = granted < want;
                if lease.spend(events) { Ok(()) } else { Err(exceeded) }
            }
            None => match self.policy.on_store_error {
                OnStoreError::Allow if lease.spend_ungoverned(events, limit) => Ok(()),
                OnStoreError::Allow => Err(exceeded),
                OnStoreError::Deny => Err(RateError::Unavailable),
            },
        }
    }

    /// The number of tokens that the store granted; `None` if it does not answer.
    async fn ask(&self, key: &ApiKey, minute: i64, want: u32, limit: u32) -> Option<u32> {
        let bucket = key.hash.to_string();
        let take = async {
            let taken = tokio::time::timeout(self.policy.timeout, self.leases.take(&bucket, minute, want, limit)).await;
            taken.unwrap_or_else(|_| Err(api_keys::timeout("taking rate tokens")))
        };
        match self.guard.call_once("taking rate tokens", take).await {
            Ok(granted) => Some(granted),
            Err(error) => {
                // The breaker logged once that it opened; it is not logged again for each request.
                if error.open_breaker().is_none() {
                    tracing::warn!(error = %pipeline::chain(&error), "cannot take rate limit tokens");
                }
                None
            }
        }
    }

    fn lease_of(&self, key: KeyHash, minute: i64) -> Arc<tokio::sync::Mutex<Lease>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= MAX_KEYS && !held.contains_key(&key) {
            // Leases of past minutes have no value. A lease in use stays.
            held.retain(|_, lease| lease.try_lock().map_or(true, |lease| lease.minute == minute));
        }
        Arc::clone(held.entry(key).or_default())
    }
}

/// At least a second, so that a client does not retry within the same minute.
fn until_next_minute(now: Timestamp) -> Duration {
    let next = Timestamp::from_millis(now.minute().saturating_add(1).saturating_mul(60_000));
    next.since(now).max(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;
    use event::TenantId;
    use pipeline::breaker::{FAILURES_TO_OPEN, OPEN_FOR};
    use pipeline::{Dependency, DependencyError, ErrorClass};
    use testkit::fakes::rate_leases::FakeRateLeases;

    use super::*;

    /// Counts the writes that reach the store.
    #[derive(Default)]
    struct Counted {
        leases: FakeRateLeases,
        calls: AtomicU32,
    }

    #[async_trait]
    impl RateLeases for Counted {
        async fn take(&self, bucket: &str, minute: i64, want: u32, limit: u32) -> Result<u32, DependencyError> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            self.leases.take(bucket, minute, want, limit).await
        }
    }

    fn limiter(leases: &Arc<Counted>, on_store_error: OnStoreError) -> RateLimiter {
        let policy = RatePolicy { default_limit: 1000, on_store_error, timeout: Duration::from_secs(1) };
        let guard = Guard::unobserved(Dependency::Dynamodb, OPEN_FOR);
        RateLimiter::new(Arc::clone(leases) as Arc<dyn RateLeases>, Arc::new(guard), policy)
    }

    fn key(limit: Option<u32>) -> ApiKey {
        ApiKey {
            hash: KeyHash([7; 32]),
            tenant: TenantId::new("acme").unwrap(),
            name: "web".into(),
            trusted_collector: false,
            rate_limit_per_min: limit,
            revoked: false,
        }
    }

    /// 15 seconds into a minute.
    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000 - 1_700_000_000_000 % 60_000 + 15_000);

    #[tokio::test]
    async fn writes_once_for_a_block_and_grants_exactly_the_limit() {
        let leases = Arc::new(Counted::default());
        let limiter = limiter(&leases, OnStoreError::Allow);
        let mut granted = 0;
        for _ in 0..1500 {
            granted += u32::from(limiter.take(&key(None), 1, NOW).await.is_ok());
        }
        assert_eq!(granted, 1000);
        assert_eq!(
            leases.calls.load(Ordering::Relaxed),
            BLOCKS_PER_MINUTE + 1,
            "one for each block, one to find it used up"
        );
        let error = limiter.take(&key(None), 1, NOW).await.unwrap_err();
        assert_eq!(error, RateError::Exceeded { limit: 1000, retry_after: Duration::from_secs(45) });
        let next = NOW.plus(Duration::from_secs(45));
        assert!(limiter.take(&key(None), 1, next).await.is_ok(), "a new minute");
    }

    #[tokio::test]
    async fn a_request_gets_all_or_nothing() {
        let leases = Arc::new(Counted::default());
        let limiter = limiter(&leases, OnStoreError::Allow);
        let key = key(Some(100));
        assert!(limiter.take(&key, 70, NOW).await.is_ok());
        assert!(matches!(limiter.take(&key, 40, NOW).await, Err(RateError::Exceeded { .. })));
        assert!(limiter.take(&key, 30, NOW).await.is_ok(), "what was left is still there");
        assert_eq!(limiter.take(&key, 101, NOW).await, Err(RateError::NeverFits { events: 101, limit: 100 }));
    }

    #[tokio::test]
    async fn a_clock_that_jumps_grants_no_minute_twice() {
        let leases = Arc::new(Counted::default());
        let limiter = limiter(&leases, OnStoreError::Allow);
        let hour = Duration::from_secs(3600);
        let mut granted = 0;
        // Back and forth between two minutes.
        for now in [NOW, NOW.plus(hour), NOW, NOW.plus(hour)] {
            for _ in 0..100 {
                granted += u32::from(limiter.take(&key(Some(100)), 1, now).await.is_ok());
            }
        }
        assert_eq!(granted, 200);
    }

    #[tokio::test]
    async fn instances_share_the_limit() {
        let leases = Arc::new(Counted::default());
        let instances: Vec<RateLimiter> = (0..4).map(|_| limiter(&leases, OnStoreError::Allow)).collect();
        let mut granted = 0;
        for round in 0..2000 {
            granted += u32::from(instances[round % 4].take(&key(None), 1, NOW).await.is_ok());
        }
        assert_eq!(granted, 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_store_each_instance_applies_the_limit_alone() {
        let leases = Arc::new(Counted::default());
        leases.leases.faults.fail(1000, ErrorClass::Transient);
        let open = limiter(&leases, OnStoreError::Allow);
        let mut granted = 0;
        for _ in 0..150 {
            granted += u32::from(open.take(&key(Some(100)), 1, NOW).await.is_ok());
        }
        assert_eq!(granted, 100);
        assert_eq!(leases.calls.load(Ordering::Relaxed), FAILURES_TO_OPEN, "then the breaker is open");

        let closed = limiter(&leases, OnStoreError::Deny);
        assert_eq!(closed.take(&key(None), 1, NOW).await, Err(RateError::Unavailable));
    }
}
