//! The errors of the adapters, and their classes.

use std::error::Error;

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{BuildError, ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{BatchStatementError, BatchStatementErrorCodeEnum};
use pipeline::{Dependency, DependencyError, ErrorClass};

#[derive(Debug, thiserror::Error)]
pub enum DynamoDbError {
    #[error("a request to table {table} failed: {}", cause.describe())]
    Request {
        table: String,
        cause: Cause,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// One statement of a batch failed; DynamoDB only gives a message for it.
    #[error("a statement on table {table} failed: {}: {message}", cause.describe())]
    Statement { table: String, cause: Cause, message: String },
    /// The service repeatedly left a part of a batch read unprocessed.
    #[error("table {table} left keys of a batch read unprocessed")]
    Unprocessed { table: String },
    #[error("table {table} returned {answers} answers to {statements} statements")]
    Incomplete { table: String, statements: usize, answers: usize },
    #[error("item {key:?} of table {table} has no readable {attribute}")]
    Unreadable { table: String, key: String, attribute: &'static str },
    /// In every round another writer changed an item between our read and our write.
    #[error("other writers changed an item of table {table} in every round")]
    Contended { table: String },
    #[error("table {table} did not become active in time")]
    NotActive { table: String },
}

/// Why the service, or the connection to it, failed a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Throttled,
    TimedOut,
    Unreachable,
    Unavailable,
    Conflict,
    Denied,
    TableMissing,
    Invalid,
}

impl Cause {
    fn of_sdk<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Self {
        match error {
            SdkError::TimeoutError(_) => Cause::TimedOut,
            SdkError::DispatchFailure(failure) if failure.is_timeout() => Cause::TimedOut,
            SdkError::DispatchFailure(_) => Cause::Unreachable,
            SdkError::ConstructionFailure(_) => Cause::Invalid,
            SdkError::ServiceError(service) => {
                Cause::of_code(error.code().unwrap_or_default(), service.raw().status().as_u16())
            }
            // A response that cannot be read. The SDK's enum is open, so new kinds of errors also come here.
            SdkError::ResponseError(_) | _ => Cause::Unavailable,
        }
    }

    /// By DynamoDB's error code (Developer Guide, "Error handling with DynamoDB"), then by status.
    fn of_code(code: &str, status: u16) -> Self {
        match code {
            "ThrottlingException"
            | "Throttling"
            | "ProvisionedThroughputExceededException"
            | "RequestLimitExceeded"
            | "LimitExceededException" => Cause::Throttled,
            "TransactionConflictException" | "ReplicatedWriteConflictException" => Cause::Conflict,
            "AccessDeniedException"
            | "UnrecognizedClientException"
            | "InvalidSignatureException"
            | "IncompleteSignatureException"
            | "MissingAuthenticationTokenException"
            | "ExpiredTokenException" => Cause::Denied,
            "ResourceNotFoundException" => Cause::TableMissing,
            _ if status == 429 => Cause::Throttled,
            _ if status >= 500 => Cause::Unavailable,
            _ => Cause::Invalid,
        }
    }

    fn of_statement(code: Option<&BatchStatementErrorCodeEnum>) -> Self {
        use BatchStatementErrorCodeEnum as Code;
        match code {
            Some(Code::ProvisionedThroughputExceeded | Code::RequestLimitExceeded | Code::ThrottlingError) => {
                Cause::Throttled
            }
            Some(Code::TransactionConflict) => Cause::Conflict,
            Some(Code::AccessDenied) => Cause::Denied,
            Some(Code::ResourceNotFound) => Cause::TableMissing,
            Some(
                Code::ValidationError
                | Code::ItemCollectionSizeLimitExceeded
                | Code::ConditionalCheckFailed
                | Code::DuplicateItem,
            ) => Cause::Invalid,
            // The SDK's enum is open: a code it does not know counts as unknown, which is transient.
            Some(Code::InternalServerError | _) | None => Cause::Unavailable,
        }
    }

    const fn describe(self) -> &'static str {
        match self {
            Cause::Throttled => "too many requests",
            Cause::TimedOut => "no answer in time",
            Cause::Unreachable => "no connection",
            Cause::Unavailable => "the service reported an internal error",
            Cause::Conflict => "another write was in progress",
            Cause::Denied => "access denied",
            Cause::TableMissing => "no such table",
            Cause::Invalid => "the service rejected the request as invalid",
        }
    }

    /// No error is [`ErrorClass::Permanent`]. The types of `event` bound everything that depends on a record, so a
    /// refusal by DynamoDB is a fault of the deployment (a missing right, table or key). No record may be dead-lettered
    /// for that or for an outage.
    const fn class(self) -> ErrorClass {
        match self {
            Cause::Throttled => ErrorClass::Overload,
            Cause::TimedOut
            | Cause::Unreachable
            | Cause::Unavailable
            | Cause::Conflict
            | Cause::Denied
            | Cause::TableMissing
            | Cause::Invalid => ErrorClass::Transient,
        }
    }

    const fn tag(self) -> &'static str {
        match self {
            Cause::Throttled => "throttled",
            Cause::TimedOut => "timeout",
            Cause::Unreachable => "unreachable",
            Cause::Unavailable => "unavailable",
            Cause::Conflict => "conflict",
            Cause::Denied => "denied",
            Cause::TableMissing => "table-missing",
            Cause::Invalid => "invalid",
        }
    }

    /// See [`DynamoDbError::may_pass_soon`].
    const fn may_pass_soon(self) -> bool {
        match self {
            Cause::Throttled | Cause::Unreachable | Cause::Unavailable | Cause::Conflict => true,
            Cause::TimedOut | Cause::Denied | Cause::TableMissing | Cause::Invalid => false,
        }
    }
}

impl DynamoDbError {
    pub(crate) fn of_sdk<E>(table: &str, error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        DynamoDbError::Request { table: table.to_owned(), cause: Cause::of_sdk(&error), source: Box::new(error) }
    }

    /// A request that the SDK could not build.
    pub(crate) fn unbuildable(table: &str, error: BuildError) -> Self {
        DynamoDbError::Request { table: table.to_owned(), cause: Cause::Invalid, source: Box::new(error) }
    }

    pub(crate) fn of_statement(table: &str, error: &BatchStatementError) -> Self {
        DynamoDbError::Statement {
            table: table.to_owned(),
            cause: Cause::of_statement(error.code()),
            message: error.message().unwrap_or("no message").to_owned(),
        }
    }

    pub fn class(&self) -> ErrorClass {
        match self {
            DynamoDbError::Request { cause, .. } | DynamoDbError::Statement { cause, .. } => cause.class(),
            DynamoDbError::Unprocessed { .. } => ErrorClass::Overload,
            DynamoDbError::Incomplete { .. }
            | DynamoDbError::Unreadable { .. }
            | DynamoDbError::Contended { .. }
            | DynamoDbError::NotActive { .. } => ErrorClass::Transient,
        }
    }

    pub fn tag(&self) -> &'static str {
        match self {
            DynamoDbError::Request { cause, .. } | DynamoDbError::Statement { cause, .. } => cause.tag(),
            DynamoDbError::Unprocessed { .. } => "throttled",
            DynamoDbError::Incomplete { .. } => "incomplete",
            DynamoDbError::Unreadable { .. } => "unreadable",
            DynamoDbError::Contended { .. } => "contended",
            DynamoDbError::NotActive { .. } => "not-active",
        }
    }

    /// Whether the unprocessed part of a batch may succeed when it is sent again at once.
    pub(crate) fn may_pass_soon(&self) -> bool {
        match self {
            DynamoDbError::Request { cause, .. } | DynamoDbError::Statement { cause, .. } => cause.may_pass_soon(),
            DynamoDbError::Unprocessed { .. } => true,
            DynamoDbError::Incomplete { .. }
            | DynamoDbError::Unreadable { .. }
            | DynamoDbError::Contended { .. }
            | DynamoDbError::NotActive { .. } => false,
        }
    }

    /// Converts to the port's error. `doing` says what was being done, in words that can be followed by "failed".
    pub(crate) fn while_doing(self, doing: &'static str) -> DependencyError {
        DependencyError {
            dependency: Dependency::Dynamodb,
            class: self.class(),
            tag: self.tag(),
            doing,
            source: Box::new(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_decide_before_the_status() {
        for (code, status, cause) in [
            ("ProvisionedThroughputExceededException", 400, Cause::Throttled),
            ("AccessDeniedException", 400, Cause::Denied),
            ("ResourceNotFoundException", 400, Cause::TableMissing),
            ("ValidationException", 400, Cause::Invalid),
            ("InternalServerError", 500, Cause::Unavailable),
            ("", 503, Cause::Unavailable),
            ("", 429, Cause::Throttled),
        ] {
            assert_eq!(Cause::of_code(code, status), cause, "{code} {status}");
        }
    }

    #[test]
    fn a_code_the_sdk_does_not_know_is_transient_and_no_deployment_fault_is_poison() {
        assert_eq!(Cause::of_statement(Some(&"SomethingNew".into())), Cause::Unavailable);
        assert_eq!(Cause::of_statement(Some(&BatchStatementErrorCodeEnum::ThrottlingError)), Cause::Throttled);
        assert_eq!(Cause::Denied.class(), ErrorClass::Transient);
        assert!(!Cause::Denied.may_pass_soon());
    }
}
