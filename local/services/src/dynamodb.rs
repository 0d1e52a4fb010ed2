//! DynamoDB in this process: `dynoxide`, on SQLite.
//!
//! It checks requests as the service does, but it is always consistent, never throttles, and accepts any credentials.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use dynoxide::Database;
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::sync::oneshot;

/// How often expired items are removed. The real service takes up to days.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// A DynamoDB server. Stops when dropped.
///
/// It has its own thread, because SQLite blocks the thread it is called on. All connections end with the thread, so
/// the file is closed when `drop` returns.
#[derive(Debug)]
pub struct EmbeddedDynamoDb {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl EmbeddedDynamoDb {
    /// Serves a database on `port` of the loopback interface, or on any free port. The database is in `file`, which is created if it is missing,
    /// or in memory.
    ///
    /// # Errors
    /// If the port is taken or the file is not a database.
    pub async fn start(port: Option<u16>, file: Option<PathBuf>) -> anyhow::Result<Self> {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(0))), file).await
    }

    /// Like [`EmbeddedDynamoDb::start`], at an address that others may reach too: for a container of its own.
    ///
    /// # Errors
    /// As [`EmbeddedDynamoDb::start`].
    pub async fn start_at(address: SocketAddr, file: Option<PathBuf>) -> anyhow::Result<Self> {
        let database = match file {
            None => Database::memory().context("cannot open a database in memory")?,
            Some(file) => {
                let path = file.to_str().with_context(|| format!("{} is not UTF-8", file.display()))?;
                Database::new(path).with_context(|| format!("cannot open the database {path}"))?
            }
        };
        // Despite its name, this makes SQLite sync its file only at checkpoints, not at each write. A power cut may
        // lose the last acknowledged writes; a killed process loses nothing.
        database.disable_bulk_loading().context("cannot set up the database")?;
        let listener =
            TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?.into_std()?;
        let address = listener.local_addr()?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("embedded-dynamodb".into())
            .spawn(move || runtime.block_on(serve(listener, database, stopped)))?;
        Ok(EmbeddedDynamoDb { address, stop: Some(stop), thread: Some(thread) })
    }

    /// For `AWS_ENDPOINT_URL_DYNAMODB`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for EmbeddedDynamoDb {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the embedded DynamoDB panicked");
        }
    }
}

/// Serves until `stopped`. It does not wait for connections: a client may keep one open forever.
async fn serve(listener: std::net::TcpListener, database: Database, stopped: oneshot::Receiver<()>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the embedded DynamoDB cannot listen");
            return;
        }
    };
    tokio::select! {
        () = dynoxide::server::serve_on(listener, database.clone()) => {}
        () = sweep(database) => {}
        // Nothing is ever sent; the sender is dropped.
        _ = stopped => {}
    }
}

async fn sweep(database: Database) {
    loop {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        sweep_once(database.clone()).await;
    }
}

/// The sweep lets requests go first between two pages, but only if another thread serves them.
async fn sweep_once(database: Database) {
    match tokio::task::spawn_blocking(move || database.sweep_ttl()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the embedded DynamoDB cannot remove expired items"),
        Err(error) => {
            tracing::error!(%error, "the task that removes expired items from the embedded DynamoDB panicked")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::task::Poll;

    use super::*;

    #[test]
    fn a_sweep_leaves_the_thread_to_requests() {
        let runtime = runtime::Builder::new_current_thread().max_blocking_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            // The only other thread is busy, so a sweep that ends before it is free has used this one.
            let (free, taken) = mpsc::channel::<()>();
            let holder = tokio::task::spawn_blocking(move || taken.recv());
            let mut sweep = Box::pin(sweep_once(Database::memory().unwrap()));
            let first = std::future::poll_fn(|context| Poll::Ready(sweep.as_mut().poll(context))).await;
            assert!(first.is_pending());
            free.send(()).unwrap();
            holder.await.unwrap().unwrap();
            sweep.await;
        });
    }
}
