//! The only place that reads the wall clock.

use event::Timestamp;

/// Returns the current time. Only the outer layer of a function holds a clock; it passes `now` to the decisions.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
}

/// The machine's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that others must use")]
    fn now(&self) -> Timestamp {
        // The time is before 1970 only if the machine's clock is wrong; then the epoch is as good an answer as any.
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }
}

/// A duration as a number of milliseconds, for a field of a log line. (`Duration::as_millis` has 128 bits, which JSON's
/// numbers do not hold: the field would be a text, and nothing could be computed with it.)
pub fn millis(duration: std::time::Duration) -> f64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX) as f64 / 1000.0
}
