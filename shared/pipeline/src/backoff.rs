//! How long to wait between two attempts: exponential backoff with full jitter.

use std::time::Duration;

/// How often to try, and how long to wait in between.
///
/// Waits are drawn evenly from zero to a bound that doubles ("full jitter", AWS Architecture Blog 2015), so that many
/// callers that failed together do not return together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Calls in all, the first included.
    pub attempts: u32,
    /// Upper bound of the first wait; doubles with every attempt.
    pub base: Duration,
    /// Upper bound of any wait.
    pub cap: Duration,
}

impl Backoff {
    /// Upper bound of the wait after the attempt numbered `attempt`, from 1.
    fn bound(&self, attempt: u32) -> Duration {
        let factor = 2_u32.checked_pow(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// How long to wait after the attempt numbered `attempt`, from 1.
    pub fn wait(&self, attempt: u32) -> Duration {
        self.bound(attempt).mul_f64(fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_double_up_to_the_cap() {
        let backoff = Backoff { attempts: 3, base: Duration::from_millis(100), cap: Duration::from_secs(2) };
        assert_eq!(backoff.bound(1), Duration::from_millis(100));
        assert_eq!(backoff.bound(2), Duration::from_millis(200));
        assert_eq!(backoff.bound(u32::MAX), backoff.cap);
        assert!((1..100).all(|attempt| backoff.wait(attempt) <= backoff.bound(attempt)));
    }
}
