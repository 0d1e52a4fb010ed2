//! API keys: one item each, by the hash of the key.

use async_trait::async_trait;
use aws_sdk_dynamodb::types::AttributeValue;
use event::TenantId;
use pipeline::DependencyError;
use pipeline::ports::{ApiKey, ApiKeys, KeyHash};

use crate::attributes::{Item, number, text};
use crate::table::Table;
use crate::tables::{PARTITION_KEY, SORT_KEY};
use crate::{DynamoDb, DynamoDbError};

const SORT_VALUE: &str = "key";
const TENANT: &str = "tenant";
const NAME: &str = "name";
const TRUSTED_COLLECTOR: &str = "trusted_collector";
const RATE_LIMIT_PER_MIN: &str = "rate_limit_per_min";
const REVOKED: &str = "revoked";

fn partition_of(hash: &KeyHash) -> AttributeValue {
    text(format!("key#{hash}"))
}

/// API keys in the table `access`.
#[derive(Clone, Debug)]
pub struct DynamoApiKeys {
    table: Table,
}

impl DynamoApiKeys {
    pub fn new(dynamodb: &DynamoDb, table: impl Into<String>) -> Self {
        DynamoApiKeys { table: Table::new(dynamodb, table) }
    }

    async fn find_key(&self, hash: &KeyHash) -> Result<Option<ApiKey>, DynamoDbError> {
        let answer = self
            .table
            .client()
            .get_item()
            .table_name(&self.table.name)
            .key(PARTITION_KEY, partition_of(hash))
            .key(SORT_KEY, text(SORT_VALUE))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| DynamoDbError::of_sdk(&self.table.name, error))?;
        answer.item().map(|item| self.read_key(*hash, item)).transpose()
    }

    fn read_key(&self, hash: KeyHash, item: &Item) -> Result<ApiKey, DynamoDbError> {
        let item = self.table.attributes(item);
        Ok(ApiKey {
            hash,
            tenant: item.read(TENANT, |value| TenantId::new(value.as_s().ok()?).ok())?,
            name: item.text(NAME)?.to_owned(),
            trusted_collector: item.flag(TRUSTED_COLLECTOR)?,
            rate_limit_per_min: item.optional_number(RATE_LIMIT_PER_MIN)?,
            revoked: item.flag(REVOKED)?,
        })
    }

    async fn put_key(&self, key: &ApiKey) -> Result<(), DynamoDbError> {
        let mut item = Item::from([
            (PARTITION_KEY.to_owned(), partition_of(&key.hash)),
            (SORT_KEY.to_owned(), text(SORT_VALUE)),
            (TENANT.to_owned(), text(key.tenant.as_str())),
            (NAME.to_owned(), text(key.name.as_str())),
            (TRUSTED_COLLECTOR.to_owned(), AttributeValue::Bool(key.trusted_collector)),
            (REVOKED.to_owned(), AttributeValue::Bool(key.revoked)),
        ]);
        if let Some(limit) = key.rate_limit_per_min {
            item.insert(RATE_LIMIT_PER_MIN.to_owned(), number(limit));
        }
        self.table.put(item).await
    }
}

#[async_trait]
impl ApiKeys for DynamoApiKeys {
    async fn find(&self, hash: &KeyHash) -> Result<Option<ApiKey>, DependencyError> {
        self.find_key(hash).await.map_err(|error| error.while_doing("looking up an API key"))
    }

    async fn put(&self, key: &ApiKey) -> Result<(), DependencyError> {
        self.put_key(key).await.map_err(|error| error.while_doing("writing an API key"))
    }
}
