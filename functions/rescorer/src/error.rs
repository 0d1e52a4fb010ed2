//! Why a run ended early or did not begin.

use lambda::invocation::InvocationError;
use pipeline::DependencyError;

#[derive(Debug, thiserror::Error)]
pub enum RescorerError {
    /// Serde's own message names the unknown action and the choices, or the field.
    #[error("the request cannot be read")]
    Request(#[source] serde_json::Error),
    #[error("the request has no \"action\", which must be rescore")]
    NoAction,
    #[error("field \"{field}\" is {problem}")]
    Field { field: &'static str, problem: String },
    #[error(transparent)]
    Dependency(#[from] DependencyError),
    #[error("the answer cannot be written as JSON")]
    Answer(#[source] serde_json::Error),
}

impl RescorerError {
    pub fn tag(&self) -> &'static str {
        match self {
            RescorerError::Request(_) | RescorerError::NoAction | RescorerError::Field { .. } => "bad-request",
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
