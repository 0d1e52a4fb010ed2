//! SIGTERM to a real process that polls a Runtime API or serves HTTP.
#![expect(clippy::unwrap_used, reason = "helpers of tests: whatever is missing is a failed test")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::routing::{get, post};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::{Mutex, mpsc};

const PATIENCE: Duration = Duration::from_secs(10);

/// The example `slow` as a process.
struct Function {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Function {
    fn start(env: &[(&str, String)]) -> Self {
        // target/<profile>/deps/shutdown-<hash>: the examples are next to `deps`.
        let test = std::env::current_exe().unwrap();
        let program: PathBuf = test.parent().unwrap().parent().unwrap().join("examples/slow");
        let mut child = Command::new(program)
            .env_clear()
            .envs(env.iter().map(|(name, value)| (*name, value.as_str())))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Function { child, lines }
    }

    /// Waits until an invocation has started.
    async fn begun(&mut self) {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.unwrap().unwrap();
        assert_eq!(line.as_deref(), Some("begun"));
    }

    fn terminate(&self) {
        kill(Pid::from_raw(self.child.id().unwrap().cast_signed()), Signal::SIGTERM).unwrap();
    }

    async fn ended(&mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap()
    }
}

/// A Runtime API that gives out the test's events and returns the answers.
struct RuntimeApi {
    address: String,
    events: mpsc::UnboundedSender<String>,
    polls: mpsc::UnboundedReceiver<()>,
    answers: mpsc::UnboundedReceiver<Bytes>,
}

struct Runtime {
    events: Mutex<mpsc::UnboundedReceiver<String>>,
    polls: mpsc::UnboundedSender<()>,
    answers: mpsc::UnboundedSender<Bytes>,
}

impl RuntimeApi {
    async fn start() -> Self {
        let (events, incoming) = mpsc::unbounded_channel();
        let (polls, polled) = mpsc::unbounded_channel();
        let (answers, answered) = mpsc::unbounded_channel();
        let runtime = Runtime { events: Mutex::new(incoming), polls, answers };
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .with_state(Arc::new(runtime));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, router).await });
        RuntimeApi { address, events, polls: polled, answers: answered }
    }

    fn function(&self) -> Function {
        Function::start(&[
            ("AWS_LAMBDA_RUNTIME_API", self.address.clone()),
            ("AWS_LAMBDA_FUNCTION_NAME", "slow".to_owned()),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128".to_owned()),
            ("AWS_LAMBDA_FUNCTION_VERSION", "1".to_owned()),
        ])
    }
}

async fn next(State(runtime): State<Arc<Runtime>>) -> (HeaderMap, String) {
    let _ = runtime.polls.send(());
    let event = runtime.events.lock().await.recv().await.unwrap();
    let headers = [
        ("lambda-runtime-aws-request-id", "1"),
        ("lambda-runtime-deadline-ms", "600000"),
        ("lambda-runtime-invoked-function-arn", "arn"),
    ];
    (headers.into_iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect(), event)
}

async fn response(State(runtime): State<Arc<Runtime>>, answer: Bytes) -> StatusCode {
    let _ = runtime.answers.send(answer);
    StatusCode::ACCEPTED
}

#[tokio::test]
async fn the_invocation_under_way_is_answered_and_no_other_is_taken() {
    let mut api = RuntimeApi::start().await;
    let mut function = api.function();
    api.events.send("400".to_owned()).unwrap();
    function.begun().await;
    function.terminate();
    let answer = tokio::time::timeout(PATIENCE, api.answers.recv()).await.unwrap().unwrap();
    assert_eq!(answer, "400");
    assert!(function.ended().await.success());
    api.events.send("1".to_owned()).unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(200), api.answers.recv()).await.is_err());
}

#[tokio::test]
async fn an_idle_function_ends_at_once() {
    let mut api = RuntimeApi::start().await;
    let mut function = api.function();
    tokio::time::timeout(PATIENCE, api.polls.recv()).await.unwrap().unwrap();
    function.terminate();
    assert!(function.ended().await.success());
}

#[tokio::test]
async fn over_http_the_open_request_is_answered_and_no_other_is_taken() {
    let address = free_address().await;
    let mut function = Function::start(&[("PORT", address.port().to_string())]);
    let mut client = connected(address).await;
    let request = "POST /2015-03-31/functions/slow/invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n400";
    client.write_all(request.as_bytes()).await.unwrap();
    function.begun().await;
    function.terminate();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("400"), "{answer}");
    assert!(function.ended().await.success());
    assert!(TcpStream::connect(address).await.is_err());
}

/// A port that was free a moment ago.
async fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap()
}

async fn connected(address: SocketAddr) -> TcpStream {
    let connecting = async {
        loop {
            match TcpStream::connect(address).await {
                Ok(client) => break client,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, connecting).await.unwrap()
}

#[tokio::test]
async fn metrics_are_on_the_port_for_operations_and_not_on_the_public_one() {
    let (public, operations) = (free_address().await, free_address().await);
    let ports = [("PORT", public.port().to_string()), ("OPERATIONS_PORT", operations.port().to_string())];
    let mut function = Function::start(&ports);
    let get = async |address: SocketAddr| {
        let mut client = connected(address).await;
        client.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let found = get(operations).await;
    assert!(found.starts_with("HTTP/1.1 200") && found.contains("content-type: text/plain"), "{found}");
    assert!(found.contains("\ncold_starts_total{service=\"slow\"} 1\n"), "{found}");
    let hidden = get(public).await;
    assert!(hidden.starts_with("HTTP/1.1 404"), "{hidden}");
    function.terminate();
    assert!(function.ended().await.success());
}
