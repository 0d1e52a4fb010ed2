//! Calling another function.

use async_trait::async_trait;
use bytes::Bytes;

use crate::DependencyError;

/// What a function answered that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it returned the function error {kind}")]
pub struct FunctionError {
    /// Its `errorType`.
    pub kind: String,
    /// Its `errorMessage`. It may quote the event, so it is for whoever sent that, and not for logs.
    pub message: String,
}

#[async_trait]
pub trait FunctionCaller: Send + Sync {
    /// Calls the function with that name or ARN once, and returns its answer. An error of the function is permanent, and has
    /// a [`FunctionError`] as its source.
    async fn call(&self, function: &str, event: Bytes) -> Result<Bytes, DependencyError>;
}
