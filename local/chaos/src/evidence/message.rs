//! A record in Kafka and in the archive, in types that the pipeline does not use.

use std::collections::BTreeMap;

/// Partition and offset.
pub type PartitionOffset = (i32, i64);

/// The content of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
}

impl Message {
    /// The last header of that name, as text.
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().rev().find(|(known, _)| known == name)?;
        Some(String::from_utf8_lossy(value.as_deref()?).into_owned())
    }

    /// The position in the header `origin`, `<topic>/<partition>/<offset>`, without the digest.
    pub fn origin(&self) -> Option<String> {
        let origin = self.header("origin")?;
        let end = origin.match_indices('/').nth(2).map_or(origin.len(), |(end, _)| end);
        Some(origin[..end].to_owned())
    }
}

pub type TopicRecords = BTreeMap<PartitionOffset, Message>;

/// An object of the archive.
#[derive(Clone, Debug)]
pub struct Object {
    pub key: String,
    /// For each line: its topic, its partition and offset, and its record.
    pub lines: Vec<(String, PartitionOffset, Message)>,
}
