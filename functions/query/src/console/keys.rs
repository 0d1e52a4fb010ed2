//! API keys.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use event::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Value, json};

use super::desk::Desk;
use super::error::ConsoleError;
use super::frame::{Section, page};
use super::layout::{counted, done, field, instant, text_table, wrong};
use super::operator::{Operator, SignedForm, given, short};
use crate::error::QueryError;
use crate::parameters::{Given, number_within};

const MAX_DAYS: u64 = 3_660;
const MAX_GRACE_HOURS: u64 = 24 * 90;
/// A row has about a thousand bytes, and a load balancer takes a million.
const MOST_ROWS: usize = 200;

const COLUMNS: [&str; 9] =
    ["Name", "Tenant", "Kind", "Scopes", "Events a minute", "Expires", "State", "Hash", "Change"];

/// As the maintainer answers `list-keys`.
#[derive(Deserialize)]
struct Listed {
    keys: Vec<ListedKey>,
}

#[derive(Deserialize)]
struct ListedKey {
    key_hash: String,
    tenant: String,
    name: String,
    kind: String,
    scopes: Vec<String>,
    rate_limit_per_min: Option<u32>,
    expires_at: Option<Timestamp>,
    state: String,
}

/// As the maintainer answers `create-key` and `rotate-key`.
#[derive(Deserialize)]
struct Made {
    key: String,
    name: String,
    tenant: String,
}

pub(super) async fn list(State(desk): State<Desk>, operator: Operator, uri: Uri) -> Result<Response, ConsoleError> {
    let tenant = given(&uri)?.take("tenant")?;
    Ok(shown(&desk, &operator, tenant.as_deref(), &html! {}).await)
}

async fn shown(desk: &Desk, operator: &Operator, tenant: Option<&str>, notice: &Markup) -> Response {
    let mut request = json!({"action": "list-keys"});
    if let Some(tenant) = tenant {
        request["tenant"] = tenant.into();
    }
    let list = match desk.console.maintainer.read::<Listed>(operator.asking(), request).await {
        Ok(Listed { keys }) => list_markup(operator, &keys),
        Err(error) => error.told(),
    };
    page(operator, Section::Keys, &html! { (notice) (forms(operator, tenant.unwrap_or_default())) (list) })
}

/// What became of a new key. The list is left out: the only page with the key must not become too large for a gateway.
fn shown_alone(operator: &Operator, made: Result<Made, ConsoleError>) -> Response {
    let notice = match made {
        Ok(made) => made_markup(&made),
        Err(error @ ConsoleError::StillWorking { .. }) => html! {
            (error.told())
            (wrong("if the list has the new key later, nobody has seen it: revoke it, and make another"))
        },
        Err(error) => error.told(),
    };
    page(operator, Section::Keys, &html! { (notice) p { a href="/console/keys" { "All keys" } } (forms(operator, "")) })
}

fn forms(operator: &Operator, tenant: &str) -> Markup {
    html! {
        form class="filters" method="get" action="/console/keys" {
            (field("Tenant", &html! { input name="tenant" value=(tenant) placeholder="all" autocomplete="off"; }))
            button { "Show" }
        }
        details class="card" {
            summary { "Make a key" }
            form class="filters" method="post" action="/console/keys" {
                (operator.csrf_field())
                (field("Tenant", &html! { input name="tenant" value=(tenant) autocomplete="off" required; }))
                (field("Name", &html! { input name="name" maxlength="200" autocomplete="off" required; }))
                (field("Kind", &html! { select name="kind" { option value="server" { "server" } option value="publishable" { "publishable: anyone can read it" } } }))
                fieldset {
                    legend { "Scopes" }
                    @for scope in ["write", "read", "operate"] {
                        label class="inline" { input type="checkbox" name="scope" value=(scope) checked[scope == "write"]; " " (scope) }
                    }
                }
                (field("Events per minute", &html! { input name="rate_limit" type="number" min="1" max="4294967295" placeholder="as set"; }))
                (field("Expires after days", &html! { input name="days" type="number" min="1" max=(MAX_DAYS) placeholder="never"; }))
                button class="strong" { "Make the key" }
            }
        }
    }
}

fn list_markup(operator: &Operator, keys: &[ListedKey]) -> Markup {
    html! {
        h2 { "The keys" }
        p role="status" { (counted(keys.len() as u64, "key", "keys")) }
        @if keys.len() > MOST_ROWS { (wrong(&format!("the first {MOST_ROWS} are shown: name a tenant, or use `forebay keys list`"))) }
        @if !keys.is_empty() {
            (text_table("API keys", &COLUMNS, &html! { @for key in keys.iter().take(MOST_ROWS) { (row(operator, key)) } }))
        }
    }
}

fn row(operator: &Operator, key: &ListedKey) -> Markup {
    let ListedKey { key_hash, tenant, name, kind, scopes, rate_limit_per_min, expires_at, state } = key;
    let hash = html! { (operator.csrf_field()) input type="hidden" name="key_hash" value=(key_hash); };
    html! {
        tr data-key=(key_hash) {
            th scope="row" { (name) }
            td { (tenant) }
            td { (kind) }
            td { (scopes.join(", ")) }
            td class="number" { @match rate_limit_per_min { Some(limit) => (limit), None => "as set" } }
            td { @match expires_at { Some(at) => (instant(*at)), None => "never" } }
            td { (state) }
            td { code { (short(key_hash)) } }
            td {
                @if state == "valid" {
                    details {
                        summary { "Change " (name) }
                        form method="post" action="/console/keys/rotate" {
                            (hash)
                            (field("The old key still works for hours", &html! { input name="grace" type="number" min="0" max=(MAX_GRACE_HOURS) value="24"; }))
                            button { "Rotate" }
                        }
                        form method="post" action="/console/keys/revoke" { (hash) button class="strong" { "Revoke now" } }
                    }
                }
            }
        }
    }
}

fn made_markup(Made { key, name, tenant }: &Made) -> Markup {
    html! {
        (done(&format!("The new key of {tenant}, {name}. It is shown this once only: copy it now.")))
        p { code class="secret" { (key) } }
    }
}

fn new_key(given: &mut Given) -> Result<Value, QueryError> {
    let mut request = json!({"action": "create-key", "scopes": given.take_all("scope")});
    for name in ["tenant", "name", "kind"] {
        request[name] = given.take(name)?.unwrap_or_default().into();
    }
    if let Some(limit) = given.take("rate_limit")? {
        let limit: u32 = number_within("the rate limit", &limit, 1..=u32::MAX, "1 to 4294967295")?;
        request["rate_limit_per_min"] = limit.into();
    }
    if let Some(days) = given.take("days")? {
        let days: u64 = number_within("days", &days, 1..=MAX_DAYS, "1 to 3660")?;
        request["expires_in_sec"] = (days * 86_400).into();
    }
    Ok(request)
}

fn of_key(action: &str, given: &mut Given) -> Result<Value, QueryError> {
    let missing = QueryError::Parameter { name: "key_hash", problem: "is missing" };
    Ok(json!({"action": action, "key_hash": given.take("key_hash")?.ok_or(missing)?}))
}

pub(super) async fn create(State(desk): State<Desk>, SignedForm(operator, mut given): SignedForm) -> Response {
    let made = async { desk.console.maintainer.change(operator.asking(), new_key(&mut given)?).await };
    shown_alone(&operator, made.await)
}

pub(super) async fn rotate(State(desk): State<Desk>, SignedForm(operator, mut given): SignedForm) -> Response {
    let made = async {
        let mut request = of_key("rotate-key", &mut given)?;
        if let Some(hours) = given.take("grace")? {
            let hours: u64 = number_within("the hours", &hours, 0..=MAX_GRACE_HOURS, "0 to 2160")?;
            request["grace_sec"] = (hours * 3600).into();
        }
        desk.console.maintainer.change(operator.asking(), request).await
    };
    shown_alone(&operator, made.await)
}

pub(super) async fn revoke(State(desk): State<Desk>, SignedForm(operator, mut given): SignedForm) -> Response {
    let revoked = async {
        let request = of_key("revoke-key", &mut given)?;
        let ListedKey { name, tenant, .. } = desk.console.maintainer.change(operator.asking(), request).await?;
        Ok::<Markup, ConsoleError>(done(&format!(
            "The key {name} of {tenant} is revoked. Within seconds, all instances know."
        )))
    };
    let notice = revoked.await.unwrap_or_else(|error| error.told());
    shown(&desk, &operator, None, &notice).await
}
