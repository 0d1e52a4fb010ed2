//! The answer to an HTTP trigger.

use std::collections::BTreeMap;

use axum::body::to_bytes;
use axum::http::HeaderMap;
use axum::response::Response;
use base64_simd::STANDARD;
use pipeline::quota::MAX_PAYLOAD_BYTES;
use serde::Serialize;
use serde::ser::Error as _;
use serde_json::value::{RawValue, to_raw_value};

use crate::surroundings::AnswerLimit;

/// The format of the event and of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    RestApi,
    /// Payload format 2.0, which function URLs use, too.
    HttpApi,
    LoadBalancer,
}

impl Format {
    /// A load balancer takes 1 MB from a function, and Lambda itself 6 MB. The trigger gets the body as a JSON string.
    pub(super) const fn answer_limit(self) -> AnswerLimit {
        match self {
            Format::LoadBalancer => AnswerLimit(1_000_000 - AROUND_THE_BODY),
            Format::RestApi | Format::HttpApi => AnswerLimit(MAX_PAYLOAD_BYTES - AROUND_THE_BODY),
        }
    }
}

/// Room for status and headers, in bytes.
const AROUND_THE_BODY: usize = 10_000;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'r> {
    status_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<BTreeMap<&'r str, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multi_value_headers: Option<BTreeMap<&'r str, Vec<String>>>,
    body: String,
    is_base64_encoded: bool,
}

/// Writes `response` in the format of the trigger.
///
/// A load balancer reads `headers` or `multiValueHeaders`, depending on its target group, and wants the status as text,
/// too. The REST API would send what is in both twice.
pub(super) async fn write(format: Format, response: Response) -> Result<Box<RawValue>, serde_json::Error> {
    let (parts, body) = response.into_parts();
    // A body of ours is in memory, so reading it cannot fail.
    let body = to_bytes(body, usize::MAX).await.map_err(serde_json::Error::custom)?;
    let (body, is_base64_encoded) = match String::from_utf8(body.into()) {
        Ok(text) => (text, false),
        Err(error) => (STANDARD.encode_to_string(error.as_bytes()), true),
    };
    let status = parts.status;
    to_raw_value(&Answer {
        status_code: status.as_u16(),
        status_description: (format == Format::LoadBalancer)
            .then(|| format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default())),
        headers: (format != Format::RestApi).then(|| joined(&parts.headers)),
        multi_value_headers: (format != Format::HttpApi).then(|| listed(&parts.headers)),
        body,
        is_base64_encoded,
    })
}

fn listed(headers: &HeaderMap) -> BTreeMap<&str, Vec<String>> {
    let mut all: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        all.entry(name.as_str()).or_default().push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    all
}

/// Several values of a header are joined with commas (RFC 9110, section 5.3). No function sets cookies, which could
/// not.
fn joined(headers: &HeaderMap) -> BTreeMap<&str, String> {
    listed(headers).into_iter().map(|(name, values)| (name, values.join(", "))).collect()
}
