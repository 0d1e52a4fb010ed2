//! Why a request is not carried out, or not to its end.

use archive::ArchiveError;
use event::schema::SchemaError;
use lambda::invocation::InvocationError;
use lambda::request::RequestError;
use pipeline::{Dependency, DependencyError, WrongNumberOfAnswers};
use postgres::PostgresError;

#[derive(Debug, thiserror::Error)]
pub enum ReplayerError {
    #[error("the database cannot be used")]
    Database(#[source] PostgresError),
    #[error("the schemas in this program cannot be used")]
    Schemas(#[from] SchemaError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("run \"{run}\" was begun with another request, {request}: repeat that one, or choose another name")]
    OtherRequest { run: String, request: String },
    #[error("another invocation has taken run \"{run}\" over: it goes on there")]
    TakenOver { run: String },
    #[error(transparent)]
    Dependency(#[from] DependencyError),
    /// An object that cannot be fetched; what is damaged is counted and skipped.
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
