//! Why a request is not carried out.

use lambda::invocation::InvocationError;
use pipeline::{DependencyError, ErrorClass};

#[derive(Debug, thiserror::Error)]
pub enum RedriverError {
    /// Serde's own message names the unknown action and the choices, or the field.
    #[error("the request cannot be read")]
    Request(#[source] serde_json::Error),
    #[error("field \"{field}\" is {problem}")]
    Field { field: &'static str, problem: String },
    #[error("no time is left to begin")]
    OutOfTime,
    #[error(transparent)]
    Dependency(#[from] DependencyError),
    /// A letter cannot be written as an object.
    #[error("a letter cannot be packed for parking")]
    Pack(#[source] std::io::Error),
    #[error("parked object {key} cannot be read: {problem}")]
    Parked { key: String, problem: &'static str },
    #[error("the answer cannot be written")]
    Answer(#[source] serde_json::Error),
}

impl RedriverError {
    pub fn class(&self) -> ErrorClass {
        match self {
            RedriverError::Request(_)
            | RedriverError::Field { .. }
            | RedriverError::Pack(_)
            | RedriverError::Parked { .. }
            | RedriverError::Answer(_) => ErrorClass::Permanent,
            RedriverError::Dependency(error) => error.class,
            RedriverError::OutOfTime => ErrorClass::Transient,
        }
    }

    pub fn tag(&self) -> &'static str {
        match self {
            RedriverError::Request(_) | RedriverError::Field { .. } => "bad-request",
            RedriverError::OutOfTime => "out-of-time",
            RedriverError::Dependency(error) => error.failed_tag(),
            RedriverError::Pack(_) => "pack",
            RedriverError::Parked { .. } => "parked-object",
            RedriverError::Answer(_) => "answer",
        }
    }
}

impl From<RedriverError> for InvocationError {
    fn from(error: RedriverError) -> Self {
        InvocationError::new(error.tag(), &error)
    }
}
