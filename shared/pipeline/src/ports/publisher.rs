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
    /// The answer for each record is its position, or the error that leaves its position unknown. The adapter's own
    /// retries write a record only once (idempotent producer). A record whose answer is an error may still have been
    /// written, so a caller that sends it again must expect two copies. Records of one partition that succeed keep
    /// their order.
    async fn publish(&self, records: Vec<NewRecord>, timeout: Duration) -> Vec<Result<Position, DependencyError>>;

    /// Closes the publisher: waits, at most `timeout`, until every record passed to it is acknowledged or has failed.
    /// Nothing may be published afterwards.
    ///
    /// # Errors
    /// If some records have no answer after `timeout`.
    async fn close(&self, timeout: Duration) -> Result<(), DependencyError>;
}
