//! Why a request fails or is not finished.

use archive::ArchiveError;
use event::schema::SchemaError;
use lambda::invocation::InvocationError;
use lambda::request::RequestError;
use pipeline::{Dependency, DependencyError, WrongNumberOfAnswers};
use postgres::PostgresError;

#[derive(Debug, thiserror::Error)]
pub enum ReplayerError {
    #[error("connecting to the database failed")]
    Database(#[source] PostgresError),
    #[error("the schemas in this program cannot be used")]
    Schemas(#[from] SchemaError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("run \"{run}\" was begun with another request, {request}: repeat that request, or choose another name")]
    OtherRequest { run: String, request: String },
    #[error("another invocation has taken over run \"{run}\" and continues it")]
    TakenOver { run: String },
    #[error(transparent)]
    Dependency(#[from] DependencyError),
    /// An object cannot be fetched. A damaged object is not an error: it is counted and skipped.
    #[error("reading the archive failed")]
    Archive(#[source] ArchiveError),
    /// The scorer's error is in the log.
    #[error("the scorer gave no scores: check whether it works, then invoke the run again")]
    NoScores,
    #[error("the saved counts of run \"{run}\" cannot be parsed")]
    Counts {
        run: String,
        #[source]
        source: serde_json::Error,
    },
    /// An adapter returned a different number of answers than it was asked for.
    #[error(transparent)]
    Answers(#[from] WrongNumberOfAnswers),
    #[error("the response cannot be serialized as JSON")]
    Answer(#[source] serde_json::Error),
}

impl ReplayerError {
    pub fn tag(&self) -> &'static str {
        match self {
            ReplayerError::Database(_) => Dependency::Postgres.failed_tag(),
            ReplayerError::Schemas(_) => "schemas",
            ReplayerError::Request(_) | ReplayerError::OtherRequest { .. } => RequestError::TAG,
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
