//! Rate leases: one token bucket for each key, as the instant when it is full again.

use async_trait::async_trait;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use pipeline::DependencyError;
use pipeline::ports::{Grant, RateLeases, TokenRequest};
use pipeline::token_bucket::{self, FullAt, Taken};

use crate::attributes::{number, text};
use crate::table::Table;
use crate::tables::{EXPIRES_AT, PARTITION_KEY, SORT_KEY};
use crate::{DynamoDb, DynamoDbError};

const SORT_VALUE: &str = "bucket";
/// Microseconds since the epoch.
const FULL_AT: &str = "full_at";

/// Rate leases in the table `access`.
#[derive(Clone, Debug)]
pub struct DynamoRateLeases {
    table: Table,
}

impl DynamoRateLeases {
    pub fn new(dynamodb: &DynamoDb, table: impl Into<String>) -> Self {
        DynamoRateLeases { table: Table::new(dynamodb, table) }
    }

    /// Writes the bucket as decided. `Some` is the bucket as it is, if the decision does not fit it: the refusal says it.
    async fn write(
        &self,
        bucket: &str,
        request: &TokenRequest,
        seen: Option<FullAt>,
        taken: Taken,
    ) -> Result<Option<FullAt>, DynamoDbError> {
        let expires_at = token_bucket::kept_until(request).as_secs();
        let update = self
            .table
            .client()
            .update_item()
            .table_name(&self.table.name)
            .key(PARTITION_KEY, text(format!("rate#{bucket}")))
            .key(SORT_KEY, text(SORT_VALUE))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .expression_attribute_names("#full_at", FULL_AT)
            .expression_attribute_names("#expires_at", EXPIRES_AT)
            .expression_attribute_values(":expires_at", number(expires_at));
        let update = match taken {
            Taken::Refused { .. } => return Ok(None),
            Taken::Set { full_at, .. } => {
                let update = update
                    .update_expression("SET #full_at = :full_at, #expires_at = :expires_at")
                    .expression_attribute_values(":full_at", number(full_at))
                    .expression_attribute_values(":full_since", number(token_bucket::full_since(request)));
                let is_full = "attribute_not_exists(#full_at) OR #full_at <= :full_since";
                match seen {
                    Some(seen) => update
                        .condition_expression(format!("{is_full} OR #full_at = :seen"))
                        .expression_attribute_values(":seen", number(seen)),
                    None => update.condition_expression(is_full),
                }
            }
            Taken::Move { adding, latest, .. } => update
                .update_expression("ADD #full_at :adding SET #expires_at = :expires_at")
                .condition_expression("#full_at > :now AND #full_at <= :latest")
                .expression_attribute_values(":now", number(token_bucket::micros(request.now)))
                .expression_attribute_values(":adding", number(adding))
                .expression_attribute_values(":latest", number(latest)),
        };
        let Err(error) = update.send().await else { return Ok(None) };
        match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(refusal)) => {
                // If the item is missing now, the next attempt finds a full bucket.
                let full_at = refusal.item().map(|item| self.table.attributes(item).number(FULL_AT));
                Ok(Some(full_at.transpose()?.unwrap_or(0)))
            }
            // If the request took effect, its tokens are lost with its answer.
            Some(_) | None => Err(DynamoDbError::of_sdk(&self.table.name, error)),
        }
    }
}

#[async_trait]
impl RateLeases for DynamoRateLeases {
    async fn take(&self, bucket: &str, request: TokenRequest) -> Result<Grant, DependencyError> {
        let write = |seen, taken| self.write(bucket, &request, seen, taken);
        let granted = token_bucket::take_from_store(&request, write).await;
        granted.map_err(|error: DynamoDbError| error.while_doing("taking rate tokens"))
    }
}
