//! Pages for operators: what happens, what went wrong, and the means to act ([ADR 43](../../../docs/adr/0043-console.md)).
//!
//! Owns sessions, pages and forms. Reads through the ports of `query`, and changes nothing itself: it asks the maintainer and
//! the redriver, which have the audit trail.

mod assets;
mod audit;
mod blocks;
mod campaigns;
mod channel;
mod chart;
mod dead_letters;
mod error;
mod events;
mod functions;
mod keys;
mod layout;
mod operator;
mod overview;
mod session;
mod sign_in;
mod timeline;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use pipeline::ports::FunctionCaller;
use pipeline::root_key::RootKey;

use crate::app::App;
use crate::config::{Config, ConsoleConfig};

use functions::Callee;
use session::Sessions;

/// Largest form, in bytes.
const MAX_FORM_BYTES: usize = 64 * 1024;

/// What only the console needs.
#[derive(Clone)]
pub struct ConsolePorts {
    /// Signs sessions.
    pub key: RootKey,
    pub maintainer: Arc<dyn FunctionCaller>,
    pub redriver: Arc<dyn FunctionCaller>,
}

pub(crate) struct Console {
    sessions: Sessions,
    maintainer: Callee,
    redriver: Callee,
}

impl Console {
    pub fn new(config: &Config, console: &ConsoleConfig, ports: ConsolePorts) -> Self {
        let ConsolePorts { key, maintainer, redriver } = ports;
        let callee = |function, name: &str, caller| Callee::new(function, name.to_owned(), caller, config.breaker_open);
        Console {
            sessions: Sessions::new(key, console.longest_session),
            maintainer: callee("maintainer", &console.maintainer.name, maintainer),
            redriver: callee("redriver", &console.redriver.name, redriver),
        }
    }
}

/// What every page has at hand.
#[derive(Clone)]
pub(crate) struct Desk {
    pub app: Arc<App>,
    pub console: Arc<Console>,
}

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
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .with_state(desk)
}
