//! Serving an HTTP function: an axum router on Lambda behind API Gateway, a function URL or a load balancer, or on
//! plain HTTP.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::{self, Next};
use axum::response::Response;
use lambda_http::request::RequestContext;
use tokio::net::TcpListener;

use crate::invocation::{Platform, ServeError, operations_router};
use crate::settings::ProcessEnvironment;

/// Longest wait for open requests after SIGTERM. Kubernetes kills after 30 s by default.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

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

/// Serves `router` until the platform stops the process.
///
/// # Errors
/// [`ServeError`] if the settings are bad or the port is taken.
pub async fn serve(router: Router) -> Result<(), ServeError> {
    let router = with_peers(router);
    match Platform::detect(&ProcessEnvironment)? {
        Platform::Lambda => lambda_http::run(router).await.map_err(ServeError::Lambda),
        Platform::Http { address, timeout: _ } => serve_plain(address, router).await,
    }
}

/// Puts the [`Peer`] into every request's extensions, as [`serve`] does.
pub fn with_peers(router: Router) -> Router {
    router.layer(middleware::from_fn(name_peer))
}

async fn name_peer(mut request: Request, next: Next) -> Response {
    let peer = peer(request.extensions());
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
    let service = router.merge(operations_router()).into_make_service_with_connect_info::<SocketAddr>();
    let (drain, draining) = tokio::sync::oneshot::channel::<()>();
    let server = axum::serve(listener, service).with_graceful_shutdown(async move {
        stop_signal().await;
        tracing::info!("stopping: waiting for open requests");
        let _ = drain.send(());
    });
    tokio::select! {
        stopped = server => stopped.map_err(ServeError::Http),
        () = async {
            // An error means that the server ended by itself; the other branch reports that.
            if draining.await.is_ok() {
                tokio::time::sleep(DRAIN_TIMEOUT).await;
            } else {
                std::future::pending::<()>().await;
            }
        } => {
            tracing::warn!("stopped with requests still open");
            Ok(())
        }
    }
}

/// Resolves at SIGTERM or SIGINT.
pub async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        (Err(error), _) | (_, Err(error)) => {
            // Without handlers the default action of the signals still ends the process.
            tracing::error!(%error, "cannot listen for signals");
            std::future::pending::<()>().await;
        }
    }
}
