//! API keys: one item each by the hash of the key, and a copy of it in the partition of all keys, which is the list.
//!
//! A partition allows 3,000 reads a second, too few for every instance of every function; so keys are found by the
//! first and listed by the second. Both are written in one transaction.

use std::collections::BTreeSet;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use event::{TenantId, Timestamp};
use pipeline::DependencyError;
use pipeline::ports::{ApiKey, ApiKeys, KeyHash, KeyKind, Scope};

use crate::attributes::{Item, number, text};
use crate::table::Table;
use crate::tables::{PARTITION_KEY, SORT_KEY};
use crate::{DynamoDb, DynamoDbError};

const SORT_VALUE: &str = "key";
/// The partition that lists all keys; its sort key is the hash.
const LIST: &str = "keys";
const TENANT: &str = "tenant";
const NAME: &str = "name";
const KIND: &str = "kind";
const SCOPES: &str = "scopes";
/// In place of kind and scopes, in items from before there were any.
const TRUSTED_COLLECTOR: &str = "trusted_collector";
const RATE_LIMIT_PER_MIN: &str = "rate_limit_per_min";
const BURST: &str = "burst";
/// Not `expires_at`, which is DynamoDB's: a key that has expired stays known as such.
const VALID_UNTIL: &str = "valid_until";
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
        let (kind, scopes) = if item.item.contains_key(KIND) {
            (item.parsed(KIND)?, item.read(SCOPES, |value| scopes_of(value.as_ss().ok()?))?)
        } else {
            let kind = if item.flag(TRUSTED_COLLECTOR)? { KeyKind::Server } else { KeyKind::Publishable };
            (kind, BTreeSet::from([Scope::Write, Scope::Read]))
        };
        Ok(ApiKey {
            hash,
            tenant: item.read(TENANT, |value| TenantId::new(value.as_s().ok()?).ok())?,
            name: item.text(NAME)?.to_owned(),
            kind,
            scopes,
            rate_limit_per_min: item.optional_number(RATE_LIMIT_PER_MIN)?,
            burst: item.optional_number(BURST)?,
            expires_at: item.optional_number(VALID_UNTIL)?.map(Timestamp::from_millis),
            revoked: item.flag(REVOKED)?,
        })
    }

    async fn put_key(&self, key: &ApiKey) -> Result<(), DynamoDbError> {
        let mut item = Item::from([
            (PARTITION_KEY.to_owned(), partition_of(&key.hash)),
            (SORT_KEY.to_owned(), text(SORT_VALUE)),
            (TENANT.to_owned(), text(key.tenant.as_str())),
            (NAME.to_owned(), text(key.name.as_str())),
            (KIND.to_owned(), text(key.kind.as_str())),
            (SCOPES.to_owned(), AttributeValue::Ss(key.scopes.iter().map(Scope::to_string).collect())),
            (REVOKED.to_owned(), AttributeValue::Bool(key.revoked)),
        ]);
        let optional = [
            (RATE_LIMIT_PER_MIN, key.rate_limit_per_min.map(number)),
            (BURST, key.burst.map(number)),
            (VALID_UNTIL, key.expires_at.map(|expires_at| number(expires_at.as_millis()))),
        ];
        item.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        let mut listed = item.clone();
        listed.insert(PARTITION_KEY.to_owned(), text(LIST));
        listed.insert(SORT_KEY.to_owned(), text(key.hash.to_string()));
        let mut transaction = self.table.client().transact_write_items();
        for item in [item, listed] {
            let put = Put::builder().table_name(&self.table.name).set_item(Some(item)).build();
            let put = put.map_err(|error| DynamoDbError::unbuildable(&self.table.name, error))?;
            transaction = transaction.transact_items(TransactWriteItem::builder().put(put).build());
        }
        let written = transaction.send().await;
        written.map(drop).map_err(|error| DynamoDbError::of_sdk(&self.table.name, error))
    }

    async fn list_keys(&self) -> Result<Vec<ApiKey>, DynamoDbError> {
        let read = |item: &Item| {
            let hash = self.table.attributes(item).parsed(SORT_KEY)?;
            self.read_key(hash, item)
        };
        self.table.partition(LIST.to_owned(), read).await
    }
}

fn scopes_of(names: &[String]) -> Option<BTreeSet<Scope>> {
    names.iter().map(|name| name.parse().ok()).collect()
}

#[async_trait]
impl ApiKeys for DynamoApiKeys {
    async fn find(&self, hash: &KeyHash) -> Result<Option<ApiKey>, DependencyError> {
        self.find_key(hash).await.map_err(|error| error.while_doing("looking up an API key"))
    }

    async fn put(&self, key: &ApiKey) -> Result<(), DependencyError> {
        self.put_key(key).await.map_err(|error| error.while_doing("writing an API key"))
    }

    async fn list(&self) -> Result<Vec<ApiKey>, DependencyError> {
        self.list_keys().await.map_err(|error| error.while_doing("listing the API keys"))
    }
}
