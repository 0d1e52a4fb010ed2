//! A server that plays ingest, query and the Invoke API, and the program that is tested against it.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::Notify;

pub const KEY: &str = "fb_server_not_to_be_seen";

/// What ingest does with one request instead of taking it.
#[derive(Clone, Debug)]
pub enum Trouble {
    Busy {
        status: u16,
        retry_after: Option<u64>,
    },
    /// The events are taken, and no answer ever comes.
    SilentAfterTaking,
}

#[derive(Default)]
pub struct Played {
    /// The events that ingest took, in order.
    pub events: Vec<Value>,
    /// Sizes of the batches that came.
    pub batches: Vec<usize>,
    /// By the number of the batch, from 0.
    pub troubles: Vec<(usize, Trouble)>,
    /// The key's burst.
    pub largest_batch: Option<usize>,
    /// Requests that functions got.
    pub calls: Vec<(String, Value)>,
    /// Answers of functions, one after another; then `{}`.
    pub answers: VecDeque<Value>,
    /// Paths and parameters that query was asked with, other than one id.
    pub questions: Vec<String>,
    /// Answers of query to those, one after another; then a problem.
    pub pages: VecDeque<Value>,
    /// The ids with which query was asked for a stream, and the streams, one after another; then a problem.
    pub resumed: Vec<Option<String>>,
    pub streams: VecDeque<&'static str>,
}

impl Played {
    pub fn ids(&self) -> BTreeSet<String> {
        self.events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
    }
}

#[derive(Clone)]
pub struct Server {
    pub played: Arc<Mutex<Played>>,
    silent: Arc<Notify>,
    pub url: String,
}

fn problem(status: u16, tag: &str) -> Response {
    let body = json!({"type": format!("urn:forebay:problem:{tag}"), "detail": "as played", "status": status});
    (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response()
}

fn key_problem(headers: &HeaderMap) -> Option<Response> {
    match headers.get("x-api-key").map(|key| key.to_str().unwrap()) {
        Some(KEY) => None,
        Some("revoked") => Some(problem(403, "api_key_revoked")),
        Some(_) => Some(problem(401, "api_key_unknown")),
        None => Some(problem(401, "api_key_missing")),
    }
}

async fn batch(State(server): State<Server>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(problem) = key_problem(&headers) {
        return problem;
    }
    let events: Vec<Value> = serde_json::from_slice(&body).unwrap();
    if events.is_empty() {
        return problem(400, "empty_batch");
    }
    let (items, trouble) = {
        let mut played = server.played.lock().unwrap();
        if played.largest_batch.is_some_and(|largest| events.len() > largest) {
            return problem(413, "batch_beyond_rate_limit");
        }
        let number = played.batches.len();
        played.batches.push(events.len());
        let trouble = played.troubles.iter().find(|(at, _)| *at == number).map(|(_, trouble)| trouble.clone());
        if let Some(Trouble::Busy { status, retry_after }) = trouble {
            let mut answer = problem(status, "rate_limit_exceeded");
            if let Some(seconds) = retry_after {
                answer.headers_mut().insert("retry-after", seconds.into());
            }
            return answer;
        }
        let mut items = Vec::new();
        for event in events {
            if event["amount"].is_string() {
                let problem = json!({"type": "urn:forebay:problem:schema_violation", "detail": "/amount"});
                items.push(json!({"status": "rejected", "problem": problem}));
            } else {
                items.push(json!({"status": "accepted", "id": event["id"]}));
                played.events.push(event);
            }
        }
        (items, trouble)
    };
    if trouble.is_some() {
        server.silent.notify_one();
        std::future::pending::<()>().await;
    }
    (StatusCode::MULTI_STATUS, json!({"items": items}).to_string()).into_response()
}

async fn one(State(server): State<Server>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(problem) = key_problem(&headers) {
        return problem;
    }
    let event: Value = serde_json::from_slice(&body).unwrap();
    let receipt = json!({"status": "accepted", "id": event["id"], "topic": "raw-events", "partition": 1, "offset": 7});
    server.played.lock().unwrap().events.push(event);
    (StatusCode::ACCEPTED, receipt.to_string()).into_response()
}

async fn question(State(server): State<Server>, headers: HeaderMap, uri: axum::http::Uri) -> Response {
    if let Some(problem) = key_problem(&headers) {
        return problem;
    }
    match uri.query() {
        Some("id=%2Fshop%7C1") => {}
        Some(query) if query.starts_with("id=") => return problem(404, "unknown_event"),
        _ => {
            let mut played = server.played.lock().unwrap();
            played.questions.push(uri.to_string());
            let page = played.pages.pop_front();
            return page.map_or_else(|| problem(422, "out_of_bounds"), |page| page.to_string().into_response());
        }
    }
    let timeline = json!([{"step": "stored", "at": "2026-11-20T18:02:00.000Z", "type": "click"}]);
    json!({"id": "/shop|1", "status": "valid", "timeline": timeline}).to_string().into_response()
}

async fn stream(State(server): State<Server>, headers: HeaderMap, uri: axum::http::Uri) -> Response {
    if let Some(problem) = key_problem(&headers) {
        return problem;
    }
    let mut played = server.played.lock().unwrap();
    played.questions.push(uri.to_string());
    played.resumed.push(headers.get("last-event-id").map(|id| id.to_str().unwrap().to_owned()));
    played.streams.pop_front().map_or_else(|| problem(404, "streams_off"), axum::response::IntoResponse::into_response)
}

async fn function(State(server): State<Server>, UrlPath(function): UrlPath<String>, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap();
    let mut played = server.played.lock().unwrap();
    played.calls.push((function, request));
    played.answers.pop_front().unwrap_or_else(|| json!({})).to_string().into_response()
}

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Server { played: Arc::default(), silent: Arc::default(), url };
        let router = Router::new()
            .route("/events", post(one).get(question))
            .route("/events/batch", post(batch))
            .route("/stats", get(question))
            .route("/stream", get(stream))
            .route("/campaigns/{id}/stats", get(question))
            .route("/healthz", get(async || "ok"))
            .route("/2015-03-31/functions/{function}/invocations", post(function))
            .with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        server
    }

    /// Waits until a batch was taken and not answered.
    pub async fn until_silent(&self) {
        tokio::time::timeout(Duration::from_secs(30), self.silent.notified()).await.unwrap();
    }

    pub fn command(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.args(arguments).current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
        command.env_clear().env("FOREBAY_URL", &self.url).env("FOREBAY_KEY", KEY).env("USER", "ada");
        command.env("AWS_ENDPOINT_URL_LAMBDA", &self.url);
        command
    }

    pub async fn run(&self, folder: &Path, arguments: &[&str]) -> Finished {
        Finished::of(self.command(folder, arguments)).await
    }
}

/// How the program ended.
#[derive(Debug)]
pub struct Finished {
    pub status: Option<i32>,
    pub out: String,
    pub error: String,
}

impl Finished {
    pub async fn of(mut command: Command) -> Self {
        let output = command.output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let finished = Finished { status: output.status.code(), out: text(output.stdout), error: text(output.stderr) };
        assert!(!finished.out.contains(KEY) && !finished.error.contains(KEY), "the key is shown: {finished:?}");
        finished
    }

    #[track_caller]
    pub fn ended(self, status: i32, said: &str) -> Self {
        assert_eq!(self.status, Some(status), "{self:?}");
        assert!(self.out.contains(said) || self.error.contains(said), "{said:?} is not in {self:?}");
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}
