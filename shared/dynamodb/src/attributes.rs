//! Typed reading of an item's attributes.

use std::collections::HashMap;
use std::str::FromStr;

use aws_sdk_dynamodb::types::AttributeValue;

use crate::DynamoDbError;
use crate::tables::PARTITION_KEY;

pub(crate) type Item = HashMap<String, AttributeValue>;

/// An item as read from `table`.
#[derive(Clone, Copy)]
pub(crate) struct Attributes<'a> {
    pub(crate) table: &'a str,
    pub(crate) item: &'a Item,
}

impl<'a> Attributes<'a> {
    pub(crate) fn text(self, name: &'static str) -> Result<&'a str, DynamoDbError> {
        self.read(name, |value| value.as_s().ok().map(String::as_str))
    }

    /// An attribute whose text is parsed.
    pub(crate) fn parsed<T: FromStr>(self, name: &'static str) -> Result<T, DynamoDbError> {
        self.read(name, |value| value.as_s().ok()?.parse().ok())
    }

    pub(crate) fn number<T: FromStr>(self, name: &'static str) -> Result<T, DynamoDbError> {
        self.read(name, |value| value.as_n().ok()?.parse().ok())
    }

    pub(crate) fn optional_number<T: FromStr>(self, name: &'static str) -> Result<Option<T>, DynamoDbError> {
        if self.item.contains_key(name) { self.number(name).map(Some) } else { Ok(None) }
    }

    pub(crate) fn flag(self, name: &'static str) -> Result<bool, DynamoDbError> {
        self.read(name, |value| value.as_bool().ok().copied())
    }

    pub(crate) fn hash(self, name: &'static str) -> Result<[u8; 32], DynamoDbError> {
        self.read(name, |value| value.as_b().ok()?.as_ref().try_into().ok())
    }

    /// The attribute, converted by `convert`.
    pub(crate) fn read<T>(
        self,
        name: &'static str,
        convert: impl FnOnce(&'a AttributeValue) -> Option<T>,
    ) -> Result<T, DynamoDbError> {
        self.item.get(name).and_then(convert).ok_or_else(|| DynamoDbError::Unreadable {
            table: self.table.to_owned(),
            key: self.item.get(PARTITION_KEY).and_then(|key| key.as_s().ok()).cloned().unwrap_or_default(),
            attribute: name,
        })
    }
}

pub(crate) fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(crate) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}
