//! One request to an endpoint.
//!
//! Whoever names an endpoint chooses a name, and whoever owns the name chooses its addresses, at every look-up anew. So addresses
//! are checked where a connection is made: the name is looked up once, everything that it has must be public, and exactly these
//! addresses are dialled. Redirects are not followed, and no proxy is asked, because both would choose an address again.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use event::Timestamp;
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use ipnet::IpNet;
use pipeline::root_key::RootKey;
use rustls::{ClientConfig, RootCertStore};
use tls::AuthorityFileError;
use tower::Service;
use webhooks::{WebhookEndpoint, is_public, signatures};

/// How long a connection is kept without a request.
const IDLE: Duration = Duration::from_secs(10);
/// Idle connections of an endpoint.
const IDLE_EACH: usize = 8;
/// How much of an answer is read, in bytes, so that its connection can be used again. Nothing in it matters.
const MAX_ANSWER: usize = 16 * 1024;

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    Delivered,
    /// The endpoint answered that it wants no more (410), as Standard Webhooks has it.
    Gone,
    Failed {
        error: String,
        /// How long the endpoint wants to be left alone.
        retry_after: Option<Duration>,
    },
}

/// Sends a message to an endpoint, once.
#[async_trait]
pub trait WebhookSender: Send + Sync {
    async fn send(&self, endpoint: &WebhookEndpoint, message_id: &str, body: Bytes, now: Timestamp) -> Attempt;
}

/// Why there can be no sender.
#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    #[error("cannot use the CA file {path} (WEBHOOK_CA_FILE)")]
    CaFile {
        path: PathBuf,
        #[source]
        source: AuthorityFileError,
    },
    #[error("cannot set up TLS for webhooks")]
    Tls(#[from] rustls::Error),
}

/// Sends over HTTPS, and to allowed addresses only.
pub struct HttpsSender {
    key: RootKey,
    client: Client<HttpsConnector<HttpConnector<CheckedNames>>, Full<Bytes>>,
    allowed: AllowedAddresses,
    timeout: Duration,
}

impl HttpsSender {
    /// # Errors
    /// If the file of authorities cannot be used.
    pub fn new(
        key: RootKey,
        timeout: Duration,
        allowed: &[IpNet],
        ca_file: Option<&Path>,
    ) -> Result<Self, SenderError> {
        let allowed = AllowedAddresses(allowed.into());
        let mut connector = HttpConnector::new_with_resolver(CheckedNames(allowed.clone()));
        connector.set_nodelay(true);
        connector.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls_config(ca_file)?)
            .https_only()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_EACH)
            .build(connector);
        Ok(HttpsSender { key, client, allowed, timeout })
    }

    async fn answer(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, HeaderMap), Box<dyn Error + Send + Sync>> {
        let (parts, body) = self.client.request(request).await?.into_parts();
        // An answer that is too long or broken was an answer all the same.
        let _ = Limited::new(body, MAX_ANSWER).collect().await;
        Ok((parts.status, parts.headers))
    }
}

fn tls_config(ca_file: Option<&Path>) -> Result<ClientConfig, SenderError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca_file {
        tls::add_authorities(&mut roots, path).map_err(|source| SenderError::CaFile { path: path.into(), source })?;
    }
    Ok(ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

#[async_trait]
impl WebhookSender for HttpsSender {
    async fn send(&self, endpoint: &WebhookEndpoint, message_id: &str, body: Bytes, now: Timestamp) -> Attempt {
        // A connector looks no address up, so this one is checked here.
        if let Some(address) = endpoint.target.address()
            && let Err(refused) = self.allowed.check(address)
        {
            return failed(refused.to_string());
        }
        let request = Request::post(endpoint.target.as_str())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("Forebay-Webhooks/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", message_id)
            .header("webhook-timestamp", now.as_secs())
            .header("webhook-signature", signatures(&self.key, endpoint, message_id, now, &body))
            .body(Full::new(body));
        let request = match request {
            Ok(request) => request,
            Err(error) => return failed(format!("the request cannot be made: {error}")),
        };
        match tokio::time::timeout(self.timeout, self.answer(request)).await {
            Err(_) => failed(format!("no answer within {} ms", self.timeout.as_millis())),
            Ok(Err(error)) => failed(pipeline::chain(&*error)),
            Ok(Ok((status, headers))) => judged(status, &headers),
        }
    }
}

fn failed(error: String) -> Attempt {
    Attempt::Failed { error, retry_after: None }
}

fn judged(status: StatusCode, headers: &HeaderMap) -> Attempt {
    if status.is_success() {
        return Attempt::Delivered;
    }
    if status == StatusCode::GONE {
        return Attempt::Gone;
    }
    let why = if status.is_redirection() { "; redirects are not followed" } else { "" };
    let retry_after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Attempt::Failed {
        error: format!("the answer has the status {}{why}", status.as_u16()),
        retry_after: retry_after.map(Duration::from_secs),
    }
}

/// Public addresses, and ranges that the operator allows.
#[derive(Clone, Debug)]
struct AllowedAddresses(Arc<[IpNet]>);

#[derive(Debug, thiserror::Error)]
#[error(
    "the address {0} is not public, so it is not called; if it should be, an operator adds its range to WEBHOOK_ALLOWED_NETWORKS"
)]
struct NotAllowed(IpAddr);

impl AllowedAddresses {
    fn check(&self, address: IpAddr) -> Result<(), NotAllowed> {
        let is_allowed = |range: &IpNet| range.contains(&address.to_canonical());
        if is_public(address) || self.0.iter().any(is_allowed) { Ok(()) } else { Err(NotAllowed(address)) }
    }
}

/// Looks names up. A name that has one address which is not allowed is refused as a whole: whoever gave it that address is not
/// to be trusted with the others.
#[derive(Clone, Debug)]
struct CheckedNames(AllowedAddresses);

impl Service<Name> for CheckedNames {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let allowed = self.0.clone();
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let refused = addresses.iter().find_map(|address| allowed.check(address.ip()).err());
            refused.map_or_else(|| Ok(addresses.into_iter()), |refused| Err(io::Error::other(refused)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_what_comes_next() {
        let none = HeaderMap::new();
        assert_eq!(judged(StatusCode::NO_CONTENT, &none), Attempt::Delivered);
        assert_eq!(judged(StatusCode::GONE, &none), Attempt::Gone);
        let Attempt::Failed { error, retry_after: None } = judged(StatusCode::FOUND, &none) else { panic!("302") };
        assert_eq!(error, "the answer has the status 302; redirects are not followed");
        let busy = |value: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, http::HeaderValue::from_static(value))]);
            match judged(StatusCode::TOO_MANY_REQUESTS, &headers) {
                Attempt::Failed { retry_after, .. } => retry_after,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(busy("120"), Some(Duration::from_secs(120)));
        assert_eq!(busy("Fri, 20 Nov 2026 18:00:00 GMT"), None);
        assert_eq!(busy("-1"), None);
    }

    #[test]
    fn an_operator_may_allow_ranges() {
        let allowed = AllowedAddresses(Arc::from(["10.1.0.0/16".parse().unwrap()]));
        assert!(allowed.check("10.1.2.3".parse().unwrap()).is_ok());
        assert!(allowed.check("::ffff:10.1.2.3".parse().unwrap()).is_ok());
        assert!(allowed.check("1.1.1.1".parse().unwrap()).is_ok());
        let refused = allowed.check("10.2.0.1".parse().unwrap()).unwrap_err().to_string();
        assert!(refused.contains("10.2.0.1") && refused.contains("WEBHOOK_ALLOWED_NETWORKS"), "{refused}");
    }
}
