//! Functions that another server of the Invoke API runs, such as `cargo lambda watch`: calls to them are passed on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, Method, Request, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Elsewhere {
    /// The server of each function.
    servers: Arc<BTreeMap<String, SocketAddr>>,
    client: Client<HttpConnector, Body>,
}

impl Elsewhere {
    pub(crate) fn new(servers: BTreeMap<String, SocketAddr>) -> Self {
        Elsewhere {
            servers: Arc::new(servers),
            client: Client::builder(TokioExecutor::new()).build(HttpConnector::new()),
        }
    }

    /// The server that runs a function, if it is not this host.
    pub(crate) fn server(&self, function: &str) -> Option<SocketAddr> {
        self.servers.get(function).copied()
    }

    /// Passes a call on, and returns the answer as it comes: servers differ in how they mark a failure.
    ///
    /// # Errors
    /// If there is no answer.
    pub(crate) async fn invoke(
        &self,
        server: SocketAddr,
        function: &str,
        headers: &HeaderMap,
        event: Body,
    ) -> Result<Response, Box<dyn std::error::Error + Send + Sync>> {
        let url = format!("http://{server}/2015-03-31/functions/{function}/invocations");
        let mut call = Request::builder().method(Method::POST).uri(url).body(event)?;
        *call.headers_mut() = headers.clone();
        call.headers_mut().remove(header::HOST);
        Ok(self.client.request(call).await?.map(Body::new))
    }
}
