//! Limits the rate of work, per second.

use std::time::Duration;

use tokio::time::Instant;

/// Spaces batches so that a rate is never exceeded. A late batch is not followed by a burst. Uses tokio's clock, so
/// that tests need not wait.
#[derive(Debug)]
pub struct Pace {
    per_sec: u32,
    /// When the next batch may begin.
    next: Instant,
}

impl Pace {
    /// The first batch may begin at once. A `per_sec` of 0 counts as 1.
    pub fn new(per_sec: u32) -> Self {
        Pace { per_sec: per_sec.max(1), next: Instant::now() }
    }

    /// The size of one batch, from 1 to `largest`: what the rate allows in a tenth of a second, so that the work is
    /// spread over the second.
    pub fn batch(&self, largest: usize) -> usize {
        usize::try_from(self.per_sec / 10).unwrap_or(largest).clamp(1, largest.max(1))
    }

    /// Waits until the next batch may begin. Returns `false` at once if that would not be before the deadline.
    pub async fn wait(&self, deadline: Instant) -> bool {
        if self.next >= deadline || Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep_until(self.next).await;
        true
    }

    /// Counts the work done since the batch began; skipped items need not be counted.
    pub fn spend(&mut self, count: u64, began: Instant) {
        #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
        let spacing = Duration::from_secs(1).mul_f64(count as f64 / f64::from(self.per_sec));
        self.next = began + spacing;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_kept_and_a_deadline_too() {
        let started = Instant::now();
        let deadline = started + Duration::from_secs(10);
        let mut pace = Pace::new(50);
        let mut count = 0;
        while pace.wait(deadline).await {
            pace.spend(pace.batch(500) as u64, Instant::now());
            count += pace.batch(500);
        }
        assert_eq!(count, 500);
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn lost_time_is_not_made_up_for() {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut pace = Pace::new(10);
        let began = Instant::now();
        tokio::time::sleep(Duration::from_secs(5)).await;
        pace.spend(1, began);
        for _ in 0..3 {
            assert!(pace.wait(deadline).await);
            pace.spend(1, Instant::now());
        }
        assert_eq!(began.elapsed(), Duration::from_millis(5_200));
    }

    #[test]
    fn batches_are_bounded() {
        assert_eq!([0, 1, 5_000, 50_000].map(|rate| Pace::new(rate).batch(500)), [1, 1, 500, 500]);
        assert_eq!(Pace::new(500).batch(0), 1);
    }
}
