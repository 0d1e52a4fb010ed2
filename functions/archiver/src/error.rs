//! Why an invocation failed.

use archive::ArchiveError;
use archive::quarantine::QuarantineError;
use lambda::invocation::InvocationError;
use lambda::kafka_trigger::TriggerError;
use pipeline::DependencyError;

#[derive(Debug, thiserror::Error)]
pub enum ArchiverError {
    #[error(transparent)]
    Trigger(#[from] TriggerError),
    #[error("cannot pack the batch into archive objects")]
    Pack(#[from] ArchiveError),
    #[error("{objects} objects with {records} records were not written to the archive; the first is {object}")]
    Unwritten {
        objects: usize,
        records: usize,
        /// Name of the first object that was not written.
        object: String,
        #[source]
        source: DependencyError,
    },
    #[error(transparent)]
    Quarantine(#[from] QuarantineError),
    #[error("cannot write the answer as JSON")]
    Answer(#[source] serde_json::Error),
}

impl ArchiverError {
    /// Short name of the cause, from a fixed list, for metrics and as Lambda's `errorType`.
    pub fn tag(&self) -> &'static str {
        match self {
            ArchiverError::Trigger(_) => "not-a-kafka-event",
            ArchiverError::Pack(error) => error.tag(),
            ArchiverError::Unwritten { source, .. } => source.tag,
            ArchiverError::Quarantine(error) => error.tag(),
            ArchiverError::Answer(_) => "answer",
        }
    }
}

impl From<ArchiverError> for InvocationError {
    fn from(error: ArchiverError) -> Self {
        InvocationError::new(error.tag(), &error)
    }
}
