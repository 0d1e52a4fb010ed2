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
use pipeline::ports::FunctionCaller;
use pipeline::{Dependency, DependencyError, ErrorClass};
use serde::Deserialize;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("the call failed")]
    Call(#[source] Box<SdkError<InvokeError>>),
    #[error("it returned the function error {0}")]
    Function(String),
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
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(longest)
        .operation_attempt_timeout(longest)
        .operation_timeout(longest)
        .build();
    let config = Builder::from(config)
        .timeout_config(timeouts)
        .retry_config(RetryConfig::disabled())
        // A function that is still working sends nothing; that must not count as a stalled stream.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .build();
    Client::from_conf(config)
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

    /// Calls the function with that name, alias or ARN, and waits for its answer.
    ///
    /// # Errors
    /// If there is no answer, or the answer is an error of the function.
    pub async fn call(&self, function: &str, event: Vec<u8>) -> Result<Vec<u8>, CallError> {
        let call = self.lambda.invoke().function_name(function).payload(Blob::new(event)).send();
        let answer = call.await.map_err(|error| CallError::Call(Box::new(error)))?;
        let failed = answer.function_error;
        let payload = answer.payload.map(Blob::into_inner).unwrap_or_default();
        // The Runtime Interface Emulator answers 200 without a mark.
        match (error_type(&payload), failed) {
            (Some(error), _) | (None, Some(error)) => Err(CallError::Function(error)),
            (None, None) => Ok(payload),
        }
    }
}

/// The `errorType` of a failed function. Its message is not used, because it may quote the request.
fn error_type(payload: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct FunctionError {
        error_type: String,
    }
    // Both members of an error begin so. Other answers are not read for nothing.
    if !payload.starts_with(br#"{"error"#) {
        return None;
    }
    serde_json::from_slice::<FunctionError>(payload).ok().map(|error| error.error_type)
}

#[async_trait]
impl FunctionCaller for FunctionClient {
    async fn call(&self, function: &str, event: Bytes) -> Result<Bytes, DependencyError> {
        match FunctionClient::call(self, function, event.into()).await {
            Ok(answer) => Ok(answer.into()),
            Err(error) => Err(DependencyError {
                dependency: Dependency::Function,
                class: error.class(),
                tag: error.tag(),
                doing: "calling a function",
                source: error.into(),
            }),
        }
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
            .endpoint_url(endpoint)
            .load()
            .await;
        FunctionClient::patient(&config, Duration::from_secs(5)).call("f", b"{}".to_vec()).await
    }

    #[tokio::test]
    async fn an_answer_is_told_from_an_error_however_it_is_marked() {
        let error = r#"{"errorType":"kafka-failed","errorMessage":"secret"}"#;
        assert_eq!(called(StatusCode::OK, None, "[]").await.unwrap(), b"[]");
        let marked = Some(("x-amz-function-error", "Unhandled"));
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
