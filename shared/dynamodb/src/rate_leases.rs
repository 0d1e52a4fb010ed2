//! Rate leases: one counter per bucket and minute.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use pipeline::DependencyError;
use pipeline::ports::RateLeases;

use crate::attributes::{number, text};
use crate::table::{COUNT, Table, removal_of_minute};
use crate::tables::{EXPIRES_AT, PARTITION_KEY, SORT_KEY};
use crate::{DynamoDb, DynamoDbError};

/// Leases are taken for the current minute; the hours only allow for clocks that differ.
const KEEP: Duration = Duration::from_secs(2 * 3600);

/// Rate leases in the table `access`.
#[derive(Clone, Debug)]
pub struct DynamoRateLeases {
    table: Table,
}

impl DynamoRateLeases {
    pub fn new(dynamodb: &DynamoDb, table: impl Into<String>) -> Self {
        DynamoRateLeases { table: Table::new(dynamodb, table) }
    }

    /// Adds all the wanted tokens or none, on the condition that the limit holds. After a refusal, fewer tokens are
    /// left than were wanted, and their number never grows. So every round asks for fewer, and the loop ends.
    async fn take_tokens(&self, bucket: &str, minute: i64, want: u32, limit: u32) -> Result<u32, DynamoDbError> {
        let mut want = want.min(limit);
        while want > 0 {
            let request = self
                .table
                .client()
                .update_item()
                .table_name(&self.table.name)
                .key(PARTITION_KEY, text(format!("rate#{bucket}")))
                .key(SORT_KEY, text(minute.to_string()))
                .update_expression("ADD #count :want SET #expires_at = :expires_at")
                .condition_expression("attribute_not_exists(#count) OR #count <= :most")
                .return_values_on_condition_check_failure(
                    aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure::AllOld,
                )
                .expression_attribute_names("#count", COUNT)
                .expression_attribute_names("#expires_at", EXPIRES_AT)
                .expression_attribute_values(":want", number(want))
                .expression_attribute_values(":most", number(limit - want))
                .expression_attribute_values(":expires_at", number(removal_of_minute(minute, KEEP)));
            let Err(error) = request.send().await else { return Ok(want) };
            match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(refusal)) => {
                    // If the item is missing, the limit counts as used up: granting too few is better than too many.
                    let taken = match refusal.item() {
                        Some(item) => self.table.attributes(item).number::<u64>(COUNT)?,
                        None => u64::from(limit),
                    };
                    let left = u64::from(limit).saturating_sub(taken);
                    want = u32::try_from(left).unwrap_or(u32::MAX).min(want - 1);
                }
                // If the request took effect, its tokens are lost with its answer.
                Some(_) | None => return Err(DynamoDbError::of_sdk(&self.table.name, error)),
            }
        }
        Ok(0)
    }
}

#[async_trait]
impl RateLeases for DynamoRateLeases {
    async fn take(&self, bucket: &str, minute: i64, want: u32, limit: u32) -> Result<u32, DependencyError> {
        let granted = self.take_tokens(bucket, minute, want, limit).await;
        granted.map_err(|error| error.while_doing("taking rate tokens"))
    }
}
