//! An HTTPS server for tests of webhooks: it remembers what it gets, and answers as it is told.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::certificates;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct ReceivedRequest {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl ReceivedRequest {
    /// The value of a header; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// How requests are answered.
#[derive(Clone, Debug)]
pub struct ReceiverAnswer {
    pub status: StatusCode,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub after: Duration,
}

impl ReceiverAnswer {
    /// # Panics
    /// Never for a status that HTTP has.
    pub fn status(status: u16) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        ReceiverAnswer { status, headers: Vec::new(), after: Duration::ZERO }
    }
}

#[derive(Debug)]
struct Shared {
    answer: Mutex<ReceiverAnswer>,
    received: Mutex<Vec<ReceivedRequest>>,
}

/// A server on 127.0.0.1 with a certificate for that address, from an authority of its own. It stops when this is dropped.
#[derive(Debug)]
pub struct HttpsReceiver {
    port: u16,
    folder: TempDir,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

impl HttpsReceiver {
    /// # Errors
    /// If `openssl` is missing, or there is no port.
    pub async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        certificates::authority(folder.path(), "authority")?;
        certificates::certificate(folder.path(), "authority", "receiver")?;
        let chain = CertificateDer::pem_file_iter(folder.path().join("receiver.pem"))?.collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_file(folder.path().join("receiver.key"))?;
        let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no port for a receiver")?;
        let port = listener.local_addr()?.port();
        let answer = Mutex::new(ReceiverAnswer::status(204));
        let shared = Arc::new(Shared { answer, received: Mutex::default() });
        let serving = tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), Arc::clone(&shared)));
        Ok(HttpsReceiver { port, folder, shared, serving })
    }

    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}/hook", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The PEM file of its authority.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// From now on, requests are answered so.
    pub fn answer(&self, answer: ReceiverAnswer) {
        *lock(&self.shared.answer) = answer;
    }

    /// Everything it got, in the order in which it got it.
    pub fn received(&self) -> Vec<ReceivedRequest> {
        lock(&self.shared.received).clone()
    }
}

impl Drop for HttpsReceiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            // A client that does not trust the certificate goes away here.
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(|request| respond(request, Arc::clone(&shared)));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let answer = lock(&shared.answer).clone();
    lock(&shared.received).push(ReceivedRequest { path: parts.uri.path().to_owned(), headers: parts.headers, body });
    tokio::time::sleep(answer.after).await;
    let mut response = Response::new(Full::new(Bytes::from_static(b"thank you")));
    *response.status_mut() = answer.status;
    response.headers_mut().extend(answer.headers);
    Ok(response)
}
