//! What the metrics of a whole pipeline say: to Prometheus, and in the lines that CloudWatch would read.
//!
//! A program of its own, because the metrics of the mappings belong to a process.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;
use services::free_port;
use services::https_receiver::HttpsReceiver;
use stack::client::JsonClient;
use stack::demo::Demo;
use stack::functions::{FUNCTIONS, beside_this_program};
use stack::options::Options;
use stack::stack::Stack;
use telemetry::list;

/// Series that a run without faults does not have.
const OF_FAULTS: [&str; 4] =
    ["incarnations_begun_total", "invocation_errors_total", "events_scored_late_total", "events_rejected_total"];
/// Series of traces, which are off.
const OF_TRACES: [&str; 2] = ["spans_total", "trace_export_failures_total"];
/// Longer than the pause between two looks of the mappings at their lag.
const LAG_IS_KNOWN: Duration = Duration::from_secs(7);

/// A scraped series: its name with its labels, sorted.
type Series = (String, BTreeMap<String, String>);

/// The values of a text in Prometheus's format. No label here has a comma or a quote.
fn scraped(text: &str) -> BTreeMap<Series, f64> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
            let labels = labels.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect();
            ((name.to_owned(), labels), value.parse().unwrap())
        })
        .collect()
}

#[derive(Default)]
struct Metrics(BTreeMap<Series, f64>);

impl Metrics {
    async fn scrape(&mut self, port: u16) {
        let answer = JsonClient::default().get(&format!("http://127.0.0.1:{port}/metrics"), &[]).await.unwrap();
        assert!(answer.status.is_success());
        self.0.extend(scraped(std::str::from_utf8(&answer.body).unwrap()));
    }

    /// The sum over the series that have these labels.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let has = |of: &BTreeMap<String, String>| {
            labels.iter().all(|(name, value)| of.get(*name).is_some_and(|of| of == value))
        };
        let of_name = self.0.iter().filter(|((of, with), _)| of == name && has(with));
        of_name.map(|(_, value)| value).sum::<f64>().to_string().parse().unwrap()
    }

    fn names(&self) -> BTreeSet<&str> {
        let plain = |name: &'static str| move |(of, _): &Series| of == name || of.strip_suffix("_bucket") == Some(name);
        list::ALL.iter().map(|metric| metric.name).filter(|name| self.0.keys().any(plain(name))).collect()
    }
}

fn options(receiver: &HttpsReceiver) -> Options {
    let mut options = Options::for_one_run(&settings::ProcessEnvironment, beside_this_program().unwrap()).unwrap();
    let ports = &mut options.ports.metrics;
    for port in [&mut ports.stack, &mut ports.ingest, &mut ports.query] {
        port.number = free_port().unwrap();
    }
    options.rescore_every = None;
    options.telling(receiver)
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_agree_with_the_ledger_and_cloudwatch_would_take_every_line() {
    let receiver = HttpsReceiver::start().await.unwrap();
    let options = options(&receiver);
    let ports = options.ports.metrics;
    telemetry::start_prometheus("esm", ports.stack.address()).unwrap();
    let stack = Stack::start(options).await.unwrap();
    let webhook = json!({
        "action": "create-webhook", "tenant": "demo", "url": receiver.url(), "outcomes": ["valid", "fraud"], "by": "test",
    });
    stack.invoke("maintainer", webhook).await.unwrap();
    let demo = Demo { events: 1000, batch_size: 100, ..Demo::default() };
    let traffic = demo.traffic().unwrap();
    let foreign = traffic.foreign.len() as u64;
    let report = demo.run(&stack, traffic).await.unwrap();
    assert_eq!(report.unaccounted, 0, "{report}");
    for (function, request) in [
        ("maintainer", json!({"action": "reconcile"})),
        ("redriver", json!({"action": "redrive"})),
        ("rescorer", json!({"action": "rescore"})),
        ("aggregator", json!({"action": "aggregate"})),
        ("notifier", json!({"action": "retry"})),
        ("replayer", json!({"action": "restore", "dry_run": true})),
    ] {
        stack.invoke(function, request).await.unwrap();
    }
    stack.wait_until_idle(Duration::from_secs(60)).await.unwrap();
    JsonClient::default().get(&format!("{}/none", stack.query_url()), &[]).await.unwrap();
    tokio::time::sleep(LAG_IS_KNOWN).await;

    let mut metrics = Metrics::default();
    for port in [ports.stack, ports.ingest, ports.query] {
        metrics.scrape(port.number).await;
    }
    let redriven = metrics.sum("redrives_total", &[("result", "sent")]);
    assert!(redriven > 0, "the demo has dead letters");
    let outcome = |status: &str| metrics.sum("events_processed_total", &[("status", status)]);
    assert_eq!(metrics.sum("events_received_total", &[]), report.accepted - foreign);
    assert_eq!(outcome("valid") + outcome("fraud"), report.persisted);
    assert_eq!(outcome("fraud"), report.fraud);
    assert_eq!(metrics.sum("fraud_detected_total", &[]), report.fraud);
    assert_eq!(outcome("duplicate"), report.duplicate);
    assert_eq!(metrics.sum("dedup_hits_total", &[]), report.duplicate);
    assert_eq!(outcome("blocked"), report.blocked);
    assert_eq!(outcome("dead_lettered"), report.dead_lettered + redriven, "a letter that is sent again fails again");
    assert_eq!(metrics.sum("dead_letters_total", &[]), outcome("dead_lettered"));
    assert_eq!(metrics.sum("event_delay_seconds_count", &[]), report.persisted);
    assert_eq!(metrics.sum("records_archived_total", &[("topic", "raw-events")]), report.archived + redriven);
    assert_eq!(
        metrics.sum("esm_records_total", &[("group", "processor"), ("result", "delivered")]),
        report.accepted + redriven
    );
    assert_eq!((metrics.sum("queue_lag", &[]), metrics.sum("queue_lag_known", &[])), (0, 4));
    assert_eq!((metrics.sum("unaccounted_records", &[]), metrics.sum("circuit_breaker_opened_total", &[])), (0, 0));
    let told = metrics.sum("webhook_attempts_total", &[("result", "delivered")]);
    assert!((1..=receiver.received().len() as u64).contains(&told), "{told}");
    let missing: Vec<&str> = list::ALL.iter().map(|metric| metric.name).collect();
    let missing: Vec<&&str> = missing
        .iter()
        .filter(|name| !metrics.names().contains(**name) && !OF_FAULTS.contains(name) && !OF_TRACES.contains(name))
        .collect();
    assert!(missing.is_empty(), "no series has {missing:?}");

    // On Lambda behind a gateway, these two write lines as well.
    for (function, request) in [("ingest", "function-url"), ("query", "function-url")] {
        let request = testkit::samples::sample(function, request);
        stack.invoke(function, serde_json::from_str(&request).unwrap()).await.unwrap();
    }
    let logs = stack.options.logs.clone();
    stack.stop().await.unwrap();
    let mut written: BTreeSet<String> = BTreeSet::new();
    for log in std::fs::read_dir(logs).unwrap() {
        for line in std::fs::read_to_string(log.unwrap().path()).unwrap().lines() {
            let has_one_shape = |line: &serde_json::Value| {
                let texts = ["timestamp", "level", "service", "message"];
                let durations = line.as_object().unwrap().iter().filter(|(name, _)| name.ends_with("_ms"));
                texts.iter().all(|name| line[name].is_string()) && durations.into_iter().all(|(_, of)| of.is_number())
            };
            let parsed: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(parsed.get("_aws").is_some() || has_one_shape(&parsed), "{line}");
            if let Some(reading) = telemetry::emf::read(line).unwrap_or_else(|error| panic!("{error}: {line}")) {
                assert_eq!((reading.namespace.as_str(), reading.dimensions[0].as_str()), ("Forebay", "service"));
                written.insert(reading.labels["service"].clone());
            }
        }
    }
    let functions: BTreeSet<String> = FUNCTIONS.map(str::to_owned).into();
    assert_eq!(written, functions);
}
