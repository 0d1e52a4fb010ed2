//! What flows, and what waits.

use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse as _, Response};
use event::TenantId;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::json;
use statistics::{Period, RecordStatus, StatisticsReport, StatusCounts};

use super::chart::Chart;
use super::desk::Desk;
use super::error::ConsoleError;
use super::frame::{Section, page};
use super::layout::{fragment, instant, link, scrolling, tenant_field};
use super::operator::{Operator, given};
use crate::app::App;
use crate::error::QueryError;
use crate::stats::{Parameters, StatsQuestion};

const HOURS: &str = "24";

pub(super) async fn overview(State(desk): State<Desk>, operator: Operator, uri: Uri) -> Response {
    let content = async {
        let tenant = operator.tenant(&mut given(&uri)?)?;
        let flow = flow_of(&desk.app, &operator, &tenant).await?;
        Ok::<Markup, ConsoleError>(html! {
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
        })
    };
    match content.await {
        Ok(content) => page(&operator, Section::Overview, &content),
        Err(error) => error.into_response(),
    }
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

fn of_period(Period { by_type, .. }: &Period) -> StatusCounts {
    let mut all = StatusCounts::default();
    by_type.values().for_each(|counts| all.merge(counts));
    all
}

fn flow_markup(report: &StatisticsReport) -> Markup {
    let periods: Vec<StatusCounts> = report.periods.iter().map(of_period).collect();
    let mut day = StatusCounts::default();
    periods.iter().for_each(|counts| day.merge(counts));
    let last = periods.last().copied().unwrap_or_default();
    let shown = |counts: &StatusCounts, status: RecordStatus| counts.get(status).max(0);
    let series = RecordStatus::ALL
        .iter()
        .map(|status| (status.as_str(), periods.iter().map(|counts| shown(counts, *status)).collect()));
    let starts = report.periods.iter().map(|period| period.start).collect();
    let chart = Chart { title: "Records of the last 24 hours, by hour", starts, series: series.collect() };
    html! {
        (scrolling("Records by status", &html! {
            table {
                thead { tr { th scope="col" { "Status" } th scope="col" class="number" { "This hour" } th scope="col" class="number" { "24 hours" } } }
                tbody {
                    @for status in RecordStatus::ALL {
                        tr data-status=(status.as_str()) {
                            th scope="row" { (status.as_str()) }
                            td class="number" { (shown(&last, *status)) }
                            td class="number" { (shown(&day, *status)) }
                        }
                    }
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
        (scrolling("Records that wait", &html! {
            table {
                thead { tr { th scope="col" { "Reader" } th scope="col" { "Topic" } th scope="col" class="number" { "Waiting" } th scope="col" { "Partitions" } } }
                tbody {
                    @for GroupLag { group, topic, lag, partitions } in &lag.groups {
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
            }
        }))
        p class="hint" { "Asked at " (instant(operator.now)) "." }
    }
}
