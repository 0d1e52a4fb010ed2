//! Why a request is not carried out.

use kafka::KafkaError;
use lambda::invocation::InvocationError;
use pipeline::{DependencyError, ErrorClass};
use postgres::PostgresError;

#[derive(Debug, thiserror::Error)]
pub enum MaintainerError {
    /// Serde's own message names the unknown action and the choices, or the field.
    #[error("the request cannot be read")]
    Request(#[source] serde_json::Error),
    #[error("the request has no \"action\": one of {choices}")]
    NoAction { choices: String },
    #[error("field \"{field}\" is {problem}")]
    Field { field: &'static str, problem: String },
    #[error("no time is left to begin")]
    OutOfTime,
    #[error("no API key has that hash")]
    UnknownKey,
    #[error("topics cannot be ensured")]
    Topics(#[source] Box<KafkaError>),
    #[error("{doing} failed")]
    Database {
        doing: &'static str,
        #[source]
        source: PostgresError,
    },
    #[error("the access table cannot be used")]
    Access(#[source] DependencyError),
    #[error("the system gives no random bytes")]
    Random,
    #[error("the answer cannot be written")]
    Answer(#[source] serde_json::Error),
}

impl MaintainerError {
    pub fn class(&self) -> ErrorClass {
        match self {
            MaintainerError::Request(_)
            | MaintainerError::NoAction { .. }
            | MaintainerError::Field { .. }
            | MaintainerError::UnknownKey
            | MaintainerError::Answer(_) => ErrorClass::Permanent,
            MaintainerError::OutOfTime | MaintainerError::Random => ErrorClass::Transient,
            MaintainerError::Topics(error) => error.class(),
            MaintainerError::Database { source, .. } => source.class(),
            MaintainerError::Access(error) => error.class,
        }
    }

    pub fn tag(&self) -> &'static str {
        match self {
            MaintainerError::Request(_) | MaintainerError::NoAction { .. } | MaintainerError::Field { .. } => {
                "bad-request"
            }
            MaintainerError::OutOfTime => "out-of-time",
            MaintainerError::UnknownKey => "unknown-key",
            MaintainerError::Topics(_) => "kafka",
            MaintainerError::Database { .. } => "postgres",
            MaintainerError::Access(_) => "dynamodb",
            MaintainerError::Random => "random",
            MaintainerError::Answer(_) => "answer",
        }
    }
}

impl From<MaintainerError> for InvocationError {
    fn from(error: MaintainerError) -> Self {
        InvocationError::new(error.tag(), &error)
    }
}
