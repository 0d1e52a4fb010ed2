//! Serving plain HTTP, where there is no Lambda runtime.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::http::header;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use process::stop_signal;
use tokio::net::TcpListener;

use crate::platform::ServeError;
use crate::shutdown::DRAIN_TIMEOUT;
use crate::surroundings::Peer;

pub(crate) async fn serve_plain(address: SocketAddr, router: Router) -> Result<(), ServeError> {
    let listener = TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })?;
    tracing::info!(%address, "serving HTTP");
    serve_until(stop_signal(), DRAIN_TIMEOUT, listener, router.merge(operations_router())).await
}

async fn name_peer(ConnectInfo(address): ConnectInfo<SocketAddr>, mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(Peer::Socket(address.ip()));
    next.run(request).await
}

/// Serves until `stop`, and then waits at most `drain` for the open requests.
async fn serve_until(
    stop: impl Future<Output = ()> + Send + 'static,
    drain: Duration,
    listener: TcpListener,
    router: Router,
) -> Result<(), ServeError> {
    let router = router.layer(middleware::from_fn(name_peer));
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let (stopping, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = axum::serve(listener, service).with_graceful_shutdown(async move {
        stop.await;
        tracing::info!("stopping the HTTP server: waiting for open requests");
        let _ = stopping.send(());
    });
    tokio::select! {
        ended = server => ended.map_err(ServeError::Http),
        () = async {
            // An error means that the server ended by itself; the other branch returns that error.
            if stopped.await.is_ok() {
                tokio::time::sleep(drain).await;
            } else {
                std::future::pending::<()>().await;
            }
        } => {
            tracing::warn!("stopped the HTTP server while requests were still open");
            Ok(())
        }
    }
}

/// Liveness and metrics, added to every HTTP server.
pub(crate) fn operations_router() -> Router {
    let metrics = crate::metrics::install();
    Router::new().route("/healthz", get(|| async { "ok" })).route(
        "/metrics",
        get(move || {
            let text = metrics.as_ref().map(metrics_exporter_prometheus::PrometheusHandle::render).unwrap_or_default();
            async move { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text) }
        }),
    )
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Instant;

    use axum::extract::Request;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;

    use super::*;

    /// A server that echoes bodies, a client that has sent half of a request, and the way to stop the server.
    async fn half_sent(
        drain: Duration,
    ) -> (tokio::task::JoinHandle<Result<(), ServeError>>, TcpStream, oneshot::Sender<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (reached, handler_runs) = tokio::sync::mpsc::unbounded_channel();
        let echo = async move |request: Request| {
            let _ = reached.send(());
            axum::body::to_bytes(request.into_body(), 100).await.unwrap()
        };
        let router = Router::new().route("/", axum::routing::post(echo));
        let stop_future = async { stopped.await.unwrap_or_default() };
        let server = tokio::spawn(serve_until(stop_future, drain, listener, router));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\nhalf").await.unwrap();
        let mut handler_runs = handler_runs;
        handler_runs.recv().await.unwrap();
        (server, client, stop)
    }

    #[tokio::test]
    async fn a_request_that_is_open_at_the_stop_is_answered() {
        let (server, mut client, stop) = half_sent(Duration::from_secs(60)).await;
        stop.send(()).unwrap();
        client.write_all(b"done").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("halfdone"), "{answer}");
        server.await.unwrap().unwrap();
        let address = client.peer_addr().unwrap();
        assert!(TcpStream::connect(address).await.is_err(), "nothing new is taken");
    }

    #[tokio::test]
    async fn a_request_without_end_holds_the_stop_up_for_a_bounded_time() {
        let drain = Duration::from_millis(300);
        let (server, _client, stop) = half_sent(drain).await;
        let started = Instant::now();
        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
        assert!(started.elapsed() >= drain);
    }
}
