//! The rate limit of an API key: a token bucket that all instances share.
//!
//! An instance takes as many tokens from the store as the key lately used here in a second, and spends them by itself. So the
//! store is written about once a second for each busy key and instance, and not once for each request. A request gets all the
//! tokens that it needs or none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use event::Timestamp;
use http::StatusCode;
use pipeline::ErrorClass;
use pipeline::guard::Guard;
use pipeline::ports::{ApiKey, Grant, KeyHash, RateLeases, TokenRequest};
use pipeline::token_bucket::{self, BucketLimit, FullAt};
use settings::Settings;
use strum::{EnumCount, EnumString, VariantNames};

/// How long an instance may keep tokens.
const LEND_FOR: Duration = Duration::from_secs(1);
/// Tokens are lent only from buckets of at least this size, which also hold at least [`LENDING_SECONDS`]: a small bucket
/// would be empty with what several instances keep, and its key makes few writes anyway.
const LENDING_BURST: u32 = 20;
const LENDING_SECONDS: u32 = 2;
/// At most this part of a bucket is kept by one instance.
const KEPT_PART: u32 = 4;
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

/// What a token stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub enum Counted {
    /// An event that is sent. A key may have a limit of its own.
    Events,
    /// A request that reads. All keys have the same limit.
    Requests,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RatePolicy {
    pub counted: Counted,
    /// Tokens per minute of a key without a limit of its own.
    pub default_limit: u32,
    /// How many may come at once, as a part of the limit, if the key does not say.
    pub burst_percent: u32,
    pub on_store_error: OnStoreError,
    /// Longest wait for the store.
    pub timeout: Duration,
}

impl RatePolicy {
    /// Reads `RATE_LIMIT_BURST_PERCENT` (10) and `RATE_LIMIT_ON_ERROR` (`allow`).
    pub fn from_settings(settings: &mut Settings<'_>, counted: Counted, default_limit: u32, timeout: Duration) -> Self {
        RatePolicy {
            counted,
            default_limit,
            burst_percent: settings.or("RATE_LIMIT_BURST_PERCENT", 10),
            on_store_error: settings.choice("RATE_LIMIT_ON_ERROR", OnStoreError::default()),
            timeout,
        }
    }

    fn limit_of(&self, key: &ApiKey) -> BucketLimit {
        let (per_minute, burst) = match self.counted {
            Counted::Events => (key.rate_limit_per_min, key.burst),
            Counted::Requests => (None, None),
        };
        let per_minute = per_minute.unwrap_or(self.default_limit);
        let part = u64::from(per_minute) * u64::from(self.burst_percent) / 100;
        let burst = burst.unwrap_or_else(|| u32::try_from(part).unwrap_or(u32::MAX)).max(1);
        let lends = burst >= LENDING_BURST && burst >= per_minute / (60 / LENDING_SECONDS);
        BucketLimit { per_minute, burst, lend_for: if lends { LEND_FOR } else { Duration::ZERO } }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, EnumCount)]
pub enum RateError {
    #[error("the API key has used up its limit of {limit} {counted} a minute; try again after the time in Retry-After")]
    Exceeded { counted: Counted, limit: u32, retry_after: Duration },
    #[error(
        "the request has {events} events; with its limit of {limit} events a minute the API key may send {burst} at \
         once: send smaller batches, or have the key's \"burst\" raised"
    )]
    NeverFits { events: u32, limit: u32, burst: u32 },
    #[error("the rate limit cannot be checked now")]
    Unavailable,
}

impl RateError {
    /// One of each kind, for what documents an interface. The length of the array is checked by the compiler.
    pub const fn of_each_kind(counted: Counted) -> [Self; Self::COUNT] {
        [
            RateError::Exceeded { counted, limit: 1_000, retry_after: Duration::from_secs(1) },
            RateError::NeverFits { events: 200, limit: 1_000, burst: 100 },
            RateError::Unavailable,
        ]
    }

    /// Whether the same request may succeed later.
    pub const fn class(&self) -> ErrorClass {
        match self {
            RateError::Exceeded { .. } => ErrorClass::Overload,
            RateError::NeverFits { .. } => ErrorClass::Permanent,
            RateError::Unavailable => ErrorClass::Transient,
        }
    }

    /// Bounded name of the cause: a metric label, and the last part of the problem's type.
    pub const fn tag(&self) -> &'static str {
        match self {
            RateError::Exceeded { .. } => "rate_limit_exceeded",
            RateError::NeverFits { .. } => "batch_beyond_rate_limit",
            RateError::Unavailable => "rate_limit_unavailable",
        }
    }

    pub const fn status(&self) -> StatusCode {
        match self {
            RateError::Exceeded { .. } => StatusCode::TOO_MANY_REQUESTS,
            RateError::NeverFits { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            RateError::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// When the client should retry, if the limit says it.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            RateError::Exceeded { retry_after, .. } => Some(*retry_after),
            RateError::NeverFits { .. } | RateError::Unavailable => None,
        }
    }
}

/// The tokens of one key that this instance has.
#[derive(Debug, Default)]
struct Lease {
    tokens: u32,
    /// They may be spent from `taken_at` to this instant.
    until: Timestamp,
    taken_at: Timestamp,
    /// Spent since `taken_at`.
    spent: u32,
    /// From `refused_at` to `refused_until` the store has not `refused_need` tokens, so it is not asked for as many.
    refused_at: Timestamp,
    refused_until: Timestamp,
    refused_need: u32,
    /// The bucket of this instance alone, while the store is down.
    alone: Option<FullAt>,
}

impl Lease {
    fn spend(&mut self, need: u32, now: Timestamp) -> bool {
        // Also before it was taken: then the clock went back.
        if now < self.taken_at || now > self.until {
            self.tokens = 0;
        }
        let enough = self.tokens >= need;
        if enough {
            self.tokens -= need;
            self.spent = self.spent.saturating_add(need);
        }
        enough
    }

    /// How many tokens to ask for: as many as a second uses at the pace of the last ones.
    fn want(&self, need: u32, limit: BucketLimit, now: Timestamp) -> u32 {
        if limit.lend_for.is_zero() || now < self.taken_at || now > self.until.plus(LEND_FOR) {
            return need;
        }
        // Not less than a tenth of a second, or a few events that came together would count as thousands.
        let millis = now.since(self.taken_at).clamp(LEND_FOR / 10, LEND_FOR).as_millis();
        let a_second = u128::from(self.spent) * LEND_FOR.as_millis() / millis;
        need.max(u32::try_from(a_second).unwrap_or(u32::MAX).min(limit.burst / KEPT_PART))
    }

    fn take(&mut self, granted: u32, limit: BucketLimit, now: Timestamp) {
        *self = Lease { tokens: granted, until: now.plus(limit.lend_for), taken_at: now, ..Lease::default() };
    }

    fn is_of_use(&self, now: Timestamp) -> bool {
        now <= self.until || now < self.refused_until || self.alone.is_some()
    }
}

pub struct RateLimiter {
    leases: Arc<dyn RateLeases>,
    policy: RatePolicy,
    /// With the guard, requests do not wait for the timeout of a store that is down.
    guard: Arc<Guard>,
    /// One lock per key, so that concurrent requests of a key ask the store together.
    held: Mutex<HashMap<KeyHash, Arc<tokio::sync::Mutex<Lease>>>>,
}

impl RateLimiter {
    pub fn new(leases: Arc<dyn RateLeases>, guard: Arc<Guard>, policy: RatePolicy) -> Self {
        RateLimiter { leases, policy, guard, held: Mutex::default() }
    }

    /// Takes `need` tokens of a key.
    ///
    /// # Errors
    /// [`RateError`]; no tokens have been taken then.
    pub async fn take(&self, key: &ApiKey, need: u32, now: Timestamp) -> Result<(), RateError> {
        let limit = self.policy.limit_of(key);
        if need > limit.burst {
            return Err(RateError::NeverFits { events: need, limit: limit.per_minute, burst: limit.burst });
        }
        let exceeded =
            |retry_after| RateError::Exceeded { counted: self.policy.counted, limit: limit.per_minute, retry_after };
        let lease = self.lease_of(key.hash, now);
        let mut lease = lease.lock().await;
        if lease.spend(need, now) {
            return Ok(());
        }
        if need >= lease.refused_need && (lease.refused_at..lease.refused_until).contains(&now) {
            return Err(exceeded(lease.refused_until.since(now)));
        }
        // What is left of the tokens here is lost. Keeping it would make them last longer than they may.
        let request = TokenRequest { limit, need, want: lease.want(need, limit, now), now };
        match self.ask(key, request).await {
            Some(Grant::Granted(granted)) => {
                lease.take(granted, limit, now);
                if lease.spend(need, now) { Ok(()) } else { Err(RateError::Unavailable) }
            }
            Some(Grant::Refused { retry_after }) => {
                (lease.refused_at, lease.refused_until) = (now, now.plus(retry_after));
                lease.refused_need = need;
                Err(exceeded(retry_after))
            }
            None => match self.policy.on_store_error {
                OnStoreError::Allow => {
                    let limit = BucketLimit { lend_for: Duration::ZERO, ..limit };
                    let taken = token_bucket::take(lease.alone, &TokenRequest { limit, want: need, ..request });
                    lease.alone = token_bucket::after(lease.alone, taken).or(lease.alone);
                    match taken.grant() {
                        Grant::Granted(_) => Ok(()),
                        Grant::Refused { retry_after } => Err(exceeded(retry_after)),
                    }
                }
                OnStoreError::Deny => Err(RateError::Unavailable),
            },
        }
    }

    /// The store's answer; `None` if there is none.
    async fn ask(&self, key: &ApiKey, request: TokenRequest) -> Option<Grant> {
        let bucket = match self.policy.counted {
            Counted::Events => key.hash.to_string(),
            Counted::Requests => format!("read-{}", key.hash),
        };
        let take = async {
            let taken = tokio::time::timeout(self.policy.timeout, self.leases.take(&bucket, request)).await;
            taken.unwrap_or_else(|_| Err(crate::timeout(self.guard.dependency(), "taking rate tokens")))
        };
        match self.guard.call_once("taking rate tokens", take).await {
            Ok(grant) => Some(grant),
            Err(error) => {
                // The breaker logged once that it opened; it is not logged again for each request.
                if error.open_breaker().is_none() {
                    tracing::warn!(error = %pipeline::chain(&error), "cannot take rate limit tokens");
                }
                None
            }
        }
    }

    fn lease_of(&self, key: KeyHash, now: Timestamp) -> Arc<tokio::sync::Mutex<Lease>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= MAX_KEYS && !held.contains_key(&key) {
            // A lease in use stays.
            held.retain(|_, lease| lease.try_lock().map_or(true, |lease| lease.is_of_use(now)));
        }
        Arc::clone(held.entry(key).or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;
    use event::TenantId;
    use pipeline::breaker::{FAILURES_TO_OPEN, OPEN_FOR};
    use pipeline::ports::{KeyKind, Scope};
    use pipeline::{Dependency, DependencyError};
    use testkit::fakes::rate_leases::FakeRateLeases;

    use super::*;

    /// Counts the calls that reach the store.
    #[derive(Default)]
    struct CountingLeases {
        leases: FakeRateLeases,
        calls: AtomicU32,
    }

    impl CountingLeases {
        fn calls(&self) -> u32 {
            self.calls.load(Ordering::Relaxed)
        }
    }

    #[async_trait]
    impl RateLeases for CountingLeases {
        async fn take(&self, bucket: &str, request: TokenRequest) -> Result<Grant, DependencyError> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            self.leases.take(bucket, request).await
        }
    }

    fn policy(on_store_error: OnStoreError) -> RatePolicy {
        let timeout = Duration::from_secs(1);
        RatePolicy { counted: Counted::Events, default_limit: 6_000, burst_percent: 10, on_store_error, timeout }
    }

    fn limiter(leases: &Arc<CountingLeases>, on_store_error: OnStoreError) -> RateLimiter {
        let guard = Guard::unobserved(Dependency::Dynamodb, OPEN_FOR);
        RateLimiter::new(Arc::clone(leases) as Arc<dyn RateLeases>, Arc::new(guard), policy(on_store_error))
    }

    fn key(limit: Option<u32>) -> ApiKey {
        ApiKey {
            hash: KeyHash([7; 32]),
            tenant: TenantId::new("acme").unwrap(),
            name: "web".into(),
            kind: KeyKind::Server,
            scopes: BTreeSet::from([Scope::Write]),
            rate_limit_per_min: limit,
            burst: None,
            expires_at: None,
            revoked: false,
        }
    }

    const NOW: Timestamp = Timestamp::from_millis(1_795_197_720_000);

    fn after(millis: u64) -> Timestamp {
        NOW.plus(Duration::from_millis(millis))
    }

    #[tokio::test]
    async fn a_busy_key_costs_few_writes_and_passes_exactly_its_limit() {
        let leases = Arc::new(CountingLeases::default());
        let limiter = limiter(&leases, OnStoreError::Allow);
        let mut passed = 0;
        // 80 events a second for ten minutes, of a limit of 100 a second.
        for n in 0..48_000_u64 {
            passed += u64::from(limiter.take(&key(None), 1, after(n * 25 / 2)).await.is_ok());
        }
        assert_eq!(passed, 48_000);
        let calls = leases.calls();
        assert!((600..1_300).contains(&calls), "{calls} calls in 600 seconds");
    }

    #[tokio::test]
    async fn at_most_limit_and_burst_pass_in_any_minute() {
        let leases = Arc::new(CountingLeases::default());
        let limiters: Vec<RateLimiter> = (0..3).map(|_| limiter(&leases, OnStoreError::Allow)).collect();
        let mut passed = Vec::new();
        // 1000 events a second on three instances.
        for n in 0..180_000_u64 {
            if limiters[usize::try_from(n % 3).unwrap()].take(&key(None), 1, after(n)).await.is_ok() {
                passed.push(n);
            }
        }
        let most = passed
            .iter()
            .enumerate()
            .map(|(index, start)| passed[index..].partition_point(|at| *at < start + 60_000))
            .max();
        assert!(most.is_some_and(|most| (6_000..=6_600).contains(&most)), "{most:?}");
        assert!(passed.len() >= 17_500, "the limit itself is used: {}", passed.len());
    }

    #[tokio::test]
    async fn a_request_gets_all_or_nothing_and_is_told_when_to_come_again() {
        let leases = Arc::new(CountingLeases::default());
        let limiter = limiter(&leases, OnStoreError::Allow);
        let key = key(Some(600));
        assert!(limiter.take(&key, 50, NOW).await.is_ok());
        let error = limiter.take(&key, 20, NOW).await.unwrap_err();
        let RateError::Exceeded { limit: 600, retry_after, .. } = error else { panic!("{error}") };
        assert_eq!(leases.calls(), 2);
        assert!(limiter.take(&key, 20, after(10)).await.is_err());
        assert_eq!(leases.calls(), 2, "it is not asked before there can be enough");
        assert!(limiter.take(&key, 20, NOW.plus(retry_after)).await.is_ok());
        let error = limiter.take(&key, 61, NOW).await.unwrap_err();
        assert_eq!(error, RateError::NeverFits { events: 61, limit: 600, burst: 60 });
        let own = ApiKey { hash: KeyHash([8; 32]), burst: Some(200), ..key };
        assert!(limiter.take(&own, 200, NOW).await.is_ok(), "a burst of its own");
    }

    #[tokio::test]
    async fn a_small_limit_is_kept_to_the_event_by_all_instances() {
        let leases = Arc::new(CountingLeases::default());
        let limiters: Vec<RateLimiter> = (0..4).map(|_| limiter(&leases, OnStoreError::Allow)).collect();
        let mut passed = 0;
        for n in 0..6_000_u64 {
            let limiter = &limiters[usize::try_from(n % 4).unwrap()];
            passed += u32::from(limiter.take(&key(Some(60)), 1, after(n * 10)).await.is_ok());
        }
        assert_eq!(passed, 65, "60 in a minute and what was there at first");
    }

    #[tokio::test]
    async fn a_clock_that_jumps_shuts_no_key_out() {
        let leases = Arc::new(CountingLeases::default());
        let limiter = limiter(&leases, OnStoreError::Allow);
        let mut passed = 0;
        for now in [NOW, after(3_600_000), NOW, after(1)] {
            for _ in 0..100 {
                passed += u32::from(limiter.take(&key(Some(100)), 1, now).await.is_ok());
            }
        }
        assert_eq!(passed, 30, "the burst again after each jump");
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_store_each_instance_applies_the_limit_alone() {
        let leases = Arc::new(CountingLeases::default());
        leases.leases.faults.fail(1000, ErrorClass::Transient);
        let open = limiter(&leases, OnStoreError::Allow);
        let mut granted = 0;
        for _ in 0..150 {
            granted += u32::from(open.take(&key(Some(1_000)), 1, NOW).await.is_ok());
        }
        assert_eq!(granted, 100);
        assert_eq!(leases.calls(), FAILURES_TO_OPEN, "then the breaker is open");

        let closed = limiter(&leases, OnStoreError::Deny);
        assert_eq!(closed.take(&key(None), 1, NOW).await, Err(RateError::Unavailable));
    }
}
