//! Calling a function.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_lambda::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_lambda::error::{BoxError, SdkError};
use aws_sdk_lambda::primitives::Blob;
use bytes::Bytes;

/// A function behind a mapping may run for at most 14 minutes, so after 15 minutes no answer can come.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(15 * 60);
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The raw reply of a backend. Backends differ in how they mark a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Whether the header `X-Amz-Function-Error` (AWS) or `Error-Type` (Runtime Interface Emulator) was present.
    pub marked_failed: bool,
    pub body: Bytes,
}

/// There was no reply: the connection was refused or broke, or the reply came too late. The function may have run.
#[derive(Debug, thiserror::Error)]
#[error("no reply from {function}")]
pub struct InvokerError {
    pub function: String,
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

/// Invokes a function and waits for its answer.
#[async_trait]
pub trait Invoker: Send + Sync {
    /// Makes one attempt: the mapping does the retries.
    ///
    /// # Errors
    /// [`InvokerError`] when there is no reply. Every reply, including a refusal, is a [`Reply`].
    async fn invoke(&self, function: &str, event: Bytes) -> Result<Reply, InvokerError>;
}

/// The Lambda Invoke API, at `AWS_ENDPOINT_URL_LAMBDA` or on AWS.
#[derive(Clone, Debug)]
pub struct LambdaInvoker {
    client: Client,
}

impl LambdaInvoker {
    /// Uses the endpoint, credentials and HTTP client of `aws`.
    pub fn new(aws: &SdkConfig) -> Self {
        LambdaInvoker { client: invoke::patient_client(aws, ANSWER_TIMEOUT) }
    }
}

#[async_trait]
impl Invoker for LambdaInvoker {
    async fn invoke(&self, function: &str, event: Bytes) -> Result<Reply, InvokerError> {
        let marked_failed = Arc::new(AtomicBool::new(false));
        let sent = self
            .client
            .invoke()
            .function_name(function)
            .payload(Blob::new(Vec::from(event)))
            .customize()
            .interceptor(FailureHeader { seen: Arc::clone(&marked_failed) })
            .send()
            .await;
        let failure_header = marked_failed.load(Ordering::Relaxed);
        match sent {
            Ok(output) => Ok(Reply {
                status: u16::try_from(output.status_code).unwrap_or_default(),
                marked_failed: failure_header || output.function_error.is_some(),
                body: output.payload.map(Blob::into_inner).unwrap_or_default().into(),
            }),
            Err(SdkError::ServiceError(error)) => {
                let response = error.into_raw();
                Ok(Reply {
                    status: response.status().as_u16(),
                    marked_failed: failure_header,
                    body: Bytes::copy_from_slice(response.body().bytes().unwrap_or_default()),
                })
            }
            Err(error) => Err(InvokerError { function: function.to_owned(), source: Box::new(error) }),
        }
    }
}

/// Reads the failure header of the Runtime Interface Emulator, which is not part of the API's model.
#[derive(Debug)]
struct FailureHeader {
    seen: Arc<AtomicBool>,
}

impl Intercept for FailureHeader {
    fn name(&self) -> &'static str {
        "FailureHeader"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if context.response().headers().contains_key("error-type") {
            self.seen.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}
