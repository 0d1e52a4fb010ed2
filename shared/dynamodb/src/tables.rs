//! Creates the two tables for local use and tests; on AWS Terraform creates the same ones.

use std::time::Duration;

use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::operation::create_table::builders::CreateTableFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TableStatus,
    TimeToLiveSpecification, TimeToLiveStatus,
};

use crate::{DynamoDb, DynamoDbError};

/// Partition key of both tables, a string.
pub const PARTITION_KEY: &str = "pk";
/// Sort key of `access`, a string; `dedup` has none.
pub const SORT_KEY: &str = "sk";
/// TTL attribute of both tables: whole seconds since the epoch.
pub const EXPIRES_AT: &str = "expires_at";

/// How long to wait for a new table: at most 200 times 50 ms.
const POLLS: u32 = 200;
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Creates the tables that are missing, with on-demand billing and TTL, and waits until both can be used. May run any
/// number of times, also concurrently.
///
/// # Errors
/// If the service fails, or a table is not active after ten seconds.
pub async fn ensure(dynamodb: &DynamoDb, dedup_table: &str, access_table: &str) -> Result<(), DynamoDbError> {
    tokio::try_join!(ensure_table(dynamodb, dedup_table, false), ensure_table(dynamodb, access_table, true))?;
    Ok(())
}

async fn ensure_table(dynamodb: &DynamoDb, table: &str, sorted: bool) -> Result<(), DynamoDbError> {
    let request = dynamodb.client().create_table().table_name(table).billing_mode(BillingMode::PayPerRequest);
    let request = with_key(request, table, PARTITION_KEY, KeyType::Hash)?;
    let request = if sorted { with_key(request, table, SORT_KEY, KeyType::Range)? } else { request };
    match request.send().await {
        Ok(_) => {}
        Err(error) if error.code() == Some("ResourceInUseException") => {}
        Err(error) => return Err(DynamoDbError::of_sdk(table, error)),
    }
    wait_until_active(dynamodb, table).await?;
    ensure_ttl(dynamodb, table).await
}

fn with_key(
    request: CreateTableFluentBuilder,
    table: &str,
    name: &str,
    key_type: KeyType,
) -> Result<CreateTableFluentBuilder, DynamoDbError> {
    let definition = AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S).build();
    let element = KeySchemaElement::builder().attribute_name(name).key_type(key_type).build();
    let invalid = |error| DynamoDbError::unbuildable(table, error);
    Ok(request.attribute_definitions(definition.map_err(invalid)?).key_schema(element.map_err(invalid)?))
}

async fn wait_until_active(dynamodb: &DynamoDb, table: &str) -> Result<(), DynamoDbError> {
    for _ in 0..POLLS {
        match dynamodb.client().describe_table().table_name(table).send().await {
            Ok(answer) if answer.table().and_then(|table| table.table_status()) == Some(&TableStatus::Active) => {
                return Ok(());
            }
            Ok(_) => {}
            // `DescribeTable` is eventually consistent: it may not show a table that was just created.
            Err(error) if error.code() == Some("ResourceNotFoundException") => {}
            Err(error) => return Err(DynamoDbError::of_sdk(table, error)),
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Err(DynamoDbError::NotActive { table: table.to_owned() })
}

async fn ensure_ttl(dynamodb: &DynamoDb, table: &str) -> Result<(), DynamoDbError> {
    if has_ttl(dynamodb, table).await? {
        return Ok(());
    }
    let ttl = TimeToLiveSpecification::builder().enabled(true).attribute_name(EXPIRES_AT).build();
    let ttl = ttl.map_err(|error| DynamoDbError::unbuildable(table, error))?;
    let answer = dynamodb.client().update_time_to_live().table_name(table).time_to_live_specification(ttl);
    match answer.send().await {
        Ok(_) => Ok(()),
        // DynamoDB refuses to enable TTL twice: then a concurrent call has enabled it.
        Err(_) if has_ttl(dynamodb, table).await? => Ok(()),
        Err(error) => Err(DynamoDbError::of_sdk(table, error)),
    }
}

async fn has_ttl(dynamodb: &DynamoDb, table: &str) -> Result<bool, DynamoDbError> {
    let answer = dynamodb.client().describe_time_to_live().table_name(table).send().await;
    let answer = answer.map_err(|error| DynamoDbError::of_sdk(table, error))?;
    let status = answer.time_to_live_description().and_then(|ttl| ttl.time_to_live_status());
    Ok(matches!(status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)))
}
