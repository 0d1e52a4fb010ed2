//! The address of the database and the login.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use settings::Settings;
use strum::{EnumString, VariantNames};
use tokio_postgres::config::{Host, SslMode};

/// Longest time to establish a connection, TLS and authentication included.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long sent data may stay unacknowledged before the connection counts as lost.
const TCP_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
enum Auth {
    Password,
    Iam,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
enum Encryption {
    Require,
    Disable,
}

/// What is between us and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub(crate) enum Pooler {
    /// A connection of ours is one of the server's.
    None,
    /// A pooler that gives each transaction any connection of the server's: PgBouncer with `pool_mode = transaction`,
    /// RDS Proxy. It refuses start-up options, and what belongs to a session (settings, named statements, locks) is lost
    /// or meets another client, or pins the connection.
    Transaction,
}

/// The login for which an IAM token is the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IamLogin {
    pub host: String,
    pub port: u16,
    pub user: String,
}

/// How to reach the database.
#[derive(Clone)]
pub struct PostgresConfig {
    pub(crate) connection: tokio_postgres::Config,
    pub(crate) tls: bool,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) iam: Option<IamLogin>,
    pub(crate) pooler: Pooler,
    pub(crate) pool_size: usize,
    pub(crate) statement_timeout: Duration,
}

impl fmt::Debug for PostgresConfig {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("hosts", &self.connection.get_hosts())
            .field("ports", &self.connection.get_ports())
            .field("database", &self.connection.get_dbname())
            .field("user", &self.connection.get_user())
            .field("tls", &self.tls)
            .field("iam", &self.iam.is_some())
            .field("pooler", &self.pooler)
            .field("pool_size", &self.pool_size)
            .finish_non_exhaustive()
    }
}

impl PostgresConfig {
    /// Reads `DATABASE_URL`, or `DB_HOST`, `DB_PORT` (5432), `DB_NAME`, `DB_USER`, `DB_PASSWORD`, `DB_AUTH`
    /// (`password` or `iam`; default `password`) and `DB_SSLMODE` (`require` or `disable`; default `require`). With
    /// both: `DB_CA_FILE` (PEM bundle, as the one for RDS; default: the public roots), `DB_POOLER` (`none` or
    /// `transaction`; default `none`), `DB_POOL_SIZE` (connections, default 4) and `DB_STATEMENT_TIMEOUT_SEC` (15).
    ///
    /// With a URL without `sslmode`, connections are encrypted unless the host is this machine. Encryption always
    /// verifies the server's certificate and name. `None` after a problem was recorded.
    pub fn from_settings(settings: &mut Settings<'_>) -> Option<PostgresConfig> {
        let url = settings.secret("DATABASE_URL");
        let host = settings.optional::<String>("DB_HOST");
        let port = settings.or("DB_PORT", 5432_u16);
        let name = settings.optional::<String>("DB_NAME");
        let user = settings.optional::<String>("DB_USER");
        let password = settings.secret("DB_PASSWORD");
        let auth = settings.choice("DB_AUTH", Auth::Password);
        let encryption = settings.choice("DB_SSLMODE", Encryption::Require);
        let ca_file = settings.optional::<PathBuf>("DB_CA_FILE");
        let pooler = settings.choice("DB_POOLER", Pooler::None);
        let pool_size = settings.or("DB_POOL_SIZE", 4_usize).max(1);
        let statement_timeout = Duration::from_secs(settings.or("DB_STATEMENT_TIMEOUT_SEC", 15));

        let (mut connection, tls, iam) = match (url, host) {
            (Some(_), Some(_)) => {
                settings.problem("DATABASE_URL and DB_HOST are both set; set only one");
                return None;
            }
            (Some(url), None) => {
                let (connection, tls) = parse_url(settings, &url)?;
                if auth == Auth::Iam {
                    settings.problem("DB_AUTH=iam needs DB_HOST instead of DATABASE_URL");
                }
                (connection, tls, None)
            }
            (None, None) => {
                settings.problem("neither DATABASE_URL nor DB_HOST is set");
                return None;
            }
            (None, Some(host)) => {
                if name.is_none() {
                    settings.problem("DB_NAME is not set");
                }
                if user.is_none() {
                    settings.problem("DB_USER is not set");
                }
                let mut connection = tokio_postgres::Config::new();
                connection.host(&host).port(port).dbname(name?).user(user.as_ref()?);
                let iam = match auth {
                    Auth::Password => {
                        match &password {
                            Some(password) => _ = connection.password(password.expose_secret()),
                            None => settings.problem("DB_PASSWORD is not set"),
                        }
                        None
                    }
                    Auth::Iam if encryption == Encryption::Disable => {
                        settings.problem("DB_AUTH=iam needs DB_SSLMODE=require");
                        None
                    }
                    Auth::Iam => Some(IamLogin { host, port, user: user? }),
                };
                (connection, encryption == Encryption::Require, iam)
            }
        };
        connection.ssl_mode(if tls { SslMode::Require } else { SslMode::Disable });
        connection.connect_timeout(CONNECT_TIMEOUT).tcp_user_timeout(TCP_TIMEOUT);
        if connection.get_application_name().is_none() {
            connection.application_name("forebay");
        }
        if pooler == Pooler::None && connection.get_options().is_none() {
            let settings = session_settings(statement_timeout).map(|(name, value)| format!("-c {name}={value}"));
            // Statements with a name are fixed, and planning them for their values would take longer than running them.
            connection.options(format!("{} -c plan_cache_mode=force_generic_plan", settings.join(" ")));
        }
        Some(PostgresConfig { connection, tls, ca_file, iam, pooler, pool_size, statement_timeout })
    }
}

/// What every transaction runs with. The idle limit is for a client that freezes or disappears inside a transaction: it
/// must not keep its partition's lock. Plans are small by design: compiling them takes longer than running them.
pub(crate) fn session_settings(statement_timeout: Duration) -> [(&'static str, String); 3] {
    [
        ("statement_timeout", statement_timeout.as_millis().to_string()),
        ("idle_in_transaction_session_timeout", (statement_timeout * 2).as_millis().to_string()),
        ("jit", "off".to_owned()),
    ]
}

fn parse_url(settings: &mut Settings<'_>, url: &SecretString) -> Option<(tokio_postgres::Config, bool)> {
    // The parser's own message may quote the URL with the password.
    let Ok(connection) = url.expose_secret().parse::<tokio_postgres::Config>() else {
        settings.problem("DATABASE_URL is not a PostgreSQL connection URL (sslmode may be disable, prefer or require)");
        return None;
    };
    let tls = match connection.get_ssl_mode() {
        SslMode::Disable => false,
        // The parser's default. "Prefer" gives no protection, so it means: required unless the host is this machine.
        SslMode::Prefer => !connection.get_hosts().iter().all(is_this_machine),
        SslMode::Require => true,
        _ => true,
    };
    Some((connection, tls))
}

fn is_this_machine(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
        Host::Unix(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(variables: &[(&'static str, &'static str)]) -> Result<PostgresConfig, String> {
        let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
        let mut settings = Settings::new(&variables);
        let config = PostgresConfig::from_settings(&mut settings);
        settings.build(config).map_err(|error| error.problems.join("; "))
    }

    #[test]
    fn a_url_is_encrypted_unless_it_stays_on_this_machine() {
        let tls = |url| read(&[("DATABASE_URL", url)]).unwrap().tls;
        assert!(!tls("postgres://u@127.0.0.1:1/d"));
        assert!(!tls("postgres://u@localhost/d"));
        assert!(tls("postgres://u@db.example/d"));
        assert!(!tls("postgres://u@db.example/d?sslmode=disable"));
        assert!(tls("postgres://u@localhost/d?sslmode=require"));
    }

    #[test]
    fn parts_need_each_other() {
        let whole = [("DB_HOST", "db"), ("DB_NAME", "d"), ("DB_USER", "u"), ("DB_PASSWORD", "p")];
        assert!(read(&whole).unwrap().tls);
        assert_eq!(read(&[]).unwrap_err(), "neither DATABASE_URL nor DB_HOST is set");
        assert_eq!(read(&[("DB_HOST", "db")]).unwrap_err(), "DB_NAME is not set; DB_USER is not set");
        assert_eq!(read(&whole[..3]).unwrap_err(), "DB_PASSWORD is not set");
        let iam =
            [("DB_HOST", "db"), ("DB_NAME", "d"), ("DB_USER", "u"), ("DB_AUTH", "iam"), ("DB_SSLMODE", "disable")];
        assert_eq!(read(&iam).unwrap_err(), "DB_AUTH=iam needs DB_SSLMODE=require");
        let login = read(&iam[..4]).unwrap().iam.unwrap();
        assert_eq!(login, IamLogin { host: "db".into(), port: 5432, user: "u".into() });
    }

    #[test]
    fn a_pooler_gets_no_start_up_options() {
        let options = |pooler| {
            let url = ("DATABASE_URL", "postgres://u@localhost/d");
            read(&[url, ("DB_POOLER", pooler)]).unwrap().connection.get_options().map(str::to_owned)
        };
        let direct = options("none").unwrap();
        assert!(direct.contains("-c statement_timeout=15000 ") && direct.contains("force_generic_plan"), "{direct}");
        assert_eq!(options("transaction"), None);
    }

    #[test]
    fn secrets_stay_out_of_errors_and_debug() {
        let error = read(&[("DATABASE_URL", "postgres://u:hunter2@db:port/d")]).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
        let config = read(&[("DATABASE_URL", "postgres://u:hunter2@db/d")]).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
