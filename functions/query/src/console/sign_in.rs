//! Signing in and out.

use api_keys::Credentials;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use maud::{Markup, html};
use pipeline::ports::{KeyHash, Scope};
use serde::Deserialize;

use super::channel::{Channel, is_from_our_pages};
use super::desk::Desk;
use super::error::ConsoleError;
use super::layout::{bare_page, field, wrong};
use super::operator::SignedForm;

const HOME: &str = "/console";
const OPEN: &str =
    "this page came without TLS, and others could read your key: open it with https, or on this machine as localhost";

#[derive(Deserialize)]
pub(super) struct Destination {
    to: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct SignIn {
    key: String,
    to: Option<String>,
}

/// Where to go after signing in: a page of the console, never another site.
fn destination(to: Option<&str>) -> &str {
    let is_ours = |to: &&str| *to == HOME || to.starts_with("/console/") || to.starts_with("/console?");
    to.filter(is_ours).unwrap_or(HOME)
}

pub(super) async fn form(headers: HeaderMap, Query(Destination { to }): Query<Destination>) -> Response {
    let problem = (Channel::of(&headers) == Channel::Open).then(|| wrong(OPEN));
    bare_page(StatusCode::OK, "Sign in", &content(to.as_deref(), problem.as_ref()))
}

fn content(to: Option<&str>, problem: Option<&Markup>) -> Markup {
    let input = html! {
        input name="key" type="password" autocomplete="current-password" spellcheck="false" required autofocus
            aria-describedby="about-key";
    };
    html! {
        @if let Some(problem) = problem { (problem) }
        form class="sheet" method="post" action="/console/sign-in" {
            input type="hidden" name="to" value=(destination(to));
            (field("API key", &input))
            p id="about-key" class="hint" {
                "A key with the scope " code { "operate" } ". "
                code { "forebay keys create --scopes operate" } " makes one."
            }
            button { "Sign in" }
        }
    }
}

pub(super) async fn sign_in(
    State(Desk { app, console }): State<Desk>,
    headers: HeaderMap,
    Form(SignIn { key, to }): Form<SignIn>,
) -> Response {
    let channel = Channel::of(&headers);
    if !is_from_our_pages(&headers) {
        return ConsoleError::Forged.into_response();
    }
    if channel == Channel::Open {
        return bare_page(StatusCode::FORBIDDEN, "Sign in", &content(to.as_deref(), Some(&wrong(OPEN))));
    }
    let now = app.clock.now();
    let hash = KeyHash::of(key.trim().as_bytes());
    let key = match app.authenticator.authenticate(Credentials::of_hash(hash), Scope::Operate, now).await {
        Ok(key) => key,
        Err(error) => {
            let error = ConsoleError::from(error);
            return bare_page(error.status(), "Sign in", &content(to.as_deref(), Some(&error.told())));
        }
    };
    tracing::info!(key.name = key.name, "signed in to the console");
    let session = console.sessions.begin(hash, now);
    go_on(channel.set_cookie(&session, console.sessions.longest().as_secs()), destination(to.as_deref()))
}

pub(super) async fn sign_out(headers: HeaderMap, SignedForm(_, _): SignedForm) -> Response {
    go_on(Channel::of(&headers).set_cookie("", 0), "/console/sign-in")
}

fn go_on(cookie: Option<HeaderValue>, to: &str) -> Response {
    let (Some(cookie), Ok(to)) = (cookie, HeaderValue::try_from(to)) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    (StatusCode::SEE_OTHER, [(header::SET_COOKIE, cookie), (header::LOCATION, to)]).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_signing_in_one_comes_to_the_console_and_nowhere_else() {
        for to in ["/console", "/console?tenant=a", "/console/events?type=click"] {
            assert_eq!(destination(Some(to)), to);
        }
        for to in ["", "//evil.example", "/console.evil.example", "https://evil.example/console", "/events", "\\\\evil"]
        {
            assert_eq!(destination(Some(to)), HOME, "{to}");
        }
        assert_eq!(destination(None), HOME);
    }
}
