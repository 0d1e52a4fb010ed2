//! PgBouncer from the machine's own package, in transaction mode: each transaction gets any connection of the server's.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::port::free_port;
use crate::postgres::NAME;
use crate::supervisor::{Supervised, log_tail};
use crate::unprivileged::{prepare, run_as, server_user};

/// Where packages install it: on Debian that is not on everyone's PATH.
const PROGRAMS: [&str; 3] = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"];

/// Maximum wait for it to accept connections, and the time between two checks.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// A running PgBouncer before one server.
#[derive(Debug)]
pub struct PgBouncer {
    process: Supervised,
    port: u16,
    server_port: u16,
}

impl PgBouncer {
    /// Whether it can be started here; if not, why.
    ///
    /// # Errors
    /// If it is not installed; the error names the package.
    pub fn find() -> anyhow::Result<PathBuf> {
        let program = PROGRAMS.into_iter().map(PathBuf::from).find(|program| program.exists());
        program.context("PgBouncer is missing: install the package `pgbouncer` (local/setup/install.sh pooler)")
    }

    /// Starts it on a free port before the server on `server_port` of this machine, which may start later. User and
    /// database are those of [`ThrowAwayPostgres`](crate::postgres::ThrowAwayPostgres).
    ///
    /// # Errors
    /// If it is not installed (the error names the package) or does not start (the error contains the end of its log).
    pub async fn start(server_port: u16) -> anyhow::Result<Self> {
        let port = free_port()?;
        Ok(PgBouncer { process: launch(port, server_port).await?, port, server_port })
    }

    /// Ends it as a crash does, so that every connection breaks.
    ///
    /// # Errors
    /// If it cannot be signalled.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.process.kill()?)
    }

    /// Starts the killed one again on its port.
    ///
    /// # Errors
    /// As [`PgBouncer::start`].
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process = launch(self.port, self.server_port).await?;
        Ok(())
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

async fn launch(port: u16, server_port: u16) -> anyhow::Result<Supervised> {
    let (program, user) = (PgBouncer::find()?, server_user()?);
    let folder = tempfile::Builder::new().prefix("forebay-pgbouncer-").tempdir()?;
    let (settings, log_path) = (folder.path().join("pgbouncer.ini"), folder.path().join("pgbouncer.log"));
    // Fewer connections to the server than the functions have to it, so that their transactions do share them. A server
    // that comes back is found within a second; the default is 15 s. It keeps connections to a server that became read-only,
    // and can be told at a failover (RECONNECT); here they only live shortly, where the default is an hour.
    let text = format!(
        "[databases]\n* = host=127.0.0.1 port={server_port} user={NAME}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
         listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\nmax_client_conn = 500\n\
         default_pool_size = 8\nserver_login_retry = 1\nserver_lifetime = 10\n"
    );
    std::fs::write(&settings, text)?;
    let log = std::fs::File::create(&log_path)?;
    prepare(folder.path(), user.as_ref())?;
    let mut process = Supervised::start(&program, [&settings], "TERM", Some(folder.path()), |command| {
        command.stdout(Stdio::null()).stderr(log).current_dir("/");
        run_as(command, user.as_ref());
    })
    .context("cannot start PgBouncer")?;
    // The supervisor removes it.
    let _ = folder.keep();
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = process.ended()? {
            bail!("PgBouncer ended while starting ({status}); the end of its log: {}", log_tail(&log_path));
        }
        // That it listens is enough: whether the server answers is another matter.
        let Err(error) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return Ok(process) };
        ensure!(
            Instant::now() < deadline,
            "PgBouncer accepts no connections after {} s ({error}); the end of its log: {}",
            PATIENCE.as_secs(),
            log_tail(&log_path)
        );
        tokio::time::sleep(PAUSE).await;
    }
}
