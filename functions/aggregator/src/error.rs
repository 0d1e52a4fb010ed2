//! Why a run failed or did not begin.

use lambda::invocation::InvocationError;
use lambda::request::RequestError;
use pipeline::DependencyError;

#[derive(Debug, thiserror::Error)]
pub enum AggregatorError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Dependency(#[from] DependencyError),
    #[error("the time was too short to compare so long a span; ask for a shorter one")]
    OutOfTime,
    #[error("the response cannot be serialized as JSON")]
    Answer(#[source] serde_json::Error),
}

impl AggregatorError {
    pub fn tag(&self) -> &'static str {
        match self {
            AggregatorError::Request(_) => RequestError::TAG,
            AggregatorError::Dependency(error) => error.failed_tag(),
            AggregatorError::OutOfTime => "out-of-time",
            AggregatorError::Answer(_) => "answer",
        }
    }
}

impl From<AggregatorError> for InvocationError {
    fn from(error: AggregatorError) -> Self {
        InvocationError::new(error.tag(), &error)
    }
}
