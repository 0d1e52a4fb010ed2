//! A small HTTP client: JSON in, JSON out. Without TLS for what is on this machine, with TLS for what is not.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// A machine that does not even answer the connection is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Keeps connections open between requests. Cheap to clone.
#[derive(Clone, Debug)]
pub struct JsonClient<C = HttpConnector> {
    client: Client<C, Full<Bytes>>,
}

/// For addresses with `http://` and `https://`.
pub type AnywhereClient = JsonClient<HttpsConnector<HttpConnector>>;

/// An answer, whatever its status.
#[derive(Debug)]
pub struct HttpAnswer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl HttpAnswer {
    /// The body as JSON; `Null` if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

impl Default for JsonClient {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        JsonClient { client: Client::builder(TokioExecutor::new()).build(connector) }
    }
}

impl AnywhereClient {
    /// Trusts the certificate authorities that this machine trusts.
    ///
    /// # Errors
    /// If the machine's list of authorities cannot be read.
    pub fn with_tls() -> anyhow::Result<Self> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .context("cannot read the certificate authorities of this machine")?
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        Ok(JsonClient { client: Client::builder(TokioExecutor::new()).build(connector) })
    }
}

impl<C: Connect + Clone + Send + Sync + 'static> JsonClient<C> {
    /// Posts a JSON text.
    ///
    /// # Errors
    /// If no answer came; any status is an answer.
    pub async fn post(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> anyhow::Result<HttpAnswer> {
        self.send(Method::POST, url, headers, body.into()).await
    }

    /// # Errors
    /// If no answer came; any status is an answer.
    pub async fn get(&self, url: &str, headers: &[(&str, &str)]) -> anyhow::Result<HttpAnswer> {
        self.send(Method::GET, url, headers, Bytes::new()).await
    }

    /// An answer whose body has not been read, and may have no end.
    ///
    /// # Errors
    /// If no answer came; any status is an answer.
    pub async fn open(&self, url: &str, headers: &[(&str, &str)]) -> anyhow::Result<Response<Incoming>> {
        self.request(Method::GET, url, headers, Bytes::new()).await
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<HttpAnswer> {
        let (parts, body) = self.request(method, url, headers, body).await?.into_parts();
        let body = body.collect().await.with_context(|| format!("the answer from {url} ended early"))?.to_bytes();
        Ok(HttpAnswer { status: parts.status, headers: parts.headers, body })
    }

    async fn request(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Response<Incoming>> {
        let mut request =
            Request::builder().method(method).uri(url).header(http::header::CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body))?;
        self.client.request(request).await.with_context(|| format!("no answer from {url}"))
    }
}
