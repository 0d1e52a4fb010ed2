//! A function that serves HTTP on a port and is restarted when it ends.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::config::HttpFunction;
use crate::error::HostError;
use crate::lock::lock;
use crate::log::LogSink;
use crate::process::{Process, is_file};

/// Maximum time from a start to the first healthy answer.
const START_TIMEOUT: Duration = Duration::from_secs(15);
const HEALTH_INTERVAL: Duration = Duration::from_millis(20);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);
/// Delay before a restart; it doubles up to the cap while the process keeps ending.
const RESTART_BASE: Duration = Duration::from_millis(100);
const RESTART_CAP: Duration = Duration::from_secs(10);
/// A process that ran this long counts as stable: the next restart uses the base delay again.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// A supervised HTTP function. Dropping it kills the process.
#[derive(Debug)]
pub struct RunningHttpFunction {
    address: SocketAddr,
    process: Arc<Mutex<Arc<Process>>>,
    supervisor: JoinHandle<()>,
}

impl RunningHttpFunction {
    /// Starts the function and waits until `GET /healthz` answers 200. From then on it is started again, with
    /// backoff, whenever it ends.
    ///
    /// # Errors
    /// [`HostError`] if the port is taken, the program is missing, or it is not healthy within 15 s.
    pub async fn start(function: HttpFunction) -> Result<Self, HostError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, function.port));
        if !is_file(&function.program).await {
            return Err(HostError::MissingProgram { name: function.name, program: function.program });
        }
        // Otherwise another process on the port would answer the health check in place of the function.
        if let Err(source) = TcpListener::bind(address).await {
            return Err(HostError::PortTaken { name: function.name, port: function.port, source });
        }
        let sink = LogSink::open(&function.name, &function.log)?;
        let process = Arc::new(spawn(&function, &sink)?);
        wait_until_healthy(&function.name, &process, address).await?;
        tracing::info!(function = function.name, %address, pid = process.pid, "a function serves HTTP");
        let process = Arc::new(Mutex::new(process));
        let supervisor = tokio::spawn(supervise(function, sink, Arc::clone(&process)));
        Ok(RunningHttpFunction { address, process, supervisor })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process id. It changes with every restart.
    pub fn pid(&self) -> u32 {
        lock(&self.process).pid
    }

    /// Sends SIGTERM, so that the function finishes its open requests, and SIGKILL after 2 s.
    pub async fn stop(self) {
        self.supervisor.abort();
        let process = Arc::clone(&lock(&self.process));
        process.terminate().await;
    }
}

impl Drop for RunningHttpFunction {
    fn drop(&mut self) {
        self.supervisor.abort();
        lock(&self.process).kill();
    }
}

fn spawn(function: &HttpFunction, sink: &LogSink) -> Result<Process, HostError> {
    let port = ("PORT".to_owned(), function.port.to_string());
    let env = std::iter::once(port).chain(function.env.iter().cloned());
    Process::spawn(&function.program, env, sink).map_err(|source| HostError::Spawn {
        name: function.name.clone(),
        program: function.program.clone(),
        source,
    })
}

async fn supervise(function: HttpFunction, sink: LogSink, current: Arc<Mutex<Arc<Process>>>) {
    let mut wait = RESTART_BASE;
    let mut started = Instant::now();
    loop {
        let process = Arc::clone(&lock(&current));
        let status = process.ended().await;
        if started.elapsed() >= STABLE_AFTER {
            wait = RESTART_BASE;
        }
        tracing::warn!(
            function = function.name,
            status,
            wait_ms = pipeline::millis(wait),
            "a function that serves HTTP ended and will be restarted"
        );
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RESTART_CAP);
        started = Instant::now();
        match spawn(&function, &sink) {
            Ok(process) => *lock(&current) = Arc::new(process),
            Err(error) => tracing::error!(%error, "cannot restart a function that serves HTTP"),
        }
    }
}

async fn wait_until_healthy(name: &str, process: &Process, address: SocketAddr) -> Result<(), HostError> {
    let unhealthy = |reason: String| HostError::Unhealthy { name: name.to_owned(), reason, tail: process.tail.lines() };
    let polling = async {
        while !is_healthy(address).await {
            tokio::time::sleep(HEALTH_INTERVAL).await;
        }
    };
    tokio::select! {
        () = polling => Ok(()),
        status = process.ended() => Err(unhealthy(format!("it ended ({status})"))),
        () = tokio::time::sleep(START_TIMEOUT) => {
            Err(unhealthy(format!("no answer at http://{address}/healthz within {} s", START_TIMEOUT.as_secs())))
        }
    }
}

async fn is_healthy(address: SocketAddr) -> bool {
    tokio::time::timeout(HEALTH_TIMEOUT, health_status(address))
        .await
        .is_ok_and(|status| status == Some(StatusCode::OK))
}

async fn health_status(address: SocketAddr) -> Option<StatusCode> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let request =
        Request::get("/healthz").header(header::HOST, address.to_string()).body(Empty::<Bytes>::new()).ok()?;
    tokio::select! {
        response = client.send_request(request) => Some(response.ok()?.status()),
        _ = connection => None,
    }
}
