//! Why a mapping cannot start or report its lag, or a single call failed. Later failures of a mapping are logged and
//! retried.

use kafka::KafkaError;

#[derive(Debug, thiserror::Error)]
pub enum EsmError {
    #[error("invalid event source mapping: {reason}")]
    Config { reason: String },
    #[error("mapping of group {group}: {doing} failed")]
    Kafka {
        group: String,
        doing: &'static str,
        #[source]
        // Boxed: it is far larger than the other variant.
        source: Box<KafkaError>,
    },
    #[error("calling {function} failed: {reason}")]
    Call { function: String, reason: String },
}
