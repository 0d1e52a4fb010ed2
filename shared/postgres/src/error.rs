//! Errors of Postgres, and how to handle them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use aws::secrets::SecretError;
use deadpool_postgres::{HookError, PoolError};
use pipeline::{Dependency, DependencyError, ErrorClass};
use tls::Distrust;
use tokio_postgres::error::SqlState;

use crate::config::UnusableLogin;

#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    #[error("cannot use the CA file {path} (DB_CA_FILE)")]
    CaFile {
        path: PathBuf,
        #[source]
        source: tls::AuthorityFileError,
    },
    #[error("cannot set up TLS for Postgres")]
    Tls(#[source] rustls::Error),
    #[error("cannot create the IAM token for Postgres")]
    Token(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot read the login of Postgres (DB_PASSWORD or DATABASE_URL)")]
    Secret(#[source] SecretError),
    #[error(transparent)]
    Login(UnusableLogin),
    #[error("no connection to Postgres{}", Advice::on(.0))]
    Connection(#[source] PoolError),
    #[error("Postgres did not answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    #[error(transparent)]
    Statement(StatementError),
    #[error("the migrations of Postgres failed")]
    Migration(#[source] refinery::Error),
    /// A row that this build cannot read, because another build or a person wrote it.
    #[error("table {table} has a row with an invalid {column}")]
    Row { table: &'static str, column: &'static str },
    /// Another transaction stored an event of the batch at the same time, more often than is likely.
    #[error("other transactions kept storing events of this batch at the same time")]
    Contention,
}

/// Why a statement failed: the server's code and message, or what is wrong with the connection.
///
/// The server also sends details, which quote the row that the statement was about. A row may contain personal data, so
/// neither this error nor its sources tell them.
pub struct StatementError(tokio_postgres::Error);

impl StatementError {
    /// `None` if the server did not answer.
    fn code(&self) -> Option<&SqlState> {
        self.0.code()
    }
}

impl fmt::Display for StatementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_db_error() {
            Some(error) => write!(f, "Postgres answered {}: {}", error.code().code(), error.message()),
            None => f.write_str("the connection to Postgres failed"),
        }
    }
}

impl fmt::Debug for StatementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StatementError({self})")
    }
}

impl std::error::Error for StatementError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The source of a server's error has the details.
        self.0.as_db_error().is_none().then_some(&self.0)
    }
}

impl From<tokio_postgres::Error> for PostgresError {
    fn from(error: tokio_postgres::Error) -> Self {
        PostgresError::Statement(StatementError(error))
    }
}

/// What to look at after a connection was refused, as the end of a message; empty if the error says nothing about it.
struct Advice(Option<&'static str>);

impl Advice {
    fn on(error: &PoolError) -> Self {
        let PoolError::Backend(error) = error else { return Advice(None) };
        let distrust = tls::below(error).and_then(Distrust::of);
        let on_code = || on_refusal(error.code()?);
        // The client has no kind of its own for it.
        let no_tls = || tls::causes(error).any(|cause| cause.to_string() == "server does not support TLS");
        Advice(distrust.map(on_certificate).or_else(on_code).or_else(|| {
            no_tls().then_some("the server does not offer TLS, see DB_SSLMODE, or sslmode in DATABASE_URL")
        }))
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

fn on_certificate(distrust: Distrust) -> &'static str {
    match distrust {
        Distrust::Name => "the server's certificate is for another name than the one in DB_HOST or DATABASE_URL",
        Distrust::Time => "the server's certificate is not valid at this time",
        Distrust::Authority => {
            "the server's certificate is not from an authority in DB_CA_FILE, or without it from a public one"
        }
    }
}

fn on_refusal(code: &SqlState) -> Option<&'static str> {
    if *code == SqlState::INVALID_PASSWORD {
        Some("the server refuses the login, see DB_USER and DB_PASSWORD, or DATABASE_URL")
    } else if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
        Some(
            "the server does not let this user in, see DB_USER and DB_SSLMODE, or DATABASE_URL (with DB_AUTH=iam: the \
             credentials of the role, its permission rds-db:connect, and the clock)",
        )
    } else if *code == SqlState::PROTOCOL_VIOLATION {
        Some("a pooler refuses the connection, see DB_USER and DB_PASSWORD, or DATABASE_URL, and DB_POOLER")
    } else if *code == SqlState::INVALID_CATALOG_NAME {
        Some("see DB_NAME, or DATABASE_URL")
    } else {
        None
    }
}

/// The class of an SQLSTATE (PostgreSQL manual, appendix A).
///
/// Only errors that the data itself causes are permanent. A wrong password, a missing table or partition, a changed column
/// or a full disk must be corrected by people and is not the fault of a record.
fn class_and_tag(code: &SqlState) -> (ErrorClass, &'static str) {
    if *code == SqlState::QUERY_CANCELED {
        return (ErrorClass::Transient, "timeout");
    }
    if *code == SqlState::LOCK_NOT_AVAILABLE {
        return (ErrorClass::Transient, "conflict");
    }
    // What a value can cause: a character that the database's encoding lacks, a value beyond the range of its type, and one
    // too long for an index. The rest of these classes comes from a schema that this build does not know: a missing
    // partition is a check violation, and a column of another type is wrong binary data.
    let of_data = [
        SqlState::CHARACTER_NOT_IN_REPERTOIRE,
        SqlState::UNTRANSLATABLE_CHARACTER,
        SqlState::STRING_DATA_RIGHT_TRUNCATION,
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        SqlState::DATETIME_FIELD_OVERFLOW,
        SqlState::PROGRAM_LIMIT_EXCEEDED,
    ];
    if of_data.contains(code) {
        return (ErrorClass::Permanent, "data");
    }
    let class = code.code().get(..2).unwrap_or_default();
    match class {
        "22" | "23" => (ErrorClass::Transient, "schema"),
        // Insufficient resources: too many connections, out of memory, disk full.
        "53" => (ErrorClass::Overload, "overload"),
        // Serialisation failure, deadlock.
        "40" => (ErrorClass::Transient, "conflict"),
        // Connection exception, operator intervention (shutdown, failover), system error.
        "08" | "57" | "58" => (ErrorClass::Transient, "unavailable"),
        // Read-only transaction: after a failover we are still connected to the old primary.
        "25" => (ErrorClass::Transient, "read-only"),
        // Authentication, wrong database.
        "28" | "3D" => (ErrorClass::Transient, "refused"),
        // Missing table or privilege: not migrated yet, or misconfigured.
        "42" | "3F" => (ErrorClass::Transient, "schema"),
        _unknown => (ErrorClass::Transient, "other"),
    }
}

fn of_code(code: Option<&SqlState>) -> (ErrorClass, &'static str) {
    match code {
        Some(code) => class_and_tag(code),
        None => (ErrorClass::Transient, "unavailable"),
    }
}

impl PostgresError {
    fn class_and_tag(&self) -> (ErrorClass, &'static str) {
        match self {
            PostgresError::CaFile { .. } | PostgresError::Tls(_) => (ErrorClass::Transient, "tls"),
            PostgresError::Token(_) => (ErrorClass::Transient, "token"),
            PostgresError::Secret(_) => (ErrorClass::Transient, "no-password"),
            PostgresError::Login(_) => (ErrorClass::Transient, "login"),
            PostgresError::Connection(error) => match error {
                // Every connection of the pool is busy.
                PoolError::Timeout(_) => (ErrorClass::Overload, "pool"),
                PoolError::Backend(error) if tls::below(error).is_some() => (ErrorClass::Transient, "tls"),
                PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
                    of_code(error.code())
                }
                PoolError::Closed
                | PoolError::NoRuntimeSpecified
                | PoolError::PostCreateHook(HookError::Message(_)) => (ErrorClass::Transient, "pool"),
            },
            PostgresError::Timeout(_) => (ErrorClass::Transient, "timeout"),
            PostgresError::Statement(error) => of_code(error.code()),
            PostgresError::Migration(_) => (ErrorClass::Transient, "migration"),
            PostgresError::Row { .. } => (ErrorClass::Permanent, "row"),
            PostgresError::Contention => (ErrorClass::Transient, "conflict"),
        }
    }

    pub fn class(&self) -> ErrorClass {
        self.class_and_tag().0
    }

    /// Short name of the cause, from a fixed list, for metrics.
    pub fn tag(&self) -> &'static str {
        self.class_and_tag().1
    }

    /// The error in the form of the ports. `doing` is completed by "… failed".
    pub fn into_dependency(self, doing: &'static str) -> DependencyError {
        let (class, tag) = self.class_and_tag();
        DependencyError { dependency: Dependency::Postgres, class, tag, doing, source: Box::new(self) }
    }

    /// Whether the same statement may succeed on another connection: this one is broken or shutting down, its server is
    /// read-only because another became the primary, or its prepared statements or their plans are gone or stale.
    pub(crate) fn is_of_connection(&self) -> bool {
        let PostgresError::Statement(error) = self else { return false };
        let Some(code) = error.code() else { return true };
        code.code().starts_with("08")
            || [
                SqlState::ADMIN_SHUTDOWN,
                SqlState::CRASH_SHUTDOWN,
                SqlState::CANNOT_CONNECT_NOW,
                SqlState::DATABASE_DROPPED,
                SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
                SqlState::READ_ONLY_SQL_TRANSACTION,
                SqlState::INVALID_SQL_STATEMENT_NAME,
                SqlState::DUPLICATE_PSTATEMENT,
                // "cached plan must not change result type"; we send nothing that a server does not support.
                SqlState::FEATURE_NOT_SUPPORTED,
            ]
            .contains(code)
    }

    /// Whether the server may have refused the login of a new connection.
    pub(crate) fn is_refused_login(&self) -> bool {
        let PostgresError::Connection(PoolError::Backend(error)) = self else { return false };
        let refusals = [
            SqlState::INVALID_PASSWORD,
            // For what is not a password but is checked as one, as RDS's tokens are.
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            // PgBouncer has this one for whatever it refuses.
            SqlState::PROTOCOL_VIOLATION,
        ];
        error.code().is_some_and(|code| refusals.contains(code))
    }

    pub(crate) fn is_unique_violation(&self) -> bool {
        self.has_code(&SqlState::UNIQUE_VIOLATION)
    }

    /// The server gave the statement up, because it took longer than its limit.
    pub(crate) fn is_statement_timeout(&self) -> bool {
        self.has_code(&SqlState::QUERY_CANCELED)
    }

    fn has_code(&self, code: &SqlState) -> bool {
        match self {
            PostgresError::Statement(error) => error.code() == Some(code),
            PostgresError::CaFile { .. }
            | PostgresError::Tls(_)
            | PostgresError::Token(_)
            | PostgresError::Secret(_)
            | PostgresError::Login(_)
            | PostgresError::Connection(_)
            | PostgresError::Timeout(_)
            | PostgresError::Migration(_)
            | PostgresError::Row { .. }
            | PostgresError::Contention => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_data_is_permanent_and_unknown_codes_are_transient() {
        let cases = [
            ("08006", ErrorClass::Transient, "unavailable"),
            ("22003", ErrorClass::Permanent, "data"),
            ("22021", ErrorClass::Permanent, "data"),
            ("22P03", ErrorClass::Transient, "schema"),
            ("22P05", ErrorClass::Permanent, "data"),
            ("23502", ErrorClass::Transient, "schema"),
            ("23514", ErrorClass::Transient, "schema"),
            ("25006", ErrorClass::Transient, "read-only"),
            ("28P01", ErrorClass::Transient, "refused"),
            ("40001", ErrorClass::Transient, "conflict"),
            ("40P01", ErrorClass::Transient, "conflict"),
            ("42P01", ErrorClass::Transient, "schema"),
            ("53300", ErrorClass::Overload, "overload"),
            ("54000", ErrorClass::Permanent, "data"),
            ("55P03", ErrorClass::Transient, "conflict"),
            ("57014", ErrorClass::Transient, "timeout"),
            ("57P01", ErrorClass::Transient, "unavailable"),
            ("XX000", ErrorClass::Transient, "other"),
            ("ZZ999", ErrorClass::Transient, "other"),
        ];
        for (code, class, tag) in cases {
            assert_eq!(class_and_tag(&SqlState::from_code(code)), (class, tag), "{code}");
        }
    }
}
