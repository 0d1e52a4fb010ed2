//! The contract of every store of rate leases.
//!
//! Buckets are new in every run, so a store need not be empty and runs may share it.

use std::time::Duration;

use event::Timestamp;
use futures::future::join_all;
use pipeline::clock::{Clock, SystemClock};
use pipeline::ports::{Grant, RateLeases, TokenRequest};
use pipeline::token_bucket::BucketLimit;

use super::{answer, random};

pub async fn rate_leases_contract(store: &dyn RateLeases) {
    let bucket = format!("contract-{}", random());
    let now = SystemClock.now();
    let at = |millis| now.plus(Duration::from_millis(millis));
    let take = async |bucket: &str, now: Timestamp, (need, want), (per_minute, burst), lend_for: Duration| {
        let request = TokenRequest { limit: BucketLimit { per_minute, burst, lend_for }, need, want, now };
        answer(store.take(bucket, request).await)
    };
    let refused = |millis| Grant::Refused { retry_after: Duration::from_millis(millis) };
    let (limit, at_once) = ((600, 100), Duration::ZERO);

    assert_eq!(take(&bucket, now, (40, 40), limit, at_once).await, Grant::Granted(40));
    assert_eq!(take(&bucket, now, (1, 40), limit, at_once).await, Grant::Granted(40));
    assert_eq!(take(&bucket, now, (21, 40), limit, at_once).await, refused(100), "all that is needed or nothing");
    assert_eq!(take(&bucket, now, (1, 40), limit, at_once).await, Grant::Granted(20), "the grant is what is left");
    assert_eq!(take(&bucket, now, (1, 40), limit, at_once).await, refused(100));
    assert_eq!(take(&bucket, now, (1, 40), (600, 110), at_once).await, Grant::Granted(10), "a higher burst at once");
    assert_eq!(take(&bucket, at(1_900), (1, 40), limit, at_once).await, Grant::Granted(9), "a tenth of a second each");
    assert_eq!(take(&bucket, at(1_900), (1, 40), (600, 50), at_once).await, refused(5_100), "a lower burst at once");
    assert_eq!(take(&bucket, at(60_000), (100, 100), limit, at_once).await, Grant::Granted(100), "full again");

    let lent = format!("{bucket}-lent");
    let second = Duration::from_secs(1);
    assert_eq!(take(&lent, now, (1, u32::MAX), limit, second).await, Grant::Granted(100), "no more than there is");
    assert_eq!(take(&lent, at(1_000), (1, 1), limit, second).await, refused(100), "still lent");
    assert_eq!(take(&lent, at(1_100), (1, 9), limit, second).await, Grant::Granted(1));

    let ahead = format!("{bucket}-ahead");
    assert_eq!(take(&ahead, at(3_600_000), (100, 100), limit, at_once).await, Grant::Granted(100));
    assert_eq!(take(&ahead, now, (100, 100), limit, at_once).await, Grant::Granted(100), "a clock was an hour ahead");
    assert_eq!(take(&ahead, now, (1, 1), limit, at_once).await, refused(100));

    let contended = format!("{bucket}-contended");
    // 40 callers want 7 tokens each, 280 in all, of 100.
    let grants = join_all((0..40).map(|_| take(&contended, now, (1, 7), limit, at_once))).await;
    let granted = |grant: &Grant| match grant {
        Grant::Granted(tokens) => *tokens,
        Grant::Refused { .. } => 0,
    };
    assert!(grants.iter().all(|grant| granted(grant) <= 7), "a grant exceeds the request: {grants:?}");
    let sum: u32 = grants.iter().map(granted).sum();
    assert!(sum <= 100, "the grants exceed what there was: {grants:?}");
    assert!(sum >= 50, "most of it is given out: {grants:?}");
}
