//! The contract of every store of rate leases.
//!
//! Buckets are new in every run, so a store need not be empty and runs may share it.

use futures::future::join_all;
use pipeline::clock::{Clock, SystemClock};
use pipeline::ports::RateLeases;

use super::{answer, random};

pub async fn rate_leases_contract(store: &dyn RateLeases) {
    let bucket = format!("contract-{}", random());
    let minute = SystemClock.now().minute();
    let take = async |bucket: &str, minute, want, limit| answer(store.take(bucket, minute, want, limit).await);

    assert_eq!(take(&bucket, minute, 40, 100).await, 40);
    assert_eq!(take(&bucket, minute, 40, 100).await, 40);
    assert_eq!(take(&bucket, minute, 40, 100).await, 20, "the grant is what is left");
    assert_eq!(take(&bucket, minute, 40, 100).await, 0);
    assert_eq!(take(&bucket, minute, 40, 110).await, 10, "a higher limit counts at once");
    assert_eq!(take(&bucket, minute, 40, 50).await, 0, "a lower limit counts at once");
    assert_eq!(take(&bucket, minute + 1, 40, 100).await, 40, "the next minute is new");

    let other = format!("{bucket}-other");
    assert_eq!(take(&other, minute, 0, 100).await, 0, "a request for no tokens gets none");
    assert_eq!(take(&other, minute, 5, 0).await, 0, "a limit of 0 grants none");
    assert_eq!(take(&other, minute, u32::MAX, 30).await, 30, "a request for more than the limit gets the limit");

    let contended = format!("{bucket}-contended");
    // 40 callers want 7 tokens each, 280 in all, of a limit of 100: every caller gets some as long as any are left.
    let grants = join_all((0..40).map(|_| take(&contended, minute, 7, 100))).await;
    assert!(grants.iter().all(|granted| *granted <= 7), "a grant exceeds the request: {grants:?}");
    assert_eq!(grants.iter().sum::<u32>(), 100, "the grants add up to the limit: {grants:?}");
}
