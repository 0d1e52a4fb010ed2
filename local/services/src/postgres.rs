//! A throw-away PostgreSQL server from the machine's own package.
//!
//! The server listens on loopback only and has no Unix socket. It stops when the value that started it is dropped, or
//! when the process that started it ends.

use std::fs::Permissions;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use nix::unistd::{User, geteuid};
use tempfile::TempDir;
use tokio::time::Instant;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{Client, Connection, NoTls, Socket};

use crate::port::free_port;
use crate::supervisor::{Supervised, log_tail};

/// The name of the server's superuser and of the database in [`ThrowAwayPostgres::url`].
const NAME: &str = "forebay";
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
            "wal_level=minimal",
            "max_wal_senders=0",
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

    /// `postgres://…`, for the database created at the start.
    pub fn url(&self) -> String {
        self.database_url(NAME)
    }

    /// The URL of another database on the same server.
    pub fn database_url(&self, database: &str) -> String {
        format!("postgres://{NAME}@127.0.0.1:{}/{database}?sslmode=disable", self.port)
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

/// The user that runs the server. PostgreSQL refuses root, so root uses the package's own user, or `nobody`.
fn server_user() -> anyhow::Result<Option<User>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
    }
    bail!("PostgreSQL refuses to run as root, and there is neither a user `postgres` nor `nobody`")
}

fn run_as(command: &mut Command, user: Option<&User>) {
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
}

/// Creates the folder and gives it to the server's user. Returns its absolute path.
fn prepare(root: &Path, user: Option<&User>) -> anyhow::Result<PathBuf> {
    let doing = || format!("cannot prepare {} for PostgreSQL", root.display());
    std::fs::create_dir_all(root).with_context(doing)?;
    std::fs::set_permissions(root, Permissions::from_mode(0o700)).with_context(doing)?;
    let root = root.canonicalize().with_context(doing)?;
    if let Some(user) = user {
        std::os::unix::fs::chown(&root, Some(user.uid.as_raw()), Some(user.gid.as_raw())).with_context(doing)?;
    }
    Ok(root)
}

async fn init(programs: &Path, data: &Path, user: Option<&User>) -> anyhow::Result<()> {
    let mut command = Command::new(programs.join("initdb"));
    command.arg("-D").arg(data).args(["-U", NAME, "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]);
    // The server's user may have no access to the caller's current folder.
    command.current_dir("/").stdin(Stdio::null());
    run_as(&mut command, user);
    let output = tokio::process::Command::from(command).output().await.context("cannot start initdb")?;
    let as_user = user.map(|user| format!(" as user {}", user.name)).unwrap_or_default();
    ensure!(
        output.status.success(),
        "initdb failed{as_user} in {}: {}",
        data.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
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
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
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
