//! The contract of every store of address counters.
//!
//! Addresses are new in every run, so a store need not be empty and runs may share it.

use event::AddressKey;
use futures::future::join_all;
use pipeline::clock::{Clock, SystemClock};
use pipeline::ports::{AddressCount, AddressCounters, MinuteTotal};

use super::{answer, random_address};

pub async fn address_counters_contract(store: &dyn AddressCounters) {
    let (first, second) = (random_address(), random_address());
    let minute = SystemClock.now().minute();
    let count = |address, minute, count| AddressCount { address, minute, count };

    assert_eq!(answer(store.add(&[]).await), Vec::<u64>::new());
    let counts = [count(first, minute, 2), count(second, minute, 3), count(first, minute + 1, 5)];
    assert_eq!(answer(store.add(&counts).await), [2, 3, 5], "each address and minute has its own counter");
    let counts = [count(second, minute, 1), count(first, minute, 10)];
    assert_eq!(answer(store.add(&counts).await), [4, 12], "totals are in the order of the counts");

    let total = |minute, events| MinuteTotal { minute, events };
    assert_eq!(answer(store.totals(first).await), [total(minute, 12), total(minute + 1, 5)], "the earliest first");
    assert_eq!(answer(store.totals(random_address()).await), []);

    answer(store.forget(first).await);
    assert_eq!(answer(store.totals(first).await), []);
    let counts = [count(first, minute, 1), count(first, minute + 1, 1), count(second, minute, 1)];
    assert_eq!(answer(store.add(&counts).await), [1, 1, 5], "every minute of one address is forgotten");
    answer(store.forget(random_address()).await);

    let many: Vec<AddressKey> = (0..50).map(|_| random_address()).collect();
    let counts: Vec<AddressCount> = many.iter().zip(1..).map(|(address, n)| count(*address, minute, n)).collect();
    assert_eq!(answer(store.add(&counts).await), (1..=50).collect::<Vec<u64>>());

    let contended = [count(random_address(), minute, 1)];
    let mut totals: Vec<u64> =
        join_all((0..50).map(|_| store.add(&contended))).await.into_iter().flat_map(answer).collect();
    totals.sort_unstable();
    assert_eq!(totals, (1..=50).collect::<Vec<u64>>(), "each concurrent addition returns a different total");
}
