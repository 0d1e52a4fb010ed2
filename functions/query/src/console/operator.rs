//! Who asks for a page: a request gets no further without a session, and a form no further without its token.

use std::sync::Arc;
use std::time::Duration;

use api_keys::Credentials;
use axum::extract::{Form, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use event::{TenantId, Timestamp};
use lambda::http::Deadline;
use maud::{Markup, html};
use pipeline::ports::{ApiKey, Scope};

use super::channel::{Channel, is_from_our_pages};
use super::desk::Desk;
use super::error::ConsoleError;
use super::functions::Asking;
use super::layout::guard;
use crate::handler::ANSWER_RESERVE;
use crate::parameters::{self, Given};

/// Longest wait for another function. API Gateway waits 30 seconds for us.
const PATIENCE: Duration = Duration::from_secs(20);

/// Somebody who is signed in.
pub(super) struct Operator {
    pub key: Arc<ApiKey>,
    pub now: Timestamp,
    /// How long the answer may take.
    patience: Duration,
    csrf: String,
}

impl Operator {
    /// As the functions that make changes are asked.
    pub fn asking(&self) -> Asking {
        Asking { by: format!("console {}", self.key.name), patience: self.patience }
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
    let text = Channel::of(&parts.headers).session_text(&parts.headers);
    let Some(session) = text.and_then(|text| console.sessions.read(text, now)) else {
        return Err(to_sign_in(&parts.headers, &parts.uri));
    };
    let admitted = async {
        let credentials = Credentials::of_hash(session.hash);
        let key = app.authenticator.authenticate(credentials, Scope::Operate, now).await?;
        app.limiter.take(&key, 1, now).await?;
        Ok(key)
    };
    let key = match admitted.await {
        Ok(key) => key,
        Err(ConsoleError::Query(error)) if error.is_about_key() => return Err(to_sign_in(&parts.headers, &parts.uri)),
        Err(error) => return Err(error.into_response()),
    };
    let patience = Deadline::at_most(parts.extensions.get::<Deadline>(), PATIENCE, ANSWER_RESERVE);
    let csrf = console.sessions.form_token(&session);
    let is_good = move |token: &str| console.sessions.is_form_token(&session, token);
    Ok((Operator { key, now, patience, csrf }, is_good))
}

/// To the page for signing in, and back.
fn to_sign_in(headers: &HeaderMap, uri: &Uri) -> Response {
    let is_part = headers.contains_key("hx-request");
    let back = uri.path_and_query().map_or("/console", |path| path.as_str());
    let to = form_urlencoded::Serializer::new(String::new()).append_pair("to", back).finish();
    let to = if is_part { "/console/sign-in".to_owned() } else { format!("/console/sign-in?{to}") };
    let Ok(to) = HeaderValue::try_from(to) else { return StatusCode::BAD_REQUEST.into_response() };
    // A script that loads a part of a page must not get another page in its place.
    let mut response = if is_part {
        (StatusCode::UNAUTHORIZED, [("hx-redirect", to)]).into_response()
    } else {
        (StatusCode::SEE_OTHER, [(header::LOCATION, to)]).into_response()
    };
    guard(response.headers_mut());
    response
}

/// The fields of a form that one of our pages sent for this operator. Those that were left empty are not there.
pub(super) struct SignedForm(pub Operator, pub Given);

impl FromRequest<Desk> for SignedForm {
    type Rejection = Response;

    async fn from_request(request: Request, desk: &Desk) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        let (operator, is_good) = admit(&parts, desk).await?;
        let is_ours = is_from_our_pages(&parts.headers);
        let form = Form::<Vec<(String, String)>>::from_request(Request::from_parts(parts, body), desk).await;
        let Form(fields) = form.map_err(|error| ConsoleError::Form(error.body_text()).into_response())?;
        let mut given = Given(fields).without_blanks();
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
    Ok(Given(parameters::read(uri)?).without_blanks())
}
