//! Why a run ended early or did not begin.

use lambda::invocation::InvocationError;
use pipeline::{Dependency, DependencyError, ErrorClass};

#[derive(Debug, thiserror::Error)]
pub enum RescorerError {
    /// Serde's own message names the unknown action and the choices, or the field.
    #[error("the request cannot be read")]
    Request(#[source] serde_json::Error),
    #[error("the request has no \"action\", which must be rescore")]
    NoAction,
    #[error("field \"{field}\" is {problem}")]
    Field { field: &'static str, problem: String },
    #[error("{doing} failed")]
    Dependency {
        doing: &'static str,
        #[source]
        source: DependencyError,
    },
    /// An adapter broke its port's promise to answer item by item.
    #[error("{dependency} gave {answers} answers to {questions} questions")]
    Answers { dependency: Dependency, questions: usize, answers: usize },
    #[error("the answer cannot be written as JSON")]
    Answer(#[source] serde_json::Error),
}

impl RescorerError {
    pub fn class(&self) -> ErrorClass {
        match self {
            RescorerError::Request(_)
            | RescorerError::NoAction
            | RescorerError::Field { .. }
            | RescorerError::Answer(_) => ErrorClass::Permanent,
            RescorerError::Dependency { source, .. } => source.class,
            RescorerError::Answers { .. } => ErrorClass::Transient,
        }
    }

    pub fn tag(&self) -> &'static str {
        match self {
            RescorerError::Request(_) | RescorerError::NoAction | RescorerError::Field { .. } => "bad-request",
            RescorerError::Dependency { source, .. } => source.dependency.failed_tag(),
            RescorerError::Answers { .. } => "wrong-number-of-answers",
            RescorerError::Answer(_) => "answer",
        }
    }
}

impl From<RescorerError> for InvocationError {
    fn from(error: RescorerError) -> Self {
        InvocationError::new(error.tag(), &error)
    }
}

/// For `map_err`: what was being done when a dependency failed.
pub(crate) fn failed(doing: &'static str) -> impl FnOnce(DependencyError) -> RescorerError {
    move |source| RescorerError::Dependency { doing, source }
}
