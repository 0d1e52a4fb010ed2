//! The answer to an HTTP trigger.

use axum::body::to_bytes;
use axum::http::HeaderMap;
use axum::http::header::{Entry, SET_COOKIE};
use axum::response::Response;
use lambda_http::Body;
use lambda_http::aws_lambda_events::alb::AlbTargetGroupResponse;
use lambda_http::aws_lambda_events::apigw::{ApiGatewayProxyResponse, ApiGatewayV2httpResponse};
use pipeline::quota::MAX_PAYLOAD_BYTES;
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

/// Writes `response` in the format of the trigger.
///
/// A load balancer reads `headers` or `multiValueHeaders`, depending on its target group, and wants the status as text,
/// too. The REST API would send what is in both twice.
pub(super) async fn write(format: Format, response: Response) -> Result<Box<RawValue>, serde_json::Error> {
    let (parts, body) = response.into_parts();
    // A body of ours is in memory, so reading it cannot fail.
    let body = to_bytes(body, usize::MAX).await.map_err(serde_json::Error::custom)?;
    let (body, is_base64_encoded) = match String::from_utf8(body.into()) {
        Ok(text) => (Some(Body::Text(text)), false),
        Err(error) => (Some(Body::Binary(error.into_bytes())), true),
    };
    let (status, mut headers) = (parts.status, parts.headers);
    let status_code = i64::from(status.as_u16());
    // The types may get more fields, so each answer is made from its default.
    match format {
        Format::RestApi => {
            let mut answer = ApiGatewayProxyResponse::default();
            (answer.status_code, answer.body, answer.is_base64_encoded) = (status_code, body, is_base64_encoded);
            (answer.headers, answer.multi_value_headers) = (HeaderMap::new(), headers);
            to_raw_value(&answer)
        }
        Format::HttpApi => {
            let mut answer = ApiGatewayV2httpResponse::default();
            (answer.status_code, answer.body, answer.is_base64_encoded) = (status_code, body, is_base64_encoded);
            // This format has cookies in a list of their own; of headers with one name it has only one.
            if let Entry::Occupied(cookies) = headers.entry(SET_COOKIE) {
                let (_, cookies) = cookies.remove_entry_mult();
                answer.cookies = cookies.filter_map(|cookie| Some(cookie.to_str().ok()?.to_owned())).collect();
            }
            answer.headers = headers;
            to_raw_value(&answer)
        }
        Format::LoadBalancer => {
            let mut answer = AlbTargetGroupResponse::default();
            (answer.status_code, answer.body, answer.is_base64_encoded) = (status_code, body, is_base64_encoded);
            answer.status_description =
                Some(format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default()));
            (answer.headers, answer.multi_value_headers) = (headers.clone(), headers);
            to_raw_value(&answer)
        }
    }
}
