//! The Runtime API (Lambda Developer Guide, "Using the Lambda runtime API for custom runtimes"). Each instance has its
//! own path, which identifies it; on Lambda the sandbox does that.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::function::{Function, FunctionMap};
use crate::instance::{InvocationResult, MAX_PAYLOAD_BYTES, RUNTIME_API_PREFIX, SharedInstance};

const REQUEST_ID: HeaderName = HeaderName::from_static("lambda-runtime-aws-request-id");
const DEADLINE: HeaderName = HeaderName::from_static("lambda-runtime-deadline-ms");
const FUNCTION_ARN: HeaderName = HeaderName::from_static("lambda-runtime-invoked-function-arn");
const TRACE_ID: HeaderName = HeaderName::from_static("lambda-runtime-trace-id");

pub(crate) fn router(functions: FunctionMap) -> Router {
    let api = Router::new()
        .route("/invocation/next", get(next))
        .route("/invocation/{request_id}/response", post(response))
        .route("/invocation/{request_id}/error", post(error))
        .route("/init/error", post(init_error))
        .with_state(functions);
    Router::new().nest(&format!("{RUNTIME_API_PREFIX}/{{function}}/{{instance}}/2018-06-01/runtime"), api)
}

fn find(functions: &FunctionMap, function: &str, instance: u64) -> Result<(Arc<Function>, SharedInstance), StatusCode> {
    let function = functions.get(function).ok_or(StatusCode::NOT_FOUND)?;
    let instance = function.instance(instance).ok_or(StatusCode::NOT_FOUND)?;
    Ok((Arc::clone(function), instance))
}

async fn next(
    State(functions): State<FunctionMap>,
    Path((function, instance)): Path<(String, u64)>,
) -> Result<Response, StatusCode> {
    let (function, instance) = find(&functions, &function, instance)?;
    let arn = function.arn.clone();
    // Not held during the wait: otherwise the host would never be dropped.
    drop(function);
    let delivery = instance.next().await.ok_or(StatusCode::GONE)?;
    let text = |text: &str| HeaderValue::from_str(text).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = delivery.call.event.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(REQUEST_ID, text(&delivery.call.request_id)?);
    headers.insert(DEADLINE, HeaderValue::from(delivery.deadline_ms));
    headers.insert(FUNCTION_ARN, text(&arn)?);
    if let Some(trace_id) = delivery.call.trace_id {
        headers.insert(TRACE_ID, text(&trace_id)?);
    }
    Ok(response)
}

async fn response(
    State(functions): State<FunctionMap>,
    Path((function, instance, request_id)): Path<(String, u64, String)>,
    body: Body,
) -> Result<StatusCode, StatusCode> {
    let (_, instance) = find(&functions, &function, instance)?;
    match to_bytes(body, MAX_PAYLOAD_BYTES).await {
        Ok(body) => accept(&instance, &request_id, InvocationResult::Success(body)),
        Err(_) => {
            let message = format!("the response exceeds the limit of {MAX_PAYLOAD_BYTES} bytes");
            let answer = InvocationResult::function_error("Function.ResponseSizeTooLarge", &message);
            accept(&instance, &request_id, answer).and(Err(StatusCode::PAYLOAD_TOO_LARGE))
        }
    }
}

async fn error(
    State(functions): State<FunctionMap>,
    Path((function, instance, request_id)): Path<(String, u64, String)>,
    body: Body,
) -> Result<StatusCode, StatusCode> {
    let (_, instance) = find(&functions, &function, instance)?;
    let report = to_bytes(body, MAX_PAYLOAD_BYTES).await.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?;
    accept(&instance, &request_id, InvocationResult::FunctionError(report))
}

async fn init_error(
    State(functions): State<FunctionMap>,
    Path((function, instance)): Path<(String, u64)>,
    body: Body,
) -> Result<StatusCode, StatusCode> {
    let (_, instance) = find(&functions, &function, instance)?;
    let report = to_bytes(body, MAX_PAYLOAD_BYTES).await.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?;
    instance.fail_init(report);
    Ok(StatusCode::ACCEPTED)
}

fn accept(instance: &SharedInstance, request_id: &str, answer: InvocationResult) -> Result<StatusCode, StatusCode> {
    if instance.answer(request_id, answer) { Ok(StatusCode::ACCEPTED) } else { Err(StatusCode::BAD_REQUEST) }
}
