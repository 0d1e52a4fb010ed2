//! The operators' commands on the block list.

use event::{AddressKey, Timestamp};
use pipeline::ports::{Block, BlockList};

use crate::error::MaintainerError;

/// Blocks an address. The block starts at the epoch, so that it also covers events that wait in Kafka.
pub async fn block(
    blocks: &dyn BlockList,
    address: AddressKey,
    reason: String,
    until: Option<Timestamp>,
) -> Result<Block, MaintainerError> {
    let block = Block { address, from: Timestamp::EPOCH, until, reason };
    blocks.block(std::slice::from_ref(&block)).await.map_err(MaintainerError::Access)?;
    tracing::info!(address = %address, "address blocked by an operator");
    Ok(block)
}

/// Unblocks an address, and returns whether it was listed.
pub async fn unblock(blocks: &dyn BlockList, address: AddressKey) -> Result<bool, MaintainerError> {
    let was_listed = blocks.unblock(address).await.map_err(MaintainerError::Access)?;
    tracing::info!(address = %address, was_listed, "address unblocked by an operator");
    Ok(was_listed)
}

/// The blocks that have not ended at `now`, ordered by address.
pub async fn list(blocks: &dyn BlockList, now: Timestamp) -> Result<Vec<Block>, MaintainerError> {
    let mut listed = blocks.list().await.map_err(MaintainerError::Access)?;
    listed.retain(|block| block.until.is_none_or(|until| now < until));
    listed.sort_by_key(|block| block.address);
    Ok(listed)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use testkit::fakes::block_list::FakeBlockList;

    use super::*;

    #[tokio::test]
    async fn blocks_are_listed_until_they_end_or_are_lifted() {
        let store = FakeBlockList::default();
        let now = Timestamp::from_millis(1_000_000);
        let end = now.plus(Duration::from_secs(60));
        let (a, b): (AddressKey, AddressKey) = ("203.0.113.7".parse().unwrap(), "2001:db8::/64".parse().unwrap());
        let block_a = block(&store, a, "scraping".into(), Some(end)).await.unwrap();
        assert!(block_a.covers(Timestamp::EPOCH), "the block also covers events received before it");
        let block_b = block(&store, b, "abuse".into(), None).await.unwrap();
        assert_eq!(list(&store, now).await.unwrap(), [block_a, block_b.clone()]);
        assert_eq!(list(&store, end).await.unwrap(), [block_b]);
        assert!(unblock(&store, b).await.unwrap());
        assert!(!unblock(&store, b).await.unwrap());
        assert_eq!(list(&store, end).await.unwrap(), []);
    }
}
