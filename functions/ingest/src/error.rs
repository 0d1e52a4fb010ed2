//! Why a request, or one event of it, is refused.

use std::time::Duration;

use api_keys::{Counted, KeyError, RateError};
use axum::http::{HeaderName, StatusCode, header};
use event::EventError;
use event::limits::{LimitError, Limits};
use lambda::problem::retry_after_failure;
use pipeline::ports::Scope;
use pipeline::{Dependency, DependencyError, ErrorClass};
use strum::EnumCount;

use crate::address::UnverifiedAddress;
use crate::body::{BodyError, BodyLimits};

#[derive(Debug, thiserror::Error, EnumCount)]
pub enum IngestError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Address(#[from] UnverifiedAddress),
    #[error(transparent)]
    Rate(#[from] RateError),
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(
        "media type {0:?} is not supported; send JSON, a CloudEvent, or newline-delimited JSON as a batch (text/plain \
         is read as JSON only with a publishable key, for beacons)"
    )]
    MediaType(String),
    #[error("the header {0} is there with different values")]
    HeaderConflict(HeaderName),
    #[error(transparent)]
    Limit(#[from] LimitError),
    #[error("the batch has no events")]
    EmptyBatch,
    #[error("unknown event type {name:?}; the types are {known}")]
    UnknownType { name: String, known: String },
    #[error(transparent)]
    Event(#[from] EventError),
    /// Kafka will never accept the record. Nothing has been written.
    #[error("Kafka refuses this event")]
    Refused(#[source] DependencyError),
    /// It is not known whether the event has been written.
    #[error("Kafka has not acknowledged the event; send it again, a copy with the same id has no effect")]
    Unacknowledged(#[source] DependencyError),
    #[error("no such path")]
    NoSuchPath,
    #[error("send events with POST")]
    Method,
}

/// How many variants only pass another error on.
const PASSED_ON: usize = 5;

impl IngestError {
    /// One of each kind, for `openapi.rs`. The length of the array is checked by the compiler.
    pub(crate) fn of_each_kind(body: &BodyLimits, limits: &Limits) -> Vec<Self> {
        let kafka = |class| DependencyError::example(Dependency::Kafka, class);
        let own: [Self; Self::COUNT - PASSED_ON] = [
            IngestError::Address(UnverifiedAddress),
            IngestError::MediaType("text/html".to_owned()),
            IngestError::HeaderConflict(header::CONTENT_TYPE),
            IngestError::EmptyBatch,
            IngestError::UnknownType { name: "clik".to_owned(), known: "click, impression, …".to_owned() },
            IngestError::Refused(kafka(ErrorClass::Permanent)),
            IngestError::Unacknowledged(kafka(ErrorClass::Transient)),
            IngestError::NoSuchPath,
            IngestError::Method,
        ];
        // `decide` makes an error of its own of an unknown type, which names those there are.
        let events =
            EventError::of_each_kind().into_iter().filter(|error| !matches!(error, EventError::UnknownType(_)));
        let passed_on = KeyError::of_each_kind(Scope::Write).into_iter().map(IngestError::Key);
        let passed_on = passed_on.chain(RateError::of_each_kind(Counted::Events).map(IngestError::Rate));
        let passed_on = passed_on.chain(BodyError::of_each_kind(body).map(IngestError::Body));
        let passed_on = passed_on.chain(LimitError::of_each_kind(limits).map(IngestError::Limit));
        passed_on.chain(events.map(IngestError::Event)).chain(own).collect()
    }

    /// Whether it rejects one event, and so can be the problem of an item of a batch.
    pub(crate) const fn is_rejection_of_an_item(&self) -> bool {
        match self {
            IngestError::Limit(LimitError::ItemTooLarge { .. } | LimitError::TooDeep { .. })
            | IngestError::UnknownType { .. }
            | IngestError::Event(_)
            | IngestError::Refused(_) => true,
            IngestError::Key(_)
            | IngestError::Address(_)
            | IngestError::Rate(_)
            | IngestError::Body(_)
            | IngestError::MediaType(_)
            | IngestError::HeaderConflict(_)
            | IngestError::Limit(
                LimitError::TooManyItems { .. }
                | LimitError::MemberTooLarge { .. }
                | LimitError::NotABatch
                | LimitError::MalformedWrapper,
            )
            | IngestError::EmptyBatch
            | IngestError::Unacknowledged(_)
            | IngestError::NoSuchPath
            | IngestError::Method => false,
        }
    }

    /// Whether the same request may succeed later.
    pub const fn class(&self) -> ErrorClass {
        match self {
            IngestError::Key(error) => error.class(),
            IngestError::Rate(error) => error.class(),
            IngestError::Body(BodyError::Slow(_) | BodyError::BrokeOff(_)) | IngestError::Unacknowledged(_) => {
                ErrorClass::Transient
            }
            IngestError::Address(UnverifiedAddress)
            | IngestError::Body(
                BodyError::TooLarge { .. }
                | BodyError::DecodedTooLarge { .. }
                | BodyError::Ratio { .. }
                | BodyError::Encoding(_)
                | BodyError::Decode(_),
            )
            | IngestError::MediaType(_)
            | IngestError::HeaderConflict(_)
            | IngestError::Limit(_)
            | IngestError::EmptyBatch
            | IngestError::UnknownType { .. }
            | IngestError::Event(_)
            | IngestError::Refused(_)
            | IngestError::NoSuchPath
            | IngestError::Method => ErrorClass::Permanent,
        }
    }

    /// Short name of the cause, from a fixed list: the label of the metric, and the end of the problem's type.
    pub const fn tag(&self) -> &'static str {
        match self {
            IngestError::Key(error) => error.tag(),
            IngestError::Address(UnverifiedAddress) => "address_unverified",
            IngestError::Rate(error) => error.tag(),
            IngestError::Body(BodyError::TooLarge { .. }) => "body_too_large",
            IngestError::Body(BodyError::DecodedTooLarge { .. }) => "decoded_body_too_large",
            IngestError::Body(BodyError::Ratio { .. }) => "compression_ratio",
            IngestError::Body(BodyError::Encoding(_)) => "unsupported_encoding",
            IngestError::Body(BodyError::Decode(_)) => "undecodable_body",
            IngestError::Body(BodyError::Slow(_)) => "slow_body",
            IngestError::Body(BodyError::BrokeOff(_)) => "incomplete_body",
            IngestError::MediaType(_) => "unsupported_media_type",
            IngestError::HeaderConflict(_) => "header_conflict",
            IngestError::Limit(error) => error.tag(),
            IngestError::EmptyBatch => "empty_batch",
            IngestError::UnknownType { .. } => "unknown_type",
            IngestError::Event(error) => error.tag(),
            IngestError::Refused(_) => "record_refused",
            IngestError::Unacknowledged(_) => "unacknowledged",
            IngestError::NoSuchPath => "no_such_path",
            IngestError::Method => "method_not_allowed",
        }
    }

    pub const fn status(&self) -> StatusCode {
        match self {
            IngestError::Key(error) => error.status(),
            IngestError::Rate(error) => error.status(),
            IngestError::Unacknowledged(_) => StatusCode::SERVICE_UNAVAILABLE,
            IngestError::Body(
                BodyError::TooLarge { .. } | BodyError::DecodedTooLarge { .. } | BodyError::Ratio { .. },
            )
            | IngestError::Limit(
                LimitError::TooManyItems { .. } | LimitError::ItemTooLarge { .. } | LimitError::MemberTooLarge { .. },
            )
            | IngestError::Refused(_) => StatusCode::PAYLOAD_TOO_LARGE,
            IngestError::Body(BodyError::Encoding(_)) | IngestError::MediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            IngestError::Body(BodyError::Slow(_)) => StatusCode::REQUEST_TIMEOUT,
            IngestError::Event(EventError::Fingerprint(_)) => StatusCode::INTERNAL_SERVER_ERROR,
            IngestError::Address(UnverifiedAddress)
            | IngestError::Body(BodyError::Decode(_) | BodyError::BrokeOff(_))
            | IngestError::HeaderConflict(_)
            | IngestError::Limit(LimitError::TooDeep { .. } | LimitError::NotABatch | LimitError::MalformedWrapper)
            | IngestError::EmptyBatch
            | IngestError::UnknownType { .. }
            | IngestError::Event(
                EventError::Malformed(_)
                | EventError::NotAnObject
                | EventError::UnknownType(_)
                | EventError::UnknownVersion { .. }
                | EventError::Invalid(_),
            ) => StatusCode::BAD_REQUEST,
            IngestError::NoSuchPath => StatusCode::NOT_FOUND,
            IngestError::Method => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    /// When the client should retry, if it should.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            IngestError::Rate(error @ RateError::Exceeded { .. }) => error.retry_after(),
            IngestError::Unacknowledged(error) => Some(retry_after_failure(Some(error))),
            IngestError::Key(error) => error.dependency().map(|error| retry_after_failure(Some(error))),
            other => (other.status() == StatusCode::SERVICE_UNAVAILABLE).then(|| retry_after_failure(None)),
        }
    }

    /// The detail for the client: everything about its own bytes, but no details about our own failures.
    pub fn detail(&self) -> String {
        match self {
            IngestError::Event(error) => pipeline::chain(error),
            IngestError::Body(BodyError::Decode(_)) => pipeline::chain(self),
            other => other.to_string(),
        }
    }
}

/// The error for an answer that the publisher did not give.
pub(crate) fn no_answer() -> DependencyError {
    DependencyError {
        dependency: Dependency::Kafka,
        class: ErrorClass::Transient,
        tag: "no-answer",
        doing: "publishing a record",
        source: "the publisher returned no answer for this record".into(),
    }
}
