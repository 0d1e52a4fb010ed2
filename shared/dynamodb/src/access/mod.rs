//! The table `access`: who may send, and how much.
//!
//! | what | `pk` | `sk` | attributes | removed |
//! |---|---|---|---|---|
//! | API key | `key#<SHA-256 as hex>` | `key` | `tenant`, `name`, `trusted_collector`, `rate_limit_per_min`, `revoked` | never |
//! | rate lease | `rate#<bucket>` | `<minute>` | `count`, `expires_at` | 2 hours after its minute |
//! | address counter | `address#<address>` | `<minute>` | `count`, `expires_at` | 2 days after its minute |
//! | redrive mark | `redrive#<origin>` | `<attempt>#<step>` | `state`, `run`, `at`, `until`, `position`, `expires_at` | 90 days after it was written |
//! | audit entry | `redrive-audit#<day>` | `<start>#<run>` | `action`, `state`, `by`, `request`, `result`, `expires_at` | 400 days after its start |
//! | block | `blocks` | `<address>` | `from`, `until`, `reason`, `expires_at` | a day after its end |
//!
//! Minutes count from the epoch; `from` and `until` are milliseconds since the epoch, `expires_at` is in seconds.
//!
//! All blocks share a partition, so that the list is one query. That allows 1,000 changes a second, far more than a
//! list that every processor reads every few seconds should see.

mod address_counters;
mod api_keys;
mod block_list;
mod rate_leases;
mod redrive_audit;
mod redrive_marks;

use std::time::Duration;

use crate::attributes::{Item, text};
use crate::quick_retries::QuickRetries;
use crate::tables::PARTITION_KEY;
use crate::{DynamoDb, DynamoDbError};

/// Attribute of both kinds of counters.
const COUNT: &str = "count";

/// API keys, rate leases, address counters and the block list in DynamoDB; see the table above.
#[derive(Clone, Debug)]
pub struct DynamoAccess {
    dynamodb: DynamoDb,
    table: String,
}

impl DynamoAccess {
    pub fn new(dynamodb: &DynamoDb, table: impl Into<String>) -> Self {
        DynamoAccess { dynamodb: dynamodb.clone(), table: table.into() }
    }

    /// Writes an item, in place of what is there.
    async fn put_item(&self, item: &Item) -> Result<(), DynamoDbError> {
        let mut retries = QuickRetries::new();
        loop {
            let request = self.dynamodb.client().put_item().table_name(&self.table).set_item(Some(item.clone()));
            match request.send().await {
                Ok(_) => return Ok(()),
                Err(error) => retries.wait_after(DynamoDbError::of_sdk(&self.table, error)).await?,
            }
        }
    }

    /// Every item of a partition, in the order of their sort keys, as of now.
    async fn partition<T>(
        &self,
        key: String,
        read: impl Fn(&Item) -> Result<T, DynamoDbError>,
    ) -> Result<Vec<T>, DynamoDbError> {
        let mut found = Vec::new();
        let mut start: Option<Item> = None;
        let mut retries = QuickRetries::new();
        loop {
            let request = self
                .dynamodb
                .client()
                .query()
                .table_name(&self.table)
                .key_condition_expression("#pk = :pk")
                .expression_attribute_names("#pk", PARTITION_KEY)
                .expression_attribute_values(":pk", text(key.as_str()))
                .consistent_read(true)
                .set_exclusive_start_key(start.clone());
            match request.send().await {
                Ok(page) => {
                    for item in page.items() {
                        found.push(read(item)?);
                    }
                    start = page.last_evaluated_key;
                    if start.is_none() {
                        return Ok(found);
                    }
                }
                Err(error) => retries.wait_after(DynamoDbError::of_sdk(&self.table, error)).await?,
            }
        }
    }
}

/// When to remove a counter of `minute`, in seconds since the epoch.
fn removal_of_minute(minute: i64, keep: Duration) -> i64 {
    let keep = i64::try_from(keep.as_secs()).unwrap_or(i64::MAX);
    minute.saturating_add(1).saturating_mul(60).saturating_add(keep)
}
