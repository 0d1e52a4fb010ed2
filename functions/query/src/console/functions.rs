//! Calls to the functions that change something, or that reach what `query` does not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lambda::guard::guard;
use lambda::request::RequestError;
use pipeline::guard::Guard;
use pipeline::ports::{FunctionCaller, FunctionError};
use pipeline::{Dependency, DependencyError, ErrorClass, OutOfTime};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use super::error::ConsoleError;

/// Who asks for something, and how long the page waits for it.
pub(super) struct Asking {
    /// As the audit trail has it.
    pub by: String,
    pub deadline: Instant,
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

    /// Asks it for something that it only reads.
    ///
    /// # Errors
    /// If it refuses or fails, or has not answered when the page must.
    pub async fn read<A: DeserializeOwned>(&self, asking: Asking, request: Value) -> Result<A, ConsoleError> {
        let call = self.caller.call(&self.name, event(&asking, request));
        let in_time = async {
            let answer = tokio::time::timeout_at(asking.deadline, call).await;
            answer.unwrap_or_else(|_| Err(out_of_time()))
        };
        self.answer(self.guard.call_once("asking a function", in_time).await)
    }

    /// Lets it change something.
    ///
    /// # Errors
    /// If it refuses or fails, or works longer than the page waits. Then it goes on.
    pub async fn change<A: DeserializeOwned>(&self, asking: Asking, request: Value) -> Result<A, ConsoleError> {
        let function = self.function;
        if Instant::now() >= asking.deadline {
            return Err(ConsoleError::Failed { function, source: out_of_time() });
        }
        let event = event(&asking, request);
        let (name, caller, guard) = (self.name.clone(), Arc::clone(&self.caller), Arc::clone(&self.guard));
        // In a task of its own, which goes on when nobody waits: outside of AWS, a function stops when its caller goes.
        let call = tokio::spawn(async move { guard.call_once("calling a function", caller.call(&name, event)).await });
        match tokio::time::timeout_at(asking.deadline, call).await {
            Ok(Ok(answer)) => self.answer(answer),
            // The task cannot be cancelled, and nothing in it panics.
            Ok(Err(_)) | Err(_) => Err(ConsoleError::StillWorking { function }),
        }
    }

    fn answer<A: DeserializeOwned>(&self, answer: Result<Bytes, DependencyError>) -> Result<A, ConsoleError> {
        let function = self.function;
        match answer {
            Ok(answer) => serde_json::from_slice(&answer).map_err(|source| ConsoleError::Answer { function, source }),
            Err(error) => Err(match error.source.downcast_ref::<FunctionError>() {
                Some(FunctionError { kind, message }) if is_refusal(kind) => {
                    ConsoleError::Refused { function, message: message.clone() }
                }
                Some(FunctionError { kind, .. }) => {
                    ConsoleError::FunctionFailed { function, kind: kind.clone(), source: error }
                }
                None => ConsoleError::Failed { function, source: error },
            }),
        }
    }
}

fn event(asking: &Asking, mut request: Value) -> Bytes {
    request["by"] = asking.by.as_str().into();
    Bytes::from(request.to_string())
}

fn out_of_time() -> DependencyError {
    DependencyError {
        dependency: Dependency::Function,
        class: ErrorClass::Transient,
        tag: "timeout",
        doing: "asking a function",
        source: OutOfTime.into(),
    }
}

/// What the two functions say of a request that is at fault.
fn is_refusal(kind: &str) -> bool {
    kind == RequestError::TAG || matches!(kind, "unknown-key" | "dead-key")
}
