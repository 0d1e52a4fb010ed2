//! Bounded retries with exponential backoff and full jitter, inside the time that is left.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use crate::DependencyError;

/// How often and how long to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Calls in all, the first included.
    pub attempts: u32,
    /// Upper bound of the first wait; doubles with every attempt.
    pub base: Duration,
    /// Upper bound of any wait.
    pub cap: Duration,
}

impl RetryPolicy {
    /// Three attempts, waiting up to 100 and up to 200 ms (DESIGN section 6).
    pub const STANDARD: RetryPolicy =
        RetryPolicy { attempts: 3, base: Duration::from_millis(100), cap: Duration::from_secs(2) };

    /// Upper bound of the wait after the attempt numbered `attempt`, from 1.
    fn bound(&self, attempt: u32) -> Duration {
        let factor = 2_u32.checked_pow(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// How long to wait after the attempt numbered `attempt`, from 1: drawn evenly from zero to the bound.
    pub fn wait(&self, attempt: u32) -> Duration {
        self.bound(attempt).mul_f64(fastrand::f64())
    }
}

/// Calls until it succeeds, fails for good, the attempts are used up, or the wait would pass `deadline`. Gives the
/// last error.
///
/// Waits are drawn evenly from zero to the bound ("full jitter", AWS Architecture Blog 2015), so that many callers
/// that failed together do not return together. A call in flight is given up at the deadline only if the callee does
/// so: every adapter bounds its own calls.
///
/// # Errors
/// The last call's error.
pub async fn retry<T, F>(
    policy: RetryPolicy,
    deadline: Instant,
    mut call: impl FnMut() -> F,
) -> Result<T, DependencyError>
where
    F: Future<Output = Result<T, DependencyError>>,
{
    let mut attempt = 1;
    loop {
        let error = match call().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let wait = policy.wait(attempt);
        let in_time = Instant::now() + wait < deadline;
        if !error.is_retryable() || attempt >= policy.attempts || !in_time {
            return Err(error);
        }
        tracing::warn!(
            dependency = error.dependency.as_str(),
            tag = error.tag,
            attempt,
            wait_ms = wait.as_millis(),
            "call failed, trying again"
        );
        tokio::time::sleep(wait).await;
        attempt += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::{Dependency, ErrorClass};

    fn failure(class: ErrorClass) -> DependencyError {
        DependencyError { dependency: Dependency::S3, class, tag: "test", doing: "testing", source: "boom".into() }
    }

    async fn calls(policy: RetryPolicy, left: Duration, class: ErrorClass, failures: u32) -> (u32, bool) {
        let calls = AtomicU32::new(0);
        let result = retry(policy, Instant::now() + left, || async {
            if calls.fetch_add(1, Ordering::Relaxed) < failures { Err(failure(class)) } else { Ok(()) }
        })
        .await;
        (calls.into_inner(), result.is_ok())
    }

    #[tokio::test(start_paused = true)]
    async fn stops_at_success_exhaustion_or_a_permanent_error() {
        let minute = Duration::from_secs(60);
        assert_eq!(calls(RetryPolicy::STANDARD, minute, ErrorClass::Transient, 2).await, (3, true));
        assert_eq!(calls(RetryPolicy::STANDARD, minute, ErrorClass::Overload, 9).await, (3, false));
        assert_eq!(calls(RetryPolicy::STANDARD, minute, ErrorClass::Permanent, 9).await, (1, false));
    }

    #[tokio::test(start_paused = true)]
    async fn does_not_wait_past_the_deadline() {
        assert_eq!(calls(RetryPolicy::STANDARD, Duration::ZERO, ErrorClass::Transient, 9).await, (1, false));
    }

    #[test]
    fn bounds_double_up_to_the_cap() {
        let policy = RetryPolicy::STANDARD;
        assert_eq!(policy.bound(1), Duration::from_millis(100));
        assert_eq!(policy.bound(2), Duration::from_millis(200));
        assert_eq!(policy.bound(u32::MAX), policy.cap);
    }
}
