//! Who asks for a page: a request gets no further without a session, and a form no further without its token.

use std::sync::Arc;
use std::time::Duration;

use api_keys::Credentials;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use event::{TenantId, Timestamp};
use lambda::http::Deadline;
use maud::{Markup, html};
use percent_encoding::percent_decode_str;
use pipeline::ports::ApiKey;
use tokio::time::Instant;

use super::channel::{Channel, is_from_another_site, is_from_our_pages};
use super::desk::Desk;
use super::error::ConsoleError;
use super::functions::Asking;
use super::layout::{HTML, bare_page};
use crate::handler::ANSWER_RESERVE;
use crate::parameters::{self, Given};

/// Longest wait for another function. API Gateway waits 30 seconds for us.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where htmx leads the page that asked for a part of it.
const HX_REDIRECT: HeaderName = HeaderName::from_static("hx-redirect");
/// Characters of a key's name in the audit trail.
const MOST_OF_NAME: usize = 100;
/// Longest path that one comes back to after signing in, in bytes: a gateway bounds the header that has it.
const LONGEST_WAY_BACK: usize = 2_048;

/// What tells keys of one name apart, in the list of keys and in the audit trail.
pub(super) fn short(hash: &str) -> &str {
    hash.get(..8).unwrap_or(hash)
}

/// Somebody who is signed in.
pub(super) struct Operator {
    pub key: Arc<ApiKey>,
    pub now: Timestamp,
    /// When the page must be ready.
    deadline: Instant,
    csrf: String,
}

impl Operator {
    /// As the functions that make changes are asked.
    pub fn asking(&self) -> Asking {
        let ApiKey { hash, tenant, name, .. } = &*self.key;
        // Two keys may have one name, and the field has room for 256 characters.
        let name: String = name.chars().take(MOST_OF_NAME).collect();
        Asking { by: format!("console {name} ({tenant}, {})", short(&hash.to_string())), deadline: self.deadline }
    }

    /// The tenant of the field `tenant`, or the key's own.
    pub fn tenant(&self, given: &mut Given) -> Result<TenantId, ConsoleError> {
        Ok(given.tenant()?.unwrap_or_else(|| self.key.tenant.clone()))
    }

    /// What every form has.
    pub fn csrf_field(&self) -> Markup {
        html! { input type="hidden" name="csrf" value=(self.csrf); }
    }
}

impl FromRequestParts<Desk> for Operator {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<Self, Response> {
        let (operator, _) = admit(parts, desk).await?;
        Ok(operator)
    }
}

/// The operator, and whether a form's token is good.
async fn admit<'d>(parts: &Parts, desk: &'d Desk) -> Result<(Operator, impl Fn(&str) -> bool + use<'d>), Response> {
    let Desk { app, console } = desk;
    let now = app.clock.now();
    let mut texts = Channel::of(&parts.headers).session_texts(&parts.headers);
    let Some(session) = texts.find_map(|text| console.sessions.read(text, now)) else {
        return Err(to_sign_in(parts));
    };
    let key = match app.operators_key(Credentials::of_hash(session.hash), now).await {
        Ok(key) => key,
        Err(error) if error.is_about_key() => return Err(to_sign_in(parts)),
        Err(error) => return Err(ConsoleError::from(error).into_response()),
    };
    let deadline = Instant::now() + Deadline::at_most(parts.extensions.get::<Deadline>(), PATIENCE, ANSWER_RESERVE);
    let csrf = console.sessions.form_token(&session);
    let is_good = move |token: &str| console.sessions.is_form_token(&session, token);
    Ok((Operator { key, now, deadline, csrf }, is_good))
}

/// To the page for signing in, and back.
fn to_sign_in(Parts { method, uri, headers, .. }: &Parts) -> Response {
    let is_part = headers.contains_key("hx-request");
    let back = uri.path_and_query().map(PathAndQuery::as_str);
    // What was sent with a form is lost, and its path shows nothing.
    let back = back.filter(|back| method == Method::GET && back.len() <= LONGEST_WAY_BACK).unwrap_or("/console");
    // The browser keeps the cookie back when a link of another site leads here, and sends it when we lead here ourselves.
    if !is_part
        && is_from_another_site(headers)
        && let Ok(again) = HeaderValue::try_from(format!("0; url={back}"))
    {
        let content = html! { p { a href=(back) { "Go on" } } };
        let mut response = bare_page(StatusCode::OK, "One moment", &content);
        response.headers_mut().insert("refresh", again);
        return response;
    }
    let to = form_urlencoded::Serializer::new(String::new()).append_pair("to", back).finish();
    let to = if is_part { "/console/sign-in".to_owned() } else { format!("/console/sign-in?{to}") };
    let Ok(to) = HeaderValue::try_from(to) else { return StatusCode::BAD_REQUEST.into_response() };
    // A script that loads a part of a page must not get another page in its place, not even one that says what is wrong.
    if is_part {
        let headers = [(HX_REDIRECT, to), (header::CONTENT_TYPE, HeaderValue::from_static(HTML))];
        (StatusCode::UNAUTHORIZED, headers).into_response()
    } else {
        (StatusCode::SEE_OTHER, [(header::LOCATION, to)]).into_response()
    }
}

/// The fields of a form that one of our pages sent for this operator. Those that were left empty are not there.
pub(super) struct SignedForm(pub Operator, pub Given);

impl FromRequest<Desk> for SignedForm {
    type Rejection = Response;

    async fn from_request(request: Request, desk: &Desk) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        let (operator, is_good) = admit(&parts, desk).await?;
        let is_ours = is_from_our_pages(&parts.headers);
        let body = String::from_request(Request::from_parts(parts, body), desk).await;
        let body = body.map_err(|error| ConsoleError::Form(error.body_text()).into_response())?;
        // Other bytes would become replacement characters, and be kept as these.
        if percent_decode_str(&body).decode_utf8().is_err() {
            return Err(ConsoleError::Form("it is not UTF-8".to_owned()).into_response());
        }
        let fields = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        let mut given = Given(fields).filled_in();
        let token = given.take("csrf").map_err(|error| ConsoleError::from(error).into_response())?;
        if is_ours && token.is_some_and(|token| is_good(&token)) {
            Ok(SignedForm(operator, given))
        } else {
            Err(ConsoleError::Forged.into_response())
        }
    }
}

/// The parameters of a page. Those that were left empty are not there.
pub(super) fn given(uri: &Uri) -> Result<Given, ConsoleError> {
    Ok(Given(parameters::read(uri)?).filled_in())
}
