//! The description of the HTTP interfaces of ingest and query, as it is served (ADR 40).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

/// `make openapi` writes it, so nothing has to be made of it when an instance starts.
static DOCUMENT: &[u8] = include_bytes!("../../../docs/openapi.json");

/// Served without an API key: it is no secret, and tools that read it have none.
pub(crate) async fn document() -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        // It changes with a deployment only.
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
    ];
    (StatusCode::OK, headers, DOCUMENT).into_response()
}
