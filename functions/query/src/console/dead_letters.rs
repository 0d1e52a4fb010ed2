//! What could not be processed, by reason, and sending it again.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use event::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::desk::Desk;
use super::error::ConsoleError;
use super::frame::{Section, page};
use super::layout::{counted, done, field, instant, text_table, wrong};
use super::operator::{Operator, SignedForm, given};
use crate::error::QueryError;
use crate::parameters::Given;

/// The redriver's filters, as its requests name them.
const FILTERS: [(&str, &str); 5] =
    [("reason", "Reason"), ("type", "Type"), ("tenant", "Tenant"), ("from", "Failed from"), ("until", "Failed until")];

/// How long the redriver works on one page, in seconds: less than the page waits, so that it says how far it came.
const WITHIN_SEC: u32 = 12;
/// Letters per second.
const MAX_PER_SEC: u32 = 1_000;

/// Which letters a page is about.
struct Filters(Vec<(&'static str, String)>);

impl Filters {
    fn take(given: &mut Given) -> Result<Self, QueryError> {
        let mut filters = Vec::new();
        for (name, _) in FILTERS {
            filters.extend(given.take(name)?.map(|value| (name, value)));
        }
        Ok(Filters(filters))
    }

    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }

    fn request(&self, action: &str) -> Value {
        let filters: Map<String, Value> =
            self.0.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into())).collect();
        json!({"action": action, "filters": filters, "within_sec": WITHIN_SEC})
    }

    fn hidden_fields(&self) -> Markup {
        html! { @for (name, value) in &self.0 { input type="hidden" name=(name) value=(value); } }
    }
}

/// As the redriver answers `list`.
#[derive(Deserialize)]
struct Listed {
    matched: u64,
    reasons: BTreeMap<String, ReasonGroup>,
    /// Where to go on, if there is more.
    next: Option<Value>,
}

#[derive(Deserialize)]
struct ReasonGroup {
    letters: u64,
    open: u64,
    under_way: u64,
    redriven: u64,
    parked: u64,
    last_failed_at: Timestamp,
    examples: Vec<Letter>,
}

#[derive(Deserialize)]
struct Letter {
    position: String,
    attempt: u32,
    tenant: Option<String>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    event_id: Option<String>,
    reason: String,
    failed_at: Timestamp,
}

/// As the redriver answers `redrive`.
#[derive(Deserialize)]
struct Redriven {
    run: String,
    dry_run: bool,
    matched: u64,
    sent: u64,
    parked: u64,
    already: u64,
    under_way: u64,
    refused: u64,
    /// Where to go on, if there is more, and where that ends.
    next: Option<Value>,
    until: Option<Value>,
    next_at: Option<Timestamp>,
}

/// A part of the topic, as an earlier answer named it: offsets by partition.
fn take_offsets(given: &mut Given, name: &'static str) -> Result<Option<Value>, QueryError> {
    let unreadable = QueryError::Parameter { name, problem: "is not from an earlier page" };
    let offsets = given.take(name)?.map(|text| serde_json::from_str::<BTreeMap<i32, i64>>(&text));
    Ok(offsets.transpose().map_err(|_| unreadable)?.map(|offsets| json!(offsets)))
}

pub(super) async fn list(State(desk): State<Desk>, operator: Operator, uri: Uri) -> Result<Response, ConsoleError> {
    let mut given = given(&uri)?;
    let from = take_offsets(&mut given, "from_offsets")?;
    let filters = Filters::take(&mut given)?;
    let mut request = filters.request("list");
    if let Some(from) = from {
        request["from_offsets"] = from;
    }
    let listed = desk.console.redriver.read::<Listed>(operator.asking(), request).await;
    let groups = match listed {
        Ok(listed) => listed_markup(&operator, &filters, &listed),
        // The form stays as it was filled in.
        Err(error) => error.told(),
    };
    Ok(page(&operator, Section::DeadLetters, &html! { (form(&filters)) (groups) }))
}

fn form(filters: &Filters) -> Markup {
    html! {
        form class="filters" method="get" action="/console/dead-letters" {
            @for (name, label) in FILTERS {
                @let example = if matches!(name, "from" | "until") { "2026-11-20T18:00:00Z" } else { "" };
                (field(label, &html! { input name=(name) value=(filters.get(name)) placeholder=(example) autocomplete="off"; }))
            }
            button { "Show" }
        }
    }
}

fn listed_markup(operator: &Operator, filters: &Filters, listed: &Listed) -> Markup {
    let Listed { matched, reasons, next } = listed;
    html! {
        p role="status" { (counted(*matched, "dead letter", "dead letters")) }
        @if let Some(next) = next {
            (wrong("there are more letters than the redriver can read in the time of a page"))
            form method="get" action="/console/dead-letters" {
                (filters.hidden_fields())
                input type="hidden" name="from_offsets" value=(next.to_string());
                button { "Read on" }
            }
        }
        @for (reason, group) in reasons { (group_markup(operator, filters, reason, group)) }
    }
}

fn group_markup(operator: &Operator, filters: &Filters, reason: &str, group: &ReasonGroup) -> Markup {
    let ReasonGroup { letters, open, under_way, redriven, parked, last_failed_at, examples } = group;
    let narrowed = filters.0.iter().filter(|(name, _)| *name != "reason").cloned();
    let narrowed = Filters(narrowed.chain([("reason", reason.to_owned())]).collect());
    html! {
        section class="card" aria-labelledby={ "reason-" (reason) } data-reason=(reason) {
            h2 id={ "reason-" (reason) } { (reason) }
            dl class="figures" {
                @for (name, figure) in [("Letters", letters), ("Open", open), ("Under way", under_way), ("Sent again", redriven), ("Parked", parked)] {
                    div { dt { (name) } dd { (figure) } }
                }
            }
            p { "The last failed at " (instant(*last_failed_at)) "." }
            details { summary { "Examples of " (reason) } (examples_table(reason, examples)) }
            @if *open > 0 {
                form method="post" action="/console/dead-letters/redrive" {
                    (operator.csrf_field()) (narrowed.hidden_fields())
                    input type="hidden" name="dry_run" value="yes";
                    button { "Try out sending " (open) " again" }
                }
            }
        }
    }
}

fn examples_table(reason: &str, examples: &[Letter]) -> Markup {
    let rows = html! {
        @for Letter { position, attempt, tenant, event_type, event_id, reason, failed_at } in examples {
            tr {
                th scope="row" { @match event_id { Some(id) => code { (id) }, None => "unknown" } }
                td { (event_type.as_deref().unwrap_or_default()) }
                td { (tenant.as_deref().unwrap_or_default()) }
                td { (reason) }
                td { (instant(*failed_at)) }
                td class="number" { (attempt) }
                td { code { (position) } }
            }
        }
    };
    let columns = ["Event", "Type", "Tenant", "Why", "Failed", "Attempt", "Letter"];
    text_table(&format!("Examples of {reason}"), &columns, &rows)
}

pub(super) async fn redrive(
    State(desk): State<Desk>,
    SignedForm(operator, mut given): SignedForm,
) -> Result<Response, ConsoleError> {
    let is_dry_run = given.take("dry_run")?.is_some();
    let mut part = Vec::new();
    for name in ["from_offsets", "until_offsets"] {
        part.extend(take_offsets(&mut given, name)?.map(|offsets| (name, offsets)));
    }
    let filters = Filters::take(&mut given)?;
    let mut request = filters.request("redrive");
    request["dry_run"] = is_dry_run.into();
    request["max_per_sec"] = MAX_PER_SEC.into();
    for (name, offsets) in &part {
        request[*name] = offsets.clone();
    }
    let redriven = desk.console.redriver.change::<Redriven>(operator.asking(), request).await?;
    Ok(page(&operator, Section::DeadLetters, &redriven_markup(&operator, &filters, &part, &redriven)))
}

fn letters(number: u64) -> String {
    counted(number, "letter", "letters")
}

/// `part` is the part of the topic that was asked about.
fn redriven_markup(
    operator: &Operator,
    filters: &Filters,
    part: &[(&'static str, Value)],
    redriven: &Redriven,
) -> Markup {
    let Redriven { run, dry_run, matched, sent, parked, already, under_way, refused, next, until, next_at } = redriven;
    let to_do = sent + parked;
    html! {
        h2 { @if *dry_run { "What would be done" } @else { "What was done" } }
        @if *dry_run {
            (done(&format!("{} would be sent again, and {parked} parked. Nothing was changed yet.", letters(*sent))))
        } @else {
            (done(&format!("{} sent again, and {parked} parked.", letters(*sent))))
        }
        dl class="figures" {
            @for (name, figure) in [("Match", matched), ("Done before", already), ("Under way", under_way), ("Too large", refused)] {
                div { dt { (name) } dd { (figure) } }
            }
        }
        @if let Some(next) = next {
            (wrong("not all letters were reached"))
            @if let Some(at) = next_at { p { "Other runs work on some of them until " (instant(*at)) "." } }
            form method="post" action="/console/dead-letters/redrive" {
                (operator.csrf_field()) (filters.hidden_fields())
                @if *dry_run { input type="hidden" name="dry_run" value="yes"; }
                input type="hidden" name="from_offsets" value=(next.to_string());
                @if let Some(until) = until { input type="hidden" name="until_offsets" value=(until.to_string()); }
                button { "Go on with the rest" }
            }
        }
        p class="hint" { "Run " code { (run) } @if !filters.0.is_empty() { ", of" @for (name, value) in &filters.0 { " " (name) " " code { (value) } } } }
        @if *dry_run && to_do > 0 {
            form method="post" action="/console/dead-letters/redrive" {
                (operator.csrf_field()) (filters.hidden_fields())
                @for (name, offsets) in part { input type="hidden" name=(name) value=(offsets.to_string()); }
                // Not also those that fail from now on.
                @if filters.get("until").is_empty() { input type="hidden" name="until" value=(operator.now); }
                button class="strong" { "Send " (letters(to_do)) " again now" }
            }
        }
        p { a href="/console/dead-letters" { "Back to the dead letters" } }
    }
}
