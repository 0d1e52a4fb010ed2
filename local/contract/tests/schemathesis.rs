//! The document against the running functions, as `make contract-test` runs it: schemathesis in all its phases, and a client
//! that is generated from the document.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::serve::ListenerExt as _;
use contract::document::operations;
use contract::in_repository;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use settings::{ProcessEnvironment, Variables as _};
use stack::functions::beside_this_program;
use stack::options::Options;
use stack::stack::Stack;
use tokio::net::TcpListener;

const PATIENCE: Duration = Duration::from_secs(60);
/// So that hardly a request is refused because of it.
const NO_LIMIT: u32 = 100_000_000;

async fn start() -> (Stack, String) {
    let options = Options::for_one_run(&ProcessEnvironment, beside_this_program().unwrap()).unwrap();
    // Requests that wait for what will never come do not wait long.
    let limits = [
        ("QUERY_RATE_LIMIT_PER_MIN", NO_LIMIT),
        ("RATE_LIMIT_BURST_PERCENT", 100),
        ("IP_RATE_LIMIT_PER_MIN", 0),
        ("MAX_WAIT_MS", 1_000),
        // A stream ends after its first block.
        ("STREAM_MAX_SEC", 0),
    ];
    let options = limits.iter().fold(options, |options, (name, value)| options.with_setting(name, value.to_string()));
    let stack = Stack::start(options).await.unwrap();
    let request = json!({
        "action": "create-key", "tenant": "contract", "name": "contract test", "kind": "server",
        "scopes": ["write", "read", "operate"], "rate_limit_per_min": NO_LIMIT, "by": "contract",
    });
    let made = stack.invoke("maintainer", request).await.unwrap();
    let key = made["key"].as_str().unwrap().to_owned();
    (stack, key)
}

/// One address for both functions, as API Gateway gives them.
#[derive(Clone)]
struct Front {
    client: Client<HttpConnector, Body>,
    ingest: String,
    query: String,
}

impl Front {
    /// With its URL.
    async fn start(stack: &Stack) -> (Front, String) {
        let origin = |url: String| url.trim_end_matches("/events").to_owned();
        // Without it each answer comes 40 ms later.
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let front = Front {
            client: Client::builder(TokioExecutor::new()).build(connector),
            ingest: origin(stack.ingest_url()),
            query: origin(stack.query_url()),
        };
        let router = Router::new().fallback(pass).with_state(front.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (front, url)
    }

    /// Where a request goes. What neither has goes to one that says so.
    fn origin(&self, method: &Method, path: &str) -> &str {
        match path {
            "/event" | "/events/batch" => &self.ingest,
            "/events" if *method != Method::GET => &self.ingest,
            _ => &self.query,
        }
    }
}

async fn pass(State(front): State<Front>, mut request: Request) -> Response {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let url = format!("{}{path}", front.origin(request.method(), request.uri().path()));
    *request.uri_mut() = url.parse::<Uri>().unwrap();
    match front.client.request(request).await {
        Ok(response) => response.map(Body::new),
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:?}")).into_response(),
    }
}

fn document() -> Value {
    serde_json::from_str(&std::fs::read_to_string(in_repository("docs/openapi.json")).unwrap()).unwrap()
}

/// Sends the examples, so that those of query find something.
async fn send_examples(stack: &Stack, front: &Front, key: &str) {
    let document = document();
    for (path, _, operation) in operations(&document) {
        for (media_type, content) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
            for example in content["examples"].as_object().into_iter().flatten().map(|(_, example)| &example["value"]) {
                let request = Request::post(format!("{}{path}", front.ingest)).header(header::CONTENT_TYPE, media_type);
                let request = request.header("x-api-key", key).body(Body::from(example.to_string())).unwrap();
                let answer = front.client.request(request).await.unwrap();
                assert!(answer.status().is_success(), "{path}: {answer:?}");
            }
        }
    }
    stack.wait_until_idle(PATIENCE).await.unwrap();
}

/// The statuses that each operation answered, by its method and path, in a report as lines of JSON.
fn answered(report: &str) -> BTreeMap<String, BTreeSet<u64>> {
    let mut answered: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for line in report.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let recorder = &event["ScenarioFinished"]["recorder"];
        let statuses = recorder["interactions"].as_object().into_iter().flatten();
        let statuses = statuses.filter_map(|(_, interaction)| interaction["response"]["status_code"].as_u64());
        if let Some(operation) = recorder["label"].as_str() {
            answered.entry(operation.to_owned()).or_default().extend(statuses);
        }
    }
    answered
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs schemathesis: `make contract-test`"]
async fn the_functions_do_what_the_document_says() {
    let (stack, key) = start().await;
    let (front, url) = Front::start(&stack).await;
    send_examples(&stack, &front, &key).await;
    let served = front.client.get(format!("{url}/openapi.json").parse().unwrap()).await.unwrap();
    let served = axum::body::to_bytes(Body::new(served.into_body()), usize::MAX).await.unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&served).unwrap(), document());
    let folder = in_repository("local/contract/schemathesis");
    let reports = in_repository("target/contract");
    let report = reports.join("report.ndjson");
    let _ = std::fs::remove_file(&report);
    let program = ProcessEnvironment.get("SCHEMATHESIS").expect("SCHEMATHESIS is not set: use `make contract-test`");
    let mut schemathesis = Command::new(program);
    schemathesis
        .arg("--config-file")
        .arg(folder.join("schemathesis.toml"))
        .arg("run")
        // From the file, because it would leave the operation out from which it had the document.
        .arg(in_repository("docs/openapi.json"))
        .args(["--url", &url, "--no-color", "--report", "ndjson"])
        .arg("--report-dir")
        .arg(&reports)
        .arg("--report-ndjson-path")
        .arg(&report)
        .args(ProcessEnvironment.get("SCHEMATHESIS_ARGS").unwrap_or_default().split_whitespace())
        .env("PYTHONPATH", &folder)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("CONTRACT_KEY", &key)
        .current_dir(&reports);
    let status = tokio::task::spawn_blocking(move || schemathesis.status().unwrap()).await.unwrap();
    assert!(status.success(), "schemathesis: {status}");
    let answered = answered(&std::fs::read_to_string(report).unwrap());
    let is_success = |status: &u64| (200..300).contains(status);
    let document = document();
    for (path, method, _) in operations(&document) {
        let operation = format!("{} {path}", method.to_uppercase());
        let statuses = answered.get(&operation).cloned().unwrap_or_default();
        assert!(statuses.iter().any(is_success), "{operation} was never seen to succeed: {statuses:?}");
    }
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a generated client: `make contract-test`"]
async fn a_generated_client_sends_an_event_and_reads_its_timeline() {
    let (stack, key) = start().await;
    let (_, url) = Front::start(&stack).await;
    let script =
        ProcessEnvironment.get("CONTRACT_CLIENT").expect("CONTRACT_CLIENT is not set: use `make contract-test`");
    let mut client = Command::new("node");
    client.arg(script).env("CONTRACT_URL", &url).env("CONTRACT_KEY", &key);
    let output = tokio::task::spawn_blocking(move || client.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["id"], &told["status"]), (&json!("from-the-client"), &json!("valid")), "{told}");
    assert_eq!(told["steps"], json!(["accepted", "recorded", "stored", "scored"]), "{told}");
    stack.stop().await.unwrap();
}
