//! Why an invocation failed.

use archive::ArchiveError;
use lambda::invocation::InvocationError;
use lambda::kafka_trigger::TriggerError;
use pipeline::DependencyError;

#[derive(Debug, thiserror::Error)]
pub enum ArchiverError {
    #[error(transparent)]
    Trigger(#[from] TriggerError),
    #[error("the batch cannot be packed")]
    Pack(#[from] ArchiveError),
    #[error("{objects} objects with {records} records are not written, first {object}")]
    Unwritten {
        objects: usize,
        records: usize,
        /// Name of the first of them.
        object: String,
        #[source]
        source: DependencyError,
    },
    #[error("the answer cannot be written")]
    Answer(#[source] serde_json::Error),
}

impl ArchiverError {
    /// Bounded name of the cause, for metrics and as Lambda's `errorType`.
    pub fn tag(&self) -> &'static str {
        match self {
            ArchiverError::Trigger(_) => "not-a-kafka-event",
            ArchiverError::Pack(error) => error.tag(),
            ArchiverError::Unwritten { source, .. } => source.tag,
            ArchiverError::Answer(_) => "answer",
        }
    }
}

impl From<ArchiverError> for InvocationError {
    fn from(error: ArchiverError) -> Self {
        InvocationError::new(error.tag(), &error)
    }
}
