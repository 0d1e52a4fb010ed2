//! A small HTTP client for loopback: JSON in, JSON out.

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// Keeps connections open between requests. Cheap to clone.
#[derive(Clone, Debug)]
pub struct JsonClient {
    client: Client<HttpConnector, Full<Bytes>>,
}

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

impl JsonClient {
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

    async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<HttpAnswer> {
        let mut request =
            Request::builder().method(method).uri(url).header(http::header::CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body))?;
        let response = self.client.request(request).await.with_context(|| format!("no answer from {url}"))?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.with_context(|| format!("the answer from {url} ended early"))?.to_bytes();
        Ok(HttpAnswer { status: parts.status, headers: parts.headers, body })
    }
}
