//! Serving an event function: on Lambda, or as the Lambda Invoke API over plain HTTP.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use lambda_runtime::layers::TracingLayer;
use lambda_runtime::{Diagnostic, LambdaEvent, Runtime, service_fn};
use pipeline::clock::{Clock as _, SystemClock};
use pipeline::quota::MAX_PAYLOAD_BYTES;
use serde_json::value::RawValue;
use settings::ProcessEnvironment;

use crate::observed;
use crate::plain::serve_plain;
use crate::platform::{Platform, deadline_instant};
use crate::shutdown;
use crate::start::{end_invocation, serving};

pub use crate::invocation_error::InvocationError;
pub use crate::platform::ServeError;

/// Lambda's own error type of a call that took too long.
const TIMED_OUT: &str = "Sandbox.Timedout";

/// What a handler knows about its invocation besides the event.
#[derive(Clone, Debug)]
pub struct Invocation {
    pub request_id: String,
    /// When the platform will stop the function.
    pub deadline: Instant,
}

impl Invocation {
    /// The request id and a random number, because outside Lambda a request id alone is not unique.
    pub fn run_id(&self) -> String {
        format!("{}-{:016x}", self.request_id, fastrand::u64(..))
    }

    /// Time left, minus `reserve` for sending an answer.
    pub fn remaining(&self, reserve: Duration) -> Duration {
        self.deadline.saturating_duration_since(Instant::now()).saturating_sub(reserve)
    }
}

/// Serves `handler` until the process is asked to stop, and then finishes open invocations (see [`crate::shutdown`]).
///
/// The handler gets the event's JSON text and returns the answer's JSON text. Outside Lambda the function answers
/// `POST /2015-03-31/functions/<name>/invocations` as AWS does (200 with `X-Amz-Function-Error` on failure), plus
/// `GET /healthz` and `GET /readyz`.
///
/// # Errors
/// [`ServeError`] if the settings are bad or the port is taken.
pub async fn serve<H, F>(name: &'static str, handler: H) -> Result<(), ServeError>
where
    H: Fn(Box<RawValue>, Invocation) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Box<RawValue>, InvocationError>> + Send + 'static,
{
    let platform = Platform::detect(&ProcessEnvironment)?;
    observed::begin_invocations();
    serving();
    match platform {
        Platform::Lambda => {
            let handler = Arc::new(handler);
            let service = service_fn(move |event: LambdaEvent<Box<RawValue>>| {
                let handler = Arc::clone(&handler);
                async move {
                    let deadline = deadline_instant(event.context.deadline, SystemClock.now(), Instant::now());
                    let invocation = Invocation { request_id: event.context.request_id, deadline };
                    let answer = observed::invocation(handler(event.payload, invocation)).await;
                    end_invocation(deadline).await;
                    answer.map_err(|error| {
                        tracing::error!(error_type = error.error_type, error = %error.message, "invocation failed");
                        Diagnostic { error_type: error.error_type.to_owned(), error_message: error.message }
                    })
                }
            });
            let runtime = Runtime::new(service).layer(TracingLayer::new());
            shutdown::run(runtime).await.map_err(ServeError::Lambda)
        }
        Platform::Http { address, timeout, limits } => {
            let router = invoke_router(name, timeout, limits.body_timeout, Arc::new(handler));
            serve_plain(address, limits, router).await
        }
    }
}

struct InvokeState<H> {
    name: &'static str,
    timeout: Duration,
    body_timeout: Duration,
    handler: Arc<H>,
    next_id: std::sync::atomic::AtomicU64,
}

fn invoke_router<H, F>(name: &'static str, timeout: Duration, body_timeout: Duration, handler: Arc<H>) -> Router
where
    H: Fn(Box<RawValue>, Invocation) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Box<RawValue>, InvocationError>> + Send + 'static,
{
    let state = InvokeState { name, timeout, body_timeout, handler, next_id: std::sync::atomic::AtomicU64::new(1) };
    Router::new()
        .route("/2015-03-31/functions/{function}/invocations", post(invoke::<H, F>))
        .layer(DefaultBodyLimit::max(MAX_PAYLOAD_BYTES))
        .with_state(Arc::new(state))
}

async fn invoke<H, F>(State(state): State<Arc<InvokeState<H>>>, request: Request) -> Response
where
    H: Fn(Box<RawValue>, Invocation) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Box<RawValue>, InvocationError>> + Send + 'static,
{
    let body = match tokio::time::timeout(state.body_timeout, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => body,
        Ok(Err(rejection)) => return rejection.into_response(),
        Err(_) => {
            let problem = format!("the event did not arrive within {} s", state.body_timeout.as_secs_f32());
            return refused(StatusCode::REQUEST_TIMEOUT, &problem);
        }
    };
    let event = match serde_json::from_slice::<Box<RawValue>>(&body) {
        Ok(event) => event,
        Err(error) => return refused(StatusCode::BAD_REQUEST, &format!("the event is not JSON: {error}")),
    };
    let number = state.next_id.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let invocation =
        Invocation { request_id: format!("{}-{number}", state.name), deadline: Instant::now() + state.timeout };
    match tokio::time::timeout(state.timeout, observed::invocation((state.handler)(event, invocation))).await {
        Ok(Ok(answer)) => ([(header::CONTENT_TYPE, "application/json")], answer.get().to_owned()).into_response(),
        Ok(Err(error)) => {
            tracing::error!(error_type = error.error_type, error = %error.message, "invocation failed");
            function_error(error.error_type, &error.message)
        }
        Err(_) => {
            observed::timed_out(TIMED_OUT);
            function_error(TIMED_OUT, &format!("timed out after {} s", state.timeout.as_secs()))
        }
    }
}

fn refused(status: StatusCode, problem: &str) -> Response {
    let body = error_body("InvalidRequestContentException", problem);
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn function_error(error_type: &str, message: &str) -> Response {
    const FUNCTION_ERROR: HeaderName = HeaderName::from_static("x-amz-function-error");
    let headers = [(header::CONTENT_TYPE, "application/json"), (FUNCTION_ERROR, "Unhandled")];
    (headers, error_body(error_type, message)).into_response()
}

fn error_body(error_type: &str, message: &str) -> String {
    serde_json::json!({ "errorType": error_type, "errorMessage": message }).to_string()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use hyper::body::{Body, Frame};
    use tower::ServiceExt as _;

    use super::*;

    /// A body that sends nothing and does not end.
    struct Never;

    impl Body for Never {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_comes_too_slowly_is_refused() {
        let handler = async |_, _| Ok(serde_json::value::to_raw_value("done").unwrap());
        let second = Duration::from_secs(1);
        let router = invoke_router("f", 60 * second, 10 * second, Arc::new(handler));
        let path = "/2015-03-31/functions/f/invocations";
        let whole = axum::http::Request::post(path).body(axum::body::Body::from("{}")).unwrap();
        assert_eq!(router.clone().oneshot(whole).await.unwrap().status(), StatusCode::OK);
        let never = axum::http::Request::post(path).body(axum::body::Body::new(Never)).unwrap();
        assert_eq!(router.oneshot(never).await.unwrap().status(), StatusCode::REQUEST_TIMEOUT);
    }

    #[test]
    fn nothing_remains_after_the_deadline_or_within_the_reserve() {
        let remaining = |left: Duration, reserve: Duration| {
            let invocation = Invocation { request_id: String::new(), deadline: Instant::now() + left };
            invocation.remaining(reserve)
        };
        let second = Duration::from_secs(1);
        assert_eq!(remaining(Duration::ZERO, Duration::ZERO), Duration::ZERO);
        assert_eq!(remaining(second, second), Duration::ZERO);
        assert!(remaining(3 * second, second) > second);
    }
}
