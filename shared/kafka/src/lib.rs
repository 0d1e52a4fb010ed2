//! Kafka behind the pipeline's ports.
//!
//! Owns the connection (brokers or an MSK cluster; plaintext, TLS, SASL or IAM), the idempotent publisher, topic
//! administration, and the group consumer with which `local/esm` polls. Functions on Lambda link only the publisher
//! and the administration: they get records from the trigger. The callers own retries across calls, dead letters and
//! the meaning of records.
//!
//! The client is `krafka`; `docs/adr/0001-kafka-client.md` says why, and how it was tested. Its types do not appear in
//! this crate's signatures, except as the source of an error.

mod client;
mod config;
mod consumer;
mod error;
mod log_content;
mod publisher;
mod topic_reader;
mod topic_tail;
mod topics;

pub use client::KafkaClient;
pub use config::{
    Bootstrap, ClientCertificate, Compression, KafkaConfig, SaslLogin, SaslMechanism, Security, TlsFiles,
};
pub use consumer::{ConsumerOptions, GroupConsumer, GroupProtocol, Rebalance, StartingPosition, TopicPartition};
pub use error::KafkaError;
pub use log_content::offsets_with_records;
pub use publisher::{KafkaPublisher, PublisherOptions};
pub use topic_tail::KafkaTail;
pub use topics::{GroupPlace, PartitionWatermarks, TopicAdmin, TopicChange, TopicSpec};
