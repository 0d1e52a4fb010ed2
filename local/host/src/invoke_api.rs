//! The Invoke API (Lambda API Reference, "Invoke"), as far as callers of a local function need it, and a list of
//! functions for people.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::elsewhere::Elsewhere;
use crate::function::{FunctionMap, InvokeRefusal};
use crate::instance::{Call, InstanceView, InvocationResult};
use pipeline::quota::MAX_PAYLOAD_BYTES;

const FUNCTION_ERROR: HeaderName = HeaderName::from_static("x-amz-function-error");
const EXECUTED_VERSION: HeaderName = HeaderName::from_static("x-amz-executed-version");
const INVOCATION_TYPE: HeaderName = HeaderName::from_static("x-amz-invocation-type");
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");

pub(crate) fn router(functions: FunctionMap, elsewhere: Elsewhere) -> Router {
    Router::new()
        .route("/2015-03-31/functions/{function}/invocations", post(invoke))
        .with_state((Arc::clone(&functions), elsewhere))
        .merge(Router::new().route("/functions", get(list)).with_state(functions))
}

async fn invoke(
    State((functions, elsewhere)): State<(FunctionMap, Elsewhere)>,
    Path(identifier): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let name = function_name(&identifier);
    if let Some(function) = elsewhere.function(name) {
        let Ok(event) = event_of(body).await else { return too_large() };
        let url = function.url.clone();
        // In its own task, as below.
        let answer = tokio::spawn(async move { elsewhere.invoke(&function, headers, event).await }).await;
        return answer.unwrap_or_else(|panicked| Err(panicked.into())).unwrap_or_else(|error| {
            let message = format!("no answer from {url}, which runs {name}: {error}");
            refuse(StatusCode::INTERNAL_SERVER_ERROR, "ServiceException", &message)
        });
    }
    let Some(function) = functions.get(name) else {
        return refuse(
            StatusCode::NOT_FOUND,
            "ResourceNotFoundException",
            &format!("Function not found: {identifier}"),
        );
    };
    match headers.get(INVOCATION_TYPE).map_or(&b"RequestResponse"[..], HeaderValue::as_bytes) {
        b"RequestResponse" => {}
        b"DryRun" => return StatusCode::NO_CONTENT.into_response(),
        _ => {
            let message = "only the invocation types RequestResponse and DryRun are hosted";
            return refuse(StatusCode::BAD_REQUEST, "InvalidParameterValueException", message);
        }
    }
    let Ok(event) = event_of(body).await else { return too_large() };
    let call = Call {
        request_id: request_id(),
        event,
        trace_id: headers.get(TRACE_ID).and_then(|value| value.to_str().ok()).map(str::to_owned),
    };
    let request_id = call.request_id.clone();
    let function = Arc::clone(function);
    // In its own task: Lambda finishes a call even if its caller disconnects.
    let outcome = tokio::spawn(async move { function.invoke(call).await }).await;
    let mut response = match outcome {
        Ok(Ok(answer)) => answer_response(answer),
        Ok(Err(InvokeRefusal::Throttled)) => {
            refuse(StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException", "Rate Exceeded.")
        }
        Ok(Err(InvokeRefusal::Stopping)) => {
            refuse(StatusCode::INTERNAL_SERVER_ERROR, "ServiceException", "the function host is stopping")
        }
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "ServiceException", &error.to_string()),
    };
    if let Ok(request_id) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(REQUEST_ID, request_id);
    }
    response
}

/// The event of a call. A call without a payload gives the function an empty object.
async fn event_of(body: Body) -> Result<Bytes, axum::Error> {
    let event = to_bytes(body, MAX_PAYLOAD_BYTES).await?;
    Ok(if event.is_empty() { Bytes::from_static(b"{}") } else { event })
}

fn too_large() -> Response {
    let message = format!("Request must be smaller than {MAX_PAYLOAD_BYTES} bytes for the InvokeFunction operation");
    refuse(StatusCode::PAYLOAD_TOO_LARGE, "RequestTooLargeException", &message)
}

fn answer_response(answer: InvocationResult) -> Response {
    let (body, failed) = match answer {
        InvocationResult::Success(body) => (body, false),
        InvocationResult::FunctionError(body) => (body, true),
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(EXECUTED_VERSION, HeaderValue::from_static("$LATEST"));
    if failed {
        headers.insert(FUNCTION_ERROR, HeaderValue::from_static("Unhandled"));
    }
    response
}

fn refuse(status: StatusCode, error_type: &'static str, message: &str) -> Response {
    let body = Json(serde_json::json!({ "Type": "User", "Message": message }));
    (status, [(ERROR_TYPE, HeaderValue::from_static(error_type))], body).into_response()
}

/// Extracts the name from `name`, `name:alias`, `account:function:name` or a full ARN. All versions and aliases mean
/// the one program that is hosted.
fn function_name(identifier: &str) -> &str {
    let after_function = identifier
        .split_once(":function:")
        .or_else(|| identifier.split_once("function:").filter(|(before, _)| before.is_empty()))
        .map_or(identifier, |(_, name)| name);
    after_function.split_once(':').map_or(after_function, |(name, _)| name)
}

/// A random (version 4) UUID, the form of Lambda's request ids.
fn request_id() -> String {
    let bits = fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[derive(Serialize)]
struct FunctionView {
    name: String,
    arn: String,
    program: String,
    concurrency: usize,
    timeout_ms: u128,
    instances: Vec<InstanceView>,
}

async fn list(State(functions): State<FunctionMap>) -> Json<Vec<FunctionView>> {
    let views = functions.values().map(|function| FunctionView {
        name: function.config.name.clone(),
        arn: function.arn.clone(),
        program: function.config.program.display().to_string(),
        concurrency: function.config.concurrency,
        timeout_ms: function.config.timeout.as_millis(),
        instances: function.instances(),
    });
    Json(views.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_identifier_names_the_function() {
        for identifier in [
            "processor",
            "processor:live",
            "000000000000:function:processor",
            "function:processor:7",
            "arn:aws:lambda:us-east-1:000000000000:function:processor",
            "arn:aws:lambda:us-east-1:000000000000:function:processor:$LATEST",
        ] {
            assert_eq!(function_name(identifier), "processor", "{identifier}");
        }
    }

    #[test]
    fn request_ids_are_version_4_uuids() {
        let id = request_id();
        let groups: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12]);
        assert_eq!(&id[14..15], "4");
        assert!("89ab".contains(&id[19..20]), "{id}");
    }
}
