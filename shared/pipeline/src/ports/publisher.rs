//! Writing records to Kafka.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{DependencyError, Header, Position};

/// A record to write. Its partition follows from the key (murmur2, as every Kafka client does).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    pub topic: &'static str,
    pub key: Option<Bytes>,
    /// `None` writes a tombstone.
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
}

#[async_trait]
pub trait RecordPublisher: Send + Sync {
    /// Writes all records and waits, at most `timeout`, until every in-sync replica has them.
    ///
    /// The answer to each record is where it stands, or why it is not known to stand anywhere. The adapter's own
    /// retries write a record once (idempotent producer); a record whose answer was an error may still have been
    /// written, so a caller that sends it again must expect two copies. Records of one partition that succeed
    /// keep their order.
    async fn publish(&self, records: Vec<NewRecord>, timeout: Duration) -> Vec<Result<Position, DependencyError>>;

    /// Ends the publisher: waits, at most `timeout`, until every record that was handed over is acknowledged or given
    /// up. Nothing may be published after it.
    ///
    /// # Errors
    /// If records are still without an answer after `timeout`.
    async fn close(&self, timeout: Duration) -> Result<(), DependencyError>;
}
