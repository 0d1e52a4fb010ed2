//! One call of a function outside any mapping: what a schedule or an operator asks for.

use bytes::Bytes;
use pipeline::chain;

use crate::answer::{InvocationOutcome, judge};
use crate::error::EsmError;
use crate::invoker::Invoker;

/// Calls a function once with an event and returns its answer. Makes one attempt, as a mapping does: whoever keeps the
/// schedule decides about the next one.
///
/// # Errors
/// [`EsmError::Call`] if the function failed or did not run.
pub async fn call(invoker: &dyn Invoker, function: &str, event: Bytes) -> Result<Bytes, EsmError> {
    let reason = match invoker.invoke(function, event).await.map(judge) {
        Ok(InvocationOutcome::Answered(answer)) => return Ok(answer),
        Ok(InvocationOutcome::Failed(reason)) => reason,
        Ok(InvocationOutcome::Throttled) => "it takes no further call at present".to_owned(),
        Ok(InvocationOutcome::Unavailable(reason)) => format!("the service failed: {reason}"),
        Err(error) => chain(&error),
    };
    Err(EsmError::Call { function: function.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::invoker::{InvokerError, Reply};

    /// Replies with this status and the event.
    struct Replies(u16);

    #[async_trait]
    impl Invoker for Replies {
        async fn invoke(&self, function: &str, event: Bytes) -> Result<Reply, InvokerError> {
            if self.0 == 0 {
                return Err(InvokerError { function: function.to_owned(), source: "refused".into() });
            }
            Ok(Reply { status: self.0, marked_failed: false, body: event })
        }
    }

    #[tokio::test]
    async fn only_an_answer_of_the_function_is_a_success() {
        let failure = r#"{"errorType":"bad-request","errorMessage":"m"}"#;
        let table = [
            (200, r#"{"left":0}"#, Ok(r#"{"left":0}"#)),
            (200, failure, Err("calling f failed: bad-request: m")),
            (429, "{}", Err("calling f failed: it takes no further call at present")),
            (503, "{}", Err("calling f failed: the service failed: HTTP 503")),
            (0, "{}", Err("calling f failed: no reply from f: refused")),
        ];
        for (status, event, expected) in table {
            let answer = call(&Replies(status), "f", Bytes::from_static(event.as_bytes())).await;
            let answer = answer.as_deref().map_err(ToString::to_string);
            assert_eq!(answer, expected.map(str::as_bytes).map_err(str::to_owned), "{status} {event}");
        }
    }
}
