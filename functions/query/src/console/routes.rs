//! Which page is where.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use maud::html;

use super::desk::Desk;
use super::layout::{bare_page, wrong};
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
        .route("/console/sign-out", post(sign_in::sign_out))
        .route("/console/events", get(events::search))
        .route("/console/event", get(timeline::event))
        .route("/console/campaigns", get(campaigns::campaigns))
        .route("/console/dead-letters", get(dead_letters::list))
        .route("/console/dead-letters/redrive", post(dead_letters::redrive))
        .route("/console/blocks", get(blocks::list).post(blocks::add))
        .route("/console/blocks/remove", post(blocks::remove))
        .route("/console/keys", get(keys::list).post(keys::create))
        .route("/console/keys/rotate", post(keys::rotate))
        .route("/console/keys/revoke", post(keys::revoke))
        .route("/console/audit", get(audit::audit))
        .route("/console/assets/{name}", get(assets::asset))
        .route("/console/{*page}", get(async || no_such_page()))
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .with_state(desk)
}

fn no_such_page() -> Response {
    let content = html! { (wrong("there is no such page")) p { a href="/console" { "Back to the overview" } } };
    bare_page(StatusCode::NOT_FOUND, "Not Found", &content)
}
