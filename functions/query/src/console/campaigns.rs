//! The figures of campaigns.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use event::TenantId;
use maud::{Markup, html};
use statistics::{RELATIVE_ERROR, ReportRequest, StatisticsReport, StatusCounts, TopValues, ValueCounts};

use super::chart::Chart;
use super::desk::Desk;
use super::error::ConsoleError;
use super::frame::{Section, page};
use super::layout::Column::{Numbers, Texts};
use super::layout::{counted, field, instant, link, table, tenant_field};
use super::operator::{Operator, given};
use crate::parameters::Given;
use crate::stats::{CAMPAIGN, CampaignShares, Parameters, StatsQuestion};

/// What the form asks for besides tenant and campaign.
const ASKED: [&str; 3] = ["hours", "interval", "timezone"];

pub(super) async fn campaigns(
    State(desk): State<Desk>,
    operator: Operator,
    uri: Uri,
) -> Result<Response, ConsoleError> {
    let given = given(&uri)?;
    let first = |name: &str| given.first(name).unwrap_or_default().to_owned();
    let tenant = given.first("tenant").unwrap_or(operator.key.tenant.as_str()).to_owned();
    let form = form(&tenant, &first("campaign"), &ASKED.map(|name| (name, first(name))));
    let figures = figures(&desk, &operator, given).await.unwrap_or_else(|error| error.told());
    Ok(page(&operator, Section::Campaigns, &html! { (form) (figures) }))
}

fn form(tenant: &str, campaign: &str, asked: &[(&str, String); ASKED.len()]) -> Markup {
    let [(_, hours), (_, interval), (_, timezone)] = asked;
    html! {
        form class="filters" method="get" action="/console/campaigns" {
            (tenant_field(tenant))
            (field("Campaign", &html! { input name="campaign" value=(campaign) placeholder="the largest" autocomplete="off"; }))
            (field("Last hours", &html! { input name="hours" type="number" min="1" max="744" value=(hours) placeholder="24"; }))
            (field("By", &html! {
                select name="interval" {
                    @for name in ["hour", "day"] { option value=(name) selected[name == interval] { (name) } }
                }
            }))
            (field("Time zone", &html! { input name="timezone" value=(timezone) placeholder="UTC" autocomplete="off"; }))
            button { "Show" }
        }
    }
}

async fn figures(desk: &Desk, operator: &Operator, mut given: Given) -> Result<Markup, ConsoleError> {
    let tenant = operator.tenant(&mut given)?;
    let campaign = given.take("campaign")?;
    let [hours, interval, timezone] = [given.take("hours")?, given.take("interval")?, given.take("timezone")?];
    let shown_hours = hours.clone().unwrap_or_default();
    let parameters = match campaign {
        Some(_) => Parameters { hours, interval, timezone, ..Parameters::default() },
        // A list of values has no hours or days.
        None => Parameters { hours, dimension: Some(CAMPAIGN.to_owned()), ..Parameters::default() },
    };
    match StatsQuestion::of(tenant, campaign, parameters, operator.now)? {
        StatsQuestion::Report(request) => Ok(report_markup(&request, &desk.app.report(&request).await?)),
        StatsQuestion::TopValues { tenant, dimension, range, limit } => {
            let top = desk.app.top_values(&tenant, dimension, range, limit).await?;
            Ok(top_markup(&tenant, &shown_hours, &top))
        }
    }
}

fn top_markup(tenant: &TenantId, hours: &str, TopValues { complete_until: _, values }: &TopValues) -> Markup {
    let report = |campaign: &str| {
        link("/console/campaigns", &[("campaign", campaign), ("tenant", tenant.as_str()), ("hours", hours)])
    };
    html! {
        h2 { "The campaigns with the most records" }
        p role="status" { (counted(values.len() as u64, "campaign", "campaigns")) }
        @if !values.is_empty() {
            (table("Campaigns", [Texts("Campaign"), Numbers("Records"), Numbers("Events")], &html! {
                @for ValueCounts { value, counts } in values {
                    tr {
                        th scope="row" { a href=(report(value)) { (value) } }
                        td class="number" { (counts.records()) }
                        td class="number" { (counts.stored()) }
                    }
                }
            }))
        }
    }
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), |share| format!("{:.2} %", share * 100.0))
}

fn report_markup(request: &ReportRequest, report: &StatisticsReport) -> Markup {
    let CampaignShares { all, by_type, click_through, fraud, duplicate, blocked } = CampaignShares::of(report);
    let figures = [
        ("Events", all.stored().to_string()),
        ("Click-through rate", percent(click_through)),
        ("Fraud", percent(fraud)),
        ("Duplicates", percent(duplicate)),
        ("Blocked", percent(blocked)),
        ("Different users", format!("about {} (± {:.1} %)", report.distinct, RELATIVE_ERROR * 100.0)),
    ];
    let of_type = |name: &str| {
        let stored = report.periods.iter().map(|period| period.by_type.get(name).map_or(0, StatusCounts::stored));
        stored.collect::<Vec<i64>>()
    };
    let chart = Chart {
        title: "Events by type",
        starts: report.periods.iter().map(|period| period.start).collect(),
        series: by_type.keys().map(|name| (*name, of_type(name))).collect(),
    };
    let [countries, devices] = match report.second_values.as_slice() {
        [countries, devices] => [countries.as_slice(), devices.as_slice()],
        _ => [&[][..], &[]],
    };
    html! {
        h2 { "Campaign " code { (request.part.value) } }
        dl class="figures" { @for (name, figure) in &figures { div { dt { (name) } dd { (figure) } } } }
        p class="hint" {
            "From " (instant(request.range.from)) " to " (instant(request.range.to)) ", by " (request.interval.as_str()) " of " (request.timezone) ". Times are in UTC. "
            @if let Some(until) = report.complete_until { "Everything received before " (instant(until)) " is counted." }
        }
        (chart.markup())
        div class="columns" { (values_markup("Countries", "Country", countries)) (values_markup("Devices", "Device", devices)) }
    }
}

fn values_markup(title: &str, column: &str, values: &[ValueCounts]) -> Markup {
    html! {
        section {
            h3 { (title) }
            @if values.is_empty() { p { "None are known." } }
            @else {
                (table(title, [Texts(column), Numbers("Events")], &html! {
                    @for ValueCounts { value, counts } in values { tr { th scope="row" { (value) } td class="number" { (counts.stored()) } } }
                }))
            }
        }
    }
}
