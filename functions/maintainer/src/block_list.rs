//! The operators' commands on the block list.

use std::cmp::Reverse;

use event::{AddressRange, Timestamp};
use pipeline::ports::{AddressCounters, Block, BlockList, MinuteTotal};
use serde::Serialize;

use crate::error::MaintainerError;

/// Whether a range is blocked, or is an exception that is neither blocked nor counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    Block,
    Allow,
}

/// Puts a range on the list, in place of the entry that it has. It holds from the epoch, so that it also covers events
/// that wait in Kafka.
pub async fn put(
    blocks: &dyn BlockList,
    rule: Rule,
    address: AddressRange,
    reason: String,
    until: Option<Timestamp>,
) -> Result<Block, MaintainerError> {
    let block = Block { address, allows: rule == Rule::Allow, from: Timestamp::EPOCH, until, reason };
    blocks.block(std::slice::from_ref(&block)).await.map_err(MaintainerError::Access)?;
    Ok(block)
}

/// The answer to `unblock` and `disallow`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Removed {
    pub address: AddressRange,
    pub was_listed: bool,
    /// Larger ranges with this one, which are still in force.
    pub still_in: Vec<Block>,
}

/// Takes a range off the list. What an address has sent until now is not counted any more, or its next event would put
/// it back on the list.
pub async fn remove(
    blocks: &dyn BlockList,
    counters: &dyn AddressCounters,
    address: AddressRange,
    now: Timestamp,
) -> Result<Removed, MaintainerError> {
    // First, because the events of a blocked address are not counted. Only single addresses are blocked automatically.
    if let Some(key) = address.as_key() {
        counters.forget(key).await.map_err(MaintainerError::Access)?;
    }
    let was_listed = blocks.unblock(address).await.map_err(MaintainerError::Access)?;
    let mut still_in = list(blocks, now).await?;
    still_in.retain(|block| block.address.contains(address));
    Ok(Removed { address, was_listed, still_in })
}

/// The entries that have not ended at `now`, ordered by address.
pub async fn list(blocks: &dyn BlockList, now: Timestamp) -> Result<Vec<Block>, MaintainerError> {
    let mut listed = blocks.list().await.map_err(MaintainerError::Access)?;
    listed.retain(|block| block.until.is_none_or(|until| now < until));
    listed.sort_by_key(|block| block.address);
    Ok(listed)
}

/// The answer to `find-block`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct FoundBlocks {
    pub address: AddressRange,
    /// Whether events from there are blocked now.
    pub blocked: bool,
    /// The entry that says so, or that makes the exception.
    pub by: Option<Block>,
    /// All entries with the address, the smallest range first, which is the one that holds.
    pub entries: Vec<Block>,
}

/// Why an address is blocked, or is not.
pub async fn find(
    blocks: &dyn BlockList,
    address: AddressRange,
    now: Timestamp,
) -> Result<FoundBlocks, MaintainerError> {
    let mut entries = list(blocks, now).await?;
    entries.retain(|block| block.address.contains(address) && block.covers(now));
    entries.sort_by_key(|block| Reverse(block.address.prefix_bits()));
    let by = entries.first().cloned();
    Ok(FoundBlocks { address, blocked: by.as_ref().is_some_and(|block| !block.allows), by, entries })
}

/// The answer to `show-limits`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct AddressLimits {
    #[serde(flatten)]
    pub block: FoundBlocks,
    /// What was counted in each minute that is kept, the last first: at most [`MOST_MINUTES`]. Blocked events are not counted.
    pub minutes: Vec<CountedMinute>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct CountedMinute {
    /// Its start, by the time at which events were received.
    pub minute: Timestamp,
    pub events: u64,
}

/// Two hours.
const MOST_MINUTES: usize = 120;

/// What counts against the limit of an address, and whether it is blocked.
pub async fn limits(
    blocks: &dyn BlockList,
    counters: &dyn AddressCounters,
    address: AddressRange,
    now: Timestamp,
) -> Result<AddressLimits, MaintainerError> {
    // A larger range has no counters.
    let totals = match address.as_key() {
        Some(key) => counters.totals(key).await.map_err(MaintainerError::Access)?,
        None => Vec::new(),
    };
    let minute = |total: &MinuteTotal| CountedMinute {
        minute: Timestamp::from_millis(total.minute.saturating_mul(60_000)),
        events: total.events,
    };
    let minutes = totals.iter().rev().take(MOST_MINUTES).map(minute).collect();
    Ok(AddressLimits { block: find(blocks, address, now).await?, minutes })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pipeline::ports::AddressCount;
    use testkit::fakes::address_counters::FakeAddressCounters;
    use testkit::fakes::block_list::FakeBlockList;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn range(text: &str) -> AddressRange {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn blocks_are_listed_until_they_end_or_are_lifted() {
        let (store, counters) = (FakeBlockList::default(), FakeAddressCounters::default());
        let end = NOW.plus(Duration::from_secs(60));
        let (a, b) = (range("203.0.113.7"), range("2001:db8::/64"));
        let block_a = put(&store, Rule::Block, a, "scraping".into(), Some(end)).await.unwrap();
        assert!(block_a.covers(Timestamp::EPOCH), "the block also covers events received before it");
        let block_b = put(&store, Rule::Block, b, "abuse".into(), None).await.unwrap();
        assert_eq!(list(&store, NOW).await.unwrap(), [block_a, block_b.clone()]);
        assert_eq!(list(&store, end).await.unwrap(), [block_b]);
        let count = AddressCount { address: b.as_key().unwrap(), minute: 0, count: 101 };
        assert_eq!(counters.add(&[count]).await.unwrap(), [101]);
        assert!(remove(&store, &counters, b, NOW).await.unwrap().was_listed);
        assert!(!remove(&store, &counters, b, NOW).await.unwrap().was_listed);
        assert_eq!(counters.add(&[AddressCount { count: 1, ..count }]).await.unwrap(), [1], "it begins anew");
        assert_eq!(list(&store, end).await.unwrap(), []);
    }

    #[tokio::test]
    async fn what_counts_against_an_address_is_told_by_minute() {
        let (store, counters) = (FakeBlockList::default(), FakeAddressCounters::default());
        let address = range("203.0.113.7");
        let count = |minute, count| AddressCount { address: address.as_key().unwrap(), minute, count };
        let counts: Vec<AddressCount> = (1..=200).map(|minute| count(minute, 3)).collect();
        counters.add(&counts).await.unwrap();
        put(&store, Rule::Block, range("203.0.113.0/24"), "abuse".into(), None).await.unwrap();
        let told = limits(&store, &counters, address, NOW).await.unwrap();
        assert_eq!((told.minutes.len(), told.block.blocked), (MOST_MINUTES, true));
        let last = CountedMinute { minute: Timestamp::from_millis(200 * 60_000), events: 3 };
        assert_eq!(told.minutes[0], last);
        let of_range = limits(&store, &counters, range("203.0.113.0/24"), NOW).await.unwrap();
        assert_eq!((of_range.minutes.len(), of_range.block.blocked), (0, true));
    }

    #[tokio::test]
    async fn the_smallest_range_says_why_an_address_is_blocked() {
        let store = FakeBlockList::default();
        let office = range("203.0.113.0/28");
        let found = async |address: &str| find(&store, range(address), NOW).await.unwrap();
        assert_eq!(found("203.0.113.7").await.by, None);
        let large = put(&store, Rule::Block, range("203.0.113.0/24"), "abuse".into(), None).await.unwrap();
        let exception = put(&store, Rule::Allow, office, "our office".into(), None).await.unwrap();
        put(&store, Rule::Block, range("198.51.100.0/24"), "other".into(), None).await.unwrap();
        let inside = found("203.0.113.7").await;
        assert_eq!((inside.blocked, &inside.by), (false, &Some(exception.clone())));
        assert_eq!(inside.entries, [exception, large.clone()]);
        let outside = found("203.0.113.99").await;
        assert_eq!((outside.blocked, outside.by), (true, Some(large)));
        assert!(!found("192.0.2.1").await.blocked);
    }

    #[tokio::test]
    async fn a_range_has_one_entry_and_an_answer_names_those_around_it() {
        let (store, counters) = (FakeBlockList::default(), FakeAddressCounters::default());
        let (one, around) = (range("203.0.113.7"), range("203.0.113.0/24"));
        let large = put(&store, Rule::Block, around, "abuse".into(), None).await.unwrap();
        put(&store, Rule::Block, one, "abuse".into(), None).await.unwrap();
        let allowed = put(&store, Rule::Allow, one, "our office".into(), None).await.unwrap();
        assert!(allowed.allows);
        assert_eq!(list(&store, NOW).await.unwrap().len(), 2);
        let removed = remove(&store, &counters, one, NOW).await.unwrap();
        assert_eq!((removed.was_listed, removed.still_in), (true, vec![large]));
    }
}
