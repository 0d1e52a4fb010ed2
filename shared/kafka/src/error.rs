//! Errors of Kafka, and how to handle them.

use std::fmt;
use std::io;

use aws::secrets::SecretError;
use krafka::KrafkaError;
use krafka::error::ErrorCode;
use pipeline::{Dependency, DependencyError, ErrorClass};
use rustls::AlertDescription;
use tls::Distrust;

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
    /// The password cannot be read from where it is kept.
    #[error("cannot read KAFKA_SASL_PASSWORD")]
    Password(#[source] SecretError),
    /// No broker answered, or none accepted the connection.
    #[error("cannot connect to Kafka at {brokers}{}", advice_on_connecting(.source))]
    Connect {
        brokers: String,
        #[source]
        source: KrafkaError,
    },
    /// The client refused its settings or could not start with them, or the cluster refused a producer id.
    #[error("{doing} failed{}", advice(.source))]
    Start {
        doing: &'static str,
        #[source]
        source: KrafkaError,
    },
    /// A record was refused or not acknowledged.
    #[error("Kafka did not acknowledge a record for topic {topic}{}", advice(.source))]
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
    #[error("{doing} as consumer group {group} failed{}", advice(.source))]
    Consume {
        group: String,
        doing: &'static str,
        #[source]
        source: KrafkaError,
    },
    /// Reading a topic without a group failed.
    #[error("{doing} topic {topic} failed{}", advice(.source))]
    Read {
        topic: String,
        doing: &'static str,
        #[source]
        source: KrafkaError,
    },
    /// Creating or describing a topic, or reading its offsets, failed.
    #[error("{doing} {subject} failed{}", advice(.source))]
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
            KafkaError::Password(_) => (ErrorClass::Transient, "no-password"),
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

/// Whether a broker may have refused the login, so that another one may be needed. A time-out may be one too: with a
/// refused login the client looks for a broker that accepts it, for longer than some callers wait.
pub(crate) fn may_be_a_refused_login(error: &KafkaError) -> bool {
    let source = match error {
        KafkaError::Connect { source, .. }
        | KafkaError::Start { source, .. }
        | KafkaError::Publish { source, .. }
        | KafkaError::Consume { source, .. }
        | KafkaError::Read { source, .. }
        | KafkaError::Admin { source, .. } => source,
        KafkaError::NotInTime { .. } => return true,
        KafkaError::BrokerLookup { .. }
        | KafkaError::NoListener { .. }
        | KafkaError::NoAwsIdentity { .. }
        | KafkaError::Password(_)
        | KafkaError::TooLarge { .. }
        | KafkaError::OffsetUnknown { .. }
        | KafkaError::NotReady { .. } => return false,
    };
    matches!(
        source,
        KrafkaError::Auth { .. }
            | KrafkaError::Broker { code: ErrorCode::SaslAuthenticationFailed, .. }
            | KrafkaError::Timeout { .. }
            | KrafkaError::DeliveryTimeout { .. }
    )
}

/// What to look at after a connection was refused, as the end of a message; empty if the error says nothing about it.
fn advice(error: &KrafkaError) -> Advice {
    let about_tls = tls::below(error).and_then(advice_on_tls);
    Advice(about_tls.or_else(|| advice_on_login(error)).or_else(|| advice_on_files(error)))
}

/// The same for the first connection. Later, the other side ends connections for many reasons; at the start most often
/// because it does not understand them.
fn advice_on_connecting(error: &KrafkaError) -> Advice {
    let Advice(None) = advice(error) else { return advice(error) };
    let not_understood = tls::causes(error).any(|cause| {
        let kind = cause.downcast_ref().map(io::Error::kind);
        matches!(cause.downcast_ref(), Some(KrafkaError::Protocol { .. }))
            || matches!(kind, Some(io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset))
    });
    Advice(not_understood.then_some("the broker may expect another KAFKA_SECURITY there"))
}

struct Advice(Option<&'static str>);

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

fn advice_on_tls(error: &rustls::Error) -> Option<&'static str> {
    let distrusted = Distrust::of(error).map(|distrust| match distrust {
        Distrust::Name => {
            "the broker's certificate is for another name than the one in KAFKA_BROKERS, or that the broker advertises"
        }
        Distrust::Time => "the broker's certificate is not valid at this time",
        Distrust::Authority => {
            "the broker's certificate is not from an authority in KAFKA_CA_FILE, or without it from a public one"
        }
    });
    distrusted.or(match error {
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied,
        ) => Some("the broker does not accept the client's certificate, see KAFKA_CLIENT_CERT_FILE"),
        rustls::Error::InvalidMessage(_) => Some("the broker does not speak TLS there, see KAFKA_SECURITY"),
        _ => None,
    })
}

/// The client reports the steps of SASL in the text of its error only.
fn advice_on_login(error: &KrafkaError) -> Option<&'static str> {
    let KrafkaError::Auth { message, .. } = error else { return None };
    if message.contains("SASL handshake failed: UnsupportedSaslMechanism") {
        Some("the broker does not offer this KAFKA_SASL_MECHANISM")
    } else if message.contains("SASL handshake failed") {
        Some("the broker does not ask for a login there, see KAFKA_SECURITY")
    } else if message.contains("SASL authentication") {
        Some(
            "the broker refuses the login, see KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD and KAFKA_SASL_MECHANISM (with \
             KAFKA_SECURITY=iam: the credentials of the role, its permission kafka-cluster:Connect, AWS_REGION and the \
             clock)",
        )
    } else {
        None
    }
}

fn advice_on_files(error: &KrafkaError) -> Option<&'static str> {
    let KrafkaError::Config { message } = error else { return None };
    if message.contains("CA bundle") {
        Some("see KAFKA_CA_FILE")
    } else if message.contains("client certificate") {
        Some("see KAFKA_CLIENT_CERT_FILE")
    } else if message.contains("client key") || message.contains("client auth") {
        Some("see KAFKA_CLIENT_KEY_FILE")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use rustls::CertificateError;
    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;

    /// An error of TLS as the client reports it: during the handshake, or from a connection that seemed to stand.
    fn tls(error: rustls::Error) -> [KrafkaError; 2] {
        let io = || io::Error::new(io::ErrorKind::InvalidData, error.clone());
        [KrafkaError::auth_with_source("TLS handshake failed", io()), KrafkaError::network(io())]
    }

    fn refused(certificate: CertificateError) -> [KrafkaError; 2] {
        tls(rustls::Error::InvalidCertificate(certificate))
    }

    fn advised(source: KrafkaError) -> String {
        KafkaError::Publish { topic: "t".into(), source }.to_string()
    }

    #[test]
    fn an_error_of_tls_says_what_to_look_at_wherever_it_is_found() {
        let (time, not_after) = (UnixTime::since_unix_epoch(std::time::Duration::from_secs(9)), UnixTime::now());
        let presented = Vec::new();
        let expected = ServerName::try_from("kafka.example").unwrap();
        let named = CertificateError::NotValidForNameContext { expected, presented };
        for (errors, advice) in [
            (refused(CertificateError::UnknownIssuer), "KAFKA_CA_FILE"),
            (refused(CertificateError::BadSignature), "KAFKA_CA_FILE"),
            (refused(CertificateError::NotValidForName), "KAFKA_BROKERS"),
            (refused(named), "KAFKA_BROKERS"),
            (refused(CertificateError::Expired), "not valid at this time"),
            (refused(CertificateError::ExpiredContext { time, not_after }), "not valid at this time"),
            (refused(CertificateError::NotValidYet), "not valid at this time"),
            (tls(rustls::Error::AlertReceived(AlertDescription::CertificateRequired)), "KAFKA_CLIENT_CERT_FILE"),
            (tls(rustls::Error::AlertReceived(AlertDescription::UnknownCA)), "KAFKA_CLIENT_CERT_FILE"),
            (tls(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)), "KAFKA_SECURITY"),
        ] {
            for error in errors {
                let text = advised(error);
                assert!(text.contains(advice), "{text}");
            }
        }
    }

    #[test]
    fn an_error_that_is_not_about_the_connection_has_no_advice() {
        for error in [
            KrafkaError::broker(ErrorCode::NotEnoughReplicas, "few"),
            KrafkaError::timeout("waiting"),
            KrafkaError::auth("something new"),
            KrafkaError::config("a setting of the client"),
            KrafkaError::network(io::Error::from(io::ErrorKind::ConnectionReset)),
            tls(rustls::Error::AlertReceived(AlertDescription::InternalError))[1].clone(),
        ] {
            assert_eq!(advised(error), "Kafka did not acknowledge a record for topic t");
        }
    }

    #[test]
    fn a_connection_that_ends_at_once_may_be_of_another_security() {
        let connecting = |source| KafkaError::Connect { brokers: "k:1".into(), source }.to_string();
        for kind in [io::ErrorKind::ConnectionReset, io::ErrorKind::UnexpectedEof] {
            let text = connecting(KrafkaError::network(io::Error::from(kind)));
            assert!(text.contains("KAFKA_SECURITY"), "{text}");
        }
        for kind in [io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound] {
            assert_eq!(connecting(KrafkaError::network(io::Error::from(kind))), "cannot connect to Kafka at k:1");
        }
    }

    /// A missing permission is not of that kind.
    #[test]
    fn only_what_may_be_a_refused_login_has_it_read_again() {
        let admin = |source| KafkaError::Admin { doing: "creating topic", subject: "t".into(), source };
        assert!(may_be_a_refused_login(&admin(KrafkaError::auth("SASL authentication failed"))));
        assert!(may_be_a_refused_login(&admin(KrafkaError::broker(ErrorCode::SaslAuthenticationFailed, ""))));
        assert!(!may_be_a_refused_login(&admin(KrafkaError::broker(ErrorCode::TopicAuthorizationFailed, ""))));
        assert!(!may_be_a_refused_login(&admin(KrafkaError::network(io::Error::from(io::ErrorKind::ConnectionReset)))));
        assert!(!may_be_a_refused_login(&KafkaError::NotReady { topic: "t".into() }));
        assert!(may_be_a_refused_login(&admin(KrafkaError::timeout("waiting for metadata"))));
        assert!(may_be_a_refused_login(&KafkaError::NotInTime { topic: "t".into() }));
    }
}
