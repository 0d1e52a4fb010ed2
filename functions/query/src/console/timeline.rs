//! What happened to one event.

use std::time::Duration;

use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse as _, Response};
use event::{EventId, EventKey, Timestamp};
use maud::{Markup, html};

use super::desk::Desk;
use super::error::ConsoleError;
use super::frame::{Section, page};
use super::layout::{instant, wrong};
use super::operator::{Operator, given};
use crate::error::QueryError;
use crate::question::Question;
use crate::timeline::{Missing, RedriveState, Timeline, TimelineStep};

pub(super) async fn event(State(desk): State<Desk>, operator: Operator, uri: Uri) -> Response {
    let answer = async {
        let mut given = given(&uri)?;
        let tenant = operator.tenant(&mut given)?;
        let missing = QueryError::Parameter { name: "id", problem: "is missing" };
        let id = EventId::new(&given.take("id")?.ok_or(missing)?).map_err(|_| QueryError::EventId)?;
        let question = Question { id: id.clone(), receipt: None, wait: Duration::ZERO };
        let timeline = desk.app.answer(EventKey { tenant, id }, &question, Duration::ZERO).await;
        Ok::<Timeline, ConsoleError>(timeline?)
    };
    match answer.await {
        Ok(timeline) => page(&operator, Section::Events, &markup(&timeline)),
        Err(ConsoleError::Query(error @ QueryError::Unknown { .. })) => {
            let content = html! { (wrong(&error.to_string())) p { a href="/console/events" { "Search events" } } };
            page(&operator, Section::Events, &content)
        }
        Err(error) => error.into_response(),
    }
}

fn markup(Timeline { id, status, receipt: _, timeline, incomplete }: &Timeline) -> Markup {
    html! {
        h2 { "Event " code { (id) } }
        p { "Status: " strong { (status.as_str()) } }
        @for missing in incomplete {
            (wrong(match missing {
                Missing::Records => "there are more records of this event than are shown here",
                Missing::Redrives => "it is not known of all dead letters whether they were sent again",
            }))
        }
        ol class="timeline" { @for step in timeline { li { (step_markup(step)) } } }
        p { a href="/console/events" { "Search events" } }
    }
}

fn step_markup(step: &TimelineStep) -> Markup {
    let row = |name: &str, value: &Markup| html! { dt { (name) } dd { (value) } };
    let text = |name: &str, value: &str| row(name, &html! { code { (value) } });
    let (title, at, rows): (&str, Option<Timestamp>, Vec<Markup>) = match step {
        TimelineStep::Accepted { at, record } => ("Accepted", *at, vec![text("Record", &record.to_string())]),
        TimelineStep::Recorded { at, record, origin, trace_id, outcome, reason } => {
            let mut rows = vec![
                row("Outcome", &html! { strong { (outcome.as_str()) } }),
                text("Record", &record.to_string()),
                text("Origin", &origin.to_string()),
            ];
            if !reason.is_empty() {
                rows.push(row("Reason", &html! { (reason) }));
            }
            rows.extend(trace_id.as_ref().map(|trace| text("Trace", &trace.to_string())));
            ("Recorded", Some(*at), rows)
        }
        TimelineStep::Stored { at, origin, trace_id, event_type, occurred_at, time_doubt } => {
            let mut rows = vec![row("Type", &html! { (event_type) }), text("Origin", &origin.to_string())];
            rows.extend(trace_id.as_ref().map(|trace| text("Trace", &trace.to_string())));
            rows.extend(occurred_at.map(|at| {
                row(
                    "Occurred",
                    &html! { (instant(at)) @if let Some(doubt) = time_doubt { ", doubted: " (doubt.as_str()) } },
                )
            }));
            ("Stored", Some(*at), rows)
        }
        TimelineStep::Scored { at, origin, outcome, risk } => {
            let mut rows = vec![
                row("Score", &html! { (risk.score) ", by rules " (risk.rules_version) }),
                row("Outcome", &html! { strong { (outcome.as_str()) } }),
                text("Origin", &origin.to_string()),
            ];
            if !risk.reasons.is_empty() {
                rows.push(row("Reasons", &html! { (risk.reasons.join(", ")) }));
            }
            ("Scored", Some(*at), rows)
        }
        TimelineStep::Redrive { at, origin, action, attempt, state, record } => {
            let mut rows = vec![
                row("Action", &html! { (action.as_str()) ", attempt " (attempt) }),
                row(
                    "State",
                    &html! { (match state { RedriveState::UnderWay => "under way", RedriveState::Done => "done" }) },
                ),
                text("Origin", &origin.to_string()),
            ];
            rows.extend(record.as_ref().map(|record| text("Record", &record.to_string())));
            ("Redriven", Some(*at), rows)
        }
    };
    html! {
        h3 { (title) }
        p { @match at { Some(at) => (instant(at)), None => "at a time that is not known" } }
        dl { @for row in &rows { (row) } }
    }
}
