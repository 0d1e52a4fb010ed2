//! Serving an event function: on Lambda, or as the Lambda Invoke API over plain HTTP.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use event::Timestamp;
use lambda_runtime::layers::TracingLayer;
use lambda_runtime::{Diagnostic, LambdaEvent, Runtime, service_fn};
use pipeline::chain;
use pipeline::clock::{Clock, SystemClock};
use serde_json::value::RawValue;

use crate::shutdown;
use settings::{ProcessEnvironment, Settings, SettingsError, Variables};

/// Lambda's limit on a synchronous request and answer, in bytes (AWS Lambda quotas).
pub const MAX_PAYLOAD_BYTES: usize = 6 * 1024 * 1024;

/// What a handler knows of its invocation besides the event.
#[derive(Clone, Debug)]
pub struct Invocation {
    pub request_id: String,
    /// When the platform will stop the function.
    pub deadline: Instant,
}

impl Invocation {
    /// Time left, kept short of the deadline by `reserve` so that an answer can still be sent.
    pub fn remaining(&self, reserve: Duration) -> Duration {
        self.deadline.saturating_duration_since(Instant::now()).saturating_sub(reserve)
    }
}

/// An invocation that failed as a whole; the platform will send the event again.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct InvocationError {
    /// Bounded name of the cause, reported as Lambda's `errorType`.
    pub error_type: &'static str,
    /// The whole chain of causes, without payloads.
    pub message: String,
}

impl InvocationError {
    /// Joins an error and its sources: `a: b: c`.
    pub fn new(error_type: &'static str, error: &(dyn std::error::Error + 'static)) -> Self {
        InvocationError { error_type, message: chain(error) }
    }
}

/// Why a function could not start or keep serving.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("cannot listen on {address} (settings HTTP_BIND and PORT)")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("the HTTP server stopped")]
    Http(#[source] std::io::Error),
    #[error("the Lambda runtime stopped")]
    Lambda(#[source] lambda_runtime::Error),
}

/// Where the process runs.
pub(crate) enum Platform {
    Lambda,
    Http { address: SocketAddr, timeout: Duration },
}

impl Platform {
    /// Lambda if its Runtime API is announced, else HTTP on `HTTP_BIND`:`PORT`.
    pub(crate) fn detect(variables: &dyn Variables) -> Result<Self, SettingsError> {
        if variables.get("AWS_LAMBDA_RUNTIME_API").is_some() {
            return Ok(Platform::Lambda);
        }
        let mut settings = Settings::new(variables);
        let port = settings.required::<u16>("PORT");
        // Loopback unless told otherwise: a laptop must not offer its pipeline to the network.
        let bind = settings.or("HTTP_BIND", IpAddr::V4(Ipv4Addr::LOCALHOST));
        let timeout = Duration::from_secs(settings.or("FUNCTION_TIMEOUT_SEC", 60));
        settings.build(port.map(|port| Platform::Http { address: SocketAddr::new(bind, port), timeout }))
    }
}

/// Time assumed to be left when the platform's deadline cannot be true.
const FALLBACK_BUDGET: Duration = Duration::from_secs(30);
/// Time assumed to be left when a call's deadline is past before the call began.
const OVERDUE_BUDGET: Duration = Duration::from_secs(5);
/// Lambda's longest timeout.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Turns Lambda's deadline (milliseconds since the epoch) into a monotonic instant.
///
/// cargo-lambda announces 600,000 ms, i.e. ten minutes past the epoch; a deadline that far off says nothing, so a
/// fixed budget is assumed. One that has just passed means that our clock is ahead of the platform's, because a call is
/// handed out with its whole timeout before it: taken at its word, no call would do anything until the clock is set. If
/// it is true after all, the platform ends the call, which every handler survives.
pub(crate) fn deadline_instant(deadline_ms: u64, now: Timestamp, instant: Instant) -> Instant {
    let deadline = Timestamp::from_millis(i64::try_from(deadline_ms).unwrap_or(i64::MAX));
    let left = deadline.since(now);
    let overdue = now.since(deadline);
    if left > LONGEST_TIMEOUT || overdue > LONGEST_TIMEOUT {
        instant + FALLBACK_BUDGET
    } else if left.is_zero() {
        instant + OVERDUE_BUDGET
    } else {
        instant + left
    }
}

/// Serves `handler` until the process is told to stop, and what is under way then is finished (see [`crate::shutdown`]).
///
/// The handler gets the event's JSON text and returns the answer's JSON text. Outside Lambda the function answers
/// `POST /2015-03-31/functions/<name>/invocations` as AWS does (200 with `X-Amz-Function-Error` on failure), plus
/// `GET /healthz` and `GET /metrics`.
///
/// # Errors
/// [`ServeError`] if the settings are bad or the port is taken.
pub async fn serve<H, F>(name: &'static str, handler: H) -> Result<(), ServeError>
where
    H: Fn(Box<RawValue>, Invocation) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Box<RawValue>, InvocationError>> + Send + 'static,
{
    match Platform::detect(&ProcessEnvironment)? {
        Platform::Lambda => {
            let handler = &handler;
            let service = service_fn(move |event: LambdaEvent<Box<RawValue>>| async move {
                let deadline = deadline_instant(event.context.deadline, SystemClock.now(), Instant::now());
                let invocation = Invocation { request_id: event.context.request_id, deadline };
                handler(event.payload, invocation).await.map_err(|error| {
                    tracing::error!(error_type = error.error_type, error = %error.message, "invocation failed");
                    Diagnostic { error_type: error.error_type.to_owned(), error_message: error.message }
                })
            });
            let runtime = Runtime::new(service).layer(TracingLayer::new());
            shutdown::run(runtime).await.map_err(ServeError::Lambda)
        }
        Platform::Http { address, timeout } => {
            let router = invoke_router(name, timeout, Arc::new(handler));
            crate::http::serve_plain(address, router).await
        }
    }
}

struct InvokeState<H> {
    name: &'static str,
    timeout: Duration,
    handler: Arc<H>,
    next_id: std::sync::atomic::AtomicU64,
}

fn invoke_router<H, F>(name: &'static str, timeout: Duration, handler: Arc<H>) -> Router
where
    H: Fn(Box<RawValue>, Invocation) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Box<RawValue>, InvocationError>> + Send + 'static,
{
    let state = InvokeState { name, timeout, handler, next_id: std::sync::atomic::AtomicU64::new(1) };
    Router::new()
        .route("/2015-03-31/functions/{function}/invocations", post(invoke::<H, F>))
        .layer(DefaultBodyLimit::max(MAX_PAYLOAD_BYTES))
        .with_state(Arc::new(state))
}

async fn invoke<H, F>(State(state): State<Arc<InvokeState<H>>>, body: Bytes) -> Response
where
    H: Fn(Box<RawValue>, Invocation) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Box<RawValue>, InvocationError>> + Send + 'static,
{
    let event = match serde_json::from_slice::<Box<RawValue>>(&body) {
        Ok(event) => event,
        Err(error) => {
            let body = error_body("InvalidRequestContentException", &format!("the event is not JSON: {error}"));
            return (StatusCode::BAD_REQUEST, [(header::CONTENT_TYPE, "application/json")], body).into_response();
        }
    };
    let number = state.next_id.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let invocation =
        Invocation { request_id: format!("{}-{number}", state.name), deadline: Instant::now() + state.timeout };
    match tokio::time::timeout(state.timeout, (state.handler)(event, invocation)).await {
        Ok(Ok(answer)) => ([(header::CONTENT_TYPE, "application/json")], answer.get().to_owned()).into_response(),
        Ok(Err(error)) => {
            tracing::error!(error_type = error.error_type, error = %error.message, "invocation failed");
            function_error(error.error_type, &error.message)
        }
        Err(_) => function_error("Sandbox.Timedout", &format!("timed out after {} s", state.timeout.as_secs())),
    }
}

fn function_error(error_type: &str, message: &str) -> Response {
    const FUNCTION_ERROR: HeaderName = HeaderName::from_static("x-amz-function-error");
    let headers = [(header::CONTENT_TYPE, "application/json"), (FUNCTION_ERROR, "Unhandled")];
    (headers, error_body(error_type, message)).into_response()
}

fn error_body(error_type: &str, message: &str) -> String {
    serde_json::json!({ "errorType": error_type, "errorMessage": message }).to_string()
}

/// Liveness and metrics, added to every HTTP server.
pub(crate) fn operations_router() -> Router {
    let metrics = crate::metrics::install();
    Router::new().route("/healthz", get(|| async { "ok" })).route(
        "/metrics",
        get(move || {
            let text = metrics.as_ref().map(metrics_exporter_prometheus::PrometheusHandle::render).unwrap_or_default();
            async move { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text) }
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_honoured_if_it_can_be_true() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let instant = Instant::now();
        let left = |deadline: u64| deadline_instant(deadline, now, instant) - instant;
        assert_eq!(left(1_700_000_005_000), Duration::from_secs(5));
        assert_eq!(left(1_699_999_999_000), OVERDUE_BUDGET, "just passed");
        assert_eq!(left(600_000), FALLBACK_BUDGET, "cargo-lambda");
        assert_eq!(left(u64::MAX), FALLBACK_BUDGET);
        assert_eq!(left(0), FALLBACK_BUDGET);
        assert_eq!(left(1_700_000_000_000), OVERDUE_BUDGET, "right now");
    }

    #[test]
    fn a_clock_that_jumps_neither_stops_the_function_nor_gives_it_hours() {
        let (hour, instant) = (Duration::from_secs(3600), Instant::now());
        let now = Timestamp::from_millis(1_700_000_000_000);
        let deadline = 1_700_000_060_000;
        assert_eq!(deadline_instant(deadline, now.plus(hour), instant) - instant, FALLBACK_BUDGET);
        let back = Timestamp::from_millis(now.as_millis() - 3_600_000);
        assert_eq!(deadline_instant(deadline, back, instant) - instant, FALLBACK_BUDGET);
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
