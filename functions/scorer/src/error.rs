//! Why a request gets no score.

use lambda::invocation::InvocationError;

#[derive(Debug, thiserror::Error)]
pub enum ScorerError {
    #[error("the request is not {{\"ip\",\"user_id\"}} or {{\"events\":[{{\"event_id\",\"ip\",\"user_id\"}}]}}")]
    Malformed(#[source] serde_json::Error),
    #[error("the request has neither \"ip\" nor \"events\"")]
    Empty,
    #[error("the request has \"events\" and fields of a single event")]
    Ambiguous,
    #[error("the request has {events} events, more than {most}")]
    TooManyEvents { events: usize, most: usize },
    #[error("cannot write the answer as JSON")]
    Answer(#[source] serde_json::Error),
}

impl ScorerError {
    pub fn tag(&self) -> &'static str {
        match self {
            ScorerError::Malformed(_) => "malformed-request",
            ScorerError::Empty => "empty-request",
            ScorerError::Ambiguous => "ambiguous-request",
            ScorerError::TooManyEvents { .. } => "too-many-events",
            ScorerError::Answer(_) => "answer",
        }
    }
}

impl From<ScorerError> for InvocationError {
    fn from(error: ScorerError) -> Self {
        InvocationError::new(error.tag(), &error)
    }
}
