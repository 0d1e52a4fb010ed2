//! Why an invocation failed.

use pipeline::chain;

/// An invocation that failed as a whole; the platform will send the event again.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct InvocationError {
    /// Short name of the cause, from a fixed list, reported as Lambda's `errorType`.
    pub error_type: &'static str,
    /// The whole chain of causes, without payloads.
    pub message: String,
}

impl InvocationError {
    /// Joins an error and its sources: `a: b: c`.
    pub fn new(error_type: &'static str, error: &(dyn std::error::Error + 'static)) -> Self {
        InvocationError { error_type, message: chain(error) }
    }
}
