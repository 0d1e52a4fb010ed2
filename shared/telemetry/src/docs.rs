//! The page `docs/metrics.md`, made from the list.

use std::fmt::Write as _;

use crate::definition::{Definition, Kind};
use crate::list;

/// What a custom metric costs, in US dollars a month (<https://aws.amazon.com/cloudwatch/pricing/>, us-east-1, the first
/// 10,000).
const USD_PER_SERIES: f64 = 0.30;

const HEAD: &str = "\
# Metrics

This page is made from `shared/telemetry/src/list.rs`; `make metrics-docs` writes it anew.

**Where.** Off Lambda every process offers its metrics in Prometheus's format on `OPERATIONS_PORT`. On Lambda each invocation ends with
lines in CloudWatch's Embedded Metric Format, in the namespace `METRICS_NAMESPACE`. `METRICS=off` turns both off.

**Labels.** Every series has the label `service`, and those of its line below. Labels have few values: no id, no address, no tenant.

**CloudWatch.** A metric's dimensions are `service` and those of its column; over the other labels CloudWatch sums, and Logs Insights
tells them apart, because each line has them as members. Counters arrive as increments (statistic Sum), histograms as single values (percentiles
work), states as they are (Maximum). A series costs 0.30 USD a month, by the hours in which it is written.

**Zero.** On Prometheus series of bounded labels begin at 0, so the first event is a rise. CloudWatch gets no zeros but those
of states that were looked at: a counter is its increments there, and a series costs for each hour in which it is written.

";

/// The whole page.
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    page.push_str("## Metrics\n\n| name | type | unit | labels | dimensions on CloudWatch | written by | meaning |\n|---|---|---|---|---|---|---|\n");
    for metric in list::ALL {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let unit = metric.unit.cloudwatch().to_lowercase();
        let (labels, dimensions, services) =
            (names(metric.labels), names(metric.dimensions), metric.services.join(", "));
        // Writing to a string cannot fail.
        let _ = writeln!(
            page,
            "| `{}` | {kind} | {unit} | {labels} | {dimensions} | {services} | {} |",
            metric.name,
            metric.meaning.trim()
        );
    }
    page.push_str("\n## Buckets\n\n| histogram | upper bounds |\n|---|---|\n");
    for metric in list::ALL {
        if let Some(buckets) = metric.buckets {
            let bounds: Vec<String> = buckets.bounds().iter().map(f64::to_string).collect();
            let _ = writeln!(page, "| `{}` | {} |", metric.name, bounds.join(", "));
        }
    }
    page.push_str("\n## Metrics of a function on CloudWatch\n\nIf they are written in every hour; a dimension multiplies its metric by its values that occur, and what does not happen costs nothing.\n\n| function | metrics | USD a month |\n|---|---|---|\n");
    for service in services() {
        let of_service = list::ALL.iter().filter(|metric| metric.services.contains(&service)).count();
        let _ = writeln!(page, "| {service} | {of_service} | {:.2} |", of_service as f64 * USD_PER_SERIES);
    }
    page
}

fn names(labels: &[&str]) -> String {
    labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ")
}

/// The functions, in the order of the list. `esm` does not run on Lambda.
fn services() -> Vec<&'static str> {
    let mut services = Vec::new();
    for service in list::ALL.iter().flat_map(|metric: &Definition| metric.services) {
        if *service != "esm" && !services.contains(service) {
            services.push(*service);
        }
    }
    services
}
