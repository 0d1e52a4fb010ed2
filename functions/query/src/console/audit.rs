//! What operators did.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use event::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::json;

use super::desk::Desk;
use super::error::ConsoleError;
use super::frame::{Section, page};
use super::functions::Callee;
use super::layout::{counted, field, instant, text_table};
use super::operator::{Operator, given};

/// What the redriver notes, too, although it changes nothing: this page itself is one of these.
const READ: [&str; 4] = ["list", "parked", "undelivered", "audit"];

/// As both functions answer `audit`.
#[derive(Deserialize)]
struct Trail {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    started_at: Timestamp,
    action: String,
    by: Option<String>,
    state: String,
    request: String,
    result: String,
}

pub(super) async fn audit(State(desk): State<Desk>, operator: Operator, uri: Uri) -> Result<Response, ConsoleError> {
    let day = given(&uri)?.take("day")?;
    let (changes, redrives) = tokio::join!(
        trail(&desk.console.maintainer, &operator, day.as_deref()),
        trail(&desk.console.redriver, &operator, day.as_deref())
    );
    let content = html! {
        form class="filters" method="get" action="/console/audit" {
            (field("Day, in UTC", &html! { input name="day" type="date" value=(day.as_deref().unwrap_or_default()); }))
            button { "Show" }
        }
        (trail_markup("Blocks, API keys and webhooks", changes))
        (trail_markup("Dead letters", redrives))
    };
    Ok(page(&operator, Section::Audit, &content))
}

async fn trail(function: &Callee, operator: &Operator, day: Option<&str>) -> Result<Trail, ConsoleError> {
    let mut request = json!({"action": "audit"});
    if let Some(day) = day {
        request["day"] = day.into();
    }
    function.read(operator.asking(), request).await
}

fn trail_markup(title: &str, trail: Result<Trail, ConsoleError>) -> Markup {
    let entries = match trail {
        Ok(Trail { entries }) => entries,
        Err(error) => return html! { h2 { (title) } (error.told()) },
    };
    let entries: Vec<Entry> = entries.into_iter().filter(|entry| !READ.contains(&entry.action.as_str())).collect();
    html! {
        h2 { (title) }
        p role="status" { (counted(entries.len() as u64, "action", "actions")) }
        @if !entries.is_empty() {
            (text_table(title, &["Begun", "Action", "By", "State", "Request", "Result"], &html! {
                // The last is the one that is looked for.
                @for Entry { started_at, action, by, state, request, result } in entries.iter().rev() {
                    tr {
                        th scope="row" { (instant(*started_at)) }
                        td { (action) }
                        td { (by.as_deref().unwrap_or("unknown")) }
                        td { (state) }
                        td { code { (request) } }
                        td { code { (result) } }
                    }
                }
            }))
        }
    }
}
