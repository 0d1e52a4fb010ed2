//! Streams of outcomes through the real binaries: events go in by ingest and come out of `GET /stream` of query.
//!
//! `KAFKA=apache` runs it on the real broker.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests: a failure is a failed test")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pipeline::ports::KeyKind;
use serde_json::{Value, json};
use stack::client::JsonClient;
use stack::functions::beside_this_program;
use stack::options::Options;
use stack::stack::Stack;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(60);

fn options() -> Options {
    Options::for_one_run(&settings::ProcessEnvironment, beside_this_program().unwrap()).unwrap()
}

struct Client {
    lines: Lines<BufReader<TcpStream>>,
    last_id: String,
}

impl Client {
    async fn open(stack: &Stack, key: &str, query: &str, last_id: &str) -> Client {
        let url = stack.query_url();
        let address = url.trim_start_matches("http://").trim_end_matches("/events");
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "GET /stream?{query} HTTP/1.1\r\nhost: {address}\r\nx-api-key: {key}\r\nlast-event-id: {last_id}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut client = Client { lines: BufReader::new(stream).lines(), last_id: String::new() };
        let status = client.line().await.unwrap();
        assert!(status.starts_with("HTTP/1.1 200"), "{status}");
        client
    }

    /// `None` at the end of the connection.
    async fn line(&mut self) -> Option<String> {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("nothing comes");
        let line = line.ok().flatten()?;
        if let Some(id) = line.strip_prefix("id: ") {
            id.clone_into(&mut self.last_id);
        }
        Some(line)
    }

    /// The ids of the next events, and how often each came.
    async fn events(&mut self, count: usize) -> BTreeMap<String, usize> {
        let mut found = BTreeMap::new();
        while found.values().sum::<usize>() < count {
            let line = self.line().await.expect("the stream ended");
            let Some(data) = line.strip_prefix("data: ") else { continue };
            let data: Value = serde_json::from_str(data).unwrap();
            assert_eq!((&data["outcome"], &data["data"]["campaign_id"]), (&json!("valid"), &json!("spring")), "{data}");
            *found.entry(data["id"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        found
    }
}

async fn send(stack: &Stack, key: &str, numbers: std::ops::Range<usize>) {
    let events: Vec<Value> = numbers
        .map(|number| {
            json!({
                "type": "click", "id": format!("click-{number}"), "user_id": format!("user-{}", number % 7),
                "campaign_id": "spring", "geo_country": "DE", "device_type": "mobile",
            })
        })
        .collect();
    let body = Value::Array(events).to_string();
    let answer = JsonClient::default()
        .post(&format!("{}/batch", stack.ingest_url()), &[("x-api-key", key)], body)
        .await
        .unwrap();
    assert!(answer.status.is_success(), "{}", answer.status);
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_are_streamed_and_a_client_that_comes_back_misses_none() {
    let stack =
        Stack::start(options().with_setting("IP_RATE_LIMIT_PER_MIN", "0").with_setting("STREAM_CONNECTIONS", "3"))
            .await
            .unwrap();
    let key = stack.endpoints().create_key("acme", "streaming", KeyKind::Server, 1_000_000).await.unwrap();
    let stranger = stack.endpoints().create_key("other", "stranger", KeyKind::Server, 1_000_000).await.unwrap();
    let mut client = Client::open(&stack, &key, "outcome=valid&type=click", "").await;
    let mut other = Client::open(&stack, &stranger, "", "").await;
    while client.last_id.is_empty() || other.last_id.is_empty() {
        client.line().await.unwrap();
        other.line().await.unwrap();
    }
    let begun = (client.last_id.clone(), other.last_id.clone());
    send(&stack, &key, 0..200).await;
    let first = client.events(60).await;
    let cut_at = client.last_id.clone();
    drop(client);
    send(&stack, &key, 200..300).await;
    let mut client = Client::open(&stack, &key, "outcome=valid&type=click", &cut_at).await;
    let rest = client.events(240).await;
    let mut all = first;
    for (id, times) in rest {
        *all.entry(id).or_default() += times;
    }
    assert_eq!(all.len(), 300);
    assert!(all.values().all(|times| *times == 1), "{all:?}");
    // From where it began, another instance's id would do as well: everything comes again.
    let mut again = Client::open(&stack, &key, "", &begun.0).await;
    assert_eq!(again.events(300).await.len(), 300);

    // Each that went away has left its place and its connections to the brokers.
    drop((client, again));
    let query = stack.processes("query");
    let open_files = || -> usize {
        query.iter().map(|process| std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()).sum()
    };
    let until = Instant::now() + PATIENCE;
    let mut before = usize::MAX;
    // What closes takes a moment.
    while open_files() < before {
        before = open_files();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    for _ in 0..20 {
        let mut short = Client::open(&stack, &key, "", "").await;
        while short.last_id.is_empty() {
            short.line().await.unwrap();
        }
        drop(short);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    while open_files() > before + 2 {
        assert!(Instant::now() < until, "{} open files, {before} before", open_files());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    // The other tenant gets nothing of it but an id behind it.
    while other.last_id == begun.1 {
        let line = other.line().await.unwrap();
        assert!(!line.starts_with("data:"), "{line}");
    }
    let started = Instant::now();
    stack.stop().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(15), "streams hold up the stop: {:?}", started.elapsed());
}
