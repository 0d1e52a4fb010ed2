//! Reading the present content of a topic, without a consumer group.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;

use crate::{DependencyError, Record};

/// What is left to read of a partition: from `next` up to but not including `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionSpan {
    pub next: i64,
    pub end: i64,
}

impl PartitionSpan {
    pub const fn is_finished(self) -> bool {
        self.next >= self.end
    }
}

/// Topics whose content can be read from start to end.
#[async_trait]
pub trait TopicSource: Send + Sync {
    /// A reader of every partition of the topic, from the offset in `from`, or from the oldest record, up to the
    /// present end. If the record at an offset has been deleted by retention, it starts at the oldest record. Commits
    /// nothing, and does not affect any consumer group.
    async fn open(&self, topic: &str, from: &BTreeMap<i32, i64>) -> Result<Box<dyn TopicReader>, DependencyError>;
}

/// A reader that comes to an end, also while others write.
#[async_trait]
pub trait TopicReader: Send {
    /// Some of the records that are left, in the order of each partition; each once. Waits at most `max_wait`. An empty
    /// answer means that nothing is left or that the topic is slow; [`TopicReader::spans`] shows which.
    ///
    /// Calling it again after an error is safe: no record is skipped.
    async fn read(&mut self, max_wait: Duration) -> Result<Vec<Record>, DependencyError>;

    /// What is left to read, by partition. Includes partitions that are finished.
    fn spans(&self) -> &BTreeMap<i32, PartitionSpan>;
}
