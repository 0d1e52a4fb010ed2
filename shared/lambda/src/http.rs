//! Serving an HTTP function: an axum router on Lambda behind API Gateway, a function URL or a load balancer, or on
//! plain HTTP.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::{self, Next};
use axum::response::Response;
use lambda_http::Adapter;
use lambda_http::request::RequestContext;
use lambda_runtime::layers::TracingLayer;
use lambda_runtime::{Context, Runtime};
use pipeline::clock::{Clock as _, SystemClock};
use tokio::net::TcpListener;

use crate::invocation::{Platform, ServeError, deadline_instant, operations_router};
use crate::shutdown::{self, DRAIN_TIMEOUT};
use process::stop_signal;
use settings::ProcessEnvironment;

/// Who is at the other end, as far as the platform vouches for it. Found in the request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// API Gateway or a function URL names the client itself; forwarding headers add nothing.
    Gateway(IpAddr),
    /// The TCP peer, which may be a proxy.
    Socket(IpAddr),
    /// A load balancer that does not name its own address; it appended the client to `X-Forwarded-For`.
    LoadBalancer,
    /// The platform names nobody.
    Unknown,
}

/// When the platform will stop the function: in the request's extensions, on Lambda.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(pub Instant);

impl Deadline {
    /// The part of `wish` for which there is time, kept short of the deadline by `reserve` so that an answer can still be
    /// sent. Without a deadline, all of it.
    pub fn at_most(deadline: Option<&Deadline>, wish: Duration, reserve: Duration) -> Duration {
        let left = |Deadline(at): &Deadline| at.saturating_duration_since(Instant::now()).saturating_sub(reserve);
        deadline.map(left).map_or(wish, |left| left.min(wish))
    }
}

/// Serves `router` until the process is told to stop, and the requests open then are answered (see [`crate::shutdown`]).
///
/// # Errors
/// [`ServeError`] if the settings are bad or the port is taken.
pub async fn serve(router: Router) -> Result<(), ServeError> {
    let router = with_peers(router);
    match Platform::detect(&ProcessEnvironment)? {
        Platform::Lambda => {
            // What `lambda_http::run` does; its `runtime` takes no axum router, whose answers are not `Sync`.
            let runtime = Runtime::new(Adapter::from(router)).layer(TracingLayer::new());
            shutdown::run(runtime).await.map_err(ServeError::Lambda)
        }
        Platform::Http { address, timeout: _ } => serve_plain(address, router).await,
    }
}

/// Puts the [`Peer`], and the [`Deadline`] if there is one, into every request's extensions, as [`serve`] does.
pub fn with_peers(router: Router) -> Router {
    router.layer(middleware::from_fn(name_surroundings))
}

async fn name_surroundings(mut request: Request, next: Next) -> Response {
    let peer = peer(request.extensions());
    if let Some(context) = request.extensions().get::<Context>() {
        let deadline = deadline_instant(context.deadline, SystemClock.now(), Instant::now());
        request.extensions_mut().insert(Deadline(deadline));
    }
    request.extensions_mut().insert(peer);
    next.run(request).await
}

fn peer(extensions: &http::Extensions) -> Peer {
    let gateway = |text: Option<&String>| text.and_then(|text| text.parse().ok()).map_or(Peer::Unknown, Peer::Gateway);
    match extensions.get::<RequestContext>() {
        Some(RequestContext::ApiGatewayV1(context)) => gateway(context.identity.source_ip.as_ref()),
        Some(RequestContext::ApiGatewayV2(context)) => gateway(context.http.source_ip.as_ref()),
        Some(RequestContext::Alb(_)) => Peer::LoadBalancer,
        Some(_) => Peer::Unknown,
        None => match extensions.get::<ConnectInfo<SocketAddr>>() {
            Some(ConnectInfo(address)) => Peer::Socket(address.ip()),
            None => Peer::Unknown,
        },
    }
}

pub(crate) async fn serve_plain(address: SocketAddr, router: Router) -> Result<(), ServeError> {
    let listener = TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })?;
    tracing::info!(%address, "serving HTTP");
    serve_until(stop_signal(), DRAIN_TIMEOUT, listener, router.merge(operations_router())).await
}

/// Serves until `stop`, and from then on for at most `drain`, for the requests that are open.
async fn serve_until(
    stop: impl Future<Output = ()> + Send + 'static,
    drain: Duration,
    listener: TcpListener,
    router: Router,
) -> Result<(), ServeError> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let (stopping, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = axum::serve(listener, service).with_graceful_shutdown(async move {
        stop.await;
        tracing::info!("stopping: waiting for open requests");
        let _ = stopping.send(());
    });
    tokio::select! {
        ended = server => ended.map_err(ServeError::Http),
        () = async {
            // An error means that the server ended by itself; the other branch reports that.
            if stopped.await.is_ok() {
                tokio::time::sleep(drain).await;
            } else {
                std::future::pending::<()>().await;
            }
        } => {
            tracing::warn!("stopped with requests still open");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;

    use super::*;

    /// A server that echoes bodies, a client that has sent half of one, and the way to stop the server.
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

    #[test]
    fn nothing_is_waited_for_past_the_deadline() {
        let (wish, reserve) = (Duration::from_secs(5), Duration::from_millis(500));
        let with = |left: Duration| Deadline::at_most(Some(&Deadline(Instant::now() + left)), wish, reserve);
        assert_eq!(Deadline::at_most(None, wish, reserve), wish);
        assert_eq!(with(Duration::from_secs(60)), wish);
        assert!(with(wish) <= wish - reserve);
        assert_eq!(with(reserve), Duration::ZERO);
        assert_eq!(with(Duration::ZERO), Duration::ZERO);
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
