//! What can go wrong, and how it is to be handled.

use krafka::KrafkaError;
use krafka::error::ErrorCode;
use pipeline::{Dependency, DependencyError, ErrorClass};

/// A failed operation on Kafka.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// `GetBootstrapBrokers` failed.
    #[error("brokers of {cluster} cannot be looked up")]
    BrokerLookup {
        cluster: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The cluster has no listener for the security asked for.
    #[error("{cluster} has no brokers for KAFKA_SECURITY={security}")]
    NoListener { cluster: String, security: &'static str },
    /// The AWS SDK found no credentials provider or no region.
    #[error("KAFKA_SECURITY=iam needs AWS {missing}")]
    NoAwsIdentity { missing: &'static str },
    /// No broker answered, or none accepted us.
    #[error("no connection to {brokers}")]
    Connect {
        brokers: String,
        #[source]
        source: KrafkaError,
    },
    /// The client refused or could not start with its settings, or the cluster its producer id.
    #[error("{doing} failed")]
    Start {
        doing: &'static str,
        #[source]
        source: KrafkaError,
    },
    /// A record was refused or not acknowledged.
    #[error("a record for {topic} was not acknowledged")]
    Publish {
        topic: String,
        #[source]
        source: KrafkaError,
    },
    /// A record that no broker would take.
    #[error("a record of {bytes} bytes for {topic} is above the limit of {limit}")]
    TooLarge { topic: String, bytes: usize, limit: usize },
    /// The caller's time was up before the acknowledgement came.
    #[error("a record for {topic} was not acknowledged in time")]
    NotInTime { topic: String },
    /// The broker has the record but no longer knows at which offset.
    #[error("a record for {topic}/{partition} is stored at an unknown offset")]
    OffsetUnknown { topic: String, partition: i32 },
    /// Polling, committing or moving a consumer failed.
    #[error("{doing} as group {group} failed")]
    Consume {
        group: String,
        doing: &'static str,
        #[source]
        source: KrafkaError,
    },
    /// Reading a topic outside any group failed.
    #[error("{doing} topic {topic} failed")]
    Read {
        topic: String,
        doing: &'static str,
        #[source]
        source: KrafkaError,
    },
    /// Creating, describing or measuring a topic failed.
    #[error("{doing} {subject} failed")]
    Admin {
        doing: &'static str,
        /// The topic or group.
        subject: String,
        #[source]
        source: KrafkaError,
    },
    /// A new topic had no leader for every partition within the time allowed.
    #[error("topic {topic} has no leader for every partition yet")]
    NotReady { topic: String },
}

impl KafkaError {
    /// How to treat it. Only what the record itself is guilty of is permanent: a missing topic or permission is the
    /// deployment's fault and must never turn records into dead letters.
    pub fn class(&self) -> ErrorClass {
        self.verdict().0
    }

    /// Bounded name of the cause, for metrics.
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

    /// As a port's error; `doing` finishes "… failed".
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
        // The enum is non-exhaustive upstream: what is unknown is transient, and retries are bounded.
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
        // Some 130 codes, growing with each Kafka release; only the above need telling apart.
        _ => (ErrorClass::Transient, "broker"),
    }
}
