//! Serving plain HTTP, where there is no Lambda runtime.
//!
//! The server stands without a gateway in front of it, so it bounds by itself what a slow or hostile client can hold:
//! time ([`timed_stream`]), connections (here) and bytes of bodies ([`bodies`]). It refuses what `hyper` is lenient
//! about ([`strict`]).

mod bodies;
pub(crate) mod strict;
mod timed_stream;

use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use process::stop_signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use self::bodies::{Budget, Counted};
use self::timed_stream::{Answering, Phase, TimedStream};
use crate::platform::{ServeError, ServerLimits};
use crate::problem::{Problem, problem_response, retry_after};
use crate::shutdown::DRAIN_TIMEOUT;
use crate::start::send_spans;
use crate::surroundings::{Peer, Stopping};

/// Largest head of a request, and largest piece of a body that is read at once, in bytes. `hyper` would keep 400 KiB
/// for each connection.
const BUFFER_BYTES: usize = 64 * 1024;
/// Pause after the operating system has no file descriptor for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Number of refused connections that get an answer at the same time; more are closed without one.
const MAX_REFUSALS: usize = 64;
/// Longest time for which a refused connection gets its answer.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// When a client should come back that was refused because too much is in flight.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Serves `router` on `address` until the process is asked to stop.
pub(crate) async fn serve_plain(address: SocketAddr, limits: ServerLimits, router: Router) -> Result<(), ServeError> {
    let listener = TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })?;
    tracing::info!(%address, "serving HTTP");
    tokio::select! {
        () = serve_until(stop_signal(), DRAIN_TIMEOUT, listener, limits, router) => {}
        () = send_spans() => {}
    }
    traces::flush(traces::FLUSH_TIMEOUT).await;
    Ok(())
}

/// Serves until `stop`, and then waits at most `drain` for the open requests.
async fn serve_until(
    stop: impl Future<Output = ()>,
    drain: Duration,
    listener: TcpListener,
    limits: ServerLimits,
    router: Router,
) {
    let slots = Arc::new(Semaphore::new(limits.connections.into()));
    let stopping = watch::Sender::new(false);
    let server = Server {
        router: router.merge(health_router(stopping.subscribe())),
        limits,
        budget: Arc::new(Budget::new(limits.body_bytes)),
        stopping: stopping.subscribe(),
    };
    let (mut connections, mut refusals) = (JoinSet::new(), JoinSet::new());
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            // A task that has ended is forgotten.
            Some(_) = connections.join_next() => {}
            Some(_) = refusals.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => match Arc::clone(&slots).try_acquire_owned() {
                    Ok(slot) => {
                        let server = server.clone();
                        connections.spawn(async move {
                            server.connection(stream, address).await;
                            drop(slot);
                        });
                    }
                    Err(_) if refusals.len() < MAX_REFUSALS => _ = refusals.spawn(refuse(stream)),
                    Err(_) => {}
                },
                Err(error) if is_of_the_connection(error.kind()) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    tracing::info!("stopping the HTTP server: waiting for open requests");
    stopping.send_replace(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(drain, drained).await.is_err() {
        tracing::warn!("stopped the HTTP server while requests were still open");
    }
}

const fn is_of_the_connection(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
}

/// What the connections share.
#[derive(Clone)]
struct Server {
    router: Router,
    limits: ServerLimits,
    budget: Arc<Budget>,
    stopping: watch::Receiver<bool>,
}

impl Server {
    async fn connection(mut self, stream: TcpStream, address: SocketAddr) {
        let phase = Arc::new(Phase::default());
        let stream = TimedStream::new(stream, Arc::clone(&phase), self.limits.header_timeout, self.limits.idle_timeout);
        let (router, budget, stopping) = (self.router, self.budget, Stopping::new(self.stopping.clone()));
        let service = service_fn(move |request: Request<Incoming>| {
            let (router, budget, phase) = (router.clone(), Arc::clone(&budget), Arc::clone(&phase));
            let stopping = stopping.clone();
            async move {
                let request_ends = phase.request_begins();
                let (mut parts, body) = request.into_parts();
                parts.extensions.insert(stopping);
                let response = respond(router, &budget, address, Request::from_parts(parts, body)).await;
                // Until its last byte: a stream of events may be silent for longer than a connection between two requests.
                Ok::<_, Infallible>(response.map(|body| Body::new(Answering::new(body, request_ends))))
            }
        });
        let mut builder = http1::Builder::new();
        // `timed_stream` limits the time; this limit would close idle connections too early for load balancers.
        builder.header_read_timeout(None).max_buf_size(BUFFER_BYTES);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        tokio::select! {
            // The client went away, or sent something that is not HTTP; `hyper` has answered it.
            _ = connection.as_mut() => return,
            _ = self.stopping.wait_for(|stopping| *stopping) => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

async fn respond(router: Router, budget: &Arc<Budget>, address: SocketAddr, request: Request<Incoming>) -> Response {
    if let Err(misread) = strict::check(&request) {
        tracing::info!(tag = misread.tag(), "request refused");
        let status = StatusCode::BAD_REQUEST;
        return closing(problem_response(status, &Problem::new(status, misread.tag(), misread.to_string())));
    }
    let reservation = Arc::new(budget.reservation());
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(Peer::Socket(address.ip()));
    let request = Request::from_parts(parts, Body::new(Counted::new(body, Arc::clone(&reservation))));
    // A router cannot fail.
    let response = router.oneshot(request).await.unwrap_or_else(|never| match never {});
    if !reservation.is_exceeded() {
        return response;
    }
    tracing::warn!("request refused: too many bytes of bodies are in flight");
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut response = closing(problem_response(status, &busy()));
    response.headers_mut().insert(header::RETRY_AFTER, retry_after(RETRY_AFTER));
    response
}

pub(crate) fn busy() -> Problem {
    let detail = "the service holds as many connections or bytes of requests as it may; try again later";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail)
}

fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Answers a connection for which there is no slot, without reading its request.
async fn refuse(mut stream: TcpStream) {
    let body = serde_json::to_string(&busy()).unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: {}\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        RETRY_AFTER.as_secs(),
        body.len()
    );
    let answering = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // A socket that is closed with unread bytes takes the answer back from the client.
        let mut unread = [0; 4096];
        while stream.read(&mut unread).await? > 0 {}
        std::io::Result::Ok(())
    };
    // The client may be gone or slow; there is nothing to do about it.
    let _ = tokio::time::timeout(REFUSAL_TIMEOUT, answering).await;
}

/// Liveness and readiness, added to every HTTP server.
///
/// A function serves only after it has connected to what it needs at start, so it is ready until it is asked to stop.
/// That a dependency is down later does not make it unready: it can still answer 503 with the right `Retry-After`.
fn health_router(stopping: watch::Receiver<bool>) -> Router {
    let ready = async move || {
        if *stopping.borrow() { (StatusCode::SERVICE_UNAVAILABLE, "stopping") } else { (StatusCode::OK, "ready") }
    };
    Router::new().route("/healthz", get(|| async { "ok" })).route("/readyz", get(ready))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Instant;

    use axum::Extension;
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::*;

    const LIMITS: ServerLimits = ServerLimits {
        header_timeout: Duration::from_millis(400),
        idle_timeout: Duration::from_millis(1_200),
        body_timeout: Duration::from_secs(5),
        connections: 30,
        body_bytes: 4 * 1024 * 1024,
    };
    const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    /// A server that echoes bodies.
    struct Echo {
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        server: JoinHandle<()>,
        handler_runs: tokio::sync::mpsc::UnboundedReceiver<()>,
    }

    impl Echo {
        async fn start(drain: Duration) -> Self {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            let (stop, stopped) = oneshot::channel::<()>();
            let (reached, handler_runs) = tokio::sync::mpsc::unbounded_channel();
            let echo = async move |request: axum::extract::Request| {
                let _ = reached.send(());
                axum::body::to_bytes(request.into_body(), usize::MAX).await.map_err(|_| StatusCode::BAD_REQUEST)
            };
            let router = Router::new().route("/", get(echo.clone()).post(echo)).route("/stream", get(stream));
            let stop_future = async { stopped.await.unwrap_or_default() };
            let server = tokio::spawn(serve_until(stop_future, drain, listener, LIMITS, router));
            Echo { address, stop, server, handler_runs }
        }

        async fn send(&self, bytes: impl AsRef<[u8]>) -> TcpStream {
            let mut client = TcpStream::connect(self.address).await.unwrap();
            client.write_all(bytes.as_ref()).await.unwrap();
            client
        }

        /// The answer to a request that asks the server to close the connection, or is refused.
        async fn answer(&self, bytes: impl AsRef<[u8]>) -> String {
            rest(&mut self.send(bytes).await).await
        }

        /// A client that has sent half of a request.
        async fn half_sent(&mut self) -> TcpStream {
            let client = self.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\nhalf").await;
            self.handler_runs.recv().await.unwrap();
            client
        }
    }

    /// Is silent for longer than a connection between two requests may be, and then until the server is asked to stop.
    async fn stream(Extension(stopping): Extension<Stopping>) -> Response {
        let pieces = futures::stream::unfold(0, move |sent| {
            let mut stopping = stopping.clone();
            async move {
                match sent {
                    0 => {}
                    1 => tokio::time::sleep(LIMITS.idle_timeout * 5 / 4).await,
                    _ => {
                        stopping.asked().await;
                        return None;
                    }
                }
                Some((Ok::<_, Infallible>(format!("piece-{sent}")), sent + 1))
            }
        });
        Response::new(Body::from_stream(pieces))
    }

    /// Everything until the end of the connection. An answer may come before a reset.
    async fn rest(client: &mut TcpStream) -> String {
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(10), client.read_to_end(&mut answer)).await;
        read.expect("the connection stays open").map(drop).unwrap_or_default();
        String::from_utf8(answer).unwrap()
    }

    /// What is there within a moment, from a connection that stays open.
    async fn next(client: &mut TcpStream) -> String {
        let mut answer = [0; 4096];
        let read = tokio::time::timeout(Duration::from_secs(10), client.read(&mut answer)).await.unwrap().unwrap();
        String::from_utf8_lossy(&answer[..read]).into_owned()
    }

    #[tokio::test]
    async fn an_answer_without_an_end_may_be_silent_and_ends_when_the_server_stops() {
        let echo = Echo::start(Duration::from_secs(60)).await;
        let mut client = echo.send("GET /stream HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let mut answer = String::new();
        while !answer.contains("piece-1") {
            let piece = next(&mut client).await;
            assert!(!piece.is_empty(), "the connection was closed after {answer:?}");
            answer.push_str(&piece);
        }
        let stopped = Instant::now();
        echo.stop.send(()).unwrap();
        assert!(rest(&mut client).await.ends_with("0\r\n\r\n"), "the answer has a proper end");
        tokio::time::timeout(Duration::from_secs(10), echo.server).await.unwrap().unwrap();
        assert!(stopped.elapsed() < Duration::from_secs(10), "{:?}", stopped.elapsed());
    }

    #[tokio::test]
    async fn a_request_that_is_open_at_the_stop_is_answered() {
        let mut echo = Echo::start(Duration::from_secs(60)).await;
        let mut client = echo.half_sent().await;
        echo.stop.send(()).unwrap();
        client.write_all(b"done").await.unwrap();
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("halfdone"), "{answer}");
        echo.server.await.unwrap();
        assert!(TcpStream::connect(echo.address).await.is_err(), "nothing new is taken");
    }

    #[tokio::test]
    async fn a_server_is_ready_until_it_is_asked_to_stop() {
        let stopping = watch::Sender::new(false);
        let router = health_router(stopping.subscribe());
        let status = async |path: &str| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            router.clone().oneshot(request).await.unwrap().status()
        };
        assert_eq!((status("/healthz").await, status("/readyz").await), (StatusCode::OK, StatusCode::OK));
        stopping.send_replace(true);
        assert_eq!(
            (status("/healthz").await, status("/readyz").await),
            (StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE)
        );
    }

    #[tokio::test]
    async fn a_request_without_end_holds_the_stop_up_for_a_bounded_time() {
        let drain = Duration::from_millis(300);
        let mut echo = Echo::start(drain).await;
        let _client = echo.half_sent().await;
        let started = Instant::now();
        echo.stop.send(()).unwrap();
        echo.server.await.unwrap();
        assert!(started.elapsed() >= drain);
    }

    #[tokio::test]
    async fn slow_heads_and_idle_connections_end_while_others_are_served() {
        let echo = Echo::start(Duration::ZERO).await;
        let started = Instant::now();
        let mut silent = echo.send("").await;
        let mut half = Vec::new();
        for _ in 0..20 {
            half.push(echo.send("GET / HTTP/1.1\r\nhost: x\r\nx-slow: ").await);
        }
        let mut idle = echo.send(GET).await;
        assert!(next(&mut idle).await.starts_with("HTTP/1.1 200"));
        // A byte now and then does not help.
        for _ in 0..4 {
            tokio::time::sleep(LIMITS.header_timeout / 3).await;
            let _ = half[0].write_all(b"a").await;
        }
        for client in half.iter_mut().chain([&mut silent]) {
            assert_eq!(rest(client).await, "");
        }
        assert!(started.elapsed() >= LIMITS.header_timeout && started.elapsed() < LIMITS.idle_timeout);
        idle.write_all(GET.as_bytes()).await.unwrap();
        assert!(next(&mut idle).await.starts_with("HTTP/1.1 200"), "idle is not slow");
        let started = Instant::now();
        assert_eq!(rest(&mut idle).await, "");
        assert!(started.elapsed() >= LIMITS.idle_timeout / 2);
    }

    #[tokio::test]
    async fn a_slow_second_head_ends_as_the_first_would() {
        let echo = Echo::start(Duration::ZERO).await;
        let mut client = echo.send(GET).await;
        assert!(next(&mut client).await.starts_with("HTTP/1.1 200"));
        client.write_all(b"GET / HT").await.unwrap();
        let started = Instant::now();
        assert_eq!(rest(&mut client).await, "");
        assert!(started.elapsed() < LIMITS.idle_timeout - Duration::from_millis(200));
    }

    #[tokio::test]
    async fn a_connection_beyond_the_cap_is_told_to_come_back() {
        let mut echo = Echo::start(Duration::ZERO).await;
        let mut taken = Vec::new();
        for _ in 0..LIMITS.connections {
            taken.push(echo.half_sent().await);
        }
        let answer = echo.answer(GET).await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
        assert!(answer.ends_with(&serde_json::to_string(&busy()).unwrap()), "{answer}");
        let mut freed = taken.pop().unwrap();
        freed.write_all(b"done").await.unwrap();
        assert!(next(&mut freed).await.starts_with("HTTP/1.1 200"));
        drop(freed);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(next(&mut echo.send(GET).await).await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn large_bodies_beyond_the_cap_are_refused_and_small_ones_served() {
        let echo = Echo::start(Duration::ZERO).await;
        let head = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3000000\r\n\r\n";
        let most = [head.as_bytes(), &vec![b'a'; 2_900_000]].concat();
        let first = echo.send(&most).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut second = echo.send(head).await;
        // The server stops reading when it has refused the body.
        let _ = second.write_all(&vec![b'a'; 2_900_000]).await;
        let answer = next(&mut second).await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
        let small = format!(
            "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 60000\r\n\r\n{}",
            "b".repeat(60_000)
        );
        assert!(echo.answer(&small).await.starts_with("HTTP/1.1 200"));
        drop(first);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let whole = [head.replace("host", "connection: close\r\nhost").as_bytes(), &vec![b'a'; 3_000_000]].concat();
        assert!(echo.answer(&whole).await.starts_with("HTTP/1.1 200"), "what the first held is free again");
    }

    #[tokio::test]
    async fn what_two_servers_would_read_differently_is_refused() {
        let echo = Echo::start(Duration::ZERO).await;
        for (head, expected) in [
            ("GET / HTTP/1.1\r\nhost: x\r\n", "200"),
            ("GET / HTTP/1.1\r\nhost: [::1]:80\r\n", "200"),
            ("GET / HTTP/1.1\r\nhost:\r\n", "200"),
            ("GET / HTTP/1.0\r\n", "200"),
            ("GET / HTTP/1.1\r\n", "400"),
            ("GET / HTTP/1.1\r\nhost: x\r\nhost: x\r\n", "400"),
            ("GET / HTTP/1.0\r\nhost: x\r\nhost: y\r\n", "400"),
            ("GET / HTTP/1.1\r\nhost: [::1\r\n", "400"),
            ("GET / HTTP/1.1\r\nhost: a b\r\n", "400"),
            ("GET / HTTP/1.1\r\nhost: u@x\r\n", "400"),
            ("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n", "200"),
            ("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: Chunked\r\n", "200"),
            ("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n", "400"),
            ("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n", "400"),
            ("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, chunked\r\n", "400"),
            ("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n", "400"),
            ("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: +1\r\n", "400"),
        ] {
            let close = if head.contains("HTTP/1.0") { "" } else { "connection: close\r\n" };
            let body = if head.to_lowercase().contains("chunked") { "0\r\n\r\n" } else { "" };
            let answer = echo.answer(format!("{head}{close}\r\n{body}")).await;
            assert_eq!(answer.split(' ').nth(1), Some(expected), "{head}: {answer}");
            assert!(expected == "200" || answer.contains("connection: close"), "{head}: {answer}");
        }
        let large = format!("GET / HTTP/1.1\r\nhost: x\r\nx-large: {}\r\n\r\n", "a".repeat(2 * BUFFER_BYTES));
        assert!(echo.answer(large).await.starts_with("HTTP/1.1 431"));
    }
}
