//! The pool of connections.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use deadpool_postgres::{
    ClientWrapper, ConfigConnectImpl, Connect, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime,
};
use pipeline::clock::{Clock, SystemClock};
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio_postgres::{NoTls, Row};

use crate::config::{CONNECT_TIMEOUT, Pooler, PostgresConfig, session_settings};
use crate::error::PostgresError;
use crate::login::Login;
use crate::statement::{Parameter, Ready};

/// A pool of connections to one database. Clones share it.
#[derive(Clone, Debug)]
pub struct Database {
    pool: Pool,
    login: Arc<Login>,
    pooler: Pooler,
    /// Begins a transaction.
    begin: Arc<str>,
    /// Begins one that sees one instant, and changes nothing.
    begin_reading: Arc<str>,
    statement_timeout: Duration,
}

impl Database {
    /// Creates the pool and its first connection, so that a wrong address shows at start and the first call is fast.
    ///
    /// # Errors
    /// If the login cannot be read, or the database cannot be reached.
    pub async fn connect(config: &PostgresConfig) -> Result<Self, PostgresError> {
        Self::open(config, OnceCell::new(), Arc::new(SystemClock)).await?.connected().await
    }

    /// Like [`Database::connect`], for callers that can work while the database is down: that is only logged.
    ///
    /// # Errors
    /// If the login cannot be read.
    pub async fn connect_if_up(config: &PostgresConfig) -> Result<Self, PostgresError> {
        let database = Self::open(config, OnceCell::new(), Arc::new(SystemClock)).await?;
        if let Err(error) = database.clone().connected().await {
            tracing::warn!(error = pipeline::chain(&error), "the database cannot be reached at start");
        }
        Ok(database)
    }

    /// Like [`Database::connect`], with another AWS configuration than that of the process, and another clock for IAM
    /// tokens.
    ///
    /// # Errors
    /// As [`Database::connect`].
    pub async fn connect_as(
        config: &PostgresConfig,
        sdk: SdkConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, PostgresError> {
        Self::open(config, OnceCell::new_with(Some(sdk)), clock).await?.connected().await
    }

    /// With a first connection.
    async fn connected(self) -> Result<Self, PostgresError> {
        drop(self.connection().await?);
        Ok(self)
    }

    async fn open(
        config: &PostgresConfig,
        sdk: OnceCell<SdkConfig>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, PostgresError> {
        let login = Arc::new(Login::read(config, sdk, clock).await?);
        let connector = Connector { login: Arc::clone(&login) };
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        // The connector has the configuration of connections, which changes with the login.
        let manager = Manager::from_connect(tokio_postgres::Config::new(), connector, recycling);
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
        let begin_as = |begin| begin_with(begin, pooler, statement_timeout).into();
        let (begin, begin_reading) = (begin_as(READ_COMMITTED), begin_as(ONE_INSTANT));
        Ok(Database { pool, login, pooler, begin, begin_reading, statement_timeout })
    }

    /// A connection of the pool, for queries that this crate does not have.
    ///
    /// If the server refuses the login of a new one, the secret is read again at once, or a new token is made, and the
    /// connection is tried once more with what has changed.
    ///
    /// # Errors
    /// If no connection is free or can be opened in time, or the login cannot be read again.
    pub async fn connection(&self) -> Result<Object, PostgresError> {
        let login = self.login.current().await?;
        let refused = match self.pool.get().await.map_err(PostgresError::Connection) {
            Err(error) if error.is_refused_login() => error,
            result => return result,
        };
        if !self.login.renew(&login).await? {
            return Err(refused);
        }
        let client = self.pool.get().await.map_err(PostgresError::Connection)?;
        tracing::info!("Postgres refused the login; connected with the one that has replaced it");
        Ok(client)
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

    /// Runs one statement, which is a transaction of its own.
    pub(crate) async fn query(
        &self,
        sql: &'static str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, PostgresError> {
        let client = self.connection().await?;
        let work = async {
            let [statement] = self.ready(&client, [sql]).await?;
            Ok(statement.query(&client, parameters).await?)
        };
        let result = self.within(work).await;
        self.give_back(client, result)
    }

    /// Like [`Database::query`], and returns the number of rows that were changed.
    pub(crate) async fn execute(&self, sql: &'static str, parameters: &[Parameter<'_>]) -> Result<u64, PostgresError> {
        let client = self.connection().await?;
        let work = async {
            let [statement] = self.ready(&client, [sql]).await?;
            Ok(statement.execute(&client, parameters).await?)
        };
        let result = self.within(work).await;
        self.give_back(client, result)
    }

    /// The statement that begins a transaction in which each statement sees what was committed before it began. Set
    /// explicitly, because what we lock relies on it.
    pub(crate) fn begin(&self) -> &str {
        &self.begin
    }

    /// The statement that begins a transaction in which all statements see the same instant, and none can change anything.
    pub(crate) fn begin_reading(&self) -> &str {
        &self.begin_reading
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

const READ_COMMITTED: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
const ONE_INSTANT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

fn begin_with(begin: &str, pooler: Pooler, statement_timeout: Duration) -> String {
    match pooler {
        Pooler::None => begin.to_owned(),
        Pooler::Transaction => {
            let settings =
                session_settings(statement_timeout).map(|(name, value)| format!("; SET LOCAL {name} = {value}"));
            [begin, &settings.concat()].concat()
        }
    }
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

struct Connector {
    login: Arc<Login>,
}

type Connected = Result<(tokio_postgres::Client, JoinHandle<()>), tokio_postgres::Error>;

impl Connect for Connector {
    fn connect(&self, _: &tokio_postgres::Config) -> Pin<Box<dyn Future<Output = Connected> + Send + '_>> {
        let opening = self.login.opening();
        Box::pin(async move {
            match &opening.tls {
                Some(tls) => ConfigConnectImpl { tls: tls.clone() }.connect(&opening.config).await,
                None => ConfigConnectImpl { tls: NoTls }.connect(&opening.config).await,
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
        assert_eq!(begin_with(READ_COMMITTED, Pooler::None, timeout), "BEGIN ISOLATION LEVEL READ COMMITTED");
        assert_eq!(
            begin_with(READ_COMMITTED, Pooler::Transaction, timeout),
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = 15000; \
             SET LOCAL idle_in_transaction_session_timeout = 30000; SET LOCAL jit = off"
        );
        let reading = begin_with(ONE_INSTANT, Pooler::Transaction, timeout);
        assert!(reading.starts_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL"), "{reading}");
    }
}
