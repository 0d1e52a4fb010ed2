//! A token bucket that lends: an instance takes tokens and may spend them a little later. Pure.
//!
//! The state is one instant: when the bucket will be full again (the "theoretical arrival time" of the generic cell rate
//! algorithm, ITU-T I.371, annex A). Taking tokens moves it into the future.
//!
//! In any 60 seconds at most `per_minute + burst` tokens are spent, wherever the minute begins. Tokens that are spent up to
//! [`BucketLimit::lend_for`] after they were taken could break this, as a window of 60 seconds then sees the tokens of a
//! longer one. So while the bucket is in use, the time for which tokens are lent counts as if they had been taken that
//! much later.

use std::future::Future;
use std::time::Duration;

use event::Timestamp;

use crate::ports::{Grant, TokenRequest};

const MICROS_PER_MINUTE: i64 = 60_000_000;
/// A bucket that will be full only this long after all its tokens could have come back was written with a clock that is
/// ahead. It begins anew, or a key would be shut out until that clock's time.
const IMPOSSIBLE: i64 = 60_000_000;

/// How many tokens there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketLimit {
    /// Tokens that come back in a minute, evenly; at least 1.
    pub per_minute: u32,
    /// Tokens that a full bucket has; at least 1.
    pub burst: u32,
    /// How long after taking a token a caller may spend it; zero if it spends all at once.
    pub lend_for: Duration,
}

impl BucketLimit {
    /// How long an empty bucket takes to be full again.
    pub fn fills_in(self) -> Duration {
        Duration::from_micros(u64::try_from(self.micros(self.burst)).unwrap_or(0))
    }

    /// How long `tokens` take to come back, in microseconds. Rounded up, so that never more than the limit come back.
    fn micros(self, tokens: u32) -> i64 {
        let micros = i64::from(tokens).saturating_mul(MICROS_PER_MINUTE);
        let per_minute = i64::from(self.per_minute.max(1));
        micros / per_minute + i64::from(micros % per_minute != 0)
    }

    /// The tokens that come back in this time, rounded down.
    fn tokens(self, micros: i64) -> u32 {
        u32::try_from(micros.max(0).saturating_mul(i64::from(self.per_minute)) / MICROS_PER_MINUTE).unwrap_or(u32::MAX)
    }
}

/// When a bucket is full again, in microseconds since the epoch.
pub type FullAt = i64;

/// A decision about a request, and the bucket after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The bucket is full at this instant now, whatever it was before.
    Set {
        granted: u32,
        full_at: FullAt,
    },
    /// The bucket's instant moves by `adding`. Others that move it meanwhile do no harm, as long as it is after now and not
    /// beyond `latest`.
    Move {
        granted: u32,
        adding: i64,
        latest: FullAt,
    },
    Refused {
        retry_after: Duration,
    },
}

impl Taken {
    pub fn grant(self) -> Grant {
        match self {
            Taken::Set { granted, .. } | Taken::Move { granted, .. } => Grant::Granted(granted),
            Taken::Refused { retry_after } => Grant::Refused { retry_after },
        }
    }
}

/// The instant of a request, in the unit of [`FullAt`].
pub fn micros(now: Timestamp) -> FullAt {
    now.as_millis().saturating_mul(1_000)
}

/// From this instant on a bucket counts as full, in the unit of [`FullAt`]: nothing that was lent can still be spent.
pub fn full_since(request: &TokenRequest) -> FullAt {
    micros(request.now).saturating_sub(lending(request.limit))
}

fn lending(limit: BucketLimit) -> i64 {
    i64::try_from(limit.lend_for.as_micros()).unwrap_or(i64::MAX)
}

/// Takes tokens of a bucket that is full at `full_at`; `None` if it was never used.
pub fn take(full_at: Option<FullAt>, request: &TokenRequest) -> Taken {
    let TokenRequest { limit, need, want, .. } = *request;
    let now = micros(request.now);
    let capacity = limit.micros(limit.burst);
    let (full_since, lending) = (full_since(request), lending(limit));
    let used = full_at.filter(|full_at| *full_at > full_since).filter(|full_at| {
        // The clock of whoever wrote it was wrong.
        *full_at <= now.saturating_add(capacity).saturating_add(lending).saturating_add(IMPOSSIBLE)
    });
    let left = used.map_or(capacity, |full_at| {
        now.saturating_add(capacity).saturating_sub(full_at).saturating_sub(lending).min(capacity)
    });
    let needed = limit.micros(need);
    if needed > left {
        let wait = u64::try_from(needed.saturating_sub(left)).unwrap_or(0);
        return Taken::Refused { retry_after: Duration::from_micros(wait) };
    }
    let granted = want.min(limit.tokens(left)).max(need);
    let adding = limit.micros(granted);
    match used.filter(|full_at| *full_at > now) {
        Some(full_at) => {
            let latest = full_at.saturating_add(left).saturating_sub(adding);
            Taken::Move { granted, adding, latest }
        }
        None => Taken::Set { granted, full_at: now.saturating_add(adding) },
    }
}

/// The bucket after a decision; `None` if it stays as it was.
pub fn after(full_at: Option<FullAt>, taken: Taken) -> Option<FullAt> {
    match taken {
        Taken::Set { full_at, .. } => Some(full_at),
        Taken::Move { adding, .. } => full_at.map(|full_at| full_at.saturating_add(adding)),
        Taken::Refused { .. } => None,
    }
}

/// A bucket that is full need not be kept. Most are full in seconds; the hours allow for clocks that differ.
const KEEP: Duration = Duration::from_secs(2 * 3600);

/// Until when a store has to keep a bucket after this request.
pub fn kept_until(request: &TokenRequest) -> Timestamp {
    request.now.plus(request.limit.fills_in().max(KEEP))
}

/// How often a request starts over because others took tokens in the meantime. Each time there were enough of them for
/// somebody, so a caller that is turned away after these comes from a crowd.
const ATTEMPTS: u32 = 8;
/// When to ask again then.
const CROWDED: Duration = Duration::from_millis(100);

/// Takes tokens of a bucket that a store keeps. Reading it first would cost a second request. So the first decision assumes
/// that the bucket is full, which most are.
///
/// `write` gets the bucket as it was seen, and the decision. It writes the bucket if the decision fits it, and answers `None`;
/// else it answers with the bucket as it is.
///
/// # Errors
/// Those of `write`.
pub async fn take_from_store<F, E>(
    request: &TokenRequest,
    write: impl Fn(Option<FullAt>, Taken) -> F,
) -> Result<Grant, E>
where
    F: Future<Output = Result<Option<FullAt>, E>>,
{
    let mut full_at = None;
    for _ in 0..ATTEMPTS {
        let taken = take(full_at, request);
        match write(full_at, taken).await? {
            None => return Ok(taken.grant()),
            found => full_at = found,
        }
    }
    Ok(Grant::Refused { retry_after: CROWDED })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const START: Timestamp = Timestamp::from_millis(1_795_197_720_000);

    fn limit(per_minute: u32, burst: u32) -> BucketLimit {
        BucketLimit { per_minute, burst, lend_for: Duration::ZERO }
    }

    /// Takes from a bucket in memory.
    fn ask(bucket: &mut Option<FullAt>, limit: BucketLimit, at_ms: i64, need: u32, want: u32) -> Grant {
        let now = Timestamp::from_millis(START.as_millis() + at_ms);
        let taken = take(*bucket, &TokenRequest { limit, need, want, now });
        *bucket = after(*bucket, taken).or(*bucket);
        taken.grant()
    }

    fn refused(millis: u64) -> Grant {
        Grant::Refused { retry_after: Duration::from_millis(millis) }
    }

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_the_limit() {
        let (mut bucket, limit) = (None, limit(600, 60));
        assert_eq!(ask(&mut bucket, limit, 0, 50, 50), Grant::Granted(50));
        assert_eq!(ask(&mut bucket, limit, 0, 11, 11), refused(100));
        assert_eq!(ask(&mut bucket, limit, 0, 10, 10), Grant::Granted(10), "a refusal takes nothing");
        assert_eq!(ask(&mut bucket, limit, 99, 1, 1), refused(1));
        assert_eq!(ask(&mut bucket, limit, 100, 1, 1), Grant::Granted(1));
        assert_eq!(ask(&mut bucket, limit, 1_100, 5, 100), Grant::Granted(10), "what there is, up to what is wanted");
        assert_eq!(ask(&mut bucket, limit, 60_000, 1, 100), Grant::Granted(60), "never more than the burst");
        assert_eq!(ask(&mut bucket, limit, 600_000, 61, 61), refused(100), "more than the burst never fits");
        assert_eq!(ask(&mut bucket, limit, 601_000, 61, 61), refused(100));
    }

    #[test]
    fn what_is_lent_counts_for_as_long_as_it_may_be_spent() {
        let (mut bucket, limit) = (None, BucketLimit { lend_for: SECOND, ..limit(600, 60) });
        assert_eq!(ask(&mut bucket, limit, 0, 1, 60), Grant::Granted(60), "a full bucket gives all");
        assert_eq!(ask(&mut bucket, limit, 1_000, 1, 60), refused(100));
        assert_eq!(ask(&mut bucket, limit, 1_100, 1, 60), Grant::Granted(1));
        assert_eq!(ask(&mut bucket, limit, 2_100, 1, 60), Grant::Granted(10), "but the limit is not less");
    }

    #[test]
    fn another_limit_counts_at_once() {
        let mut bucket = None;
        assert_eq!(ask(&mut bucket, limit(600, 60), 0, 60, 60), Grant::Granted(60));
        assert_eq!(ask(&mut bucket, limit(600, 100), 0, 1, 100), Grant::Granted(40));
        assert_eq!(ask(&mut bucket, limit(600, 10), 0, 1, 10), refused(9_100));
    }

    #[test]
    fn a_clock_that_was_ahead_shuts_no_key_out() {
        let (mut bucket, limit) = (None, limit(600, 60));
        let hour = 3_600_000;
        assert_eq!(ask(&mut bucket, limit, hour, 60, 60), Grant::Granted(60));
        assert_eq!(ask(&mut bucket, limit, 0, 60, 60), Grant::Granted(60));
        assert_eq!(ask(&mut bucket, limit, 0, 1, 1), refused(100));
    }

    proptest! {
        /// Callers of any pace and greed, that spend what they take as late as they may.
        #[test]
        fn in_any_minute_at_most_limit_and_burst_are_spent(
            per_minute in 60_u32..2_000,
            percent in 4_u32..200,
            lend_ms in 0_u64..1_500,
            asks in prop::collection::vec((0_i64..4_000, 1_u32..300, 0_u32..300, any::<bool>()), 1..300),
        ) {
            let limit = BucketLimit {
                per_minute,
                burst: (per_minute * percent / 100).max(1),
                lend_for: Duration::from_millis(lend_ms),
            };
            let (mut bucket, mut at, mut spent) = (None, 0, Vec::new());
            for (pause, need, more, late) in asks {
                at += pause;
                if let Grant::Granted(granted) = ask(&mut bucket, limit, at, need, need + more) {
                    prop_assert!((need..=need + more).contains(&granted));
                    let held = if late { i64::try_from(lend_ms).unwrap() } else { 0 };
                    spent.push((at + held, u64::from(granted)));
                }
            }
            spent.sort_unstable();
            for (index, (start, _)) in spent.iter().enumerate() {
                let minute = spent[index..].iter().take_while(|(at, _)| *at < start + 60_000);
                let sum: u64 = minute.map(|(_, tokens)| tokens).sum();
                let most = u64::from(limit.per_minute) + u64::from(limit.burst);
                prop_assert!(sum <= most, "{sum} of {most} from {start}: {limit:?} {spent:?}");
            }
        }
    }
}
