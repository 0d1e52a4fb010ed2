//! Logging in at a real server that asks for it: what is right connects and goes on when the secret is replaced, what is
//! wrong is refused with an error that names the setting to look at.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

mod iam;
mod ldap;
mod rotation;
mod secrets_manager;
mod tls;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use postgres::{Database, PostgresConfig, PostgresError};
use services::certificates;
use services::postgres::ThrowAwayPostgres;
use settings::Settings;
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};

/// Who may connect to the server, in its own format. The superuser is trusted, as it sets up the tests; members of
/// `encrypted` need TLS. For members of `rds_iam`, as the group is called at RDS, a stub checks the password. Only these use SCRAM, because hashing a password thousands of times takes long in a debug build.
const WHO: &str = "host all forebay 127.0.0.1/32 trust
hostssl all +encrypted 127.0.0.1/32 scram-sha-256
hostnossl all +encrypted 127.0.0.1/32 reject
hostssl all +rds_iam 127.0.0.1/32 ldap ldapserver=127.0.0.1 ldapport=@LDAP@ ldapprefix=\"cn=\"
host all all 127.0.0.1/32 password
";
/// Time limit for the server to take new settings.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);

/// A server that asks for passwords, for all tests of this binary. It ends when the process ends.
struct Server {
    process: ThrowAwayPostgres,
    files: TempDir,
    iam: iam::Stub,
}

impl Server {
    async fn get() -> &'static Self {
        static SERVER: OnceCell<Server> = OnceCell::const_new();
        SERVER.get_or_init(Self::start).await
    }

    async fn start() -> Self {
        let server = Server {
            process: ThrowAwayPostgres::start(None, None).await.unwrap(),
            files: tempfile::tempdir().unwrap(),
            iam: iam::Stub::start(),
        };
        for name in ["ca", "other-ca"] {
            certificates::authority(server.files.path(), name).unwrap();
        }
        certificates::certificate(server.files.path(), "ca", "server").unwrap();
        server.execute("CREATE ROLE encrypted; CREATE ROLE rds_iam").await;
        server.set_up().await;
        server
    }

    /// Gives the server a certificate, and the list of who may connect.
    async fn set_up(&self) {
        let superuser = self.superuser().await;
        let setting = async |name: &str| -> String {
            superuser.query_typed_one(&format!("SHOW {name}"), &[]).await.unwrap().get(0)
        };
        let data = PathBuf::from(setting("data_directory").await);
        let owner = std::fs::metadata(&data).unwrap();
        for name in ["server.pem", "server.key"] {
            let path = data.join(name);
            std::fs::copy(self.files.path().join(name), &path).unwrap();
            // The server insists on both.
            std::os::unix::fs::chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        }
        let who = WHO.replace("@LDAP@", &self.iam.port.to_string());
        std::fs::write(setting("hba_file").await, who).unwrap();
        for change in ["ssl_cert_file = 'server.pem'", "ssl_key_file = 'server.key'", "ssl = on"] {
            superuser.batch_execute(&format!("ALTER SYSTEM SET {change}")).await.unwrap();
        }
        self.reload(&superuser).await;
    }

    /// A connection of the superuser.
    async fn superuser(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.process.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    async fn execute(&self, statements: &str) {
        self.superuser().await.batch_execute(statements).await.unwrap();
    }

    /// Returns when the server has read its settings again.
    async fn reload(&self, superuser: &Client) {
        let loaded = "SELECT pg_conf_load_time()";
        let before: std::time::SystemTime = superuser.query_one(loaded, &[]).await.unwrap().get(0);
        superuser.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        let newer = async {
            while superuser.query_one(loaded, &[]).await.unwrap().get::<_, std::time::SystemTime>(0) <= before {
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(PATIENCE, newer).await.unwrap();
    }

    /// A file that no other test has.
    fn file(&self) -> PathBuf {
        self.files.path().join(unique("file"))
    }

    /// The path of a certificate.
    fn certificate(&self, name: &str) -> String {
        self.files.path().join(name).to_str().unwrap().to_owned()
    }

    /// Creates a role with a password, and returns its name.
    async fn role(&self, password: &str) -> String {
        let role = unique("role");
        self.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD '{password}'")).await;
        role
    }

    async fn set_password(&self, role: &str, password: &str) {
        self.execute(&format!("ALTER ROLE {role} PASSWORD '{password}'")).await;
    }

    /// The settings of a connection, but for the password.
    fn variables(&self, role: &str) -> Variables {
        Variables(BTreeMap::new())
            .with("DB_HOST", "127.0.0.1")
            .with("DB_PORT", &self.process.port().to_string())
            .with("DB_NAME", "forebay")
            .with("DB_USER", role)
            .with("DB_SSLMODE", "disable")
    }
}

fn unique(what: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{what}_{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Settings as an operator writes them.
#[derive(Clone, Debug)]
struct Variables(BTreeMap<&'static str, String>);

impl Variables {
    /// An empty value takes a setting away.
    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.0.insert(name, value.to_owned());
        self
    }

    fn config(&self) -> PostgresConfig {
        let variables: BTreeMap<&str, &str> = self.0.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut settings = Settings::new(&variables);
        let config = PostgresConfig::from_settings(&mut settings);
        settings.build(config).unwrap()
    }

    async fn connect(&self) -> Result<Database, PostgresError> {
        Database::connect(&self.config()).await
    }
}

/// Who a new connection of the pool is. Keeps the connection, so that the next one has to be a new one too.
async fn user_of_a_new_connection(database: &Database) -> (String, deadpool_postgres::Object) {
    let client = database.connection().await.unwrap();
    let user = client.query_typed_one("SELECT current_user::text", &[]).await.unwrap().get(0);
    (user, client)
}

/// The whole chain of an error, as a log shows it.
fn text(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |error| Error::source(*error));
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
