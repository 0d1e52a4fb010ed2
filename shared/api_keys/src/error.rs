//! Why a request is refused because of its API key.

use http::{HeaderValue, StatusCode};
use pipeline::ports::Scope;
use pipeline::{Dependency, DependencyError, ErrorClass};
use strum::EnumCount;

#[derive(Debug, thiserror::Error, EnumCount)]
pub enum KeyError {
    #[error("send an API key as \"Authorization: Bearer <key>\" or in X-Api-Key")]
    Missing,
    #[error("the API key cannot be read")]
    Unreadable,
    #[error("there are two different API keys, or two different Authorization headers")]
    Conflict,
    #[error("the API key is not known")]
    Unknown,
    #[error("the API key has been revoked")]
    Revoked,
    #[error("the API key has expired; ask the operator for a new one")]
    Expired,
    #[error("a server's API key must not stand in a URL, which others can read: send it in a header, and rotate it")]
    InUrl,
    #[error("the API key lacks the scope \"{0}\"")]
    Scope(Scope),
    #[error("API keys cannot be looked up at the moment: try again later")]
    Unavailable(#[source] DependencyError),
}

impl KeyError {
    /// One of each kind, for what documents an interface. The length of the array is checked by the compiler.
    pub fn of_each_kind(scope: Scope) -> [Self; Self::COUNT] {
        [
            KeyError::Missing,
            KeyError::Unreadable,
            KeyError::Conflict,
            KeyError::Unknown,
            KeyError::Revoked,
            KeyError::Expired,
            KeyError::InUrl,
            KeyError::Scope(scope),
            KeyError::Unavailable(DependencyError::example(Dependency::Dynamodb, ErrorClass::Transient)),
        ]
    }

    /// Whether the same request may succeed later.
    pub const fn class(&self) -> ErrorClass {
        match self {
            KeyError::Unavailable(_) => ErrorClass::Transient,
            KeyError::Missing
            | KeyError::Unreadable
            | KeyError::Conflict
            | KeyError::Unknown
            | KeyError::Revoked
            | KeyError::Expired
            | KeyError::InUrl
            | KeyError::Scope(_) => ErrorClass::Permanent,
        }
    }

    /// Bounded name of the cause: a metric label, and the last part of the problem's type.
    pub const fn tag(&self) -> &'static str {
        match self {
            KeyError::Missing => "api_key_missing",
            KeyError::Unreadable => "api_key_unreadable",
            KeyError::Conflict => "api_key_conflict",
            KeyError::Unknown => "api_key_unknown",
            KeyError::Revoked => "api_key_revoked",
            KeyError::Expired => "api_key_expired",
            KeyError::InUrl => "api_key_in_url",
            KeyError::Scope(_) => "api_key_scope",
            KeyError::Unavailable(_) => "api_keys_unavailable",
        }
    }

    pub const fn status(&self) -> StatusCode {
        match self {
            KeyError::Missing | KeyError::Unreadable | KeyError::Unknown => StatusCode::UNAUTHORIZED,
            KeyError::Conflict => StatusCode::BAD_REQUEST,
            KeyError::Revoked | KeyError::Expired | KeyError::InUrl | KeyError::Scope(_) => StatusCode::FORBIDDEN,
            KeyError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The failure of the store, if that is the cause.
    pub const fn dependency(&self) -> Option<&DependencyError> {
        match self {
            KeyError::Unavailable(error) => Some(error),
            KeyError::Missing
            | KeyError::Unreadable
            | KeyError::Conflict
            | KeyError::Unknown
            | KeyError::Revoked
            | KeyError::Expired
            | KeyError::InUrl
            | KeyError::Scope(_) => None,
        }
    }

    /// The value of `WWW-Authenticate`, which every 401 must have (RFC 9110, section 15.5.2).
    pub fn challenge(&self) -> Option<HeaderValue> {
        (self.status() == StatusCode::UNAUTHORIZED).then_some(HeaderValue::from_static("Bearer realm=\"forebay\""))
    }
}
