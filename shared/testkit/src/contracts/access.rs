//! What every store of API keys, rate leases, address counters and blocks promises.
//!
//! Keys, buckets and addresses are new in every run, so a store need not be empty and runs may share it.
#![expect(clippy::panic, clippy::expect_used, reason = "a contract suite fails by panicking")]

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use event::{AddressKey, TenantId, Timestamp};
use futures::future::join_all;
use pipeline::DependencyError;
use pipeline::clock::{Clock, SystemClock};
use pipeline::ports::{AddressCount, AddressCounters, ApiKey, ApiKeys, Block, BlockList, KeyHash, RateLeases};

/// Runs the suites of all four ports on one store.
pub async fn access_contract(store: &(impl ApiKeys + RateLeases + AddressCounters + BlockList)) {
    api_keys_contract(store).await;
    rate_leases_contract(store).await;
    address_counters_contract(store).await;
    block_list_contract(store).await;
}

pub async fn api_keys_contract(store: &dyn ApiKeys) {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&random().to_be_bytes());
    let key = ApiKey {
        hash: KeyHash(hash),
        tenant: TenantId::new("contract").expect("a tenant"),
        name: "collector-eu-1 “ü”".to_owned(),
        trusted_collector: true,
        rate_limit_per_min: Some(u32::MAX),
        revoked: false,
    };
    assert_eq!(answer(store.find(&key.hash).await), None, "an unknown key");
    answer(store.put(&key).await);
    assert_eq!(answer(store.find(&key.hash).await), Some(key.clone()), "a key is found at once");

    let revoked = ApiKey { rate_limit_per_min: None, revoked: true, trusted_collector: false, ..key };
    answer(store.put(&revoked).await);
    assert_eq!(answer(store.find(&revoked.hash).await), Some(revoked), "the new version, whole, also if revoked");
}

pub async fn rate_leases_contract(store: &dyn RateLeases) {
    let bucket = format!("contract-{}", random());
    let minute = SystemClock.now().minute();
    let take = async |bucket: &str, minute, want, limit| answer(store.take(bucket, minute, want, limit).await);

    assert_eq!(take(&bucket, minute, 40, 100).await, 40);
    assert_eq!(take(&bucket, minute, 40, 100).await, 40);
    assert_eq!(take(&bucket, minute, 40, 100).await, 20, "what is left");
    assert_eq!(take(&bucket, minute, 40, 100).await, 0);
    assert_eq!(take(&bucket, minute, 40, 110).await, 10, "a higher limit counts at once");
    assert_eq!(take(&bucket, minute, 40, 50).await, 0, "and so does a lower one");
    assert_eq!(take(&bucket, minute + 1, 40, 100).await, 40, "the next minute is new");

    let other = format!("{bucket}-other");
    assert_eq!(take(&other, minute, 0, 100).await, 0, "nothing wanted");
    assert_eq!(take(&other, minute, 5, 0).await, 0, "nothing allowed");
    assert_eq!(take(&other, minute, u32::MAX, 30).await, 30, "more wanted than there is");

    let contended = format!("{bucket}-contended");
    // 40 takers want 7 each, 280 in all, of 100: nobody goes without while there is some left.
    let grants = join_all((0..40).map(|_| take(&contended, minute, 7, 100))).await;
    assert!(grants.iter().all(|granted| *granted <= 7), "no more than wanted: {grants:?}");
    assert_eq!(grants.iter().sum::<u32>(), 100, "all of the limit and no more: {grants:?}");
}

pub async fn address_counters_contract(store: &dyn AddressCounters) {
    let (first, second) = (random_address(), random_address());
    let minute = SystemClock.now().minute();
    let count = |address, minute, count| AddressCount { address, minute, count };

    assert_eq!(answer(store.add(&[]).await), Vec::<u64>::new());
    let counts = [count(first, minute, 2), count(second, minute, 3), count(first, minute + 1, 5)];
    assert_eq!(answer(store.add(&counts).await), [2, 3, 5], "apart by address and minute");
    let counts = [count(second, minute, 1), count(first, minute, 10)];
    assert_eq!(answer(store.add(&counts).await), [4, 12], "in the order asked");

    let many: Vec<AddressKey> = (0..50).map(|_| random_address()).collect();
    let counts: Vec<AddressCount> = many.iter().zip(1..).map(|(address, n)| count(*address, minute, n)).collect();
    assert_eq!(answer(store.add(&counts).await), (1..=50).collect::<Vec<u64>>());

    let contended = [count(random_address(), minute, 1)];
    let mut totals: Vec<u64> =
        join_all((0..50).map(|_| store.add(&contended))).await.into_iter().flat_map(answer).collect();
    totals.sort_unstable();
    assert_eq!(totals, (1..=50).collect::<Vec<u64>>(), "each addition sees a total of its own");
}

pub async fn block_list_contract(store: &dyn BlockList) {
    let now = SystemClock.now();
    let minutes = |n: u64| now.plus(Duration::from_secs(60 * n));
    let automatic =
        |address, from, until| Block { address, from, until: Some(until), reason: "112 events in a minute".to_owned() };
    let operators =
        |address, until| Block { address, from: Timestamp::EPOCH, until, reason: "told so “ü”".to_owned() };
    let (first, second, third) = (random_address(), random_address(), random_address());
    let listed = async |address| {
        let mut entries: Vec<Block> = answer(store.list().await).into_iter().filter(|e| e.address == address).collect();
        assert!(entries.len() <= 1, "an address is listed once: {entries:?}");
        entries.pop()
    };
    let block = async |blocks: &[Block]| answer(store.block(blocks).await);

    assert_eq!(listed(first).await, None);
    block(&[]).await;
    block(&[automatic(first, now, minutes(5)), operators(second, None)]).await;
    assert_eq!(listed(first).await, Some(automatic(first, now, minutes(5))), "listed at once");
    assert_eq!(listed(second).await, Some(operators(second, None)));

    block(&[automatic(first, minutes(1), minutes(6))]).await;
    assert_eq!(listed(first).await, Some(automatic(first, minutes(1), minutes(6))), "the newer automatic one");
    block(&[operators(first, Some(minutes(3)))]).await;
    assert_eq!(listed(first).await, Some(operators(first, Some(minutes(3)))), "an operator's replaces any");
    block(&[automatic(first, minutes(2), minutes(7))]).await;
    assert_eq!(listed(first).await, Some(operators(first, Some(minutes(3)))), "and stays while it is in force");
    block(&[automatic(first, minutes(3), minutes(8))]).await;
    assert_eq!(listed(first).await, Some(automatic(first, minutes(3), minutes(8))), "but not when it has ended");

    block(&[automatic(second, now, minutes(5))]).await;
    assert_eq!(listed(second).await, Some(operators(second, None)), "one without an end stays");
    let without_end = Block { until: None, ..automatic(second, minutes(1), minutes(5)) };
    block(std::slice::from_ref(&without_end)).await;
    assert_eq!(listed(second).await, Some(without_end), "an operator's replaces an operator's");

    // As if one after the other.
    block(&[
        automatic(third, now, minutes(1)),
        operators(third, Some(minutes(2))),
        automatic(third, minutes(1), minutes(6)),
    ])
    .await;
    assert_eq!(listed(third).await, Some(operators(third, Some(minutes(2)))));
    block(&[operators(third, None), operators(third, Some(minutes(2))), automatic(third, minutes(2), minutes(9))])
        .await;
    assert_eq!(listed(third).await, Some(automatic(third, minutes(2), minutes(9))));

    // An operator and a processor at once: the operator's stays, whoever comes first.
    let contended = random_address();
    let (by_operator, by_processor) = ([operators(contended, None)], [automatic(contended, now, minutes(5))]);
    join_all([&by_operator, &by_processor, &by_processor, &by_processor].map(|blocks| block(blocks))).await;
    assert_eq!(listed(contended).await, Some(operators(contended, None)));

    assert!(answer(store.unblock(second).await), "it was listed");
    assert_eq!(listed(second).await, None);
    assert!(!answer(store.unblock(second).await), "and is no longer");
    block(&[automatic(second, now, minutes(5))]).await;
    assert_eq!(listed(second).await, Some(automatic(second, now, minutes(5))), "and may be again");

    // Longer than a page of DynamoDB's 1 MB.
    let reason = "long".repeat(4_000);
    let many: Vec<Block> =
        (0..80).map(|_| Block { reason: reason.clone(), ..automatic(random_address(), now, minutes(5)) }).collect();
    block(&many).await;
    let all = answer(store.list().await);
    let missing = many.iter().filter(|block| !all.contains(block)).count();
    assert_eq!(missing, 0, "a long list is read to its end");
    for block in many {
        assert!(answer(store.unblock(block.address).await));
    }
}

fn answer<T>(result: Result<T, DependencyError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("the store failed: {error}: {}", error.source),
    }
}

fn random() -> u64 {
    RandomState::new().hash_one(0)
}

/// A /64 of its own.
fn random_address() -> AddressKey {
    AddressKey::of(IpAddr::V6(Ipv6Addr::from(u128::from(random()) << 64)))
}
