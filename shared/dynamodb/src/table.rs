//! The code shared by the adapters of the table `access`: writing an item and reading a partition.
//!
//! | what | `pk` | `sk` | attributes | removed |
//! |---|---|---|---|---|
//! | API key | `key#<SHA-256 as hex>` | `key` | `tenant`, `name`, `kind`, `scopes`, `rate_limit_per_min`, `burst`, `valid_until`, `revoked` | never |
//! | its copy for the list | `keys` | `<SHA-256 as hex>` | the same | never |
//! | token bucket | `rate#<bucket>` | `bucket` | `full_at`, `expires_at` | 2 hours after its last use, or when it is full if that is later |
//! | address counter | `address#<address>` | `<minute>` | `count`, `expires_at` | 2 days after its minute |
//! | redrive mark | `redrive#<origin>` | `<attempt>#<step>` | `state`, `run`, `at`, `until`, `position`, `expires_at` | 90 days after it was written |
//! | audit entry | `redrive-audit#<day>`, `access-audit#<day>` | `<start>#<run>` | `action`, `state`, `by`, `request`, `result`, `expires_at` | 400 days after its start |
//! | block, or exception | `blocks` | `<address or range>` | `allows`, `from`, `until`, `reason`, `expires_at` | a day after its end |
//!
//! Minutes count from the epoch; `full_at` is in microseconds since the epoch, `from`, `until` and `valid_until` are milliseconds since the epoch, `expires_at` is in seconds.
//!
//! All blocks share a partition, so that the list is one query. A partition allows 1,000 changes a second, far more
//! than there should be in a list that every processor reads every few seconds.

use aws_sdk_dynamodb::Client;

use crate::attributes::{Attributes, Item, text};
use crate::tables::{PARTITION_KEY, SORT_KEY};
use crate::{DynamoDb, DynamoDbError};

/// A table with a partition key and a sort key.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    dynamodb: DynamoDb,
    pub(crate) name: String,
}

impl Table {
    pub(crate) fn new(dynamodb: &DynamoDb, name: impl Into<String>) -> Self {
        Table { dynamodb: dynamodb.clone(), name: name.into() }
    }

    pub(crate) fn client(&self) -> &Client {
        self.dynamodb.client()
    }

    /// The attributes of an item of this table.
    pub(crate) fn attributes<'a>(&'a self, item: &'a Item) -> Attributes<'a> {
        Attributes { table: &self.name, item }
    }

    /// Writes an item, and replaces an existing one.
    pub(crate) async fn put(&self, item: Item) -> Result<(), DynamoDbError> {
        let written = self.client().put_item().table_name(&self.name).set_item(Some(item)).send().await;
        written.map(drop).map_err(|error| DynamoDbError::of_sdk(&self.name, error))
    }

    /// Deletes an item, if it is there.
    pub(crate) async fn delete(&self, partition: String, sort: String) -> Result<(), DynamoDbError> {
        let request = self.client().delete_item().table_name(&self.name);
        let deleted = request.key(PARTITION_KEY, text(partition)).key(SORT_KEY, text(sort)).send().await;
        deleted.map(drop).map_err(|error| DynamoDbError::of_sdk(&self.name, error))
    }

    /// Every item of a partition, in the order of their sort keys. A consistent read.
    pub(crate) async fn partition<T>(
        &self,
        key: String,
        read: impl Fn(&Item) -> Result<T, DynamoDbError>,
    ) -> Result<Vec<T>, DynamoDbError> {
        let mut pages = self
            .client()
            .query()
            .table_name(&self.name)
            .key_condition_expression("#pk = :pk")
            .expression_attribute_names("#pk", PARTITION_KEY)
            .expression_attribute_values(":pk", text(key))
            .consistent_read(true)
            .into_paginator()
            .send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| DynamoDbError::of_sdk(&self.name, error))?;
            for item in page.items() {
                found.push(read(item)?);
            }
        }
        Ok(found)
    }
}
