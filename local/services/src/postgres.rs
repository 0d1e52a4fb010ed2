//! A throw-away PostgreSQL server from the machine's own package.
//!
//! The server listens on loopback only and has no Unix socket. It stops when the value that started it is dropped, or
//! when the process that started it ends.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use nix::unistd::User;
use tempfile::TempDir;
use tokio::time::Instant;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{Client, Connection, NoTls, Socket};

use crate::port::free_port;
use crate::supervisor::{Supervised, log_tail};
use crate::unprivileged::{prepare, run_as, server_user};

/// The name of the server's superuser and of the database in [`ThrowAwayPostgres::url`].
pub(crate) const NAME: &str = "forebay";
/// The database that initdb creates.
const MAINTENANCE: &str = "postgres";

/// Maximum wait for the server to accept connections.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time between two checks whether it has started.
const PAUSE: Duration = Duration::from_millis(20);

/// How many free ports are tried, because another process may take one before the server binds it.
const PORT_ATTEMPTS: u32 = 3;

const MISSING: &str = "no PostgreSQL server found on PATH or in /usr/lib/postgresql/*/bin: install the package \
                       `postgresql` (Debian, Ubuntu: apt-get install postgresql; Fedora: dnf install \
                       postgresql-server; macOS: brew install postgresql), or set DATABASE_URL to use another server";

/// A running server.
#[derive(Debug)]
pub struct ThrowAwayPostgres {
    process: Supervised,
    port: u16,
    root: PathBuf,
    thrown_away: bool,
}

impl ThrowAwayPostgres {
    /// Starts a server on `port`, or on a free port. Its data is in `data_dir`, which is kept, or in a temporary
    /// folder, which is removed. Returns when it accepts connections, after 1 to 3 s, or at once if `data_dir` has been
    /// used before.
    ///
    /// Connections are trusted without a password: the server is on loopback and holds test data.
    ///
    /// # Errors
    /// If no PostgreSQL is installed (the error names the package), the port is taken, or the server does not start
    /// (the error contains the end of its log).
    pub async fn start(port: Option<u16>, data_dir: Option<&Path>) -> anyhow::Result<Self> {
        let programs = find_programs()?;
        let user = server_user()?;
        let scratch = match data_dir {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("forebay-postgres-").tempdir()?),
        };
        let root = match (data_dir, &scratch) {
            (Some(dir), _) => dir.to_owned(),
            (None, Some(scratch)) => scratch.path().to_owned(),
            (None, None) => bail!("no data folder"),
        };
        let root = prepare(&root, user.as_ref())?;
        let data = root.join("data");
        if !data.join("PG_VERSION").exists() {
            init(&programs, &data, user.as_ref()).await?;
        }
        let mut attempt = 1;
        loop {
            let chosen = match port {
                Some(port) => {
                    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
                    drop(TcpListener::bind(address).with_context(|| format!("port {port} for PostgreSQL is taken"))?);
                    port
                }
                None => free_port()?,
            };
            match Self::launch(&programs, &root, chosen, scratch.is_some(), user.as_ref()).await {
                Ok(server) => {
                    // The supervisor removes it.
                    let _ = scratch.map(TempDir::keep);
                    server.create_database(NAME).await?;
                    return Ok(server);
                }
                Err(error) if port.is_none() && attempt < PORT_ATTEMPTS => {
                    tracing::debug!(%error, "PostgreSQL did not start and is tried on another port");
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn launch(
        programs: &Path,
        root: &Path,
        port: u16,
        throw_away: bool,
        user: Option<&User>,
    ) -> anyhow::Result<Self> {
        let log_path = root.join("postgres.log");
        let log = std::fs::File::create(&log_path)?;
        let mut arguments = vec!["-D".into(), root.join("data").into_os_string()];
        let port_setting = format!("port={port}");
        // fsync stays on: tests kill servers and clients, and benchmarks should measure a durable server.
        for setting in [
            port_setting.as_str(),
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=100",
            "shared_buffers=64MB",
            // So that a standby can follow it, as every server in production has one.
            "wal_level=replica",
            "max_wal_senders=4",
            "timezone=UTC",
        ] {
            arguments.extend(["-c".into(), setting.into()]);
        }
        // The caller cleans up after a failed launch, but a killed caller must not leave the folder behind.
        let scratch = throw_away.then_some(root);
        // SIGINT makes a fast shutdown, which does not wait for clients.
        let process = Supervised::start(&programs.join("postgres"), arguments, "INT", scratch, |command| {
            command.stdout(Stdio::null()).stderr(log).current_dir(root);
            run_as(command, user);
        })
        .context("cannot start PostgreSQL")?;
        let mut server = ThrowAwayPostgres { process, port, root: root.to_owned(), thrown_away: throw_away };
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = server.process.ended()? {
                bail!("PostgreSQL ended while starting ({status}); the end of its log: {}", log_tail(&log_path));
            }
            let Err(error) = server.connect(MAINTENANCE).await else { return Ok(server) };
            ensure!(
                Instant::now() < deadline,
                "PostgreSQL accepts no connections after {} s ({error}); the end of its log: {}",
                PATIENCE.as_secs(),
                log_tail(&log_path)
            );
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Kills the server with SIGKILL: a crash. Committed data is on disk, and [`ThrowAwayPostgres::restart`] recovers
    /// it.
    ///
    /// # Errors
    /// If its data would be removed too, or it cannot be signalled.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        ensure!(!self.thrown_away, "cannot kill this server: its temporary folder would be removed");
        Ok(self.process.kill()?)
    }

    /// Starts the killed server again on its port, and waits until it has recovered.
    ///
    /// # Errors
    /// If it does not start (the error contains the end of its log).
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.restart_on(self.port).await
    }

    /// Like [`ThrowAwayPostgres::restart`], but on another port, which looks like a failover to clients.
    ///
    /// # Errors
    /// As [`ThrowAwayPostgres::restart`].
    pub async fn restart_on(&mut self, port: u16) -> anyhow::Result<()> {
        let (programs, user) = (find_programs()?, server_user()?);
        let deadline = Instant::now() + PATIENCE;
        loop {
            // The old server's children keep its shared memory until they notice that it ended.
            match Self::launch(&programs, &self.root, port, false, user.as_ref()).await {
                Ok(server) => {
                    *self = server;
                    return Ok(());
                }
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(error) => tracing::debug!(%error, "PostgreSQL did not start and is tried again"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether the server has ended by itself, as after a full disk.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.process.ended()?.is_some())
    }

    /// Starts a copy of this server that follows it and only answers queries, in the folder `data_dir`, which must be new
    /// and is kept. It reaches this server through `port`, which may be that of a proxy.
    ///
    /// Replication is asynchronous until [`ThrowAwayPostgres::commit_on_standby_too`].
    ///
    /// # Errors
    /// If the copy cannot be made (the error contains what `pg_basebackup` printed) or does not start.
    pub async fn start_standby(&self, data_dir: &Path, port: u16) -> anyhow::Result<Self> {
        let (programs, user) = (find_programs()?, server_user()?);
        let root = prepare(data_dir, user.as_ref())?;
        let mut command = Command::new(programs.join("pg_basebackup"));
        command.arg("-d").arg(format!("host=127.0.0.1 port={port} user={NAME}"));
        // -R writes the address into the copy's settings, with which it then follows.
        command.arg("-D").arg(root.join("data")).args(["-R", "-X", "stream", "--checkpoint=fast", "--no-sync"]);
        command.current_dir("/").stdin(Stdio::null());
        run_as(&mut command, user.as_ref());
        output_of("pg_basebackup", command).await?;
        Self::launch(&programs, &root, free_port()?, false, user.as_ref()).await
    }

    /// From now on a transaction is committed here once its standby has it on disk too. Waits until a standby follows:
    /// without one, no transaction would end.
    ///
    /// # Errors
    /// If the server does not answer, or no standby follows in time.
    pub async fn commit_on_standby_too(&self) -> anyhow::Result<()> {
        self.execute("ALTER SYSTEM SET synchronous_standby_names = '*'").await?;
        self.execute("SELECT pg_reload_conf()").await?;
        let follows = "SELECT count(*) > 0 FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = 'sync'";
        self.wait_until(follows, "no standby follows this server").await
    }

    /// Transactions that begin from now on can only read, also those of open connections. Waits for those that write.
    ///
    /// # Errors
    /// If the server does not answer, or a transaction goes on for too long.
    pub async fn become_read_only(&self) -> anyhow::Result<()> {
        self.execute("ALTER SYSTEM SET default_transaction_read_only = on").await?;
        self.execute("SELECT pg_reload_conf()").await?;
        // A session takes a setting over between two transactions; one that has begun to write still may.
        tokio::time::sleep(PAUSE * 5).await;
        let ended = "SELECT count(*) = 0 FROM pg_stat_activity
                     WHERE backend_type = 'client backend' AND state <> 'idle' AND pid <> pg_backend_pid()";
        self.wait_until(ended, "a transaction does not end").await
    }

    /// Makes a standby the primary, which takes writes and follows no one.
    ///
    /// # Errors
    /// If the server does not answer, or is none.
    pub async fn promote(&self) -> anyhow::Result<()> {
        // Waits until it has happened.
        self.execute("SELECT pg_promote()").await?;
        self.wait_until("SELECT NOT pg_is_in_recovery()", "it is still a standby").await
    }

    async fn execute(&self, sql: &str) -> anyhow::Result<()> {
        let (client, connection) = self.connect(MAINTENANCE).await?;
        tokio::select! {
            result = client.batch_execute(sql) => Ok(result?),
            ended = connection => bail!("the connection to PostgreSQL ended: {ended:?}"),
        }
    }

    /// Asks until the answer is true.
    async fn wait_until(&self, question: &str, otherwise: &'static str) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let (client, connection) = self.connect(MAINTENANCE).await?;
        let work = async {
            while !client.query_one(question, &[]).await?.get::<_, bool>(0) {
                ensure!(Instant::now() < deadline, otherwise);
                tokio::time::sleep(PAUSE).await;
            }
            Ok(())
        };
        tokio::select! {
            result = work => result,
            ended = connection => bail!("the connection to PostgreSQL ended: {ended:?}"),
        }
    }

    /// `postgres://…`, for the database created at the start.
    pub fn url(&self) -> String {
        url_at(self.port)
    }

    /// The URL of another database on the same server.
    pub fn database_url(&self, database: &str) -> String {
        database_url_at(self.port, database)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Creates a database, unless it exists, and returns its URL.
    ///
    /// # Errors
    /// If the server does not answer, or the name has other characters than lower-case letters, digits and underscores.
    pub async fn create_database(&self, name: &str) -> anyhow::Result<String> {
        let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
        ensure!(name.bytes().all(plain), "a database name may have only lower-case letters, digits and underscores");
        let (client, connection) = self.connect(MAINTENANCE).await?;
        let work = async {
            if client.query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&name]).await?.is_none() {
                client.batch_execute(&format!("CREATE DATABASE {name}")).await?;
            }
            Ok(self.database_url(name))
        };
        tokio::select! {
            result = work => result,
            ended = connection => bail!("the connection to PostgreSQL ended: {ended:?}"),
        }
    }

    async fn connect(
        &self,
        database: &str,
    ) -> Result<(Client, Connection<Socket, NoTlsStream>), tokio_postgres::Error> {
        tokio_postgres::connect(&self.database_url(database), NoTls).await
    }

    /// Stops the server and waits until it has ended. Dropping does the same.
    pub fn stop(self) {
        drop(self);
    }
}

/// As [`ThrowAwayPostgres::url`], for a server that is reached through another port of this machine.
pub fn url_at(port: u16) -> String {
    database_url_at(port, NAME)
}

fn database_url_at(port: u16, database: &str) -> String {
    format!("postgres://{NAME}@127.0.0.1:{port}/{database}?sslmode=disable")
}

/// The folder with `postgres` and `initdb`: the one that PATH leads to, or the newest version of Debian's packages.
fn find_programs() -> anyhow::Result<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "PATH is how programs are found, not a setting of ours")]
    let path = std::env::var("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path)
        // PATH may contain links to single programs; `initdb` is beside the program that a link points to.
        .filter_map(|dir| dir.join("postgres").canonicalize().ok())
        .filter_map(|program| program.parent().map(Path::to_owned));
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_by(|a, b| b.cmp(a));
    on_path
        .chain(versions.into_iter().map(|(_, dir)| dir))
        .find(|dir| dir.join("postgres").exists() && dir.join("initdb").exists())
        .context(MISSING)
}

async fn init(programs: &Path, data: &Path, user: Option<&User>) -> anyhow::Result<()> {
    let mut command = Command::new(programs.join("initdb"));
    command.arg("-D").arg(data).args(["-U", NAME, "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]);
    // The server's user may have no access to the caller's current folder.
    command.current_dir("/").stdin(Stdio::null());
    run_as(&mut command, user);
    let as_user = user.map(|user| format!(" as user {}", user.name)).unwrap_or_default();
    output_of("initdb", command).await.with_context(|| format!("in {}{as_user}", data.display()))
}

/// Runs a program to its end.
async fn output_of(name: &str, command: Command) -> anyhow::Result<()> {
    let output =
        tokio::process::Command::from(command).output().await.with_context(|| format!("cannot start {name}"))?;
    ensure!(output.status.success(), "{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn starts_answers_and_leaves_nothing_behind() {
        let server = ThrowAwayPostgres::start(None, None).await.unwrap();
        let (client, connection) = server.connect(NAME).await.unwrap();
        let connection = tokio::spawn(connection);
        let data: String = client.query_one("SHOW data_directory", &[]).await.unwrap().get(0);
        let scratch = Path::new(&data).parent().unwrap().to_owned();
        drop((client, connection));
        let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let row = client.query_one("SELECT current_database()::text, inet_server_addr()::text", &[]).await.unwrap();
        assert_eq!((row.get(0), row.get(1)), ("forebay", "127.0.0.1/32"));
        server.stop();
        assert!(!scratch.exists());
        assert!(client.query_one("SELECT 1", &[]).await.is_err());
        drop(connection);
    }

    #[tokio::test]
    async fn a_given_folder_is_kept_and_a_taken_port_is_named() {
        let dir = open_folder();
        let data = dir.path().join("kept");
        let server = ThrowAwayPostgres::start(None, Some(&data)).await.unwrap();
        let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        client.batch_execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)").await.unwrap();

        let taken = ThrowAwayPostgres::start(Some(server.port()), None).await.unwrap_err();
        assert!(format!("{taken:#}").contains(&format!("port {}", server.port())), "{taken:#}");

        server.stop();
        drop(connection);
        let again = ThrowAwayPostgres::start(None, Some(&data)).await.unwrap();
        let (client, connection) = tokio_postgres::connect(&again.url(), NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        assert_eq!(client.query_one("SELECT n FROM kept", &[]).await.unwrap().get::<_, i32>(0), 7);
        drop(connection);
    }

    /// A folder that the server's user may enter.
    fn open_folder() -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        dir
    }

    #[tokio::test]
    async fn a_promoted_standby_has_what_was_committed_on_both() {
        let dir = open_folder();
        let mut first = ThrowAwayPostgres::start(None, Some(&dir.path().join("first"))).await.unwrap();
        let second = first.start_standby(&dir.path().join("second"), first.port()).await.unwrap();
        first.commit_on_standby_too().await.unwrap();
        first.execute("CREATE TABLE kept (n int)").await.unwrap();
        assert!(second.execute("INSERT INTO kept VALUES (1)").await.is_err(), "it only answers queries");
        first.execute("INSERT INTO kept VALUES (1)").await.unwrap();
        first.kill().unwrap();
        second.promote().await.unwrap();
        second.execute("INSERT INTO kept VALUES (2)").await.unwrap();
        second.wait_until("SELECT sum(n) = 3 FROM kept", "not the rows of both").await.unwrap();
        second.become_read_only().await.unwrap();
        assert!(second.execute("INSERT INTO kept VALUES (3)").await.is_err());
    }

    #[tokio::test]
    async fn ends_when_its_owner_is_gone() {
        let mut server = ThrowAwayPostgres::start(None, None).await.unwrap();
        let (client, connection) = server.connect(NAME).await.unwrap();
        let connection = tokio::spawn(connection);
        let data: String = client.query_one("SHOW data_directory", &[]).await.unwrap().get(0);
        let scratch = Path::new(&data).parent().unwrap().to_owned();
        drop((client, connection));
        // As the kernel does when the owner is killed.
        server.process.abandon();
        let deadline = Instant::now() + PATIENCE;
        while scratch.exists() {
            assert!(Instant::now() < deadline, "the server outlived its owner");
            tokio::time::sleep(PAUSE).await;
        }
    }
}
