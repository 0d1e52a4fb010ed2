//! Address counters: one per address and minute.

use async_trait::async_trait;
use aws_sdk_dynamodb::types::ReturnValue;
use event::AddressKey;
use futures::stream::{self, StreamExt, TryStreamExt};
use pipeline::DependencyError;
use pipeline::ports::{AddressCount, AddressCounters, KEEP_COUNTERS, MinuteTotal};

use crate::attributes::{Item, number, text};
use crate::table::Table;
use crate::tables::{EXPIRES_AT, PARTITION_KEY, SORT_KEY};
use crate::{DynamoDb, DynamoDbError};

const COUNT: &str = "count";

/// Concurrent updates of one call.
const CONCURRENT_UPDATES: usize = 16;

/// Address counters in the table `access`.
#[derive(Clone, Debug)]
pub struct DynamoAddressCounters {
    table: Table,
}

impl DynamoAddressCounters {
    pub fn new(dynamodb: &DynamoDb, table: impl Into<String>) -> Self {
        DynamoAddressCounters { table: Table::new(dynamodb, table) }
    }

    async fn add_counts(&self, counts: &[AddressCount]) -> Result<Vec<u64>, DynamoDbError> {
        let updates: Vec<_> = counts.iter().map(|count| self.add_count(count)).collect();
        stream::iter(updates).buffered(CONCURRENT_UPDATES).try_collect().await
    }

    async fn add_count(&self, count: &AddressCount) -> Result<u64, DynamoDbError> {
        let answer = self
            .table
            .client()
            .update_item()
            .table_name(&self.table.name)
            .key(PARTITION_KEY, text(partition_of(count.address)))
            .key(SORT_KEY, text(count.minute.to_string()))
            .update_expression("ADD #count :count SET #expires_at = :expires_at")
            .return_values(ReturnValue::UpdatedNew)
            .expression_attribute_names("#count", COUNT)
            .expression_attribute_names("#expires_at", EXPIRES_AT)
            .expression_attribute_values(":count", number(count.count))
            .expression_attribute_values(":expires_at", number(removal_of_minute(count.minute)))
            .send()
            .await
            .map_err(|error| DynamoDbError::of_sdk(&self.table.name, error))?;
        let nothing = Item::new();
        self.table.attributes(answer.attributes().unwrap_or(&nothing)).number(COUNT)
    }
}

/// When to remove the counter of `minute`, in seconds since the epoch.
fn removal_of_minute(minute: i64) -> i64 {
    let keep = i64::try_from(KEEP_COUNTERS.as_secs()).unwrap_or(i64::MAX);
    minute.saturating_add(1).saturating_mul(60).saturating_add(keep)
}

impl DynamoAddressCounters {
    async fn read_counts(&self, address: AddressKey) -> Result<Vec<MinuteTotal>, DynamoDbError> {
        let read = |item: &Item| {
            let attributes = self.table.attributes(item);
            Ok(MinuteTotal { minute: attributes.parsed(SORT_KEY)?, events: attributes.number(COUNT)? })
        };
        let mut totals = self.table.partition(partition_of(address), read).await?;
        // The sort key is a text.
        totals.sort_unstable();
        Ok(totals)
    }

    async fn delete_counts(&self, address: AddressKey) -> Result<(), DynamoDbError> {
        let read = |item: &Item| Ok(self.table.attributes(item).text(SORT_KEY)?.to_owned());
        let minutes = self.table.partition(partition_of(address), read).await?;
        let deletions: Vec<_> =
            minutes.into_iter().map(|minute| self.table.delete(partition_of(address), minute)).collect();
        stream::iter(deletions).buffer_unordered(CONCURRENT_UPDATES).try_collect().await
    }
}

fn partition_of(address: AddressKey) -> String {
    format!("address#{address}")
}

#[async_trait]
impl AddressCounters for DynamoAddressCounters {
    async fn add(&self, counts: &[AddressCount]) -> Result<Vec<u64>, DependencyError> {
        self.add_counts(counts).await.map_err(|error| error.while_doing("counting addresses"))
    }

    async fn totals(&self, address: AddressKey) -> Result<Vec<MinuteTotal>, DependencyError> {
        self.read_counts(address).await.map_err(|error| error.while_doing("reading the counts of an address"))
    }

    async fn forget(&self, address: AddressKey) -> Result<(), DependencyError> {
        self.delete_counts(address).await.map_err(|error| error.while_doing("forgetting the counts of an address"))
    }
}
