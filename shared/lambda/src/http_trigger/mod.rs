//! The event of an HTTP trigger as a request, and the answer to it.
//!
//! | trigger | recognised by | path | query string |
//! |---|---|---|---|
//! | REST API, and HTTP API with payload format 1.0 | `httpMethod` | `path` | `multiValueQueryStringParameters`, else `queryStringParameters`, decoded |
//! | HTTP API with payload format 2.0, function URL | `requestContext.http` | `rawPath` | `rawQueryString` |
//! | Application Load Balancer | `requestContext.elb` | `path` | the same as REST API, still encoded |
//!
//! The function's own path is what is behind the stage and the base path of a custom domain (`path.rs`). API Gateway puts
//! the stage into `rawPath`, also behind a custom domain, and into the `path` of an HTTP API with format 1.0; a REST API does
//! not. The `path` of both has the base path of a custom domain. The route's template (`resource`, `routeKey`) tells what
//! is in front of it.
//!
//! Of `lambda_http`, the answers are used and the requests are not: it builds a URL from `Host`, `X-Forwarded-Proto` and
//! the path, and panics if they do not make one, or if the body is not the base64 that the event says it is. All of these
//! come from the client. It also puts the stage of a REST API into the path.

mod answer;
mod path;

use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::header::{COOKIE, HeaderName};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use axum::response::Response;
use base64_simd::STANDARD;
use event::JsonStr;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use strum::VariantArray;
use tower::ServiceExt as _;

use self::answer::Format;
use self::path::Route;
use crate::problem::{Problem, problem_response};
use crate::surroundings::{Deadline, Peer};

/// Longest path with its query string, in bytes. `http` keeps their positions in 16 bits.
const MAX_URI_BYTES: usize = 65_534;

/// The invocation's event is not the event of an HTTP trigger. No client can cause this.
#[derive(Debug, thiserror::Error)]
pub enum NotHttpError {
    #[error("{EXPECTED}; {}", at(.0))]
    Malformed(String),
    #[error("{EXPECTED}; it has neither requestContext.http nor httpMethod with a requestContext")]
    Unknown,
    /// Our own failure; the target is memory.
    #[error("cannot write the answer")]
    Answer(#[from] serde_json::Error),
}

const EXPECTED: &str = "the event is not an HTTP request: expected the event of an API Gateway (REST API or HTTP API), \
                        a function URL or an Application Load Balancer";

fn at(path: &str) -> String {
    if path == "." { "it is not a JSON object".to_owned() } else { format!("its member {path} has another type") }
}

impl NotHttpError {
    /// Short name of the cause, from a fixed list, for Lambda's `errorType`.
    pub const fn tag(&self) -> &'static str {
        match self {
            NotHttpError::Malformed(_) | NotHttpError::Unknown => "not-an-http-request",
            NotHttpError::Answer(_) => "answer",
        }
    }
}

/// Why a request is refused before the function sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, VariantArray)]
pub(crate) enum Refusal {
    #[error("the body is not the base64 that the gateway says it is")]
    Base64,
    #[error("the path with its query string has more than {MAX_URI_BYTES} bytes")]
    UriTooLong,
    #[error("the path or the query string cannot be read")]
    Uri,
    #[error("the method cannot be read")]
    Method,
    #[error(
        "a header cannot be read: its name has a character that no name may have, or its value a control character"
    )]
    Header,
}

impl Refusal {
    pub(crate) const fn status_and_tag(self) -> (StatusCode, &'static str) {
        match self {
            Refusal::Base64 => (StatusCode::BAD_REQUEST, "undecodable_body"),
            Refusal::UriTooLong => (StatusCode::URI_TOO_LONG, "uri_too_long"),
            Refusal::Uri => (StatusCode::BAD_REQUEST, "bad_uri"),
            Refusal::Method => (StatusCode::BAD_REQUEST, "bad_method"),
            Refusal::Header => (StatusCode::BAD_REQUEST, "bad_header"),
        }
    }

    fn response(self) -> Response {
        let (status, tag) = self.status_and_tag();
        tracing::info!(tag, status = status.as_u16(), "request refused");
        problem_response(status, &Problem::new(status, tag, self.to_string()))
    }
}

type Values<'a, V> = BTreeMap<JsonStr<'a>, Option<V>>;

/// The members of the three formats that are used.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(borrow)]
    version: Option<JsonStr<'a>>,
    #[serde(borrow)]
    http_method: Option<JsonStr<'a>>,
    /// The template of the path, such as `/events/{id}`: in format 1.0.
    #[serde(borrow)]
    resource: Option<JsonStr<'a>>,
    /// Method and template, or `$default`: in format 2.0.
    #[serde(borrow)]
    route_key: Option<JsonStr<'a>>,
    #[serde(borrow)]
    path_parameters: Option<Values<'a, JsonStr<'a>>>,
    #[serde(borrow)]
    path: Option<JsonStr<'a>>,
    #[serde(borrow)]
    raw_path: Option<JsonStr<'a>>,
    #[serde(borrow)]
    raw_query_string: Option<JsonStr<'a>>,
    #[serde(borrow)]
    query_string_parameters: Option<Values<'a, JsonStr<'a>>>,
    #[serde(borrow)]
    multi_value_query_string_parameters: Option<Values<'a, Vec<JsonStr<'a>>>>,
    #[serde(borrow)]
    headers: Option<Values<'a, JsonStr<'a>>>,
    #[serde(borrow)]
    multi_value_headers: Option<Values<'a, Vec<JsonStr<'a>>>>,
    #[serde(borrow)]
    cookies: Option<Vec<JsonStr<'a>>>,
    #[serde(borrow)]
    body: Option<JsonStr<'a>>,
    is_base64_encoded: Option<bool>,
    #[serde(borrow)]
    request_context: Option<Context<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Context<'a> {
    #[serde(borrow)]
    stage: Option<JsonStr<'a>>,
    #[serde(borrow)]
    http: Option<HttpContext<'a>>,
    #[serde(borrow)]
    identity: Option<Identity<'a>>,
    elb: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpContext<'a> {
    #[serde(borrow)]
    method: JsonStr<'a>,
    #[serde(borrow)]
    source_ip: Option<JsonStr<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity<'a> {
    #[serde(borrow)]
    source_ip: Option<JsonStr<'a>>,
}

/// The answer of `router` to the event of an HTTP trigger, in the trigger's format. A request that cannot be read is
/// answered here, with a problem document.
///
/// # Errors
/// [`NotHttpError`] if the event is not that of an HTTP trigger.
pub async fn answer(router: Router, event: &str, deadline: Option<Deadline>) -> Result<Box<RawValue>, NotHttpError> {
    let event: Event<'_> = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(event))
        .map_err(|error| NotHttpError::Malformed(error.path().to_string()))?;
    let Trigger { format, method, peer } = Trigger::of(&event).ok_or(NotHttpError::Unknown)?;
    let response = match request(event, format, &method.0) {
        Ok(mut request) => {
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(format.answer_limit());
            if let Some(deadline) = deadline {
                request.extensions_mut().insert(deadline);
            }
            // A router cannot fail.
            router.oneshot(request).await.unwrap_or_else(|never| match never {})
        }
        Err(refusal) => refusal.response(),
    };
    Ok(answer::write(format, response).await?)
}

struct Trigger<'a> {
    format: Format,
    method: JsonStr<'a>,
    peer: Peer,
}

impl<'a> Trigger<'a> {
    fn of(event: &Event<'a>) -> Option<Self> {
        let context = event.request_context.as_ref()?;
        let gateway = |address: Option<&JsonStr<'_>>| {
            address.and_then(|JsonStr(text)| text.parse::<IpAddr>().ok()).map_or(Peer::Unknown, Peer::Gateway)
        };
        let trigger = |format, method: &JsonStr<'a>, peer| Trigger { format, method: JsonStr(method.0.clone()), peer };
        Some(match (&context.elb, &context.http, &event.http_method) {
            (Some(IgnoredAny), _, Some(method)) => trigger(Format::LoadBalancer, method, Peer::LoadBalancer),
            (_, Some(http), _) => trigger(Format::HttpApi, &http.method, gateway(http.source_ip.as_ref())),
            (None, None, Some(method)) => {
                let address = context.identity.as_ref().and_then(|identity| identity.source_ip.as_ref());
                trigger(Format::RestApi, method, gateway(address))
            }
            (_, None, None) => return None,
        })
    }
}

fn request(event: Event<'_>, format: Format, method: &str) -> Result<Request<Body>, Refusal> {
    let uri = uri(&event, format)?;
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Refusal::Method)?;
    let headers = headers(&event)?;
    let body = match event.body {
        Some(JsonStr(text)) if event.is_base64_encoded == Some(true) => {
            STANDARD.decode_to_vec(text.as_bytes()).map_err(|_| Refusal::Base64)?.into()
        }
        Some(JsonStr(text)) => Bytes::from(text.into_owned()),
        None => Bytes::new(),
    };
    let mut request = Request::new(Body::from(body));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

fn headers(event: &Event<'_>) -> Result<HeaderMap, Refusal> {
    let name = |JsonStr(name): &JsonStr<'_>| HeaderName::from_bytes(name.as_bytes()).map_err(|_| Refusal::Header);
    let value = |JsonStr(value): &JsonStr<'_>| HeaderValue::from_bytes(value.as_bytes()).map_err(|_| Refusal::Header);
    let mut headers = HeaderMap::new();
    // An event has both in REST APIs, and then `headers` repeats the last value of each.
    match (&event.multi_value_headers, &event.headers) {
        (Some(all), _) if !all.is_empty() => {
            for (key, values) in all {
                for text in values.iter().flatten() {
                    headers.append(name(key)?, value(text)?);
                }
            }
        }
        (_, single) => {
            for (key, text) in single.iter().flatten() {
                if let Some(text) = text {
                    headers.append(name(key)?, value(text)?);
                }
            }
        }
    }
    for cookie in event.cookies.iter().flatten() {
        headers.append(COOKIE, value(cookie)?);
    }
    Ok(headers)
}

fn uri(event: &Event<'_>, format: Format) -> Result<Uri, Refusal> {
    let path = match format {
        Format::HttpApi => &event.raw_path,
        Format::RestApi | Format::LoadBalancer => &event.path,
    };
    let path = path.as_ref().map_or("", |JsonStr(path)| path);
    let parameter = |name: &str| {
        let mut parameters = event.path_parameters.iter().flatten();
        let (_, value) = parameters.find(|(JsonStr(key), _)| key == name)?;
        value.as_ref().map(|JsonStr(value)| value.clone().into_owned())
    };
    let mut uri = path::encoded(path::own(path, route(event, format), parameter));
    match format {
        Format::HttpApi => path::append_raw_query(&mut uri, event.raw_query_string.as_ref().map_or("", |text| &text.0)),
        Format::RestApi | Format::LoadBalancer => {
            let is_encoded = format == Format::LoadBalancer;
            for (JsonStr(name), value) in pairs(event) {
                path::append_parameter(&mut uri, name, value, is_encoded);
            }
        }
    }
    if uri.len() > MAX_URI_BYTES {
        return Err(Refusal::UriTooLong);
    }
    PathAndQuery::try_from(uri).map(Uri::from).map_err(|_| Refusal::Uri)
}

fn route<'e>(event: &'e Event<'_>, format: Format) -> Route<'e> {
    let text = |text: &'e Option<JsonStr<'_>>| text.as_ref().map(|JsonStr(text)| text.as_ref());
    let stage = event.request_context.as_ref().and_then(|context| text(&context.stage));
    let (template, has_stage) = match format {
        Format::HttpApi => {
            (text(&event.route_key).and_then(|key| key.split_once(' ')).map(|(_, template)| template), true)
        }
        Format::RestApi => (text(&event.resource), text(&event.version) == Some("1.0")),
        Format::LoadBalancer => (None, false),
    };
    Route {
        template: template.filter(|template| template.starts_with('/')),
        stage: stage.filter(|stage| has_stage && !stage.is_empty() && *stage != "$default"),
    }
}

/// The query string's parameters, with all their values if the trigger gives all.
fn pairs<'e, 'a>(event: &'e Event<'a>) -> impl Iterator<Item = (&'e JsonStr<'a>, &'e str)> {
    let all = event.multi_value_query_string_parameters.as_ref().filter(|all| !all.is_empty());
    let single = event.query_string_parameters.as_ref().filter(|_| all.is_none());
    let all = all
        .into_iter()
        .flatten()
        .flat_map(|(name, values)| values.iter().flatten().map(move |JsonStr(value)| (name, value.as_ref())));
    let single = single.into_iter().flatten();
    all.chain(single.filter_map(|(name, value)| value.as_ref().map(|JsonStr(value)| (name, value.as_ref()))))
}
