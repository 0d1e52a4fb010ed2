//! A circuit breaker: stops asking a dependency that keeps failing, and probes it after a while.
//!
//! Pure: time comes in as an argument. One breaker guards one dependency in one function instance.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Consecutive failures that open a breaker (REQUIREMENTS: threshold 5).
pub const FAILURES_TO_OPEN: u32 = 5;
/// How long it stays open before a probe (REQUIREMENTS: 60 s).
pub const OPEN_FOR: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// One probe is under way; other calls are refused.
    HalfOpen,
    /// Calls are refused.
    Open,
}

impl BreakerState {
    /// Value of the `circuit_breaker_state` metric.
    pub const fn as_metric(self) -> u8 {
        match self {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        }
    }
}

#[derive(Debug)]
enum Inner {
    Closed { failures: u32 },
    Open { since: Instant },
    HalfOpen { since: Instant },
}

#[derive(Debug)]
pub struct Breaker {
    inner: Mutex<Inner>,
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker { inner: Mutex::new(Inner::Closed { failures: 0 }) }
    }
}

impl Breaker {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // The state is a plain value, whole after any panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a call may be made now. After [`OPEN_FOR`] exactly one caller is let through as a probe; if it never
    /// reports back (its instance was frozen), another may try after the same time.
    pub fn allows(&self, now: Instant) -> bool {
        let mut inner = self.lock();
        match *inner {
            Inner::Closed { .. } => true,
            Inner::Open { since } | Inner::HalfOpen { since } => {
                let probe = now.saturating_duration_since(since) >= OPEN_FOR;
                if probe {
                    *inner = Inner::HalfOpen { since: now };
                }
                probe
            }
        }
    }

    pub fn succeeded(&self) {
        *self.lock() = Inner::Closed { failures: 0 };
    }

    pub fn failed(&self, now: Instant) {
        let mut inner = self.lock();
        *inner = match *inner {
            Inner::Closed { failures } if failures + 1 < FAILURES_TO_OPEN => Inner::Closed { failures: failures + 1 },
            Inner::Closed { .. } | Inner::HalfOpen { .. } => Inner::Open { since: now },
            // A call that began before the breaker opened says nothing new.
            Inner::Open { since } => Inner::Open { since },
        };
    }

    pub fn state(&self) -> BreakerState {
        match *self.lock() {
            Inner::Closed { .. } => BreakerState::Closed,
            Inner::Open { .. } => BreakerState::Open,
            Inner::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(now: Instant) -> Breaker {
        let breaker = Breaker::default();
        for _ in 0..FAILURES_TO_OPEN {
            assert!(breaker.allows(now));
            breaker.failed(now);
        }
        breaker
    }

    #[test]
    fn opens_after_five_failures_in_a_row() {
        let now = Instant::now();
        let breaker = Breaker::default();
        for _ in 0..FAILURES_TO_OPEN - 1 {
            breaker.failed(now);
        }
        breaker.succeeded();
        breaker.failed(now);
        assert_eq!(breaker.state(), BreakerState::Closed, "a success starts the count again");
        assert_eq!(opened(now).state(), BreakerState::Open);
        assert!(!opened(now).allows(now));
    }

    #[test]
    fn lets_one_probe_through_after_a_minute() {
        let now = Instant::now();
        let breaker = opened(now);
        let later = now + OPEN_FOR;
        assert!(breaker.allows(later));
        assert!(!breaker.allows(later), "only one probe");
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        breaker.succeeded();
        assert!(breaker.allows(later));
    }

    #[test]
    fn a_failed_probe_opens_it_again_and_a_lost_one_does_not_hang_it() {
        let now = Instant::now();
        let breaker = opened(now);
        let later = now + OPEN_FOR;
        assert!(breaker.allows(later));
        breaker.failed(later);
        assert!(!breaker.allows(later + OPEN_FOR / 2));
        assert!(breaker.allows(later + OPEN_FOR), "second probe");
        assert!(breaker.allows(later + OPEN_FOR * 2), "the second probe never reported back");
    }
}
