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
use settings::ProcessEnvironment;

use crate::plain::serve_plain;
use crate::platform::{Platform, ServeError, deadline_instant};
use crate::shutdown;

/// Who sent the request, as far as the platform guarantees it. It is in the request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The client itself, named by API Gateway or a function URL. Forwarding headers are ignored.
    Gateway(IpAddr),
    /// The TCP peer, which may be a proxy.
    Socket(IpAddr),
    /// A load balancer that does not name its own address. It added the client to `X-Forwarded-For`.
    LoadBalancer,
    /// The platform names no client.
    Unknown,
}

/// When the platform will stop the function. On Lambda, it is in the request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(pub Instant);

impl Deadline {
    /// At most `wish`, shortened so that `reserve` is left before the deadline for sending an answer. Without a
    /// deadline, all of `wish`.
    pub fn at_most(deadline: Option<&Deadline>, wish: Duration, reserve: Duration) -> Duration {
        let left = |Deadline(at): &Deadline| at.saturating_duration_since(Instant::now()).saturating_sub(reserve);
        deadline.map(left).map_or(wish, |left| left.min(wish))
    }
}

/// Serves `router` until the process is asked to stop, and then finishes the open requests (see [`crate::shutdown`]).
///
/// # Errors
/// [`ServeError`] if the settings are bad or the port is taken.
pub async fn serve(router: Router) -> Result<(), ServeError> {
    let router = with_peers(router);
    match Platform::detect(&ProcessEnvironment)? {
        Platform::Lambda => {
            // Does the same as `lambda_http::run`, whose `runtime` takes no axum router, because its answers are not
            // `Sync`.
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
