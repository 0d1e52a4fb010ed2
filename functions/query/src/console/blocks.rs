//! Blocked addresses, and exceptions.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use maud::{Markup, html};
use pipeline::ports::Block;
use serde::Deserialize;
use serde_json::{Value, json};

use super::desk::Desk;
use super::error::ConsoleError;
use super::frame::{Section, page};
use super::layout::{counted, done, field, instant, text_table, wrong};
use super::operator::{Operator, SignedForm, given};
use crate::error::QueryError;
use crate::parameters::{Given, number_within};

const MAX_HOURS: u64 = 24 * 366;
/// A row has less than a thousand bytes, and a load balancer takes a million.
const MOST_ROWS: usize = 500;

/// As the maintainer answers `list-blocks`.
#[derive(Deserialize)]
struct Listed {
    blocks: Vec<Block>,
}

/// As the maintainer answers `find-block`.
#[derive(Deserialize)]
struct Found {
    address: String,
    blocked: bool,
    by: Option<Block>,
}

/// As the maintainer answers `unblock` and `disallow`.
#[derive(Deserialize)]
struct Removed {
    address: String,
    was_listed: bool,
    still_in: Vec<Block>,
}

pub(super) async fn list(State(desk): State<Desk>, operator: Operator, uri: Uri) -> Response {
    let asked = async {
        let address = given(&uri)?.take("address")?;
        let Some(address) = address else { return Ok(html! {}) };
        let found =
            desk.console.maintainer.read(operator.asking(), json!({"action": "find-block", "address": address}));
        Ok::<Markup, ConsoleError>(found_markup(&found.await?))
    };
    let asked = asked.await.unwrap_or_else(|error| error.told());
    shown(&desk, &operator, &asked).await
}

async fn shown(desk: &Desk, operator: &Operator, notice: &Markup) -> Response {
    let listed = desk.console.maintainer.read::<Listed>(operator.asking(), json!({"action": "list-blocks"})).await;
    let list = match listed {
        Ok(Listed { blocks }) => list_markup(operator, &blocks),
        Err(error) => error.told(),
    };
    page(operator, Section::Blocks, &html! { (notice) (forms(operator)) (list) })
}

fn found_markup(Found { address, blocked, by }: &Found) -> Markup {
    let state = match (blocked, by) {
        (true, _) => "is blocked",
        (false, Some(_)) => "is an exception, and neither blocked nor counted",
        (false, None) => "is not blocked",
    };
    let because = by.as_ref().map(|block| format!(", by the entry of {}: {}", block.address, block.reason));
    done(&format!("{address} {state}{}", because.unwrap_or_default()))
}

fn forms(operator: &Operator) -> Markup {
    let address = html! { input name="address" placeholder="203.0.113.0/24" autocomplete="off" required; };
    html! {
        form class="filters" method="get" action="/console/blocks" {
            (field("Is this address blocked?", &html! { input name="address" autocomplete="off" required; }))
            button { "Ask" }
        }
        form class="filters" method="post" action="/console/blocks" {
            (operator.csrf_field())
            (field("Address or range", &address))
            (field("Reason", &html! { input name="reason" maxlength="200" autocomplete="off" required; }))
            (field("For hours", &html! { input name="hours" type="number" min="1" max=(MAX_HOURS) placeholder="no end"; }))
            (field("What", &html! {
                select name="rule" {
                    option value="block" { "block" }
                    option value="allow" { "exception: neither block nor count" }
                }
            }))
            button class="strong" { "Add" }
        }
    }
}

fn list_markup(operator: &Operator, blocks: &[Block]) -> Markup {
    html! {
        h2 { "The list" }
        p role="status" { (counted(blocks.len() as u64, "entry", "entries")) }
        @if blocks.len() > MOST_ROWS { (wrong(&format!("the first {MOST_ROWS} are shown; `forebay blocks list` has all"))) }
        @if !blocks.is_empty() {
            (text_table("Blocks", &["Address", "What", "Reason", "Until", "Change"], &html! {
                @for block in blocks.iter().take(MOST_ROWS) { (row(operator, block)) }
            }))
        }
    }
}

fn row(operator: &Operator, block: &Block) -> Markup {
    html! {
        tr data-address=(block.address) {
            th scope="row" { (block.address) }
            td { @if block.allows { "exception" } @else { "block" } }
            td { (block.reason) }
            td { @match block.until { Some(until) => (instant(until)), None => "no end" } }
            td {
                form method="post" action="/console/blocks/remove" {
                    (operator.csrf_field())
                    input type="hidden" name="address" value=(block.address);
                    input type="hidden" name="rule" value=(if block.allows { "allow" } else { "block" });
                    button aria-label={ "Remove " (block.address) } { "Remove" }
                }
            }
        }
    }
}

/// The action of the maintainer, and its request so far.
fn rule(given: &mut Given, block: &str, allow: &str) -> Result<Value, QueryError> {
    let missing = QueryError::Parameter { name: "address", problem: "is missing" };
    let address = given.take("address")?.ok_or(missing)?;
    let action = match given.take("rule")?.as_deref() {
        Some("block") => block,
        Some("allow") => allow,
        Some(_) | None => return Err(QueryError::OutOfBounds { name: "rule", bound: "block or allow" }),
    };
    Ok(json!({"action": action, "address": address}))
}

pub(super) async fn add(State(desk): State<Desk>, SignedForm(operator, mut given): SignedForm) -> Response {
    let added = async {
        let mut request = rule(&mut given, "block", "allow")?;
        request["reason"] = given.take("reason")?.unwrap_or_default().into();
        if let Some(hours) = given.take("hours")? {
            let hours: u64 = number_within("hours", &hours, 1..=MAX_HOURS, "1 to 8784")?;
            request["for_sec"] = (hours * 3600).into();
        }
        let address = request["address"].as_str().unwrap_or_default().to_owned();
        desk.console.maintainer.change::<Value>(operator.asking(), request).await?;
        Ok::<Markup, ConsoleError>(done(&format!("{address} is on the list. Within seconds, all instances know.")))
    };
    let notice = added.await.unwrap_or_else(|error| error.told());
    shown(&desk, &operator, &notice).await
}

pub(super) async fn remove(State(desk): State<Desk>, SignedForm(operator, mut given): SignedForm) -> Response {
    let removed = async {
        let request = rule(&mut given, "unblock", "disallow")?;
        let Removed { address, was_listed, still_in } =
            desk.console.maintainer.change(operator.asking(), request).await?;
        let what = if was_listed { "is off the list" } else { "was not on the list" };
        Ok::<Markup, ConsoleError>(html! {
            (done(&format!("{address} {what}.")))
            @for block in &still_in { (wrong(&format!("it is still in {}: {}", block.address, block.reason))) }
        })
    };
    let notice = removed.await.unwrap_or_else(|error| error.told());
    shown(&desk, &operator, &notice).await
}
