//! What flows, and what waits.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use event::TenantId;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::json;
use statistics::{RecordStatus, StatisticsReport, StatusCounts};

use super::chart::Chart;
use super::desk::Desk;
use super::error::ConsoleError;
use super::frame::{Section, page};
use super::layout::Column::{Numbers, Texts};
use super::layout::{fragment, instant, link, table, tenant_field};
use super::operator::{Operator, given};
use crate::app::App;
use crate::error::QueryError;
use crate::stats::{Parameters, StatsQuestion, shown};

const HOURS: &str = "24";

pub(super) async fn overview(State(desk): State<Desk>, operator: Operator, uri: Uri) -> Result<Response, ConsoleError> {
    let tenant = operator.tenant(&mut given(&uri)?)?;
    let flow = flow_of(&desk.app, &operator, &tenant).await?;
    let content = html! {
        form class="filters" method="get" action="/console" { (tenant_field(tenant.as_str())) button { "Show" } }
        p { label class="inline" { input type="checkbox" id="live" checked; " Keep these numbers up to date" } }
        section {
            h2 { "Records by status" }
            div data-live="loaded" hx-get=(link("/console/parts/flow", &[("tenant", tenant.as_str())])) hx-trigger="every 10s" { (flow) }
        }
        section {
            h2 { "Records that wait" }
            div data-live="" hx-get="/console/parts/lag" hx-trigger="load, every 15s" {
                p { a href="/console/parts/lag" { "How far each reader is" } }
            }
        }
    };
    Ok(page(&operator, Section::Overview, &content))
}

/// What went wrong is shown in the place of the part, and the page stays.
fn part(content: Result<Markup, ConsoleError>) -> Response {
    fragment(content.unwrap_or_else(|error| error.told()))
}

pub(super) async fn flow(State(desk): State<Desk>, operator: Operator, uri: Uri) -> Response {
    let content = async {
        let tenant = operator.tenant(&mut given(&uri)?)?;
        flow_of(&desk.app, &operator, &tenant).await
    };
    part(content.await)
}

async fn flow_of(app: &App, operator: &Operator, tenant: &TenantId) -> Result<Markup, ConsoleError> {
    let parameters = Parameters { hours: Some(HOURS.to_owned()), ..Parameters::default() };
    let StatsQuestion::Report(request) = StatsQuestion::of(tenant.clone(), None, parameters, operator.now)? else {
        return Err(QueryError::UnknownDimension.into());
    };
    let report = app.report(&request).await?;
    Ok(flow_markup(&report))
}

fn flow_markup(report: &StatisticsReport) -> Markup {
    let periods: Vec<StatusCounts> = report.periods.iter().map(|period| period.by_type.values().sum()).collect();
    let day: StatusCounts = periods.iter().sum();
    let last = periods.last().copied().unwrap_or_default();
    let series = RecordStatus::ALL
        .iter()
        .map(|status| (status.as_str(), periods.iter().map(|counts| shown(counts, *status)).collect()));
    let starts = report.periods.iter().map(|period| period.start).collect();
    let chart = Chart { title: "Records of the last 24 hours, by hour", starts, series: series.collect() };
    html! {
        (table("Records by status", [Texts("Status"), Numbers("This hour"), Numbers("24 hours")], &html! {
            @for status in RecordStatus::ALL {
                tr data-status=(status.as_str()) {
                    th scope="row" { (status.as_str()) }
                    td class="number" { (shown(&last, *status)) }
                    td class="number" { (shown(&day, *status)) }
                }
            }
        }))
        p class="hint" {
            @match report.complete_until {
                Some(until) => { "Everything received before " (instant(until)) " is counted." }
                None => { "The aggregator has not run yet, so nothing is counted." }
            }
        }
        (chart.markup())
    }
}

/// As the maintainer answers.
#[derive(Deserialize)]
struct Lag {
    groups: Vec<GroupLag>,
}

#[derive(Deserialize)]
struct GroupLag {
    group: String,
    topic: String,
    lag: Option<u64>,
    partitions: Vec<PartitionLag>,
}

#[derive(Deserialize)]
struct PartitionLag {
    partition: i32,
    committed: Option<i64>,
    latest: i64,
    lag: u64,
}

pub(super) async fn lag(State(desk): State<Desk>, operator: Operator) -> Response {
    let lag = desk.console.maintainer.read::<Lag>(operator.asking(), json!({"action": "lag"})).await;
    part(lag.map(|lag| lag_markup(&lag, &operator)))
}

fn lag_markup(lag: &Lag, operator: &Operator) -> Markup {
    html! {
        (table("Records that wait", [Texts("Reader"), Texts("Topic"), Numbers("Waiting"), Texts("Partitions")], &html! {
            @for group in &lag.groups { (group_row(group)) }
        }))
        p class="hint" { "Asked at " (instant(operator.now)) "." }
    }
}

fn group_row(GroupLag { group, topic, lag, partitions }: &GroupLag) -> Markup {
    html! {
        tr data-group=(group) {
            th scope="row" { (group) }
            td { (topic) }
            td class="number" { @match lag { Some(lag) => (lag), None => "does not read" } }
            td {
                details {
                    summary { "Offsets of " (group) }
                    ul {
                        @for PartitionLag { partition, committed, latest, lag } in partitions {
                            li {
                                (partition) ": "
                                @match committed { Some(committed) => (committed), None => "nothing" }
                                " of " (latest) ", " (lag) " wait"
                            }
                        }
                    }
                }
            }
        }
    }
}
