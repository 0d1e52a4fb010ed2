//! The block list: one item per range of addresses, all in one partition.

use std::collections::HashMap;

use async_trait::async_trait;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use event::{AddressRange, Timestamp};
use futures::stream::{self, StreamExt, TryStreamExt};
use pipeline::DependencyError;
use pipeline::ports::{Block, BlockList, KEEP_BLOCKS};

use crate::attributes::{Item, number, text};
use crate::table::Table;
use crate::tables::{EXPIRES_AT, PARTITION_KEY, SORT_KEY};
use crate::{DynamoDb, DynamoDbError};

const PARTITION_VALUE: &str = "blocks";
/// Only in exceptions.
const ALLOWS: &str = "allows";
const FROM: &str = "from";
const UNTIL: &str = "until";
const REASON: &str = "reason";

/// Entries of one call that are written concurrently.
const CONCURRENT_WRITES: usize = 8;

/// The entry to write for an address.
struct FinalEntry<'a> {
    block: &'a Block,
    /// Whether it replaces any stored entry.
    unconditional: bool,
}

/// The block list in the table `access`.
#[derive(Clone, Debug)]
pub struct DynamoBlockList {
    table: Table,
}

impl DynamoBlockList {
    pub fn new(dynamodb: &DynamoDb, table: impl Into<String>) -> Self {
        DynamoBlockList { table: Table::new(dynamodb, table) }
    }

    fn read_block(&self, item: &Item) -> Result<Block, DynamoDbError> {
        let item = self.table.attributes(item);
        Ok(Block {
            address: item.parsed(SORT_KEY)?,
            allows: item.item.contains_key(ALLOWS) && item.flag(ALLOWS)?,
            from: Timestamp::from_millis(item.number(FROM)?),
            until: item.optional_number(UNTIL)?.map(Timestamp::from_millis),
            reason: item.text(REASON)?.to_owned(),
        })
    }

    async fn put_blocks(&self, blocks: &[Block]) -> Result<(), DynamoDbError> {
        // Entries of one address would race each other, so only the one that would remain in the end is written. If one
        // of them was an operator's, the stored entry does not matter, because an operator's entry replaces it.
        let mut finals: HashMap<AddressRange, FinalEntry> = HashMap::new();
        for block in blocks {
            let operators = block.is_operators();
            finals
                .entry(block.address)
                .and_modify(|entry| {
                    if entry.block.gives_way_to(block) {
                        entry.block = block;
                    }
                    entry.unconditional |= operators;
                })
                .or_insert(FinalEntry { block, unconditional: operators });
        }
        let writes: Vec<_> = finals.into_values().map(|entry| self.put_block(entry)).collect();
        stream::iter(writes).buffer_unordered(CONCURRENT_WRITES).try_collect().await
    }

    async fn put_block(&self, FinalEntry { block, unconditional }: FinalEntry<'_>) -> Result<(), DynamoDbError> {
        let mut item = Item::from([
            (PARTITION_KEY.to_owned(), text(PARTITION_VALUE)),
            (SORT_KEY.to_owned(), text(block.address.to_string())),
            (FROM.to_owned(), number(block.from.as_millis())),
            (REASON.to_owned(), text(block.reason.as_str())),
        ]);
        if block.allows {
            item.insert(ALLOWS.to_owned(), AttributeValue::Bool(true));
        }
        if let Some(until) = block.until {
            item.insert(UNTIL.to_owned(), number(until.as_millis()));
            item.insert(EXPIRES_AT.to_owned(), number(until.plus(KEEP_BLOCKS).as_secs()));
        }
        let mut request = self.table.client().put_item().table_name(&self.table.name).set_item(Some(item));
        if !unconditional {
            // `Block::gives_way_to` as a condition of DynamoDB.
            request = request
                .condition_expression(
                    "attribute_not_exists(#pk) OR (attribute_exists(#until) AND (#from <> :epoch OR #until <= :from))",
                )
                .expression_attribute_names("#pk", PARTITION_KEY)
                .expression_attribute_names("#until", UNTIL)
                .expression_attribute_names("#from", FROM)
                .expression_attribute_values(":epoch", number(Timestamp::EPOCH.as_millis()))
                .expression_attribute_values(":from", number(block.from.as_millis()));
        }
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(()),
            Err(error) => Err(DynamoDbError::of_sdk(&self.table.name, error)),
        }
    }

    async fn remove_block(&self, address: AddressRange) -> Result<bool, DynamoDbError> {
        let answer = self
            .table
            .client()
            .delete_item()
            .table_name(&self.table.name)
            .key(PARTITION_KEY, text(PARTITION_VALUE))
            .key(SORT_KEY, text(address.to_string()))
            .return_values(ReturnValue::AllOld)
            .send()
            .await
            .map_err(|error| DynamoDbError::of_sdk(&self.table.name, error))?;
        Ok(answer.attributes().is_some())
    }
}

#[async_trait]
impl BlockList for DynamoBlockList {
    async fn list(&self) -> Result<Vec<Block>, DependencyError> {
        let blocks = self.table.partition(PARTITION_VALUE.to_owned(), |item| self.read_block(item)).await;
        blocks.map_err(|error| error.while_doing("reading the block list"))
    }

    async fn block(&self, blocks: &[Block]) -> Result<(), DependencyError> {
        self.put_blocks(blocks).await.map_err(|error| error.while_doing("blocking addresses"))
    }

    async fn unblock(&self, address: AddressRange) -> Result<bool, DependencyError> {
        self.remove_block(address).await.map_err(|error| error.while_doing("unblocking an address"))
    }
}
