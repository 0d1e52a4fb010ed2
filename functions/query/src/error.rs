//! Why a query fails.

use std::time::Duration;

use api_keys::{Counted, KeyError, RateError};
use axum::http::StatusCode;
use event::TypeDefinition;
use lambda::problem::retry_after_failure;
use pipeline::ports::Scope;
use pipeline::{Dependency, DependencyError, ErrorClass, Position, topic};
use strum::EnumCount;

use crate::{search, stream};

/// When to ask again for an event that is not processed yet.
const RETRY_AFTER_NOT_REACHED: Duration = Duration::from_secs(1);

/// When to ask again for a stream. One ends when its client leaves, which nobody can know.
const RETRY_AFTER_TOO_MANY: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error, EnumCount)]
pub enum QueryError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Rate(#[from] RateError),
    #[error("an event id has 1 to 256 bytes of percent-encoded UTF-8 and no control characters")]
    EventId,
    #[error("{name} {problem}")]
    Parameter { name: &'static str, problem: &'static str },
    /// The parameter is readable, but not one that can be answered.
    #[error("{name} must be {bound}")]
    OutOfBounds { name: &'static str, bound: &'static str },
    /// It would be left out of account, and too much be found.
    #[error("there is no parameter {}; those there are: {}", shortened(name), of.names())]
    NoSuchParameter { name: String, of: ParametersOf },
    #[error(
        "there are too many events to look through; ask for a shorter range, or for a user_id or another value that few \
         events have"
    )]
    SearchTooWide,
    #[error("there is no such dimension; those there are: {}", TypeDefinition::all_dimensions().collect::<Vec<_>>().join(", "))]
    UnknownDimension,
    #[error("timezone must be a name from the IANA time zone database, such as Europe/Berlin")]
    UnknownTimezone,
    /// No processed record has the id. `receipt` is the position in the receipt, if one was given.
    #[error("{}", unknown(.receipt.as_ref()))]
    Unknown { receipt: Option<Position> },
    #[error("the record at {receipt} has not been processed yet")]
    NotYetProcessed { receipt: Position },
    #[error("events cannot be looked up now; try again later")]
    History(#[source] DependencyError),
    #[error("statistics cannot be read now; try again later")]
    Statistics(#[source] DependencyError),
    #[error("streams are off; whoever runs the service can set STREAM=on")]
    StreamsOff,
    #[error("there are as many streams as there may be; try again later")]
    TooManyStreams,
    #[error("outcomes cannot be read now; try again later")]
    Stream(#[source] DependencyError),
    #[error("no such path")]
    NoSuchPath,
    #[error("ask with GET")]
    Method,
}

fn unknown(receipt: Option<&Position>) -> String {
    match receipt {
        Some(receipt) => format!("no event has this id, and the record at {receipt} has been processed"),
        None => "no processed event has this id; send the partition and offset of its receipt as well, to see \
                 whether it still waits"
            .to_owned(),
    }
}

/// Requests that refuse parameters that they do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParametersOf {
    Search,
    Stream,
}

impl ParametersOf {
    fn names(self) -> String {
        match self {
            ParametersOf::Search => search::parameters(),
            ParametersOf::Stream => stream::PARAMETERS.join(", "),
        }
    }
}

/// How many variants only pass another error on.
const PASSED_ON: usize = 2;
/// How many can be of two kinds.
const OF_TWO_KINDS: usize = 4;

/// What a client sent is not repeated at any length.
fn shortened(text: &str) -> &str {
    text.get(..text.floor_char_boundary(64)).unwrap_or_default()
}

impl QueryError {
    /// Whether the key is no longer one that may do this.
    pub(crate) fn is_about_key(&self) -> bool {
        matches!(self, QueryError::Key(error) if error.class() == ErrorClass::Permanent)
    }

    /// One of each kind, for `openapi.rs`. The length of the array is checked by the compiler.
    pub(crate) fn of_each_kind() -> Vec<Self> {
        let receipt = Position::new(topic::RAW_EVENTS, 2, 5);
        let postgres = |class| DependencyError::example(Dependency::Postgres, class);
        let kafka = |class| DependencyError::example(Dependency::Kafka, class);
        let own: [Self; Self::COUNT - PASSED_ON + OF_TWO_KINDS] = [
            QueryError::EventId,
            QueryError::Parameter { name: "partition", problem: "must be sent together with offset" },
            QueryError::OutOfBounds { name: "hours", bound: "1 to 744" },
            QueryError::NoSuchParameter { name: "campaign".to_owned(), of: ParametersOf::Search },
            QueryError::NoSuchParameter { name: "campaign".to_owned(), of: ParametersOf::Stream },
            QueryError::SearchTooWide,
            QueryError::UnknownDimension,
            QueryError::UnknownTimezone,
            QueryError::Unknown { receipt: Some(receipt.clone()) },
            QueryError::NotYetProcessed { receipt },
            QueryError::History(postgres(ErrorClass::Transient)),
            QueryError::History(postgres(ErrorClass::Permanent)),
            QueryError::Statistics(postgres(ErrorClass::Transient)),
            QueryError::Statistics(postgres(ErrorClass::Permanent)),
            QueryError::StreamsOff,
            QueryError::TooManyStreams,
            QueryError::Stream(kafka(ErrorClass::Transient)),
            QueryError::Stream(kafka(ErrorClass::Permanent)),
            QueryError::NoSuchPath,
            QueryError::Method,
        ];
        let keys = KeyError::of_each_kind(Scope::Read).into_iter().map(QueryError::Key);
        keys.chain(RateError::of_each_kind(Counted::Requests).map(QueryError::Rate)).chain(own).collect()
    }

    /// Whether the same request may succeed later.
    pub fn class(&self) -> ErrorClass {
        match self {
            QueryError::Key(error) => error.class(),
            QueryError::Rate(error) => error.class(),
            QueryError::History(error) | QueryError::Statistics(error) | QueryError::Stream(error) => error.class,
            QueryError::NotYetProcessed { .. } => ErrorClass::Transient,
            QueryError::TooManyStreams => ErrorClass::Overload,
            QueryError::EventId
            | QueryError::Parameter { .. }
            | QueryError::OutOfBounds { .. }
            | QueryError::NoSuchParameter { .. }
            | QueryError::SearchTooWide
            | QueryError::UnknownDimension
            | QueryError::UnknownTimezone
            | QueryError::Unknown { .. }
            | QueryError::StreamsOff
            | QueryError::NoSuchPath
            | QueryError::Method => ErrorClass::Permanent,
        }
    }

    /// Short name of the cause, from a fixed list: the end of the problem's type.
    pub fn tag(&self) -> &'static str {
        match self {
            QueryError::Key(error) => error.tag(),
            QueryError::Rate(error) => error.tag(),
            QueryError::EventId => "bad_event_id",
            QueryError::Parameter { .. } => "bad_parameter",
            QueryError::OutOfBounds { .. } => "out_of_bounds",
            QueryError::NoSuchParameter { .. } => "unknown_parameter",
            QueryError::SearchTooWide => "search_too_wide",
            QueryError::UnknownDimension => "unknown_dimension",
            QueryError::UnknownTimezone => "unknown_timezone",
            QueryError::Unknown { .. } => "unknown_event",
            QueryError::NotYetProcessed { .. } => "not_yet_processed",
            QueryError::History(error) => match error.class {
                ErrorClass::Transient | ErrorClass::Overload => "history_unavailable",
                ErrorClass::Permanent => "history_unreadable",
            },
            QueryError::Statistics(error) => match error.class {
                ErrorClass::Transient | ErrorClass::Overload => "statistics_unavailable",
                ErrorClass::Permanent => "statistics_unreadable",
            },
            QueryError::StreamsOff => "streams_off",
            QueryError::TooManyStreams => "too_many_streams",
            QueryError::Stream(error) => match error.class {
                ErrorClass::Transient | ErrorClass::Overload => "stream_unavailable",
                ErrorClass::Permanent => "stream_unreadable",
            },
            QueryError::NoSuchPath => "no_such_path",
            QueryError::Method => "method_not_allowed",
        }
    }

    pub fn status(&self) -> StatusCode {
        match self {
            QueryError::Key(error) => error.status(),
            QueryError::Rate(error) => error.status(),
            QueryError::EventId | QueryError::Parameter { .. } | QueryError::NoSuchParameter { .. } => {
                StatusCode::BAD_REQUEST
            }
            QueryError::OutOfBounds { .. }
            | QueryError::SearchTooWide
            | QueryError::UnknownDimension
            | QueryError::UnknownTimezone => StatusCode::UNPROCESSABLE_ENTITY,
            QueryError::Unknown { .. }
            | QueryError::NotYetProcessed { .. }
            | QueryError::StreamsOff
            | QueryError::NoSuchPath => StatusCode::NOT_FOUND,
            QueryError::TooManyStreams => StatusCode::SERVICE_UNAVAILABLE,
            QueryError::History(error) | QueryError::Statistics(error) | QueryError::Stream(error) => match error.class
            {
                ErrorClass::Transient | ErrorClass::Overload => StatusCode::SERVICE_UNAVAILABLE,
                // A row that cannot be read now cannot be read later.
                ErrorClass::Permanent => StatusCode::INTERNAL_SERVER_ERROR,
            },
            QueryError::Method => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    /// When the client should retry, if it should.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            QueryError::NotYetProcessed { .. } => Some(RETRY_AFTER_NOT_REACHED),
            QueryError::History(error) | QueryError::Statistics(error) | QueryError::Stream(error)
                if error.class != ErrorClass::Permanent =>
            {
                Some(retry_after_failure(Some(error)))
            }
            QueryError::TooManyStreams => Some(RETRY_AFTER_TOO_MANY),
            QueryError::Key(error) => error.dependency().map(|error| retry_after_failure(Some(error))),
            QueryError::Rate(RateError::Unavailable) => Some(retry_after_failure(None)),
            QueryError::Rate(error) => error.retry_after(),
            QueryError::EventId
            | QueryError::Parameter { .. }
            | QueryError::OutOfBounds { .. }
            | QueryError::NoSuchParameter { .. }
            | QueryError::SearchTooWide
            | QueryError::UnknownDimension
            | QueryError::UnknownTimezone
            | QueryError::Unknown { .. }
            | QueryError::History(_)
            | QueryError::Statistics(_)
            | QueryError::StreamsOff
            | QueryError::Stream(_)
            | QueryError::NoSuchPath
            | QueryError::Method => None,
        }
    }
}
