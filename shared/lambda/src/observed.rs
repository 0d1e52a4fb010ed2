//! The metrics of invocations and requests.

use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use serde_json::value::RawValue;
use telemetry::list::{
    HTTP_REQUEST_DURATION, HTTP_REQUESTS, INVOCATION_ERRORS, INVOCATIONS, PROCESSING_DURATION, RATE_LIMITED,
};

use crate::invocation_error::InvocationError;
use crate::start::worked;

const OK: [&str; 1] = ["ok"];
const FAILED: [&str; 1] = ["failed"];
/// The label of requests that no route takes. Their paths are the client's.
const NO_ROUTE: &str = "none";

/// Makes the series of an event function visible.
pub(crate) fn begin_invocations() {
    INVOCATIONS.begin(OK);
    INVOCATIONS.begin(FAILED);
}

/// Counts an invocation by its result.
pub(crate) async fn invocation(
    handling: impl Future<Output = Result<Box<RawValue>, InvocationError>>,
) -> Result<Box<RawValue>, InvocationError> {
    let started = Instant::now();
    let result = handling.await;
    match &result {
        Ok(_) => {
            INVOCATIONS.add(1, OK);
            PROCESSING_DURATION.record(started.elapsed().as_secs_f64(), []);
        }
        Err(error) => failed(error.error_type),
    }
    worked(result.is_ok());
    result
}

/// Counts an invocation that did not end by itself.
pub(crate) fn timed_out(error_type: &str) {
    failed(error_type);
    worked(false);
}

fn failed(error_type: &str) {
    INVOCATIONS.add(1, FAILED);
    INVOCATION_ERRORS.add(1, [error_type]);
}

/// Counts the requests of an HTTP function.
pub(crate) fn requests(router: Router) -> Router {
    RATE_LIMITED.begin([]);
    router.layer(from_fn(request))
}

async fn request(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let status = response.status();
    let labels = [route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str), status.as_str()];
    HTTP_REQUESTS.add(1, labels);
    HTTP_REQUEST_DURATION.record(started.elapsed().as_secs_f64(), labels);
    if status == StatusCode::TOO_MANY_REQUESTS {
        RATE_LIMITED.add(1, []);
    }
    worked(!status.is_server_error());
    response
}
