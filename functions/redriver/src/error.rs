//! Why a request fails.

use archive::quarantine::QuarantineError;
use lambda::invocation::InvocationError;
use lambda::request::RequestError;
use pipeline::DependencyError;

#[derive(Debug, thiserror::Error)]
pub enum RedriverError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("not enough time is left to begin the request")]
    OutOfTime,
    #[error(transparent)]
    Dependency(#[from] DependencyError),
    #[error(transparent)]
    Quarantine(#[from] QuarantineError),
    /// A letter cannot be encoded as an object.
    #[error("a letter cannot be encoded for parking")]
    Pack(#[source] std::io::Error),
    #[error("parked object {key} cannot be read: {problem}")]
    Parked { key: String, problem: &'static str },
    #[error("the response cannot be serialized as JSON")]
    Answer(#[source] serde_json::Error),
}

impl RedriverError {
    pub fn tag(&self) -> &'static str {
        match self {
            RedriverError::Request(_) => RequestError::TAG,
            RedriverError::OutOfTime => "out-of-time",
            RedriverError::Dependency(error) => error.failed_tag(),
            RedriverError::Quarantine(error) => error.tag(),
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
