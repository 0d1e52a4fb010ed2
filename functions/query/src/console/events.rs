//! Searching events.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use event::TypeDefinition;
use maud::{Markup, html};
use pipeline::ports::{FoundEvent, SearchPage, StoredStatus};
use strum::VariantNames as _;

use super::desk::Desk;
use super::error::ConsoleError;
use super::frame::{Section, page};
use super::layout::{counted, field, instant, link, tenant_field, text_table};
use super::operator::{Operator, given};
use crate::parameters::Given;
use crate::search::{self, Cursor};

/// What the form asks for, as it was filled in.
const ASKED: [&str; 7] = ["tenant", "type", "status", "user_id", "dimension", "value", "hours"];

pub(super) async fn search(State(desk): State<Desk>, operator: Operator, uri: Uri) -> Result<Response, ConsoleError> {
    let given = given(&uri)?;
    let asked = ASKED.map(|name| (name, given.first(name).unwrap_or_default().to_owned()));
    let tenant = asked[0].1.clone();
    let tenant = if tenant.is_empty() { operator.key.tenant.to_string() } else { tenant };
    let found = match found(&desk, &operator, given).await {
        Ok((page, next)) => found_markup(&page, next.as_deref(), &tenant, &asked),
        // The form stays as it was filled in.
        Err(error) => error.told(),
    };
    Ok(page(&operator, Section::Events, &html! { (form(&tenant, &asked)) (found) }))
}

async fn found(
    desk: &Desk,
    operator: &Operator,
    mut given: Given,
) -> Result<(SearchPage, Option<String>), ConsoleError> {
    let tenant = operator.tenant(&mut given)?;
    let request = search::question::read(tenant, given, operator.now)?;
    let page = desk.app.search_page(&request).await?;
    let next = Cursor::of_next(&request, &page).map(|next| next.to_text());
    Ok((page, next))
}

fn form(tenant: &str, asked: &[(&str, String); ASKED.len()]) -> Markup {
    let value = |name: &str| asked.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value.as_str());
    html! {
        form class="filters" method="get" action="/console/event" {
            (field("Find by id", &html! { input name="id" autocomplete="off" required; }))
            input type="hidden" name="tenant" value=(tenant);
            button { "Find" }
        }
        form class="filters" method="get" action="/console/events" {
            (tenant_field(tenant))
            (field("Type", &html! { input name="type" value=(value("type")) autocomplete="off"; }))
            (field("Status", &html! {
                select name="status" {
                    option value="" { "any" }
                    @for status in StoredStatus::VARIANTS {
                        option value=(status) selected[*status == value("status")] { (status) }
                    }
                }
            }))
            (field("User", &html! { input name="user_id" value=(value("user_id")) autocomplete="off"; }))
            (field("Dimension", &html! {
                select name="dimension" {
                    option value="" { "none" }
                    @for name in TypeDefinition::all_dimensions() {
                        option value=(name) selected[name == value("dimension")] { (name) }
                    }
                }
            }))
            (field("Value", &html! { input name="value" value=(value("value")) autocomplete="off"; }))
            (field("Last hours", &html! { input name="hours" type="number" min="1" max="744" value=(value("hours")) placeholder="24"; }))
            button { "Search" }
        }
    }
}

fn found_markup(page: &SearchPage, next: Option<&str>, tenant: &str, asked: &[(&str, String)]) -> Markup {
    let event = |id: &str| link("/console/event", &[("id", id), ("tenant", tenant)]);
    let next = next.map(|next| {
        let given = asked.iter().map(|(name, value)| (*name, value.as_str()));
        link("/console/events", &given.chain([("next", next)]).collect::<Vec<_>>())
    });
    html! {
        p role="status" {
            @match page.events.len() {
                0 => "No event meets these conditions.",
                events => { (counted(events as u64, "event", "events")) ", those received last first" }
            }
        }
        @if !page.events.is_empty() {
            (text_table("Events", &["Id", "Type", "Status", "Received", "User", "Score", "Trace"], &html! {
                @for found in &page.events { (row(found, &event(found.place.id.as_str()))) }
            }))
        }
        @if let Some(next) = next { p { a class="next" href=(next) { "Older events" } } }
    }
}

fn row(event: &FoundEvent, link: &str) -> Markup {
    html! {
        tr {
            th scope="row" { a href=(link) { (event.place.id) } }
            td { (event.event_type) }
            td { (StoredStatus::of(event.outcome, event.risk.as_ref()).as_str()) }
            td { (instant(event.place.received_at)) }
            td { @if let Some(user) = &event.user_id { (user) } }
            td class="number" { @if let Some(risk) = &event.risk { (risk.score) } }
            td { @if let Some(trace) = &event.trace_id { code { (trace) } } }
        }
    }
}
