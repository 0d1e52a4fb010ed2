//! Late scores through the real binaries: the scorer is down, events are stored unscored, the scorer comes back.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure is a failed test")]

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pipeline::ports::TopicSource as _;
use pipeline::topic::PROCESSED_EVENTS;
use serde_json::{Value, json};
use stack::client::JsonClient;
use stack::demo::{BatchSender, RequestBatch, SenderKind, make_keys, send_all};
use stack::functions::{FUNCTIONS, beside_this_program};
use stack::options::Options;
use stack::stack::Stack;
use tempfile::TempDir;
use tokio_postgres::NoTls;

const PATIENCE: Duration = Duration::from_secs(120);

/// The function binaries, one of which may be replaced.
struct Binaries {
    real: PathBuf,
    folder: TempDir,
}

impl Binaries {
    fn new() -> Self {
        let real = beside_this_program().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let binaries = Binaries { real, folder };
        FUNCTIONS.into_iter().for_each(|name| binaries.restore(name));
        binaries
    }

    fn restore(&self, name: &str) {
        self.replace(name, &self.real.join(name));
    }

    fn replace(&self, name: &str, program: &Path) {
        let link = self.folder.path().join(name);
        if link.is_symlink() {
            std::fs::remove_file(&link).unwrap();
        }
        symlink(program, link).unwrap();
    }

    fn options(&self) -> Options {
        let environment = &settings::ProcessEnvironment;
        let options = Options::for_one_run(environment, self.folder.path().to_owned()).unwrap();
        options.with_setting("IP_RATE_LIMIT_PER_MIN", "0")
    }
}

/// Page views, one in ten from a private address.
async fn send(stack: &Stack, events: usize) {
    let event = |number: usize| {
        let address = if number.is_multiple_of(10) { "10.0.0.7" } else { "198.51.100.7" };
        json!({"type": "page_view", "id": format!("e-{number}"), "path": "/", "client_ip": address}).to_string()
    };
    let batches = vec![RequestBatch { sender: SenderKind::Collector, events: (0..events).map(event).collect() }];
    let sender = BatchSender {
        client: JsonClient::default(),
        url: format!("{}/batch", stack.ingest_url()),
        keys: make_keys(&stack.endpoints()).await.unwrap(),
    };
    let (watch, _receipts) = tokio::sync::mpsc::unbounded_channel();
    let sent = send_all(Arc::new(sender), batches, 1, watch, indicatif::ProgressBar::hidden()).await.unwrap();
    assert_eq!(sent.receipts.len(), events);
    stack.wait_until_idle(PATIENCE).await.unwrap();
}

async fn database(stack: &Stack) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(stack.database_url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Counts by name.
async fn sums(stack: &Stack, sql: &str) -> BTreeMap<String, i64> {
    let rows = database(stack).await.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

fn by_name<const N: usize>(sums: [(&str, i64); N]) -> BTreeMap<String, i64> {
    sums.into_iter().filter(|(_, sum)| *sum > 0).map(|(name, sum)| (name.to_owned(), sum)).collect()
}

const COUNTS: &str = "SELECT status, sum(events)::int8 FROM event_counts_hourly GROUP BY 1 HAVING sum(events) > 0";
const SCORES: &str = "SELECT status || coalesce(' ' || rules_version, ' unscored'), count(*) FROM events GROUP BY 1";
const LEDGER: &str = "SELECT outcome || CASE WHEN risk_score IS NULL THEN ' unscored' ELSE '' END, count(*)
                      FROM record_outcomes GROUP BY 1";

/// The outcomes on `processed-events`: those of records, and the late ones.
async fn outcomes(stack: &Stack) -> (Vec<Value>, Vec<Value>) {
    let mut reader = stack.kafka.open(PROCESSED_EVENTS, &BTreeMap::new()).await.unwrap();
    let mut values = Vec::new();
    while reader.spans().values().any(|span| !span.is_finished()) {
        for record in reader.read(Duration::from_secs(1)).await.unwrap() {
            let value: Value = serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
            assert_eq!(record.headers.get("outcome"), value["outcome"].as_str().map(str::as_bytes));
            values.push(value);
        }
    }
    values.into_iter().partition(|value| !value["outcome_id"].as_str().unwrap().ends_with("#scored"))
}

/// Ends the function's instances with their state in memory, so that the next call finds a closed breaker.
async fn end_instances(stack: &Stack, function: &str) {
    for pid in stack.processes(function) {
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
    }
    let until = Instant::now() + PATIENCE;
    while !stack.processes(function).is_empty() {
        assert!(Instant::now() < until, "instances of {function} are still alive");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_while_the_scorer_was_down_is_scored_once() {
    let binaries = Binaries::new();
    binaries.replace("scorer", Path::new("/bin/false"));
    let mut options = binaries.options();
    options.rescore_every = None;
    let stack = Stack::start(options).await.unwrap();
    let rescore = async || stack.invoke("rescorer", json!({"action": "rescore"})).await.unwrap();

    send(&stack, 700).await;
    assert_eq!(sums(&stack, SCORES).await, by_name([("valid unscored", 700)]));
    let down = rescore().await;
    assert_eq!((&down["ended"], &down["scored"], &down["left"]), (&json!("scorer-down"), &json!(0), &json!(700)));
    assert_eq!(sums(&stack, COUNTS).await, by_name([("valid", 700)]));

    binaries.restore("scorer");
    end_instances(&stack, "rescorer").await;
    let up = rescore().await;
    let expected = json!({
        "found": 700, "scored": 700, "fraud": 70, "published": 700, "unscorable": 0, "undeliverable": 0, "left": 0,
        "ended": "done",
    });
    assert_eq!(up, expected);
    let again = rescore().await;
    assert_eq!((&again["found"], &again["published"]), (&json!(0), &json!(0)));
    stack.wait_until_idle(PATIENCE).await.unwrap();

    let scores = sums(&stack, SCORES).await;
    assert_eq!(scores.len(), 2, "{scores:?}");
    assert!(!scores.contains_key("valid unscored"), "{scores:?}");
    assert_eq!(sums(&stack, COUNTS).await, by_name([("valid", 630), ("fraud", 70)]));
    assert_eq!(sums(&stack, LEDGER).await, by_name([("valid unscored", 700)]));
    let (first, late) = outcomes(&stack).await;
    assert_eq!((first.len(), late.len()), (700, 700));
    let named = |values: &[Value]| -> BTreeMap<String, Value> {
        let name = |value: &Value| value["outcome_id"].as_str().unwrap().trim_end_matches("#scored").to_owned();
        values.iter().map(|value| (name(value), value.clone())).collect()
    };
    let (first, late) = (named(&first), named(&late));
    assert_eq!(first.len(), 700);
    assert!(first.keys().eq(late.keys()), "one late outcome for each first one");
    for (id, late) in &late {
        for same in ["tenant", "id", "type", "received_at", "origin", "ip", "data"] {
            assert_eq!(late[same], first[id][same], "{same} of {id}");
        }
        let is_fraud = late["ip"] == "10.0.0.7";
        assert_eq!(late["outcome"], if is_fraud { "fraud" } else { "valid" }, "{id}");
        assert_eq!(late["reason"], "scored-later");
    }
    assert_eq!(stack.unaccounted().await.unwrap(), 0);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schedule_scores_without_being_asked() {
    let binaries = Binaries::new();
    let mut options = binaries.options();
    options.rescore_every = Some(Duration::from_secs(1));
    let stack = Stack::start(options).await.unwrap();
    send(&stack, 20).await;
    // As if the scorer had been down.
    let forget = "UPDATE events SET risk_score = NULL, risk_reasons = NULL, rules_version = NULL, scored_at = NULL";
    database(&stack).await.execute(forget, &[]).await.unwrap();
    let until = Instant::now() + PATIENCE;
    while sums(&stack, "SELECT 'unscored', count(*) FROM events WHERE risk_score IS NULL").await["unscored"] > 0 {
        assert!(Instant::now() < until, "the schedule did not score them");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stack.stop().await.unwrap();
}
