//! The contract of every block list.
//!
//! Addresses are new in every run, so a store need not be empty and runs may share it.

use std::time::Duration;

use event::{AddressRange, Timestamp};
use futures::future::join_all;
use pipeline::clock::{Clock, SystemClock};
use pipeline::ports::{Block, BlockList};

use super::{answer, random_address};

fn random_range() -> AddressRange {
    random_address().into()
}

pub async fn block_list_contract(store: &dyn BlockList) {
    let now = SystemClock.now();
    let minutes = |n: u64| now.plus(Duration::from_secs(60 * n));
    let automatic = |address: AddressRange, from, until| Block {
        address,
        allows: false,
        from,
        until: Some(until),
        reason: "112 events in a minute".to_owned(),
    };
    let operators = |address: AddressRange, until| Block {
        address,
        allows: false,
        from: Timestamp::EPOCH,
        until,
        reason: "by hand “ü”".to_owned(),
    };
    let (first, second, third) = (random_range(), random_range(), random_range());
    let listed = async |address: AddressRange| {
        let mut entries: Vec<Block> = answer(store.list().await).into_iter().filter(|e| e.address == address).collect();
        assert!(entries.len() <= 1, "an address is listed once: {entries:?}");
        entries.pop()
    };
    let block = async |blocks: &[Block]| answer(store.block(blocks).await);

    assert_eq!(listed(first).await, None);
    block(&[]).await;
    block(&[automatic(first, now, minutes(5)), operators(second, None)]).await;
    assert_eq!(listed(first).await, Some(automatic(first, now, minutes(5))), "a new entry is listed at once");
    assert_eq!(listed(second).await, Some(operators(second, None)));

    block(&[automatic(first, minutes(1), minutes(6))]).await;
    assert_eq!(
        listed(first).await,
        Some(automatic(first, minutes(1), minutes(6))),
        "a newer automatic entry replaces an automatic one"
    );
    block(&[operators(first, Some(minutes(3)))]).await;
    assert_eq!(listed(first).await, Some(operators(first, Some(minutes(3)))), "an operator's entry replaces any entry");
    block(&[automatic(first, minutes(2), minutes(7))]).await;
    assert_eq!(
        listed(first).await,
        Some(operators(first, Some(minutes(3)))),
        "an automatic entry does not replace an operator's that is in force"
    );
    block(&[automatic(first, minutes(3), minutes(8))]).await;
    assert_eq!(
        listed(first).await,
        Some(automatic(first, minutes(3), minutes(8))),
        "an automatic entry replaces an operator's that has ended"
    );

    block(&[automatic(second, now, minutes(5))]).await;
    assert_eq!(listed(second).await, Some(operators(second, None)), "an operator's entry without an end stays");
    let without_end = Block { until: None, ..automatic(second, minutes(1), minutes(5)) };
    block(std::slice::from_ref(&without_end)).await;
    assert_eq!(listed(second).await, Some(without_end), "an operator's entry replaces another operator's entry");

    // Entries of one call take effect one after the other.
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

    // An operator and a processor write concurrently: the operator's entry stays, whichever is first.
    let contended = random_range();
    let (by_operator, by_processor) = ([operators(contended, None)], [automatic(contended, now, minutes(5))]);
    join_all([&by_operator, &by_processor, &by_processor, &by_processor].map(|blocks| block(blocks))).await;
    assert_eq!(listed(contended).await, Some(operators(contended, None)));

    let exception = Block { allows: true, ..operators(third, None) };
    block(std::slice::from_ref(&exception)).await;
    assert_eq!(listed(third).await, Some(exception), "an exception is an entry like any other");

    assert!(answer(store.unblock(second).await), "the address was listed");
    assert_eq!(listed(second).await, None);
    assert!(!answer(store.unblock(second).await), "the address is no longer listed");
    block(&[automatic(second, now, minutes(5))]).await;
    assert_eq!(
        listed(second).await,
        Some(automatic(second, now, minutes(5))),
        "an unblocked address can be listed again"
    );

    // Longer than one page of DynamoDB, which has 1 MB.
    let reason = "long".repeat(4_000);
    let many: Vec<Block> =
        (0..80).map(|_| Block { reason: reason.clone(), ..automatic(random_range(), now, minutes(5)) }).collect();
    block(&many).await;
    let all = answer(store.list().await);
    let missing = many.iter().filter(|block| !all.contains(block)).count();
    assert_eq!(missing, 0, "a long list is read completely");
    for block in many {
        assert!(answer(store.unblock(block.address).await));
    }
}
