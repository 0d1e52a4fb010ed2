//! Answers to clients: receipts, and problem documents (RFC 9457).

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use event::EventId;
use event::schema::Violation;
use lambda::problem::{Problem, json_response, problem_response, retry_after};
use pipeline::Position;
use serde::Serialize;

use crate::IngestError;

/// The result for one event.
#[derive(Debug)]
pub enum ItemOutcome {
    /// The event is on every in-sync replica.
    Accepted {
        id: EventId,
        position: Position,
    },
    Rejected(IngestError),
    /// The event may have been written; the client must send it again with the same id.
    Unknown {
        id: EventId,
        error: IngestError,
    },
}

impl ItemOutcome {
    fn error(&self) -> Option<&IngestError> {
        match self {
            ItemOutcome::Accepted { .. } => None,
            ItemOutcome::Rejected(error) | ItemOutcome::Unknown { error, .. } => Some(error),
        }
    }
}

/// Number of events by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    pub accepted: usize,
    pub rejected: usize,
    pub unknown: usize,
}

impl Sums {
    pub fn of(items: &[ItemOutcome]) -> Self {
        let mut sums = Sums::default();
        for item in items {
            match item {
                ItemOutcome::Accepted { .. } => sums.accepted += 1,
                ItemOutcome::Rejected(_) => sums.rejected += 1,
                ItemOutcome::Unknown { .. } => sums.unknown += 1,
            }
        }
        sums
    }
}

#[derive(Serialize)]
struct ItemAnswer<'a> {
    /// Index in the batch, from 0; absent for a single event.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a EventId>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    position: Option<Place<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Refusal<'a>>,
}

#[derive(Serialize)]
struct Place<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
}

impl<'a> ItemAnswer<'a> {
    fn of(index: Option<usize>, outcome: &'a ItemOutcome) -> Self {
        let problem = outcome.error().map(Refusal::of);
        match outcome {
            ItemOutcome::Accepted { id, position } => ItemAnswer {
                index,
                status: "accepted",
                id: Some(id),
                position: Some(Place {
                    topic: &position.topic,
                    partition: position.partition,
                    offset: position.offset,
                }),
                problem,
            },
            ItemOutcome::Rejected(_) => ItemAnswer { index, status: "rejected", id: None, position: None, problem },
            ItemOutcome::Unknown { id, .. } => {
                ItemAnswer { index, status: "unknown", id: Some(id), position: None, problem }
            }
        }
    }
}

/// A problem document, with the rules that the event violates.
#[derive(Serialize)]
struct Refusal<'a> {
    #[serde(flatten)]
    problem: Problem,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError<'a>>,
}

#[derive(Serialize)]
struct FieldError<'a> {
    field: &'a str,
    rule: &'a str,
    message: &'a str,
}

impl<'a> Refusal<'a> {
    fn of(error: &'a IngestError) -> Self {
        let violations: &[Violation] = if let IngestError::Event(error) = error { error.violations() } else { &[] };
        let errors = violations.iter().map(|violation| FieldError {
            field: &violation.field,
            rule: &violation.rule,
            message: &violation.message,
        });
        Refusal { problem: Problem::new(error.status(), error.tag(), error.detail()), errors: errors.collect() }
    }
}

#[derive(Serialize)]
struct BatchReceipt<'a> {
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    problem: Option<Refusal<'a>>,
    #[serde(flatten)]
    sums: Sums,
    items: Vec<ItemAnswer<'a>>,
}

#[derive(Serialize)]
struct UnknownAnswer<'a> {
    #[serde(flatten)]
    problem: Refusal<'a>,
    id: &'a EventId,
}

/// The answer to one event: 202 with its receipt, or a problem document.
pub fn single(outcome: &ItemOutcome) -> Response {
    match outcome {
        ItemOutcome::Accepted { .. } => json_response(StatusCode::ACCEPTED, &ItemAnswer::of(None, outcome)),
        ItemOutcome::Rejected(error) => problem(error),
        ItemOutcome::Unknown { id, error } => {
            with_headers(problem_response(error.status(), &UnknownAnswer { problem: Refusal::of(error), id }), error)
        }
    }
}

/// The answer to a batch: 202 if all events are accepted, 207 if some are rejected, the status of the rejections (400
/// if they differ) if all are rejected, and 503 if any event is unknown. Every answer lists every item.
pub fn batch(outcomes: &[ItemOutcome]) -> Response {
    let sums = Sums::of(outcomes);
    let items = outcomes.iter().enumerate().map(|(index, outcome)| ItemAnswer::of(Some(index), outcome)).collect();
    let unknown = outcomes.iter().find_map(|outcome| match outcome {
        ItemOutcome::Unknown { error, .. } => Some(error),
        ItemOutcome::Accepted { .. } | ItemOutcome::Rejected(_) => None,
    });
    if let Some(error) = unknown {
        let answer = BatchReceipt { problem: Some(Refusal::of(error)), sums, items };
        return with_headers(problem_response(error.status(), &answer), error);
    }
    if sums.accepted > 0 || outcomes.is_empty() {
        let status = if sums.rejected == 0 { StatusCode::ACCEPTED } else { StatusCode::MULTI_STATUS };
        return json_response(status, &BatchReceipt { problem: None, sums, items });
    }
    let mut statuses = outcomes.iter().filter_map(ItemOutcome::error).map(IngestError::status);
    let first = statuses.next().unwrap_or(StatusCode::BAD_REQUEST);
    let status = if statuses.all(|status| status == first) { first } else { StatusCode::BAD_REQUEST };
    let problem = Problem::new(status, "all_rejected", "no event of the batch was accepted; each item says why");
    let problem = Some(Refusal { problem, errors: Vec::new() });
    problem_response(status, &BatchReceipt { problem, sums, items })
}

/// The answer to a request that is refused as a whole.
pub fn problem(error: &IngestError) -> Response {
    with_headers(problem_response(error.status(), &Refusal::of(error)), error)
}

fn with_headers(mut response: Response, error: &IngestError) -> Response {
    let mut set = |name: HeaderName, value: HeaderValue| {
        response.headers_mut().insert(name, value);
    };
    if let Some(wait) = error.retry_after() {
        set(header::RETRY_AFTER, retry_after(wait));
    }
    if let IngestError::Key(error) = error
        && let Some(challenge) = error.challenge()
    {
        set(header::WWW_AUTHENTICATE, challenge);
    }
    if matches!(error, IngestError::Method) {
        set(header::ALLOW, HeaderValue::from_static("POST"));
    }
    response
}
