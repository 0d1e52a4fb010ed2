//! Problem documents (RFC 9457), and JSON answers in general.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use pipeline::DependencyError;
use serde::Serialize;
use utoipa::ToSchema;

/// A problem document (RFC 9457), possibly with more members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// `urn:forebay:problem:<tag>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The name of the status.
    pub title: &'static str,
    pub status: u16,
    /// What is wrong, for a person. Its words may change.
    pub detail: String,
}

/// The type of a problem.
pub(crate) fn urn(tag: &str) -> String {
    format!("urn:forebay:problem:{tag}")
}

impl Problem {
    /// `tag` is the short name of the cause, from a fixed list; `detail` explains it to a person.
    pub fn new(status: StatusCode, tag: &str, detail: impl Into<String>) -> Self {
        Problem {
            kind: urn(tag),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
        }
    }
}

/// An answer with a JSON body.
pub fn json_response(status: StatusCode, body: &impl Serialize) -> Response {
    response(status, "application/json", body)
}

/// An answer whose body is a problem document, possibly with more members.
pub fn problem_response(status: StatusCode, body: &impl Serialize) -> Response {
    response(status, "application/problem+json", body)
}

fn response(status: StatusCode, media_type: &'static str, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => (status, [(header::CONTENT_TYPE, media_type)], body).into_response(),
        // Cannot happen with these types. If it did, the answer must not be a success.
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The value of `Retry-After`: whole seconds, rounded up, because a client that comes back a moment too early is
/// refused again.
pub fn retry_after(wait: Duration) -> HeaderValue {
    HeaderValue::from(u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u64::MAX))
}

/// When a client should retry after a dependency failed: when its breaker may let a call through, else in 2 s.
pub fn retry_after_failure(error: Option<&DependencyError>) -> Duration {
    match error.and_then(DependencyError::open_breaker) {
        Some(open) => open.probe_in.max(Duration::from_secs(1)),
        None => Duration::from_secs(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_its_type_and_repeats_its_status() {
        let problem = Problem::new(StatusCode::NOT_FOUND, "no_such_path", "there is nothing");
        assert_eq!(
            serde_json::to_string(&problem).unwrap(),
            r#"{"type":"urn:forebay:problem:no_such_path","title":"Not Found","status":404,"detail":"there is nothing"}"#
        );
        let response = problem_response(StatusCode::NOT_FOUND, &problem);
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }

    #[test]
    fn waits_are_rounded_up_to_seconds() {
        for (millis, seconds) in [(0, "0"), (1, "1"), (1000, "1"), (1001, "2")] {
            assert_eq!(retry_after(Duration::from_millis(millis)), seconds);
        }
    }
}
