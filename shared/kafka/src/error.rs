//! Errors of Kafka, and how to handle them.

use krafka::KrafkaError;
use krafka::error::ErrorCode;
use pipeline::{Dependency, DependencyError, ErrorClass};

/// A failed operation on Kafka.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// `GetBootstrapBrokers` failed.
    #[error("cannot look up the brokers of MSK cluster {cluster}")]
    BrokerLookup {
        cluster: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The cluster has no listener for the configured security.
    #[error("MSK cluster {cluster} has no brokers for KAFKA_SECURITY={security}")]
    NoListener { cluster: String, security: &'static str },
    /// The AWS SDK found no credentials provider or no region.
    #[error("KAFKA_SECURITY=iam needs AWS {missing}")]
    NoAwsIdentity { missing: &'static str },
    /// No broker answered, or none accepted the connection.
    #[error("cannot connect to Kafka at {brokers}")]
    Connect {
        brokers: String,
        #[source]
        source: KrafkaError,
    },
    /// The client refused its settings or could not start with them, or the cluster refused a producer id.
    #[error("{doing} failed")]
    Start {
        doing: &'static str,
        #[source]
        source: KrafkaError,
    },
    /// A record was refused or not acknowledged.
    #[error("Kafka did not acknowledge a record for topic {topic}")]
    Publish {
        topic: String,
        #[source]
        source: KrafkaError,
    },
    /// A record that is too large for every broker.
    #[error("a record of {bytes} bytes for topic {topic} is above the limit of {limit} bytes")]
    TooLarge { topic: String, bytes: usize, limit: usize },
    /// The caller's time ended before the acknowledgement came.
    #[error("Kafka did not acknowledge a record for topic {topic} in time")]
    NotInTime { topic: String },
    /// The broker has stored the record but no longer knows its offset.
    #[error("Kafka stored a record for {topic}/{partition} but did not return its offset")]
    OffsetUnknown { topic: String, partition: i32 },
    /// Polling, committing or moving a consumer failed.
    #[error("{doing} as consumer group {group} failed")]
    Consume {
        group: String,
        doing: &'static str,
        #[source]
        source: KrafkaError,
    },
    /// Reading a topic without a group failed.
    #[error("{doing} topic {topic} failed")]
    Read {
        topic: String,
        doing: &'static str,
        #[source]
        source: KrafkaError,
    },
    /// Creating or describing a topic, or reading its offsets, failed.
    #[error("{doing} {subject} failed")]
    Admin {
        doing: &'static str,
        /// The topic or group.
        subject: String,
        #[source]
        source: KrafkaError,
    },
    /// A new topic did not get a leader for every partition in time.
    #[error("topic {topic} has no leader for every partition yet")]
    NotReady { topic: String },
}

impl KafkaError {
    /// How to handle the error. It is permanent only if the record itself is wrong. A missing topic or permission is an
    /// error of the deployment and must never turn records into dead letters.
    pub fn class(&self) -> ErrorClass {
        self.verdict().0
    }

    /// Short name of the cause, from a fixed list, for metrics.
    pub fn tag(&self) -> &'static str {
        self.verdict().1
    }

    fn verdict(&self) -> (ErrorClass, &'static str) {
        match self {
            KafkaError::BrokerLookup { .. } => (ErrorClass::Transient, "broker-lookup"),
            KafkaError::NoListener { .. } => (ErrorClass::Transient, "no-listener"),
            KafkaError::NoAwsIdentity { .. } => (ErrorClass::Transient, "no-aws-identity"),
            KafkaError::TooLarge { .. } => (ErrorClass::Permanent, "too-large"),
            KafkaError::NotInTime { .. } => (ErrorClass::Transient, "timeout"),
            KafkaError::OffsetUnknown { .. } => (ErrorClass::Transient, "offset-unknown"),
            KafkaError::NotReady { .. } => (ErrorClass::Transient, "not-ready"),
            KafkaError::Connect { source, .. }
            | KafkaError::Start { source, .. }
            | KafkaError::Publish { source, .. }
            | KafkaError::Consume { source, .. }
            | KafkaError::Read { source, .. }
            | KafkaError::Admin { source, .. } => client_verdict(source),
        }
    }

    /// The error in the form of the ports. `doing` is completed by "… failed".
    pub fn into_dependency_error(self, doing: &'static str) -> DependencyError {
        let (class, tag) = self.verdict();
        DependencyError { dependency: Dependency::Kafka, class, tag, doing, source: Box::new(self) }
    }
}

fn client_verdict(error: &KrafkaError) -> (ErrorClass, &'static str) {
    match error {
        KrafkaError::Network(_) => (ErrorClass::Transient, "network"),
        KrafkaError::Protocol { .. } => (ErrorClass::Transient, "protocol"),
        KrafkaError::Auth { .. } => (ErrorClass::Transient, "auth"),
        KrafkaError::Timeout { .. } | KrafkaError::DeliveryTimeout { .. } => (ErrorClass::Transient, "timeout"),
        KrafkaError::Broker { code, .. } => broker_verdict(*code),
        KrafkaError::Config { .. } => (ErrorClass::Transient, "config"),
        KrafkaError::Compression { .. } => (ErrorClass::Transient, "compression"),
        KrafkaError::Serialization { .. } | KrafkaError::RecordDeserialization { .. } => {
            (ErrorClass::Permanent, "serialization")
        }
        KrafkaError::Closed { .. } | KrafkaError::Wakeup => (ErrorClass::Transient, "closed"),
        KrafkaError::Fenced { .. } => (ErrorClass::Transient, "fenced"),
        KrafkaError::TransactionAbortable { .. } => (ErrorClass::Transient, "transaction"),
        KrafkaError::NoOffset { .. } => (ErrorClass::Transient, "no-offset"),
        KrafkaError::UnknownTopic { .. } => (ErrorClass::Transient, "unknown-topic"),
        KrafkaError::OutOfOrderSequence { .. } => (ErrorClass::Transient, "out-of-order"),
        KrafkaError::IllegalState { .. } => (ErrorClass::Transient, "illegal-state"),
        // The upstream enum may get more variants. An unknown error is transient, and retries are limited.
        _ => (ErrorClass::Transient, "unknown"),
    }
}

fn broker_verdict(code: ErrorCode) -> (ErrorClass, &'static str) {
    match code {
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge | ErrorCode::InvalidMessageSize => {
            (ErrorClass::Permanent, "too-large")
        }
        ErrorCode::InvalidRecord | ErrorCode::InvalidTimestamp => (ErrorClass::Permanent, "invalid-record"),
        ErrorCode::ThrottlingQuotaExceeded => (ErrorClass::Overload, "throttled"),
        ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId => (ErrorClass::Transient, "unknown-topic"),
        ErrorCode::NotEnoughReplicas | ErrorCode::NotEnoughReplicasAfterAppend => {
            (ErrorClass::Transient, "not-enough-replicas")
        }
        ErrorCode::TopicAuthorizationFailed
        | ErrorCode::GroupAuthorizationFailed
        | ErrorCode::ClusterAuthorizationFailed
        | ErrorCode::SaslAuthenticationFailed => (ErrorClass::Transient, "auth"),
        ErrorCode::RequestTimedOut => (ErrorClass::Transient, "timeout"),
        // There are some 130 codes, and each Kafka release adds some. Only the codes above need different handling.
        _ => (ErrorClass::Transient, "broker"),
    }
}
