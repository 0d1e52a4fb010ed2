//! Why a run failed or did not begin.

use lambda::invocation::InvocationError;
use lambda::request::RequestError;
use pipeline::DependencyError;

#[derive(Debug, thiserror::Error)]
pub enum RescorerError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Dependency(#[from] DependencyError),
    #[error("the response cannot be serialized as JSON")]
    Answer(#[source] serde_json::Error),
}

impl RescorerError {
    pub fn tag(&self) -> &'static str {
        match self {
            RescorerError::Request(_) => RequestError::TAG,
            RescorerError::Dependency(error) => error.failed_tag(),
            RescorerError::Answer(_) => "answer",
        }
    }
}

impl From<RescorerError> for InvocationError {
    fn from(error: RescorerError) -> Self {
        InvocationError::new(error.tag(), &error)
    }
}
