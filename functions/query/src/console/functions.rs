//! Calls to the functions that change something, or that reach what `query` does not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lambda::guard::guard;
use pipeline::Dependency;
use pipeline::guard::Guard;
use pipeline::ports::{FunctionCaller, FunctionError};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::ConsoleError;

/// Who asks for something, and how long the page may wait for it.
pub(super) struct Asking {
    /// As the audit trail has it.
    pub by: String,
    pub patience: Duration,
}

/// A function, and what calls it.
pub(super) struct Callee {
    /// What pages call it.
    function: &'static str,
    /// Its name or ARN.
    name: String,
    caller: Arc<dyn FunctionCaller>,
    guard: Arc<Guard>,
}

impl Callee {
    pub fn new(function: &'static str, name: String, caller: Arc<dyn FunctionCaller>, breaker_open: Duration) -> Self {
        Callee { function, name, caller, guard: Arc::new(guard(Dependency::Function, breaker_open)) }
    }

    /// Calls it for an operator, who is named in the request.
    ///
    /// # Errors
    /// If it refuses, fails, or works longer than the operator's page may wait. Then it goes on.
    pub async fn call<A: DeserializeOwned>(&self, asking: Asking, mut request: Value) -> Result<A, ConsoleError> {
        request["by"] = asking.by.into();
        let event = Bytes::from(request.to_string());
        let (name, caller, guard) = (self.name.clone(), Arc::clone(&self.caller), Arc::clone(&self.guard));
        // In a task of its own, which goes on when nobody waits: outside of AWS, a function stops when its caller goes.
        let call = tokio::spawn(async move { guard.call_once("calling a function", caller.call(&name, event)).await });
        let function = self.function;
        match tokio::time::timeout(asking.patience, call).await {
            Ok(Ok(Ok(answer))) => {
                serde_json::from_slice(&answer).map_err(|source| ConsoleError::Answer { function, source })
            }
            Ok(Ok(Err(error))) => Err(match error.source.downcast_ref::<FunctionError>() {
                Some(FunctionError { kind, message }) if is_refusal(kind) => {
                    ConsoleError::Refused { function, message: message.clone() }
                }
                _ => ConsoleError::Failed { function, source: error },
            }),
            // The task cannot be cancelled, and nothing in it panics.
            Ok(Err(_)) | Err(_) => Err(ConsoleError::StillWorking { function }),
        }
    }
}

/// What the two functions say of a request that is at fault.
fn is_refusal(kind: &str) -> bool {
    matches!(kind, "bad-request" | "unknown-key" | "dead-key")
}
