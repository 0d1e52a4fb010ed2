//! A record in Kafka and in the archive, in types that the pipeline does not use.

use std::collections::BTreeMap;

/// Partition and offset. If `raw-events` was made again, the offsets of its later logs go on from `LOG`, so that a place is
/// that of one record.
pub type PartitionOffset = (i32, i64);

/// More offsets than a log has.
const LOG: i64 = 1 << 40;

/// The place of an offset in a log; the first log is 0.
pub fn in_log((partition, offset): PartitionOffset, log: i64) -> PartitionOffset {
    (partition, log * LOG + offset)
}

/// The position in the form that the pipeline publishes: `<topic>/<partition>/<offset>`, and `@<log>` if it is a later one.
pub fn position(topic: &str, (partition, offset): PartitionOffset) -> String {
    match (offset / LOG, offset % LOG) {
        (0, offset) => format!("{topic}/{partition}/{offset}"),
        (log, offset) => format!("{topic}/{partition}/{offset}@{log}"),
    }
}

/// Reads what [`position`] writes.
pub fn place_of(position: &str) -> Option<PartitionOffset> {
    let (position, log) = position.split_once('@').unwrap_or((position, "0"));
    let mut parts = position.rsplitn(3, '/');
    let (offset, partition) = parts.next().zip(parts.next())?;
    Some(in_log((partition.parse().ok()?, offset.parse().ok()?), log.parse().ok()?))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_written() {
        for (place, text) in [((3, 7), "raw-events/3/7"), (in_log((3, 7), 2), "raw-events/3/7@2")] {
            assert_eq!(position("raw-events", place), text);
            assert_eq!(place_of(text), Some(place));
        }
        assert_eq!(place_of("raw-events"), None);
    }
}
