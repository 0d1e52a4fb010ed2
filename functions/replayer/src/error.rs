//! Why a request is not carried out, or not to its end.

use archive::ArchiveError;
use lambda::invocation::InvocationError;
use pipeline::{Dependency, DependencyError, WrongNumberOfAnswers};

#[derive(Debug, thiserror::Error)]
pub enum ReplayerError {
    /// Serde's own message names the unknown field or action and the choices.
    #[error("the request cannot be read")]
    Request(#[source] serde_json::Error),
    #[error("field \"{field}\" is {problem}")]
    Field { field: &'static str, problem: String },
    #[error("run \"{run}\" was begun with another request, {request}: repeat that one, or choose another name")]
    OtherRequest { run: String, request: String },
    #[error("another invocation has taken run \"{run}\" over: it goes on there")]
    TakenOver { run: String },
    #[error(transparent)]
    Dependency(#[from] DependencyError),
    /// An object that cannot be fetched; what is damaged is counted and passed over.
    #[error("reading the archive failed")]
    Archive(#[source] ArchiveError),
    /// The scorer's error is in the log.
    #[error("the scorer gave no scores: see whether it works, then invoke the run again")]
    NoScores,
    #[error("the counts of run \"{run}\" cannot be read")]
    Counts {
        run: String,
        #[source]
        source: serde_json::Error,
    },
    /// An adapter broke its port's promise to answer item by item.
    #[error(transparent)]
    Answers(#[from] WrongNumberOfAnswers),
    #[error("the answer cannot be written")]
    Answer(#[source] serde_json::Error),
}

impl ReplayerError {
    pub fn tag(&self) -> &'static str {
        match self {
            ReplayerError::Request(_) | ReplayerError::Field { .. } | ReplayerError::OtherRequest { .. } => {
                "bad-request"
            }
            ReplayerError::TakenOver { .. } => "taken-over",
            ReplayerError::Dependency(error) => error.failed_tag(),
            ReplayerError::Archive(_) => Dependency::S3.failed_tag(),
            ReplayerError::NoScores => Dependency::Scorer.failed_tag(),
            ReplayerError::Answers(_) => "wrong-number-of-answers",
            ReplayerError::Counts { .. } => "counts",
            ReplayerError::Answer(_) => "answer",
        }
    }
}

impl From<ReplayerError> for InvocationError {
    fn from(error: ReplayerError) -> Self {
        InvocationError::new(error.tag(), &error)
    }
}
