//! No more than so many records in a second.

use std::time::Duration;

use tokio::time::Instant;

/// Largest batch: one transaction, and some progress to lose when killed.
const MAX_BATCH: u32 = 500;

/// Tells time by tokio's clock, so that tests need not wait.
#[derive(Debug)]
pub struct Pace {
    per_sec: u32,
    /// When the next batch may begin.
    next: Instant,
}

impl Pace {
    pub fn new(per_sec: u32) -> Self {
        Pace { per_sec, next: Instant::now() }
    }

    /// Records of one batch: a tenth of a second's worth, so that a rate is a rate and not a burst each second.
    pub fn batch(&self) -> usize {
        usize::try_from((self.per_sec / 10).clamp(1, MAX_BATCH)).unwrap_or(1)
    }

    /// Waits until the next batch may begin; `false` if that is not before the deadline.
    pub async fn wait(&self, deadline: Instant) -> bool {
        if self.next >= deadline || Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep_until(self.next).await;
        true
    }

    /// Counts records that were dealt with since the batch began.
    pub fn spend(&mut self, records: u64, began: Instant) {
        #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
        let spacing = Duration::from_secs(1).mul_f64(records as f64 / f64::from(self.per_sec));
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
        let mut records = 0;
        while pace.wait(deadline).await {
            pace.spend(pace.batch() as u64, Instant::now());
            records += pace.batch();
        }
        assert_eq!(records, 500);
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn batches_are_bounded() {
        assert_eq!([1, 5_000, 50_000].map(|rate| Pace::new(rate).batch()), [1, 500, 500]);
    }
}
