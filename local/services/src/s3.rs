//! S3 in this process: `s3s-fs` on a folder.
//!
//! It supports what Forebay needs of S3: conditional puts, lists and gets, signed with one known pair of credentials.
//! Two limits come from `s3s-fs`: it keeps each object's attributes in a file whose name is the base64 of its key, so
//! keys longer than about 150 bytes fail with an internal error; and a list reads the whole bucket.

use std::convert::Infallible;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper::header::IF_NONE_MATCH;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpRequest, HttpResponse};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::{AbortHandle, JoinSet};

/// The access key id that the service accepts.
pub const ACCESS_KEY_ID: &str = "local";
/// Its secret. It does not have to be secret, because the service is reached from this machine only.
pub const SECRET_ACCESS_KEY: &str = "local";

/// An S3 server with one bucket. Stops when dropped; the folder stays.
#[derive(Debug)]
pub struct EmbeddedS3 {
    address: SocketAddr,
    server: AbortHandle,
}

impl EmbeddedS3 {
    /// Serves `folder`, which is created if it is missing, on `port` of the loopback interface, or on any free port.
    /// Creates the bucket unless it exists from an earlier run.
    ///
    /// # Errors
    /// If the folder cannot be used or the port is taken.
    pub async fn start(port: Option<u16>, folder: impl Into<PathBuf>, bucket: &str) -> anyhow::Result<Self> {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(0))), folder, bucket).await
    }

    /// Like [`EmbeddedS3::start`], at an address that others may reach too: for a container of its own.
    ///
    /// # Errors
    /// As [`EmbeddedS3::start`].
    pub async fn start_at(address: SocketAddr, folder: impl Into<PathBuf>, bucket: &str) -> anyhow::Result<Self> {
        let folder = folder.into();
        let bucket_folder = folder.join(bucket);
        std::fs::create_dir_all(&bucket_folder)
            .with_context(|| format!("cannot create the bucket's folder {}", bucket_folder.display()))?;
        let files = s3s_fs::FileSystem::new(&folder)
            .map_err(|error| anyhow::anyhow!("cannot serve {}: {error:?}", folder.display()))?;
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY_ID, SECRET_ACCESS_KEY));
        let service = Arc::new(AtomicPuts::new(service.build()));

        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(serve(listener, service)).abort_handle();
        Ok(EmbeddedS3 { address, server })
    }

    /// For `AWS_ENDPOINT_URL_S3`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for EmbeddedS3 {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Accepts connections until aborted. The connections end with the set that holds them.
async fn serve(listener: TcpListener, service: Arc<AtomicPuts>) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // The client disconnected too early, or there are no free file descriptors, which takes time to pass.
                tracing::warn!(%error, "cannot accept a connection to the embedded S3");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let service = Arc::clone(&service);
        connections.spawn(async move {
            let handler = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
                let service = Arc::clone(&service);
                async move { Ok::<_, Infallible>(service.call(request.map(Body::from)).await) }
            });
            let connection =
                http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(socket), handler);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the embedded S3 failed");
            }
        });
    }
}

/// `s3s-fs` checks whether a key exists and renames the finished upload some awaits later, so two writers with
/// `If-None-Match: *` may both succeed. S3 promises that only one does, so conditional puts of one key take turns here.
struct AtomicPuts {
    service: S3Service,
    turns: Vec<Mutex<()>>,
}

impl AtomicPuts {
    /// Enough, so that puts of different keys rarely wait for each other.
    const TURNS: usize = 64;

    fn new(service: S3Service) -> Self {
        AtomicPuts { service, turns: (0..Self::TURNS).map(|_| Mutex::new(())).collect() }
    }

    async fn call(&self, request: HttpRequest) -> HttpResponse {
        let _turn = if request.headers().contains_key(IF_NONE_MATCH) {
            let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(request.uri().path());
            let turn = usize::try_from(hash % Self::TURNS as u64).unwrap_or_default();
            Some(self.turns[turn].lock().await)
        } else {
            None
        };
        self.service.call(request).await.unwrap_or_else(|error| {
            tracing::error!(?error, "the embedded S3 failed");
            let mut response = HttpResponse::new(Body::empty());
            *response.status_mut() = hyper::StatusCode::INTERNAL_SERVER_ERROR;
            response
        })
    }
}
