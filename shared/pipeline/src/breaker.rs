//! A circuit breaker: stops asking a dependency that keeps failing, and probes it after a while.
//!
//! Pure: time comes in as an argument. One breaker guards one dependency in one function instance; [`crate::guard`]
//! puts it before calls.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Consecutive failures that open a breaker (REQUIREMENTS: threshold 5).
pub const FAILURES_TO_OPEN: u32 = 5;
/// How long it stays open before a probe, unless set otherwise (REQUIREMENTS: 60 s).
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
    /// The value of the `circuit_breaker_state` metric.
    pub const fn as_metric(self) -> u8 {
        match self {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        }
    }
}

/// Whether a call may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Call,
    /// The one call that finds out whether the dependency is back.
    Probe(Probe),
    /// `probe_in`: time until a call may be let through; zero while a probe is under way.
    Refused {
        probe_in: Duration,
    },
}

/// Identifies a probe in a call of [`Breaker::gave_up`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    since: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Inner {
    Closed { failures: u32 },
    Open { probe_at: Instant },
    HalfOpen { probe: Probe },
}

impl Inner {
    fn state(self) -> BreakerState {
        match self {
            Inner::Closed { .. } => BreakerState::Closed,
            Inner::Open { .. } => BreakerState::Open,
            Inner::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    fn refuses(self, now: Instant, open_for: Duration) -> Option<Duration> {
        match self {
            Inner::Closed { .. } => None,
            Inner::Open { probe_at } => Some(probe_at.saturating_duration_since(now)).filter(|left| !left.is_zero()),
            Inner::HalfOpen { probe } => {
                (now.saturating_duration_since(probe.since) < open_for).then_some(Duration::ZERO)
            }
        }
    }
}

#[derive(Debug)]
pub struct Breaker {
    open_for: Duration,
    inner: Mutex<Inner>,
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker::new(OPEN_FOR)
    }
}

impl Breaker {
    /// A closed breaker that probes `open_for` after it opened.
    pub fn new(open_for: Duration) -> Self {
        Breaker { open_for, inner: Mutex::new(Inner::Closed { failures: 0 }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // The state is a plain value, so it is valid even after a panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a call may be made now. A probe that never reports back, because its instance was frozen, counts as lost
    /// after the time that the breaker stays open; another one is then let through.
    pub fn admit(&self, now: Instant) -> Admission {
        let mut inner = self.lock();
        if let Some(probe_in) = inner.refuses(now, self.open_for) {
            return Admission::Refused { probe_in };
        }
        if let Inner::Closed { .. } = *inner {
            return Admission::Call;
        }
        let probe = Probe { since: now };
        *inner = Inner::HalfOpen { probe };
        Admission::Probe(probe)
    }

    /// The time until a call may be let through; `None` if one made now would be. Changes nothing.
    pub fn refuses(&self, now: Instant) -> Option<Duration> {
        self.lock().refuses(now, self.open_for)
    }

    pub fn succeeded(&self) {
        *self.lock() = Inner::Closed { failures: 0 };
    }

    pub fn failed(&self, now: Instant) {
        let mut inner = self.lock();
        *inner = match *inner {
            Inner::Closed { failures } if failures + 1 < FAILURES_TO_OPEN => Inner::Closed { failures: failures + 1 },
            Inner::Closed { .. } | Inner::HalfOpen { .. } => Inner::Open { probe_at: now + self.open_for },
            // A call that began before the breaker opened tells nothing new.
            Inner::Open { probe_at } => Inner::Open { probe_at },
        };
    }

    /// The caller of a probe went away without an answer. This says nothing about the dependency, so the next call may
    /// probe.
    pub fn gave_up(&self, given_up: Probe, now: Instant) {
        let mut inner = self.lock();
        match *inner {
            Inner::HalfOpen { probe } if probe == given_up => *inner = Inner::Open { probe_at: now },
            // The probe counted as lost, or another call has answered since.
            Inner::HalfOpen { .. } | Inner::Closed { .. } | Inner::Open { .. } => {}
        }
    }

    pub fn state(&self) -> BreakerState {
        self.lock().state()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(now: Instant) -> Breaker {
        let breaker = Breaker::default();
        for _ in 0..FAILURES_TO_OPEN {
            assert_eq!(breaker.admit(now), Admission::Call);
            breaker.failed(now);
        }
        breaker
    }

    fn probe(breaker: &Breaker, now: Instant) -> Probe {
        match breaker.admit(now) {
            Admission::Probe(probe) => probe,
            other => panic!("expected a probe, got {other:?}"),
        }
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
        assert_eq!(breaker.state(), BreakerState::Closed, "a success resets the count of failures");
        assert_eq!(opened(now).state(), BreakerState::Open);
        let second = Duration::from_secs(1);
        assert_eq!(opened(now).admit(now + second), Admission::Refused { probe_in: OPEN_FOR - second });
    }

    #[test]
    fn lets_one_probe_through_after_a_minute() {
        let now = Instant::now();
        let breaker = opened(now);
        let later = now + OPEN_FOR;
        probe(&breaker, later);
        assert_eq!(breaker.admit(later), Admission::Refused { probe_in: Duration::ZERO }, "only one probe");
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        breaker.succeeded();
        assert_eq!(breaker.admit(later), Admission::Call);
    }

    #[test]
    fn a_failed_probe_opens_it_again_and_a_lost_one_does_not_hang_it() {
        let now = Instant::now();
        let breaker = opened(now);
        let later = now + OPEN_FOR;
        probe(&breaker, later);
        breaker.failed(later);
        assert_eq!(breaker.admit(later + OPEN_FOR / 2), Admission::Refused { probe_in: OPEN_FOR / 2 });
        probe(&breaker, later + OPEN_FOR);
        probe(&breaker, later + OPEN_FOR * 2);
    }

    #[test]
    fn a_probe_that_was_given_up_makes_room_for_the_next() {
        let now = Instant::now();
        let breaker = opened(now);
        let first = probe(&breaker, now + OPEN_FOR);
        breaker.gave_up(first, now + OPEN_FOR);
        assert_eq!(breaker.state(), BreakerState::Open);
        let second = probe(&breaker, now + OPEN_FOR * 2);
        breaker.gave_up(first, now + OPEN_FOR * 2);
        assert_eq!(breaker.state(), BreakerState::HalfOpen, "the second probe is still under way");
        breaker.gave_up(second, now + OPEN_FOR * 2);
        assert_eq!(breaker.state(), BreakerState::Open);
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_keeps_it_open() {
        let now = Instant::now() + OPEN_FOR;
        let breaker = opened(now);
        assert_eq!(
            breaker.admit(now - Duration::from_secs(1)),
            Admission::Refused { probe_in: OPEN_FOR + Duration::from_secs(1) }
        );
    }
}
