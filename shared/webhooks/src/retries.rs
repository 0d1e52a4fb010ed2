//! When a delivery that failed is tried again.

use std::time::Duration;

use event::Timestamp;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// Waits after the first attempt, the second, and so on, in seconds: those that Standard Webhooks proposes
/// (<https://github.com/standard-webhooks/standard-webhooks>, "Deliverability and reliability").
const WAITS_SEC: [u64; 9] =
    [5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR];

/// How often a delivery is tried before it is dead.
pub const ATTEMPTS: u32 = 1 + WAITS_SEC.len() as u32;

/// Longest time that a receiver may ask us to wait.
const LONGEST_ASKED: Duration = Duration::from_secs(24 * HOUR);

/// When a delivery is tried again that has failed `attempts` times, the last time at `now`; `None` if it is dead.
///
/// `asked` is what the receiver said in `Retry-After`; it is waited at least so long, up to a day. `spread` is a random number
/// from 0 to 1: up to a tenth of the wait is added, so that a receiver that was down does not get everything in one moment.
pub fn next_attempt(attempts: u32, now: Timestamp, asked: Option<Duration>, spread: f64) -> Option<Timestamp> {
    let index = usize::try_from(attempts.saturating_sub(1)).ok()?;
    let wait = Duration::from_secs(*WAITS_SEC.get(index)?);
    let wait = wait.max(asked.unwrap_or_default().min(LONGEST_ASKED));
    Some(now.plus(wait + wait.mul_f64(spread.clamp(0.0, 1.0) / 10.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_763_661_600_000);

    fn wait(attempts: u32, asked: Option<u64>, spread: f64) -> Option<Duration> {
        next_attempt(attempts, NOW, asked.map(Duration::from_secs), spread).map(|at| at.since(NOW))
    }

    #[test]
    fn ten_attempts_in_three_days_and_then_none() {
        let waits: Vec<u64> =
            (1..).map_while(|attempts| wait(attempts, None, 0.0)).map(|wait| wait.as_secs()).collect();
        assert_eq!(waits, WAITS_SEC);
        assert_eq!(waits.len() + 1, ATTEMPTS as usize);
        assert_eq!(wait(ATTEMPTS, Some(60), 0.0), None, "a receiver cannot ask for more attempts");
        assert_eq!(waits.iter().sum::<u64>() / HOUR, 75);
    }

    #[test]
    fn a_receiver_may_ask_for_more_time_and_waits_are_spread() {
        assert_eq!(wait(1, Some(90), 0.0), Some(Duration::from_secs(90)));
        assert_eq!(wait(2, Some(90), 0.0), Some(Duration::from_secs(300)), "not for less");
        assert_eq!(wait(1, Some(10 * 86_400), 0.0), Some(Duration::from_secs(86_400)));
        assert_eq!(wait(3, None, 1.0), Some(Duration::from_secs(1_980)));
        assert_eq!(wait(3, None, f64::INFINITY), Some(Duration::from_secs(1_980)));
    }
}
