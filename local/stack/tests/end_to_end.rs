//! The whole pipeline through the real binaries: HTTP in, rows, outcomes and archive objects out.
//!
//! Each test has its own stack. `KAFKA=apache` runs them on the real broker.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure is a failed test")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pipeline::ports::KeyKind;
use pipeline::topic::RAW_EVENTS;
use postgres::Database;
use serde_json::{Value, json};
use settings::Variables as _;
use stack::client::JsonClient;
use stack::demo::{BatchSender, Demo, DemoReport, RequestBatch, SenderKind, Sent, Traffic, make_keys, send_all};
use stack::functions::{beside_this_program, start_http};
use stack::options::Options;
use stack::progress::GroupProgress;
use stack::reconcile::LedgerProof;
use stack::stack::Stack;
use tokio_postgres::NoTls;

fn options() -> Options {
    Options::for_one_run(&settings::ProcessEnvironment, beside_this_program().unwrap()).unwrap()
}

/// Sums per outcome in `record_outcomes`, and the number of rows in `events`.
async fn sums(stack: &Stack) -> (BTreeMap<String, i64>, i64) {
    let (client, connection) = tokio_postgres::connect(stack.database_url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let rows = client.query("SELECT outcome, count(*) FROM record_outcomes GROUP BY outcome", &[]).await.unwrap();
    let outcomes = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let events = client.query_one("SELECT count(*) FROM events", &[]).await.unwrap().get(0);
    (outcomes, events)
}

fn clicks(from: usize, to: usize) -> Vec<String> {
    (from..to)
        .map(|number| {
            json!({
                "type": "click", "id": format!("click-{number}"), "user_id": format!("user-{}", number % 97),
                "campaign_id": "spring", "geo_country": "DE", "device_type": "mobile",
            })
            .to_string()
        })
        .collect()
}

async fn send(stack: &Stack, batches: Vec<RequestBatch>) -> Sent {
    let sender = BatchSender {
        client: JsonClient::default(),
        url: format!("{}/batch", stack.ingest_url()),
        keys: make_keys(&stack.endpoints()).await.unwrap(),
    };
    let (watch, _receipts) = tokio::sync::mpsc::unbounded_channel();
    send_all(Arc::new(sender), batches, 2, watch, indicatif::ProgressBar::hidden()).await.unwrap()
}

fn batches(events: &[String], size: usize) -> Vec<RequestBatch> {
    events.chunks(size).map(|chunk| RequestBatch { sender: SenderKind::Client, events: chunk.to_vec() }).collect()
}

const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn made_up_traffic_is_accounted_for_to_the_last_event() {
    let stack = Stack::start(options()).await.unwrap();
    let demo = Demo { events: 1000, batch_size: 100, ..Demo::default() };
    let report: DemoReport = demo.run(&stack, demo.traffic().unwrap()).await.unwrap();
    stack.stop().await.unwrap();
    let rejected: u64 = report.rejected.values().sum();
    assert_eq!(report.unaccounted, 0, "{report}");
    assert_eq!(report.sent, report.accepted + rejected, "{report}");
    let ended = report.persisted + report.duplicate + report.blocked + report.dead_lettered;
    assert_eq!(report.accepted, ended, "{report}");
    assert_eq!(report.archived, report.accepted, "{report}");
    assert_eq!(report.dead_lettered, 5, "{report}");
    assert_eq!(report.blocked, 150, "250 from one address, which may send 100 a minute: {report}");
    assert!(report.fraud > 0 && report.duplicate > 0 && rejected > 0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_events_sent_three_times_are_a_thousand_rows() {
    let stack = Stack::start(options().with_setting("IP_RATE_LIMIT_PER_MIN", "0")).await.unwrap();
    let events = clicks(0, 1000);
    let mut sent = Sent::default();
    for size in [1000, 70, 333] {
        sent.merge(send(&stack, batches(&events, size)).await);
    }
    stack.wait_until_idle(PATIENCE).await.unwrap();
    let (outcomes, rows) = sums(&stack).await;
    stack.stop().await.unwrap();
    assert_eq!(sent.receipts.len(), 3000);
    assert_eq!(rows, 1000);
    assert_eq!(outcomes, BTreeMap::from([("valid".to_owned(), 1000), ("duplicate".to_owned(), 2000)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_processor_changes_no_sum() {
    let mut options = options().with_setting("IP_RATE_LIMIT_PER_MIN", "0");
    options.pollers = 2;
    let stack = Arc::new(Stack::start(options).await.unwrap());
    let killer = tokio::spawn({
        let stack = Arc::clone(&stack);
        async move {
            let mut kills = 0;
            let until = Instant::now() + PATIENCE;
            while kills < 6 && Instant::now() < until {
                for pid in stack.processes("processor") {
                    let pid = Pid::from_raw(i32::try_from(pid).unwrap());
                    kills += i32::from(kill(pid, Signal::SIGKILL).is_ok());
                }
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
            kills
        }
    });
    let events = clicks(0, 4000);
    let mut sent = send(&stack, batches(&events, 50)).await;
    sent.merge(send(&stack, batches(&events[..500], 50)).await);
    let kills = killer.await.unwrap();
    stack.wait_until_idle(PATIENCE).await.unwrap();
    let (outcomes, rows) = sums(&stack).await;
    let unaccounted = stack.unaccounted().await.unwrap();
    let stack = Arc::into_inner(stack).unwrap();
    stack.stop().await.unwrap();
    assert!(kills >= 6, "only {kills} kills: the test proved nothing");
    assert_eq!(sent.receipts.len(), 4500);
    assert_eq!(rows, 4000);
    assert_eq!(outcomes, BTreeMap::from([("valid".to_owned(), 4000), ("duplicate".to_owned(), 500)]));
    assert_eq!(unaccounted, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_after_the_topic_was_made_again_are_recorded_beside_those_before() {
    let stack = Stack::start(options().with_setting("IP_RATE_LIMIT_PER_MIN", "0")).await.unwrap();
    send(&stack, batches(&clicks(0, 500), 50)).await;
    stack.wait_until_idle(PATIENCE).await.unwrap();
    stack.kafka.topics().delete(RAW_EVENTS).await.unwrap();
    stack.invoke("maintainer", json!({"action": "maintain"})).await.unwrap();
    let sent = send(&stack, batches(&clicks(500, 520), 1)).await;
    let database = Database::connect(&stack.postgres_config().unwrap()).await.unwrap();
    let until = Instant::now() + PATIENCE;
    while sums(&stack).await.1 < 520 && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (outcomes, rows) = sums(&stack).await;
    let proof = LedgerProof::gather(&database, &stack.kafka).await.unwrap();
    stack.stop().await.unwrap();
    assert_eq!(sent.receipts.len(), 20);
    assert_eq!((rows, outcomes), (520, BTreeMap::from([("valid".to_owned(), 520)])), "{proof}");
    assert_eq!(proof.unaccounted(), 0, "{proof}");
    let text = proof.to_string();
    assert!(text.contains("ended"), "both logs are listed: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_stops_or_leaves_records_out_is_told() {
    let mut stack = Stack::start(options().with_setting("IP_RATE_LIMIT_PER_MIN", "0")).await.unwrap();
    let database = Database::connect(&stack.postgres_config().unwrap()).await.unwrap();
    send(&stack, batches(&clicks(0, 200), 50)).await;
    stack.wait_until_idle(PATIENCE).await.unwrap();
    let idle = GroupProgress::gather(&database, &stack.kafka, Duration::ZERO).await.unwrap();
    stack.stop_mappings().await;
    send(&stack, batches(&clicks(200, 300), 50)).await;
    let young = GroupProgress::gather(&database, &stack.kafka, PATIENCE).await.unwrap();
    let stuck = GroupProgress::gather(&database, &stack.kafka, Duration::ZERO).await.unwrap();
    let forget = "TRUNCATE checkpoints, record_outcomes";
    database.connection().await.unwrap().batch_execute(forget).await.unwrap();
    let skipping = GroupProgress::gather(&database, &stack.kafka, PATIENCE).await.unwrap();
    stack.stop().await.unwrap();
    for good in [&idle, &young] {
        let text = good.to_string();
        assert!(text.contains("good") && !text.contains("STUCK") && !text.contains("SKIPS"), "{text}");
    }
    assert!(stuck.to_string().contains("STUCK") && stuck.skips_nothing(), "{stuck}");
    assert!(!skipping.skips_nothing() && skipping.to_string().contains("SKIPS"), "{skipping}");
    assert!(skipping.to_string().contains("the group will not deliver them again"), "{skipping}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_normal_sample_is_accepted_through_the_invoke_api() {
    let stack = Stack::start(options()).await.unwrap();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../events");
    let sample =
        |path: &str| -> Value { serde_json::from_str(&std::fs::read_to_string(folder.join(path)).unwrap()).unwrap() };
    let score = stack.invoke("scorer", sample("scorer/private-address.json")).await.unwrap();
    assert!(score["risk_score"].is_u64(), "{score}");
    let processed = stack.invoke("processor", sample("processor/valid-batch.json")).await.unwrap();
    assert_eq!(processed["batchItemFailures"], json!([]));
    let archived = stack.invoke("archiver", sample("archiver/valid-batch.json")).await.unwrap();
    assert_eq!(archived["batchItemFailures"], json!([]));
    // Ingest behind API Gateway.
    let answer = stack.invoke("ingest", sample("ingest/single-transaction.json")).await.unwrap();
    assert_eq!(answer["statusCode"], 202, "{answer}");
    let answer = stack.invoke("ingest", sample("ingest/bad-key.json")).await.unwrap();
    assert_eq!(answer["statusCode"], 401, "{answer}");
    let refused = stack.invoke("archiver", json!({"not": "a batch"})).await.unwrap_err();
    assert!(refused.to_string().contains("Kafka trigger"), "{refused}");
    let (outcomes, rows) = sums(&stack).await;
    stack.stop().await.unwrap();
    assert!(rows > 0 && outcomes.contains_key("valid"), "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_block_acts_within_seconds_and_can_be_taken_back() {
    let stack = Stack::start(options()).await.unwrap();
    let address = "198.51.100.7";
    let send_one = async |id: &str| {
        let event = json!({"type": "page_view", "id": id, "path": "/", "client_ip": address}).to_string();
        send(&stack, vec![RequestBatch { sender: SenderKind::Collector, events: vec![event] }]).await;
        stack.wait_until_idle(PATIENCE).await.unwrap();
        sums(&stack).await.0
    };
    assert_eq!(send_one("before").await, BTreeMap::from([("valid".to_owned(), 1)]));
    let block = json!({"action": "block", "address": address, "reason": "a test"});
    stack.invoke("maintainer", block).await.unwrap();
    // The processor keeps the list for 2 s.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(send_one("during").await["blocked"], 1);
    stack.invoke("maintainer", json!({"action": "unblock", "address": address})).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(send_one("after").await["valid"], 2);
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_read_as_page_views_and_repeated_lines_are_duplicates() {
    let log = "\
192.0.2.1 - - [17/May/2015:10:05:03 +0000] \"GET /a HTTP/1.1\" 200 1 \"-\" \"curl\"
192.0.2.1 - - [17/May/2015:10:05:03 +0000] \"GET /a HTTP/1.1\" 200 1 \"-\" \"curl\"
not a log line
192.0.2.2 - - [17/May/2015:10:05:04 +0000] \"GET /b HTTP/1.1\" 404 - \"-\" \"a cut user agent
";
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, log.as_bytes()).unwrap();
    let stack = Stack::start(options()).await.unwrap();
    let traffic = Traffic::from_access_log(file.path(), 500).unwrap();
    let report = Demo::default().run(&stack, traffic).await.unwrap();
    stack.stop().await.unwrap();
    assert_eq!(
        (report.accepted, report.persisted, report.duplicate, report.bad_lines, report.unaccounted),
        (3, 2, 1, 1, 0),
        "{report}"
    );
}

/// Keys, limits, blocks and marks in Postgres. While it is down, ingest takes events of keys that it knows.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_needs_dynamodb_if_postgres_keeps_its_part() {
    let options = options()
        .with_setting("DEDUP_STORE", "postgres")
        .with_setting("ACCESS_STORE", "postgres")
        .with_setting("API_KEY_CACHE_SEC", "0")
        .with_setting("BREAKER_OPEN_SEC", "1");
    assert!(!options.uses_dynamodb());
    // Only a server whose data is kept can be killed.
    let folder = tempfile::tempdir().unwrap();
    let options = Options { keep: Some(folder.path().to_owned()), ..options };
    let mut stack = Stack::start(options).await.unwrap();
    assert!(stack.session.get("AWS_ENDPOINT_URL_DYNAMODB").is_none());
    let key = stack.create_key("acme", "shop", KeyKind::Server, 100_000).await.unwrap();
    stack.invoke("maintainer", json!({"action": "block", "address": "203.0.113.7", "reason": "a test"})).await.unwrap();
    let event = |id: &str, address: &str| {
        json!({
            "type": "click", "id": id, "user_id": "u", "campaign_id": "c", "client_ip": address,
        })
        .to_string()
    };
    let post = async |url: &str, key: &str, id: &str, address: &str| {
        JsonClient::default().post(url, &[("x-api-key", key)], event(id, address)).await.unwrap().status.as_u16()
    };
    let url = stack.ingest_url();
    assert_eq!(post(&url, &key, "blocked", "203.0.113.7").await, 202);
    assert_eq!(post(&url, &key, "stored", "203.0.113.8").await, 202);
    stack.wait_until_idle(PATIENCE).await.unwrap();
    let expected = BTreeMap::from([("blocked".to_owned(), 1), ("valid".to_owned(), 1)]);
    assert_eq!(sums(&stack).await, (expected, 1));
    let audit = stack.invoke("maintainer", json!({"action": "audit"})).await.unwrap();
    assert!(audit.to_string().contains("203.0.113.7"), "{audit}");

    stack.backing().postgres.as_mut().unwrap().kill().unwrap();
    assert_eq!(post(&url, &key, "while-down", "203.0.113.8").await, 202, "of a key that was used before");
    assert_eq!(post(&url, "another", "unknown", "203.0.113.8").await, 503, "nobody knows whether this key exists");
    let port = crate::options().ports.ingest;
    let second =
        start_http("ingest", port, stack.options.ports.metrics.ingest, &stack.options, &stack.session.variables())
            .await
            .unwrap();
    let second_url = format!("http://{}/events", port.address());
    assert_eq!(post(&second_url, &key, "started-while-down", "203.0.113.8").await, 503, "it has no cached keys");

    stack.backing().postgres.as_mut().unwrap().restart().await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while post(&second_url, &key, "started-while-down", "203.0.113.8").await != 202 {
        assert!(Instant::now() < deadline, "the second ingest did not find its store again");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    stack.wait_until_idle(PATIENCE).await.unwrap();
    assert_eq!(sums(&stack).await.1, 3, "also what was accepted while Postgres was down");
    assert_eq!(stack.unaccounted().await.unwrap(), 0);
    second.stop().await;
    stack.stop().await.unwrap();
}
