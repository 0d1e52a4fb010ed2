//! Calls a function with the Lambda Invoke API. AWS, the emulators and Kubernetes differ only in the endpoint.

use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::{Builder, StalledStreamProtectionConfig};
use aws_sdk_lambda::error::SdkError;
use aws_sdk_lambda::operation::invoke::InvokeError;
use aws_sdk_lambda::primitives::Blob;
use bytes::Bytes;
use pipeline::ports::{FunctionCaller, FunctionError};
use pipeline::{Dependency, DependencyError, ErrorClass};
use serde::Deserialize;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("the call failed")]
    Call(#[source] Box<SdkError<InvokeError>>),
    #[error(transparent)]
    Function(FunctionError),
}

impl CallError {
    /// An error of the function is permanent: the next call with that event would most likely get it, too.
    pub fn class(&self) -> ErrorClass {
        match self {
            CallError::Call(error) if is_throttled(error) => ErrorClass::Overload,
            CallError::Call(_) => ErrorClass::Transient,
            CallError::Function(_) => ErrorClass::Permanent,
        }
    }

    pub fn tag(&self) -> &'static str {
        match self {
            CallError::Call(error) if is_throttled(error) => "throttled",
            CallError::Call(_) => "unavailable",
            CallError::Function(_) => "function-error",
        }
    }
}

fn is_throttled(error: &SdkError<InvokeError>) -> bool {
    error.as_service_error().is_some_and(InvokeError::is_too_many_requests_exception)
}

/// A client for functions that work for long: one attempt, which may take this long. It has the endpoint, credentials and HTTP
/// client of `config`, but not its time limits, which are meant for calls of milliseconds.
pub fn patient_client(config: &SdkConfig, longest: Duration) -> Client {
    Client::from_conf(patient_config(config, longest).build())
}

fn patient_config(config: &SdkConfig, longest: Duration) -> Builder {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(longest)
        .operation_attempt_timeout(longest)
        .operation_timeout(longest)
        .build();
    Builder::from(config)
        .timeout_config(timeouts)
        .retry_config(RetryConfig::disabled())
        // A function that is still working sends nothing; that must not count as a stalled stream.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
}

/// Calls functions.
#[derive(Clone, Debug)]
pub struct FunctionClient {
    lambda: Client,
}

impl FunctionClient {
    /// Makes no call. The time limits and retries are those of `config`, which are meant for calls of milliseconds.
    pub fn new(config: &SdkConfig) -> Self {
        FunctionClient { lambda: Client::new(config) }
    }

    /// For functions that work for long; see [`patient_client`].
    pub fn patient(config: &SdkConfig, longest: Duration) -> Self {
        FunctionClient { lambda: patient_client(config, longest) }
    }

    /// The same for functions of which each is at a URL of its own, the root of the Invoke API there.
    pub fn patient_at(config: &SdkConfig, longest: Duration, url: &str) -> Self {
        FunctionClient { lambda: Client::from_conf(patient_config(config, longest).endpoint_url(url).build()) }
    }

    /// Calls the function with that name, alias or ARN, and waits for its answer.
    ///
    /// # Errors
    /// If there is no answer, or the answer is an error of the function.
    pub async fn call(&self, function: &str, event: Vec<u8>) -> Result<Vec<u8>, CallError> {
        let call = self.lambda.invoke().function_name(function).payload(Blob::new(event)).send();
        let answer = call.await.map_err(|error| CallError::Call(Box::new(error)))?;
        let failed = answer.function_error.map(|kind| FunctionError { kind, message: String::new() });
        let payload = answer.payload.map(Blob::into_inner).unwrap_or_default();
        // The Runtime Interface Emulator answers 200 without a mark.
        match function_error(&payload).or(failed) {
            Some(error) => Err(CallError::Function(error)),
            None => Ok(payload),
        }
    }
}

/// What a failed function says of its failure.
fn function_error(payload: &[u8]) -> Option<FunctionError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Said {
        error_type: String,
        #[serde(default)]
        error_message: String,
    }
    // Both members of an error begin so. Other answers are not read for nothing.
    if !payload.starts_with(br#"{"error"#) {
        return None;
    }
    let Said { error_type, error_message } = serde_json::from_slice(payload).ok()?;
    Some(FunctionError { kind: error_type, message: error_message })
}

#[async_trait]
impl FunctionCaller for FunctionClient {
    async fn call(&self, function: &str, event: Bytes) -> Result<Bytes, DependencyError> {
        FunctionClient::call(self, function, event.into()).await.map(Bytes::from).map_err(|error| DependencyError {
            dependency: Dependency::Function,
            class: error.class(),
            tag: error.tag(),
            doing: "calling a function",
            source: match error {
                CallError::Function(error) => error.into(),
                error @ CallError::Call(_) => error.into(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use aws_config::Region;
    use aws_sdk_lambda::config::{Credentials, SharedCredentialsProvider};
    use axum::Router;
    use axum::body::Body;
    use axum::http::{HeaderName, StatusCode};
    use axum::response::{IntoResponse as _, Response};
    use axum::routing::post;
    use tokio::net::TcpListener;

    use super::*;

    /// How a call ends that the Invoke API answers so.
    async fn called(
        status: StatusCode,
        header: Option<(&'static str, &'static str)>,
        body: &'static str,
    ) -> Result<Vec<u8>, CallError> {
        let answer = move || async move {
            let headers: Vec<(HeaderName, &str)> =
                header.into_iter().map(|(name, value)| (HeaderName::from_static(name), value)).collect();
            headers.into_iter().fold(
                (status, Body::from(body)).into_response(),
                |mut response: Response, (name, value)| {
                    response.headers_mut().insert(name, value.parse().unwrap());
                    response
                },
            )
        };
        let router = Router::new().route("/2015-03-31/functions/{function}/invocations", post(answer));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let credentials = Credentials::new("local", "local", None, None, "tests");
        let config = aws::loader()
            .region(Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            // Nothing listens there.
            .endpoint_url("http://127.0.0.1:9")
            .load()
            .await;
        FunctionClient::patient_at(&config, Duration::from_secs(5), &endpoint).call("f", b"{}".to_vec()).await
    }

    #[tokio::test]
    async fn an_answer_is_told_from_an_error_however_it_is_marked() {
        let error = r#"{"errorType":"kafka-failed","errorMessage":"secret"}"#;
        assert_eq!(called(StatusCode::OK, None, "[]").await.unwrap(), b"[]");
        let marked = Some(("x-amz-function-error", "Unhandled"));
        let said = called(StatusCode::OK, marked, error).await.unwrap_err();
        let CallError::Function(FunctionError { kind, message }) = said else { panic!("{said}") };
        assert_eq!((kind.as_str(), message.as_str()), ("kafka-failed", "secret"));
        for (status, header, body, tag) in [
            (StatusCode::OK, marked, error, "function-error"),
            (StatusCode::OK, marked, "not JSON", "function-error"),
            (StatusCode::OK, None, error, "function-error"),
            (StatusCode::TOO_MANY_REQUESTS, Some(("x-amzn-errortype", "TooManyRequestsException")), "{}", "throttled"),
            (StatusCode::INTERNAL_SERVER_ERROR, None, "", "unavailable"),
        ] {
            let found = called(status, header, body).await.unwrap_err();
            assert_eq!(found.tag(), tag, "{status} {body}");
            assert!(!found.to_string().contains("secret"), "{found}");
        }
    }
}
