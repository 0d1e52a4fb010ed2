//! Why a mapping cannot start or tell its lag. What goes wrong later is retried, and told in the log.

use kafka::KafkaError;
use pipeline::ErrorClass;

#[derive(Debug, thiserror::Error)]
pub enum EsmError {
    #[error("the mapping cannot be used: {reason}")]
    Config { reason: String },
    #[error("mapping of group {group}: {doing} failed")]
    Kafka {
        group: String,
        doing: &'static str,
        #[source]
        // Boxed: it is far larger than the other variant.
        source: Box<KafkaError>,
    },
}

impl EsmError {
    pub fn class(&self) -> ErrorClass {
        match self {
            EsmError::Config { .. } => ErrorClass::Permanent,
            EsmError::Kafka { source, .. } => source.class(),
        }
    }

    /// Bounded name, for metrics.
    pub fn tag(&self) -> &'static str {
        match self {
            EsmError::Config { .. } => "config",
            EsmError::Kafka { source, .. } => source.tag(),
        }
    }
}
