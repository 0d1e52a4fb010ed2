//! The pool of connections.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{
    ClientWrapper, ConfigConnectImpl, Connect, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime,
};
use event::Timestamp;
use pipeline::clock::{Clock as _, SystemClock};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::{CONNECT_TIMEOUT, Pooler, PostgresConfig, session_settings};
use crate::error::PostgresError;
use crate::iam::IamTokens;
use crate::statement::Ready;

/// A pool of connections to one database. Clones share it.
#[derive(Clone, Debug)]
pub struct Database {
    pool: Pool,
    tokens: Option<Arc<IamTokens>>,
    pooler: Pooler,
    /// Begins a transaction.
    begin: Arc<str>,
    statement_timeout: Duration,
}

impl Database {
    /// Creates the pool and its first connection, so that a wrong address shows at start and the first call is fast.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn connect(config: &PostgresConfig) -> Result<Self, PostgresError> {
        let tls = if config.tls { Some(connector(config.ca_file.as_deref())?) } else { None };
        let tokens = match &config.iam {
            Some(login) => Some(Arc::new(IamTokens::new(login.clone(), aws::sdk_config().await))),
            None => None,
        };
        let connector = Connector { tls, tokens: tokens.clone() };
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_connect(config.connection.clone(), connector, recycling);
        let pool = Pool::builder(manager)
            .max_size(config.pool_size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(config.statement_timeout))
            .create_timeout(Some(CONNECT_TIMEOUT))
            .build();
        let pool = match pool {
            Ok(pool) => pool,
            // Timeouts without a runtime are the only cause, and the runtime is named above.
            Err(_) => return Err(PostgresError::Connection(deadpool_postgres::PoolError::NoRuntimeSpecified)),
        };
        let (pooler, statement_timeout) = (config.pooler, config.statement_timeout);
        let begin = begin(pooler, statement_timeout).into();
        let database = Database { pool, tokens, pooler, begin, statement_timeout };
        drop(database.connection().await?);
        Ok(database)
    }

    /// A connection of the pool, for queries that this crate does not have.
    ///
    /// # Errors
    /// If no connection is free or can be opened in time.
    pub async fn connection(&self) -> Result<Object, PostgresError> {
        if let Some(tokens) = &self.tokens {
            tokens.refresh(now()).await?;
        }
        self.pool.get().await.map_err(PostgresError::Connection)
    }

    /// The statements, with a name unless a pooler is between.
    pub(crate) async fn ready<const N: usize>(
        &self,
        client: &ClientWrapper,
        sql: [&'static str; N],
    ) -> Result<[Ready; N], PostgresError> {
        match self.pooler {
            Pooler::None => Ok(Ready::named(client, sql).await?),
            Pooler::Transaction => Ok(sql.map(Ready::Unnamed)),
        }
    }

    /// The statement that begins a transaction in which each statement sees what was committed before it began. Set
    /// explicitly, because what we lock relies on it.
    pub(crate) fn begin(&self) -> &str {
        &self.begin
    }

    /// Runs `work`, which uses `client`, within the statement timeout.
    ///
    /// The server has the same timeout, but no answer comes on a lost connection.
    pub(crate) async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, PostgresError>>,
    ) -> Result<T, PostgresError> {
        match tokio::time::timeout(self.statement_timeout, work).await {
            Ok(result) => result,
            Err(_) => Err(PostgresError::Timeout(self.statement_timeout)),
        }
    }

    /// Returns a connection to the pool, or closes it: if it may still run a statement that we gave up, or if the error
    /// is the connection's. Then the others that wait in the pool are closed too, for they were made at the same server.
    pub(crate) fn give_back<T>(&self, client: Object, result: Result<T, PostgresError>) -> Result<T, PostgresError> {
        let Err(error) = &result else { return result };
        if error.is_of_connection() {
            self.pool.retain(|_, _| false);
        }
        if error.is_of_connection() || matches!(error, PostgresError::Timeout(_)) {
            drop(Object::take(client));
        }
        result
    }
}

fn begin(pooler: Pooler, statement_timeout: Duration) -> String {
    let begin = "BEGIN ISOLATION LEVEL READ COMMITTED";
    match pooler {
        Pooler::None => begin.to_owned(),
        Pooler::Transaction => {
            let settings =
                session_settings(statement_timeout).map(|(name, value)| format!("; SET LOCAL {name} = {value}"));
            [begin, &settings.concat()].concat()
        }
    }
}

/// Tokens are created for new connections, in code that does not get the time from its caller.
fn now() -> Timestamp {
    SystemClock.now()
}

/// Sends statements in one round trip, in their order, and gives each answer its name; the first that failed is the error.
///
/// `try_join!` returns whichever error it sees first. After a failure every later statement of the transaction fails too
/// (25P02), and its answer may be seen before that of the cause: then a batch that should start over would fail.
macro_rules! in_one_round_trip {
    ($($answer:ident = $statement:expr),+ $(,)?) => {
        let ($($answer,)+) = tokio::join!(biased; $($statement),+);
        $(let $answer = $answer?;)+
    };
}

pub(crate) use in_one_round_trip;

/// A connection that rolls back when it is dropped before `finish`, for example because its caller was cancelled.
pub(crate) struct RollbackOnDrop<'a> {
    client: &'a tokio_postgres::Client,
    finished: bool,
}

impl<'a> RollbackOnDrop<'a> {
    pub(crate) fn new(client: &'a tokio_postgres::Client) -> Self {
        RollbackOnDrop { client, finished: false }
    }

    pub(crate) fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for RollbackOnDrop<'_> {
    fn drop(&mut self) {
        if !self.finished {
            // The first poll sends it, and its answer is not needed. Outside a transaction it causes only a warning.
            let rollback = std::pin::pin!(self.client.batch_execute("ROLLBACK"));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let _ = rollback.poll(&mut context);
        }
    }
}

/// TLS with the given roots, or the public ones. Verifies certificate and name.
fn connector(ca_file: Option<&Path>) -> Result<MakeRustlsConnect, PostgresError> {
    let Some(path) = ca_file else {
        // Needs a default provider in the process; installing it a second time changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        return Ok(MakeRustlsConnect::with_webpki_roots());
    };
    let broken = |source: Box<dyn std::error::Error + Send + Sync>| PostgresError::CaFile { path: path.into(), source };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| broken(error.into()))? {
        let certificate = certificate.map_err(|error| broken(error.into()))?;
        roots.add(certificate).map_err(|error| broken(error.into()))?;
    }
    if roots.is_empty() {
        return Err(broken("it contains no certificate".into()));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(PostgresError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

struct Connector {
    tls: Option<MakeRustlsConnect>,
    tokens: Option<Arc<IamTokens>>,
}

type Connected = Result<(tokio_postgres::Client, JoinHandle<()>), tokio_postgres::Error>;

impl Connect for Connector {
    fn connect(&self, config: &tokio_postgres::Config) -> Pin<Box<dyn Future<Output = Connected> + Send + '_>> {
        let mut config = config.clone();
        if let Some(token) = self.tokens.as_ref().and_then(|tokens| tokens.current()) {
            config.password(token);
        }
        Box::pin(async move {
            match &self.tls {
                Some(tls) => ConfigConnectImpl { tls: tls.clone() }.connect(&config).await,
                None => ConfigConnectImpl { tls: NoTls }.connect(&config).await,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_statement_that_failed_is_the_error_whichever_answer_is_seen_first() {
        async fn statements() -> Result<u8, &'static str> {
            in_one_round_trip!(
                begun = async { Ok::<u8, &'static str>(1) },
                _cause = async {
                    tokio::task::yield_now().await;
                    Err::<u8, _>("the key exists")
                },
                _later = async { Err::<u8, _>("the transaction is aborted") },
            );
            Ok(begun)
        }
        assert_eq!(statements().await, Err("the key exists"));
    }

    #[test]
    fn behind_a_pooler_a_transaction_sets_its_own_limits() {
        let timeout = Duration::from_secs(15);
        assert_eq!(begin(Pooler::None, timeout), "BEGIN ISOLATION LEVEL READ COMMITTED");
        assert_eq!(
            begin(Pooler::Transaction, timeout),
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = 15000; \
             SET LOCAL idle_in_transaction_session_timeout = 30000; SET LOCAL jit = off"
        );
    }
}
