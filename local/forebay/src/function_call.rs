//! A call of a function by the Invoke API over plain HTTP, and how its failure is recognised.

use hyper_util::client::legacy::connect::Connect;
use serde_json::Value;

use crate::client::{HttpAnswer, JsonClient};

/// What a function answered when it failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{body}")]
pub struct FunctionFailure {
    /// The answer as it came.
    body: String,
}

impl FunctionFailure {
    pub fn new(body: &[u8]) -> Self {
        FunctionFailure { body: String::from_utf8_lossy(body).into_owned() }
    }

    /// A short name of the cause, such as `bad-request`; `None` if the function did not get to say one.
    pub fn error_type(&self) -> Option<String> {
        self.member("errorType")
    }

    /// What went wrong, in words.
    pub fn message(&self) -> String {
        self.member("errorMessage").unwrap_or_else(|| self.body.clone())
    }

    fn member(&self, name: &str) -> Option<String> {
        serde_json::from_str::<Value>(&self.body).ok()?.get(name)?.as_str().map(str::to_owned)
    }
}

/// The address of a function in the Invoke API at `endpoint`.
pub fn invoke_url(endpoint: &str, function: &str) -> String {
    format!("{endpoint}/2015-03-31/functions/{function}/invocations")
}

/// Invokes a function with an event's JSON text.
///
/// # Errors
/// If there is no answer, or the function failed: then the error is a [`FunctionFailure`].
pub async fn invoke<C: Connect + Clone + Send + Sync + 'static>(
    client: &JsonClient<C>,
    url: &str,
    event: String,
) -> anyhow::Result<Value> {
    let answer = client.post(url, &[], event).await?;
    if is_failure(&answer) {
        let said = if answer.body.is_empty() { answer.status.to_string().into() } else { answer.body };
        return Err(FunctionFailure::new(&said).into());
    }
    Ok(answer.json())
}

/// Whether a function failed. AWS and our host say so in a header, cargo-lambda with the status, and the Runtime Interface
/// Emulator with nothing but the body.
fn is_failure(answer: &HttpAnswer) -> bool {
    !answer.status.is_success() || answer.headers.contains_key("x-amz-function-error") || says_failure(&answer.body)
}

/// Whether the body alone says that a function failed: an error object, or plain text after a timeout.
pub(crate) fn says_failure(body: &[u8]) -> bool {
    let is_error_object = |body: &Value| body.get("errorType").is_some_and(Value::is_string);
    serde_json::from_slice(body).map_or(!body.is_empty(), |body| is_error_object(&body))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::*;

    #[test]
    fn every_host_has_its_own_way_to_say_that_a_function_failed() {
        const ERROR: &str = r#"{"errorType":"E","errorMessage":"m"}"#;
        let ok = StatusCode::OK;
        let table = [
            ("an answer", ok, false, r#"{"errors":0}"#, false),
            ("null", ok, false, "null", false),
            ("no answer", ok, false, "", false),
            ("AWS, our host", ok, true, ERROR, true),
            ("cargo-lambda", StatusCode::INTERNAL_SERVER_ERROR, false, ERROR, true),
            ("RIE, error", ok, false, ERROR, true),
            ("RIE, timeout", ok, false, "Task timed out after 3.00 seconds", true),
            ("RIE, crash", StatusCode::BAD_GATEWAY, false, "", true),
        ];
        for (case, status, marked, body, expected) in table {
            let mut headers = HeaderMap::new();
            if marked {
                headers.insert("x-amz-function-error", HeaderValue::from_static("Unhandled"));
            }
            let answer = HttpAnswer { status, headers, body: Bytes::from_static(body.as_bytes()) };
            assert_eq!(is_failure(&answer), expected, "{case}");
        }
    }
}
