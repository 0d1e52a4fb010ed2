//! Why there is no page, or a change was not made.

use api_keys::KeyError;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use lambda::problem::{retry_after, retry_after_failure};
use maud::{Markup, html};
use pipeline::DependencyError;

use super::layout::{bare_page, wrong};
use crate::error::QueryError;

#[derive(Debug, thiserror::Error)]
pub(super) enum ConsoleError {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(
        "the form was not sent from this page, or the page is from before you signed in: load it again, and repeat"
    )]
    Forged,
    #[error("the form cannot be read: {0}")]
    Form(String),
    /// The function found something wrong with what it was asked.
    #[error("{function} refuses: {message}")]
    Refused { function: &'static str, message: String },
    #[error("{function} cannot be called now; try again later")]
    Failed { function: &'static str, source: DependencyError },
    /// It was called, and says so itself.
    #[error("{function} failed with {kind}; its log says why")]
    FunctionFailed { function: &'static str, kind: String, source: DependencyError },
    /// Nothing is stopped by that.
    #[error("{function} is still working; in a while, the audit trail has its result")]
    StillWorking { function: &'static str },
    #[error("{function} gave an answer that this version cannot read")]
    Answer { function: &'static str, source: serde_json::Error },
}

impl From<KeyError> for ConsoleError {
    fn from(error: KeyError) -> Self {
        ConsoleError::Query(error.into())
    }
}

impl ConsoleError {
    pub fn status(&self) -> StatusCode {
        match self {
            ConsoleError::Query(error) => error.status(),
            ConsoleError::Forged => StatusCode::FORBIDDEN,
            ConsoleError::Form(_) => StatusCode::BAD_REQUEST,
            ConsoleError::Refused { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            ConsoleError::Failed { .. } | ConsoleError::FunctionFailed { .. } => StatusCode::SERVICE_UNAVAILABLE,
            ConsoleError::StillWorking { .. } => StatusCode::ACCEPTED,
            ConsoleError::Answer { .. } => StatusCode::BAD_GATEWAY,
        }
    }

    /// Bounded name of the cause, for logs.
    fn tag(&self) -> &'static str {
        match self {
            ConsoleError::Query(error) => error.tag(),
            ConsoleError::Forged => "forged_form",
            ConsoleError::Form(_) => "unreadable_form",
            ConsoleError::Refused { .. } => "refused",
            ConsoleError::Failed { source, .. } | ConsoleError::FunctionFailed { source, .. } => source.tag,
            ConsoleError::StillWorking { .. } => "still_working",
            ConsoleError::Answer { .. } => "unreadable_answer",
        }
    }

    /// Logs it, and shows it in a page that is there all the same.
    pub fn told(&self) -> Markup {
        self.log();
        wrong(&self.to_string())
    }

    /// Logs it. What a function says of a refusal may quote the operator's form, and is left out.
    fn log(&self) {
        let (tag, status) = (self.tag(), self.status().as_u16());
        match self {
            ConsoleError::Failed { .. } | ConsoleError::FunctionFailed { .. } | ConsoleError::Answer { .. } => {
                tracing::error!(tag, error = %pipeline::chain(self), "console page failed");
            }
            ConsoleError::Query(error) if error.status().is_server_error() => {
                tracing::error!(tag, error = %pipeline::chain(error), "console page failed");
            }
            ConsoleError::Query(_)
            | ConsoleError::Forged
            | ConsoleError::Form(_)
            | ConsoleError::Refused { .. }
            | ConsoleError::StillWorking { .. } => tracing::info!(tag, status, "console page refused"),
        }
    }
}

impl IntoResponse for ConsoleError {
    fn into_response(self) -> Response {
        let status = self.status();
        let title = status.canonical_reason().unwrap_or("Error");
        let content = html! { (self.told()) p { a href="/console" { "Back to the overview" } } };
        let mut response = bare_page(status, title, &content);
        let wait = match &self {
            ConsoleError::Query(error) => error.retry_after(),
            ConsoleError::Failed { source, .. } => Some(retry_after_failure(Some(source))),
            ConsoleError::FunctionFailed { .. }
            | ConsoleError::Forged
            | ConsoleError::Form(_)
            | ConsoleError::Refused { .. }
            | ConsoleError::StillWorking { .. }
            | ConsoleError::Answer { .. } => None,
        };
        if let Some(wait) = wait {
            response.headers_mut().insert(header::RETRY_AFTER, retry_after(wait));
        }
        response
    }
}
