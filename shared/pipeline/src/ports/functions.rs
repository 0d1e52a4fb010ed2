//! Calling another function.

use async_trait::async_trait;
use bytes::Bytes;

use crate::DependencyError;

#[async_trait]
pub trait FunctionCaller: Send + Sync {
    /// Calls the function with that name or ARN once, and returns its answer. An error of the function is permanent.
    async fn call(&self, function: &str, event: Bytes) -> Result<Bytes, DependencyError>;
}
