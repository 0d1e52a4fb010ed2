//! Which page is where.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, header};
use axum::middleware::map_response;
use axum::response::{Redirect, Response};
use axum::routing::{any, get};
use maud::html;

use super::desk::Desk;
use super::layout::{HTML, bare_page, guard, wrong};
use super::{assets, audit, blocks, campaigns, dead_letters, events, keys, overview, sign_in, timeline};

/// Largest form, in bytes.
const MAX_FORM_BYTES: usize = 64 * 1024;

/// The pages. API Gateway passes on what begins with `/console`, with GET and POST.
pub(crate) fn routes(desk: Desk) -> Router {
    Router::new()
        .route("/console", get(overview::overview))
        .route("/console/", get(overview::overview))
        .route("/console/parts/flow", get(overview::flow))
        .route("/console/parts/lag", get(overview::lag))
        .route("/console/sign-in", get(sign_in::form).post(sign_in::sign_in))
        .route("/console/sign-out", get(async || Redirect::to("/console")).post(sign_in::sign_out))
        .route("/console/events", get(events::search))
        .route("/console/event", get(timeline::event))
        .route("/console/campaigns", get(campaigns::campaigns))
        .route("/console/dead-letters", get(dead_letters::list))
        .route(
            "/console/dead-letters/redrive",
            get(async || Redirect::to("/console/dead-letters")).post(dead_letters::redrive),
        )
        .route("/console/blocks", get(blocks::list).post(blocks::add))
        .route("/console/blocks/remove", get(async || Redirect::to("/console/blocks")).post(blocks::remove))
        .route("/console/keys", get(keys::list).post(keys::create))
        .route("/console/keys/rotate", get(async || Redirect::to("/console/keys")).post(keys::rotate))
        .route("/console/keys/revoke", get(async || Redirect::to("/console/keys")).post(keys::revoke))
        .route("/console/audit", get(audit::audit))
        .route("/console/assets/{name}", get(assets::asset))
        .route("/console/{*page}", any(async || no_such_page()))
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .layer(map_response(guarded))
        .with_state(desk)
}

fn no_such_page() -> Response {
    let content = html! { (wrong("there is no such page")) p { a href="/console" { "Back to the overview" } } };
    bare_page(StatusCode::NOT_FOUND, "Not Found", &content)
}

/// Every answer, with the headers that say what it may do.
async fn guarded(response: Response) -> Response {
    let mut response = shown(response);
    guard(response.headers_mut());
    response
}

/// What axum refuses by itself, as a page: a method, or a form that cannot be read.
fn shown(response: Response) -> Response {
    let status = response.status();
    let is_page = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == HTML);
    if is_page || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let reason = status.canonical_reason().unwrap_or("Error");
    tracing::info!(status = status.as_u16(), "console page refused");
    let content = html! { (wrong("this cannot be answered: load the page again, and repeat")) p { a href="/console" { "Back to the overview" } } };
    let mut page = bare_page(status, reason, &content);
    if let Some(allow) = response.headers().get(header::ALLOW) {
        page.headers_mut().insert(header::ALLOW, allow.clone());
    }
    page
}
