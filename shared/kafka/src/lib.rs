//! Kafka behind the pipeline's ports.
//!
//! Owns the connection (brokers or an MSK cluster; plaintext, TLS or IAM), the idempotent publisher, topic
//! administration, and the group consumer that `local/esm` polls with. Functions on Lambda link the publisher and the
//! administration only: records come to them through the trigger. Leaves retries across calls, dead letters and the
//! meaning of records to its callers.
//!
//! The client is `krafka`; `docs/adr/0001-kafka-client.md` says why, and what it was held against. None of its types
//! appear in this crate's signatures, except as the source of an error.

mod client;
mod config;
mod consumer;
mod error;
mod publisher;
mod topic_reader;
mod topics;

pub use client::KafkaClient;
pub use config::{Bootstrap, KafkaConfig, Security};
pub use consumer::{ConsumerOptions, GroupConsumer, GroupProtocol, Rebalance, StartingPosition, TopicPartition};
pub use error::KafkaError;
pub use publisher::{Compression, KafkaPublisher, PublisherOptions};
pub use topics::{PartitionWatermarks, TopicAdmin, TopicChange, TopicSpec};
