//! The address of the database and the login.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use settings::{SecretSource, Settings};
use strum::{EnumString, VariantNames};
use tokio_postgres::config::{Host, SslMode};

use crate::iam::IamLogin;

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

/// Where the server is, and with what new connections log in.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    /// `DATABASE_URL`, which says all of it.
    Url(SecretSource),
    /// The `DB_` settings. The server's configuration has no password, and no user if only the secret names one.
    Parts { server: Box<tokio_postgres::Config>, tls: bool, password: Password },
}

#[derive(Clone, Debug)]
pub(crate) enum Password {
    Secret(SecretSource),
    Iam(IamLogin),
}

/// What was read as the login cannot be one. Never shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableLogin {
    #[error("DATABASE_URL is not a PostgreSQL connection URL (sslmode may be disable, prefer or require)")]
    NotAUrl,
    #[error("neither DB_USER nor the secret with DB_PASSWORD names a user")]
    NoUser,
}

/// How to reach the database.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    pub(crate) address: Address,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) pooler: Pooler,
    pub(crate) pool_size: usize,
    pub(crate) statement_timeout: Duration,
}

impl PostgresConfig {
    /// Reads `DATABASE_URL`, or `DB_HOST`, `DB_PORT` (5432), `DB_NAME`, `DB_USER`, `DB_PASSWORD`, `DB_AUTH`
    /// (`password` or `iam`; default `password`) and `DB_SSLMODE` (`require` or `disable`; default `require`). With
    /// both: `DB_CA_FILE` (PEM bundle, as the one for RDS; default: the public roots), `DB_POOLER` (`none` or
    /// `transaction`; default `none`), `DB_POOL_SIZE` (connections, default 4) and `DB_STATEMENT_TIMEOUT_SEC` (15).
    ///
    /// With a URL without `sslmode`, connections are encrypted unless the host is this machine. Encryption always
    /// verifies the server's certificate and name.
    ///
    /// URL and password are secrets: each may also be in a file (`…_FILE`) or in Secrets Manager (`…_SECRET_ARN`), and is
    /// read again when the server refuses it. A password that is a JSON object with `username` and `password`, as RDS
    /// writes it, is both. `None` after a problem was recorded.
    pub fn from_settings(settings: &mut Settings<'_>) -> Option<PostgresConfig> {
        let url = settings.secret_source("DATABASE_URL");
        let host = settings.optional::<String>("DB_HOST");
        let port = settings.or("DB_PORT", 5432_u16);
        let name = settings.optional::<String>("DB_NAME");
        let user = settings.optional::<String>("DB_USER");
        let password = settings.secret_source("DB_PASSWORD");
        let auth = settings.choice("DB_AUTH", Auth::Password);
        let encryption = settings.choice("DB_SSLMODE", Encryption::Require);
        let ca_file = settings.optional::<PathBuf>("DB_CA_FILE");
        let pooler = settings.choice("DB_POOLER", Pooler::None);
        let pool_size = settings.or("DB_POOL_SIZE", 4_usize).max(1);
        let statement_timeout = Duration::from_secs(settings.or("DB_STATEMENT_TIMEOUT_SEC", 15));

        let address = match (url, host) {
            (Some(_), Some(_)) => {
                settings.problem("DATABASE_URL and DB_HOST are both set; set only one");
                return None;
            }
            (Some(url), None) => {
                if let Some(Err(error)) = known(&url).map(|text| parse_url(&text)) {
                    settings.problem(error.to_string());
                }
                if auth == Auth::Iam {
                    settings.problem("DB_AUTH=iam needs DB_HOST instead of DATABASE_URL");
                }
                Address::Url(url)
            }
            (None, None) => {
                settings.problem("neither DATABASE_URL nor DB_HOST is set");
                return None;
            }
            (None, Some(host)) => {
                if name.is_none() {
                    settings.problem("DB_NAME is not set");
                }
                let in_secret = auth == Auth::Password
                    && password
                        .as_ref()
                        .is_some_and(|secret| known(secret).is_none_or(|text| login(&text).0.is_some()));
                if user.is_none() && !in_secret {
                    settings.problem("DB_USER is not set");
                }
                let mut server = tokio_postgres::Config::new();
                server.host(&host).port(port).dbname(name?);
                if let Some(user) = &user {
                    server.user(user);
                }
                let password = match auth {
                    Auth::Password => {
                        if password.is_none() {
                            settings.problem("DB_PASSWORD is not set");
                        }
                        Password::Secret(password?)
                    }
                    Auth::Iam => {
                        if encryption == Encryption::Disable {
                            settings.problem("DB_AUTH=iam needs DB_SSLMODE=require");
                        }
                        Password::Iam(IamLogin { host, port, user: user? })
                    }
                };
                Address::Parts { server: Box::new(server), tls: encryption == Encryption::Require, password }
            }
        };
        Some(PostgresConfig { address, ca_file, pooler, pool_size, statement_timeout })
    }

    /// Reads `DATABASE_READ_URL`, or, with `DB_HOST`, `DB_READ_HOST`: a replica of `primary` that answers reads in its place.
    /// Everything else is as for the primary. `None` if there is none, or after a problem was recorded.
    pub fn replica_from_settings(
        settings: &mut Settings<'_>,
        primary: Option<&PostgresConfig>,
    ) -> Option<PostgresConfig> {
        let url = settings.secret_source("DATABASE_READ_URL");
        let host = settings.optional::<String>("DB_READ_HOST");
        let primary = primary?;
        let address = match (url, host, &primary.address) {
            (None, None, _) => return None,
            (Some(url), None, Address::Url(_)) => {
                if known(&url).is_some_and(|text| parse_url(&text).is_err()) {
                    settings.problem("DATABASE_READ_URL is not a PostgreSQL connection URL");
                }
                Address::Url(url)
            }
            (None, Some(host), Address::Parts { server, tls, password }) => {
                let mut replica = tokio_postgres::Config::new();
                replica.host(&host);
                for port in server.get_ports() {
                    replica.port(*port);
                }
                if let Some(name) = server.get_dbname() {
                    replica.dbname(name);
                }
                if let Some(user) = server.get_user() {
                    replica.user(user);
                }
                let password = match password {
                    Password::Secret(secret) => Password::Secret(secret.clone()),
                    // A token is for one host.
                    Password::Iam(login) => Password::Iam(IamLogin { host, ..login.clone() }),
                };
                Address::Parts { server: Box::new(replica), tls: *tls, password }
            }
            _other => {
                settings.problem("DATABASE_READ_URL goes with DATABASE_URL, and DB_READ_HOST with DB_HOST");
                return None;
            }
        };
        Some(PostgresConfig { address, ..primary.clone() })
    }

    /// The configuration of a connection that logs in with `secret` (the URL, the password or the token), and whether it
    /// is encrypted.
    ///
    /// # Errors
    /// If a login cannot be made of it.
    pub(crate) fn connection(&self, secret: &SecretString) -> Result<(tokio_postgres::Config, bool), UnusableLogin> {
        let (mut connection, tls) = match &self.address {
            Address::Url(_) => parse_url(secret)?,
            Address::Parts { server, tls, password: Password::Secret(_) } => {
                let mut connection = tokio_postgres::Config::clone(server);
                let (user, password) = login(secret);
                // The secret's user is the one with this password: a rotation may alternate between two users.
                if let Some(user) = user {
                    connection.user(user);
                }
                connection.get_user().ok_or(UnusableLogin::NoUser)?;
                connection.password(password.expose_secret());
                (connection, *tls)
            }
            Address::Parts { server, tls, password: Password::Iam(_) } => {
                let mut connection = tokio_postgres::Config::clone(server);
                connection.password(secret.expose_secret());
                (connection, *tls)
            }
        };
        connection.ssl_mode(if tls { SslMode::Require } else { SslMode::Disable });
        connection.connect_timeout(CONNECT_TIMEOUT).tcp_user_timeout(TCP_TIMEOUT);
        if connection.get_application_name().is_none() {
            connection.application_name("forebay");
        }
        if self.pooler == Pooler::None && connection.get_options().is_none() {
            let settings = session_settings(self.statement_timeout).map(|(name, value)| format!("-c {name}={value}"));
            // Statements with a name are fixed, and planning them for their values would take longer than running them.
            connection.options(format!("{} -c plan_cache_mode=force_generic_plan", settings.join(" ")));
        }
        Ok((connection, tls))
    }
}

/// The secret, if it can be read at the start without asking anyone.
fn known(source: &SecretSource) -> Option<SecretString> {
    match source {
        SecretSource::Value(text) => Some(text.clone()),
        SecretSource::File(file) => file.read().ok(),
        SecretSource::SecretsManager(_) => None,
    }
}

/// The user, if the secret names one, and the password.
fn login(secret: &SecretString) -> (Option<String>, SecretString) {
    #[derive(Deserialize)]
    struct OfRds {
        username: Option<String>,
        password: String,
    }
    match serde_json::from_str(secret.expose_secret()) {
        Ok(OfRds { username, password }) => (username, password.into()),
        Err(_) => (None, secret.clone()),
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

fn parse_url(url: &SecretString) -> Result<(tokio_postgres::Config, bool), UnusableLogin> {
    // The parser's own message may quote the URL with the password.
    let Ok(connection) = url.expose_secret().parse::<tokio_postgres::Config>() else {
        return Err(UnusableLogin::NotAUrl);
    };
    let tls = match connection.get_ssl_mode() {
        SslMode::Disable => false,
        // The parser's default. "Prefer" gives no protection, so it means: required unless the host is this machine.
        SslMode::Prefer => !connection.get_hosts().iter().all(is_this_machine),
        SslMode::Require => true,
        _ => true,
    };
    Ok((connection, tls))
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

    /// What a connection is made with.
    fn connection(config: &PostgresConfig) -> (tokio_postgres::Config, bool) {
        let secret = match &config.address {
            Address::Url(secret) | Address::Parts { password: Password::Secret(secret), .. } => known(secret).unwrap(),
            Address::Parts { password: Password::Iam(_), .. } => "a token".into(),
        };
        config.connection(&secret).unwrap()
    }

    #[test]
    fn a_url_is_encrypted_unless_it_stays_on_this_machine() {
        let tls = |url| connection(&read(&[("DATABASE_URL", url)]).unwrap()).1;
        assert!(!tls("postgres://u@127.0.0.1:1/d"));
        assert!(!tls("postgres://u@localhost/d"));
        assert!(tls("postgres://u@db.example/d"));
        assert!(!tls("postgres://u@db.example/d?sslmode=disable"));
        assert!(tls("postgres://u@localhost/d?sslmode=require"));
    }

    #[test]
    fn parts_need_each_other() {
        let whole = [("DB_HOST", "db"), ("DB_NAME", "d"), ("DB_USER", "u"), ("DB_PASSWORD", "p")];
        assert!(connection(&read(&whole).unwrap()).1);
        assert_eq!(read(&[]).unwrap_err(), "neither DATABASE_URL nor DB_HOST is set");
        assert_eq!(read(&[("DB_HOST", "db")]).unwrap_err(), "DB_NAME is not set; DB_USER is not set");
        assert_eq!(read(&whole[..3]).unwrap_err(), "DB_PASSWORD is not set");
        let iam =
            [("DB_HOST", "db"), ("DB_NAME", "d"), ("DB_USER", "u"), ("DB_AUTH", "iam"), ("DB_SSLMODE", "disable")];
        assert_eq!(read(&iam).unwrap_err(), "DB_AUTH=iam needs DB_SSLMODE=require");
        let Address::Parts { password: Password::Iam(login), .. } = read(&iam[..4]).unwrap().address else { panic!() };
        assert_eq!(login, IamLogin { host: "db".into(), port: 5432, user: "u".into() });
    }

    #[test]
    fn the_user_of_a_secret_belongs_to_its_password() {
        let json = r#"{"username":"of the secret","password":"s3cret","engine":"postgres","port":5432}"#;
        let parts = [("DB_HOST", "db"), ("DB_NAME", "d")];
        let with = |more: &[(&'static str, &'static str)]| {
            let (connection, _) = connection(&read(&[&parts, more].concat()).unwrap());
            (connection.get_user().unwrap().to_owned(), connection.get_password().unwrap().to_owned())
        };
        let of_the_secret = ("of the secret".to_owned(), b"s3cret".to_vec());
        assert_eq!(with(&[("DB_PASSWORD", json)]), of_the_secret);
        assert_eq!(with(&[("DB_PASSWORD", json), ("DB_USER", "u")]), of_the_secret);
        let without_user = r#"{"password":"s3cret"}"#;
        assert_eq!(with(&[("DB_PASSWORD", without_user), ("DB_USER", "u")]), ("u".to_owned(), b"s3cret".to_vec()));
        for text in ["s3cret", "{s3cret}", r#"{"secret":1}"#] {
            assert_eq!(with(&[("DB_PASSWORD", text), ("DB_USER", "u")]), ("u".to_owned(), text.into()));
        }
    }

    #[test]
    fn without_a_user_a_secret_has_to_name_one() {
        let parts = [("DB_HOST", "db"), ("DB_NAME", "d")];
        let arn = ("DB_PASSWORD_SECRET_ARN", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:rds!db-1-AbCdEf");
        let config = read(&[&parts[..], &[arn]].concat()).unwrap();
        assert_eq!(config.connection(&"s3cret".into()).unwrap_err(), UnusableLogin::NoUser);
        let (connection, _) = config.connection(&r#"{"username":"u","password":"s3cret"}"#.into()).unwrap();
        assert_eq!(connection.get_user(), Some("u"));
        assert_eq!(read(&[&parts[..], &[("DB_PASSWORD", "p")]].concat()).unwrap_err(), "DB_USER is not set");
    }

    #[test]
    fn a_secret_that_is_read_later_may_be_no_url() {
        let arn = ("DATABASE_URL_SECRET_ARN", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:url-AbCdEf");
        let config = read(&[arn]).unwrap();
        assert_eq!(config.connection(&"hunter2".into()).unwrap_err(), UnusableLogin::NotAUrl);
        assert!(config.connection(&"postgres://u:p@db/d".into()).unwrap().1);
    }

    #[test]
    fn a_pooler_gets_no_start_up_options() {
        let options = |pooler| {
            let url = ("DATABASE_URL", "postgres://u@localhost/d");
            let config = read(&[url, ("DB_POOLER", pooler)]).unwrap();
            connection(&config).0.get_options().map(str::to_owned)
        };
        let direct = options("none").unwrap();
        assert!(direct.contains("-c statement_timeout=15000 ") && direct.contains("force_generic_plan"), "{direct}");
        assert_eq!(options("transaction"), None);
    }

    #[test]
    fn a_replica_differs_from_its_primary_by_its_address_alone() {
        let read = |variables: &[(&'static str, &'static str)]| {
            let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
            let mut settings = Settings::new(&variables);
            let primary = PostgresConfig::from_settings(&mut settings);
            let replica = PostgresConfig::replica_from_settings(&mut settings, primary.as_ref());
            settings.build(Some(replica)).map_err(|error| error.problems.join("; "))
        };
        let url = ("DATABASE_URL", "postgres://u@db.example/d");
        assert!(read(&[url]).unwrap().is_none());
        let replica = read(&[url, ("DATABASE_READ_URL", "postgres://r@ro.example/d"), ("DB_POOL_SIZE", "9")]);
        let replica = replica.unwrap().unwrap();
        assert_eq!(connection(&replica).0.get_hosts(), [Host::Tcp("ro.example".into())]);
        assert_eq!((connection(&replica).0.get_user(), replica.pool_size), (Some("r"), 9));

        let parts = [("DB_HOST", "db"), ("DB_NAME", "d"), ("DB_USER", "u"), ("DB_AUTH", "iam"), ("DB_PORT", "5433")];
        let replica = read(&[&parts[..], &[("DB_READ_HOST", "ro")]].concat()).unwrap().unwrap();
        let (server, tls) = connection(&replica);
        assert_eq!((server.get_hosts(), server.get_ports()), (&[Host::Tcp("ro".into())][..], &[5433][..]));
        assert_eq!((server.get_dbname(), server.get_user(), tls), (Some("d"), Some("u"), true));
        let Address::Parts { password: Password::Iam(login), .. } = &replica.address else { panic!() };
        assert_eq!((login.host.as_str(), login.port), ("ro", 5433));

        for mixed in [vec![url, ("DB_READ_HOST", "ro")], [&parts[..], &[("DATABASE_READ_URL", url.1)]].concat()] {
            assert!(read(&mixed).unwrap_err().contains("DB_READ_HOST with DB_HOST"), "{mixed:?}");
        }
        let error = read(&[url, ("DATABASE_READ_URL", "postgres://r:hunter2@db:port/d")]).unwrap_err();
        assert_eq!(error, "DATABASE_READ_URL is not a PostgreSQL connection URL");
    }

    #[test]
    fn secrets_stay_out_of_errors_and_debug() {
        let error = read(&[("DATABASE_URL", "postgres://u:hunter2@db:port/d")]).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
        let config = read(&[("DATABASE_URL", "postgres://u:hunter2@db/d")]).unwrap();
        assert!(!format!("{config:?} {:?}", connection(&config)).contains("hunter2"));
    }
}
