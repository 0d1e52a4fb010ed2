//! Why an invocation failed.

use lambda::invocation::InvocationError;
use lambda::kafka_trigger::TriggerError;
use lambda::request::RequestError;
use pipeline::DependencyError;

#[derive(Debug, thiserror::Error)]
pub enum NotifierError {
    #[error(transparent)]
    Trigger(#[from] TriggerError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Dependency(#[from] DependencyError),
    #[error("the response cannot be serialized as JSON")]
    Answer(#[source] serde_json::Error),
}

impl NotifierError {
    pub fn tag(&self) -> &'static str {
        match self {
            NotifierError::Trigger(_) => "not-a-kafka-event",
            NotifierError::Request(_) => RequestError::TAG,
            NotifierError::Dependency(error) => error.failed_tag(),
            NotifierError::Answer(_) => "answer",
        }
    }
}

impl From<NotifierError> for InvocationError {
    fn from(error: NotifierError) -> Self {
        InvocationError::new(error.tag(), &error)
    }
}
