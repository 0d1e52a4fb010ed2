//! Functions that another server runs, such as `cargo lambda watch` or a Runtime Interface Emulator: calls to them are passed
//! on.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::Mutex;

use crate::config::FunctionElsewhere;

/// A function runs for at most 15 minutes, so no answer comes later than that.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15 * 60 + 10);

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Elsewhere {
    /// By name.
    functions: Arc<BTreeMap<String, Arc<Distant>>>,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// A function that runs elsewhere.
#[derive(Debug)]
pub(crate) struct Distant {
    pub(crate) url: Uri,
    /// Held during a call, if its server takes only one at a time. First come, first served.
    turn: Option<Mutex<()>>,
}

impl Elsewhere {
    pub(crate) fn new(functions: BTreeMap<String, FunctionElsewhere>) -> Self {
        let distant = |FunctionElsewhere { url, one_at_a_time }| {
            Arc::new(Distant { url, turn: one_at_a_time.then(Mutex::default) })
        };
        Elsewhere {
            functions: Arc::new(functions.into_iter().map(|(name, function)| (name, distant(function))).collect()),
            client: Client::builder(TokioExecutor::new()).build(HttpConnector::new()),
        }
    }

    /// The function, if it is not one of this host's.
    pub(crate) fn function(&self, name: &str) -> Option<Arc<Distant>> {
        self.functions.get(name).cloned()
    }

    /// Passes a call on, and returns the answer as it comes: servers differ in how they mark a failure.
    ///
    /// The caller must not be able to cancel it: a server that takes one call at a time is busy until it has answered, whoever
    /// still waits for that.
    ///
    /// # Errors
    /// If there is no answer.
    pub(crate) async fn invoke(
        &self,
        function: &Distant,
        headers: HeaderMap,
        event: Bytes,
    ) -> Result<Response, Box<dyn Error + Send + Sync>> {
        let mut call = Request::builder().method(Method::POST).uri(function.url.clone()).body(Full::new(event))?;
        *call.headers_mut() = headers;
        for own in [header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION] {
            call.headers_mut().remove(own);
        }
        let _turn = match &function.turn {
            Some(turn) => Some(turn.lock().await),
            None => None,
        };
        let answering = async {
            let (parts, body) = self.client.request(call).await?.into_parts();
            Ok(Response::from_parts(parts, Body::from(body.collect().await?.to_bytes())))
        };
        tokio::time::timeout(ANSWER_TIMEOUT, answering).await?
    }
}
