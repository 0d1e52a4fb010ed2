//! Why a batch could not be finished.

use archive::quarantine::QuarantineError;
use lambda::invocation::InvocationError;
use lambda::kafka_trigger::TriggerError;
use pipeline::decisions::preparedness::Unprepared;
use pipeline::{DependencyError, WrongNumberOfAnswers};
use strum::IntoStaticStr;

/// The steps that have effects, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display, IntoStaticStr)]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum Step {
    Claim,
    Limit,
    Store,
    Publish,
}

impl Step {
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// None of these is caused by a record: the batch is sent again, and no dead letter is written.
#[derive(Debug, thiserror::Error)]
pub enum ProcessorError {
    #[error("the trigger's event cannot be read")]
    Trigger(#[from] TriggerError),
    #[error("not enough time left before the deadline to begin the step {0}")]
    OutOfTime(Step),
    #[error(transparent)]
    Dependency(#[from] DependencyError),
    /// An adapter returned a different number of answers than it was asked for.
    #[error(transparent)]
    Answers(#[from] WrongNumberOfAnswers),
    #[error(transparent)]
    Unprepared(#[from] Unprepared),
    #[error(transparent)]
    Quarantine(#[from] QuarantineError),
    #[error("an outcome cannot be serialized as JSON")]
    Outcome(#[source] serde_json::Error),
    #[error("the response cannot be serialized as JSON")]
    Answer(#[source] serde_json::Error),
}

impl ProcessorError {
    pub fn tag(&self) -> &'static str {
        match self {
            ProcessorError::Trigger(_) => "not-a-kafka-event",
            ProcessorError::OutOfTime(_) => "out-of-time",
            ProcessorError::Dependency(error) => error.failed_tag(),
            ProcessorError::Answers(_) => "wrong-number-of-answers",
            ProcessorError::Unprepared(_) => "unknown-types",
            ProcessorError::Quarantine(error) => error.tag(),
            ProcessorError::Outcome(_) => "outcome",
            ProcessorError::Answer(_) => "answer",
        }
    }
}

impl From<ProcessorError> for InvocationError {
    fn from(error: ProcessorError) -> Self {
        InvocationError::new(error.tag(), &error)
    }
}
