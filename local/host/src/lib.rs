//! Hosts function binaries on one machine as AWS Lambda does.
//!
//! Owns the Runtime API that a function polls, the Invoke API that callers use, the processes behind both (started on
//! demand, one call at a time, killed at the timeout, replaced after a crash), and the supervision of functions that
//! serve HTTP on a port. Does not own what a function does, what it needs to run, and who calls it. ADR 0003
//! explains why it exists beside `cargo lambda watch`.

mod config;
mod elsewhere;
mod error;
mod function;
mod http_function;
mod instance;
mod invoke_api;
mod lock;
mod log;
mod process;
mod runtime_api;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use config::{FunctionConfig, FunctionElsewhere, HostConfig, HttpFunction, LogTarget};
pub use error::HostError;
pub use http_function::RunningHttpFunction;
pub use instance::{InstanceState, InstanceView};

use elsewhere::Elsewhere;
use function::{Function, FunctionMap};

/// Maximum wait for calls in flight when the host stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Running functions and the two APIs in front of them. Dropping it kills every instance.
#[derive(Debug)]
pub struct Host {
    address: SocketAddr,
    functions: FunctionMap,
    server: JoinHandle<()>,
}

impl Host {
    /// Listens, and starts the prewarmed instances. Others start with the first call that needs them.
    ///
    /// # Errors
    /// [`HostError`] if the address is taken, two functions have one name, or a program is missing.
    pub async fn start(config: HostConfig) -> Result<Host, HostError> {
        let listen_error = |source| HostError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let mut functions = BTreeMap::new();
        for function in config.functions {
            let name = function.name.clone();
            let function = Arc::new(Function::new(function, address).await?);
            if functions.insert(name.clone(), function).is_some() {
                return Err(HostError::DuplicateName { name });
            }
        }
        if let Some(name) = config.elsewhere.keys().find(|name| functions.contains_key(*name)) {
            return Err(HostError::DuplicateName { name: name.clone() });
        }
        let functions: FunctionMap = Arc::new(functions);
        let router = Router::new()
            .merge(runtime_api::router(Arc::clone(&functions)))
            .merge(invoke_api::router(Arc::clone(&functions), Elsewhere::new(config.elsewhere)));
        // Small answers must not wait for the peer's delayed acknowledgement.
        let listener = listener.tap_io(|stream| {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "cannot turn off Nagle's algorithm");
            }
        });
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the function host stopped serving");
            }
        });
        for function in functions.values() {
            function.prewarm();
        }
        tracing::info!(%address, functions = functions.len(), "the function host listens");
        Ok(Host { address, functions, server })
    }

    /// Where both APIs listen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The value for `AWS_ENDPOINT_URL_LAMBDA`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Live instances of a function, oldest first; empty for an unknown name.
    pub fn instances(&self, name: &str) -> Vec<InstanceView> {
        self.functions.get(name).map(|function| function.instances()).unwrap_or_default()
    }

    /// Refuses new calls, waits up to 10 s for those in flight, then stops every instance: SIGTERM, and SIGKILL after
    /// the 2 s that Lambda allows.
    pub async fn stop(self) {
        let mut stopping = tokio::task::JoinSet::new();
        for function in self.functions.values() {
            let function = Arc::clone(function);
            stopping.spawn(async move { function.stop(DRAIN_TIMEOUT).await });
        }
        stopping.join_all().await;
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.server.abort();
        for function in self.functions.values() {
            function.kill();
        }
    }
}
