//! Answers to clients: receipts, and problem documents (RFC 9457).

use std::borrow::Cow;
use std::io;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use event::schema::Violation;
use event::{EventId, TimeDoubt};
use lambda::http::AnswerLimit;
use lambda::problem::{Problem, json_response, problem_response, retry_after};
use pipeline::{Position, TraceId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::IngestError;

/// Longest detail of a problem, and longest name of a field and message in its errors, in characters. A client chooses
/// the names of its members, so without limits it chooses the size of the answer, too.
const MAX_DETAIL_CHARS: usize = 2_000;
const MAX_ERROR_CHARS: usize = 300;

/// The tag and the detail of the problem of a batch without any event that is accepted.
pub(crate) const ALL_REJECTED: (&str, &str) =
    ("all_rejected", "no event of the batch was accepted; each item says why");

/// Where an event's id comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IdFrom {
    /// The event itself has it.
    Client,
    /// The header `Idempotency-Key`.
    IdempotencyKey,
    /// The hash of the event: another event that is equal has the same id.
    Fingerprint,
}

/// The result for one event.
#[derive(Debug)]
pub enum ItemOutcome {
    /// The event is on every in-sync replica.
    Accepted {
        id: EventId,
        id_source: IdFrom,
        time_doubt: Option<TimeDoubt>,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
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

/// `accepted`: every in-sync replica has the event. `rejected`: the problem says why. `unknown`: send it again, a copy has no
/// effect.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ItemStatus {
    Accepted,
    Rejected,
    Unknown,
}

/// What became of one event.
#[derive(Serialize, ToSchema)]
pub(crate) struct ItemAnswer<'a> {
    /// Index in the batch, from 0; absent for a single event.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = usize)]
    index: Option<usize>,
    status: ItemStatus,
    /// Absent for a rejected event.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    id: Option<&'a EventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = IdFrom)]
    id_source: Option<IdFrom>,
    /// Why the event's time is hardly true; absent if it is not doubted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = lambda::openapi::time_doubt)]
    time_doubt: Option<TimeDoubt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = i32)]
    partition: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = i64)]
    offset: Option<i64>,
    /// Of the request, 32 hexadecimal digits; absent for an item of a batch, which has it once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    trace_id: Option<TraceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Refusal)]
    problem: Option<Refusal<'a>>,
}

impl<'a> ItemAnswer<'a> {
    fn of(index: Option<usize>, outcome: &'a ItemOutcome) -> Self {
        let none = ItemAnswer {
            index,
            status: ItemStatus::Rejected,
            id: None,
            id_source: None,
            time_doubt: None,
            topic: None,
            partition: None,
            offset: None,
            trace_id: None,
            problem: outcome.error().map(Refusal::of),
        };
        match outcome {
            ItemOutcome::Accepted { id, id_source, time_doubt, position } => ItemAnswer {
                status: ItemStatus::Accepted,
                id: Some(id),
                id_source: Some(*id_source),
                time_doubt: *time_doubt,
                topic: Some(&position.topic),
                partition: Some(position.partition),
                offset: Some(position.offset),
                ..none
            },
            ItemOutcome::Rejected(_) => none,
            ItemOutcome::Unknown { id, .. } => ItemAnswer { status: ItemStatus::Unknown, id: Some(id), ..none },
        }
    }
}

/// A problem document, with the rules that the event violates.
#[derive(Serialize, ToSchema)]
pub(crate) struct Refusal<'a> {
    #[serde(flatten)]
    problem: Problem,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError<'a>>,
}

/// A rule that the event breaks.
#[derive(Serialize, ToSchema)]
pub(crate) struct FieldError<'a> {
    /// JSON pointer into what was sent, or the name of a header.
    #[schema(value_type = String)]
    field: Cow<'a, str>,
    /// A keyword of JSON Schema, or one of Forebay's own rules.
    rule: &'a str,
    #[schema(value_type = String)]
    message: Cow<'a, str>,
}

/// `text` itself, or its beginning with an ellipsis.
fn bounded(text: &str, chars: usize) -> Cow<'_, str> {
    match text.char_indices().nth(chars) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

impl<'a> Refusal<'a> {
    fn of(error: &'a IngestError) -> Self {
        let violations: &[Violation] = if let IngestError::Event(error) = error { error.violations() } else { &[] };
        let errors = violations.iter().map(|violation| FieldError {
            field: bounded(&violation.field, MAX_ERROR_CHARS),
            rule: &violation.rule,
            message: bounded(&violation.message, MAX_ERROR_CHARS),
        });
        let detail = bounded(&error.detail(), MAX_DETAIL_CHARS).into_owned();
        Refusal { problem: Problem::new(error.status(), error.tag(), detail), errors: errors.collect() }
    }
}

/// The answer to a batch.
#[derive(Serialize, ToSchema)]
pub(crate) struct BatchReceipt<'a> {
    /// `openapi.rs` adds it to a batch that is refused.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    problem: Option<Refusal<'a>>,
    #[serde(flatten)]
    sums: Sums,
    /// Of the request, 32 hexadecimal digits.
    #[schema(value_type = String)]
    trace_id: TraceId,
    items: Vec<ItemAnswer<'a>>,
    /// How many items at the end of the batch are missing from `items`, because the answer would have been too large.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = usize)]
    items_omitted: Option<usize>,
}

impl<'a> BatchReceipt<'a> {
    /// `receipt` without what does not fit into the limit.
    fn within(limit: Option<AnswerLimit>, mut receipt: BatchReceipt<'a>) -> Self {
        if let Some(AnswerLimit(limit)) = limit
            && size_as_text(&receipt) > limit
        {
            receipt.cut(limit);
        }
        receipt
    }

    /// Leaves away items at the end until the answer fits.
    fn cut(&mut self, limit: usize) {
        let mut items = std::mem::take(&mut self.items);
        self.items_omitted = Some(items.len());
        let mut size = size_as_text(self);
        let fitting = items.iter().take_while(|item| {
            size = size.saturating_add(size_as_text(item)).saturating_add(1);
            size <= limit
        });
        let fitting = fitting.count();
        self.items_omitted = Some(items.len() - fitting);
        items.truncate(fitting);
        self.items = items;
    }
}

/// The bytes of `value` as JSON inside a JSON string, as triggers get the body of an answer.
fn size_as_text(value: &impl Serialize) -> usize {
    let mut size = SizeAsText(0);
    // What cannot be written is answered with 500 later.
    serde_json::to_writer(&mut size, value).map_or(0, |()| size.0)
}

struct SizeAsText(usize);

impl io::Write for SizeAsText {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let escaped = bytes.iter().filter(|byte| matches!(byte, b'"' | b'\\')).count();
        self.0 += bytes.len() + escaped;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Serialize)]
struct UnknownAnswer<'a> {
    #[serde(flatten)]
    problem: Refusal<'a>,
    id: &'a EventId,
    trace_id: TraceId,
}

/// The answer to one event: 202 with its receipt, or a problem document.
pub fn single(outcome: &ItemOutcome, trace_id: TraceId) -> Response {
    match outcome {
        ItemOutcome::Accepted { .. } => {
            let answer = ItemAnswer { trace_id: Some(trace_id), ..ItemAnswer::of(None, outcome) };
            json_response(StatusCode::ACCEPTED, &answer)
        }
        ItemOutcome::Rejected(error) => problem(error),
        ItemOutcome::Unknown { id, error } => {
            let answer = UnknownAnswer { problem: Refusal::of(error), id, trace_id };
            with_headers(problem_response(error.status(), &answer), error)
        }
    }
}

/// The answer to a batch: 202 if all events are accepted, 207 if some are rejected, the status of the rejections (400
/// if they differ) if all are rejected, and 503 if any event is unknown. An answer lists every item, unless that would
/// pass `limit`: the events are in Kafka then, and an answer that the trigger refuses would say that they are not.
pub fn batch(outcomes: &[ItemOutcome], trace_id: TraceId, limit: Option<AnswerLimit>) -> Response {
    let sums = Sums::of(outcomes);
    let items = outcomes.iter().enumerate().map(|(index, outcome)| ItemAnswer::of(Some(index), outcome)).collect();
    let receipt = |problem, items| {
        BatchReceipt::within(limit, BatchReceipt { problem, sums, trace_id, items, items_omitted: None })
    };
    let unknown = outcomes.iter().find_map(|outcome| match outcome {
        ItemOutcome::Unknown { error, .. } => Some(error),
        ItemOutcome::Accepted { .. } | ItemOutcome::Rejected(_) => None,
    });
    if let Some(error) = unknown {
        let answer = receipt(Some(Refusal::of(error)), items);
        return with_headers(problem_response(error.status(), &answer), error);
    }
    if sums.accepted > 0 || outcomes.is_empty() {
        let status = if sums.rejected == 0 { StatusCode::ACCEPTED } else { StatusCode::MULTI_STATUS };
        return json_response(status, &receipt(None, items));
    }
    let mut statuses = outcomes.iter().filter_map(ItemOutcome::error).map(IngestError::status);
    let first = statuses.next().unwrap_or(StatusCode::BAD_REQUEST);
    let status = if statuses.all(|status| status == first) { first } else { StatusCode::BAD_REQUEST };
    let problem = Problem::new(status, ALL_REJECTED.0, ALL_REJECTED.1);
    let problem = Some(Refusal { problem, errors: Vec::new() });
    problem_response(status, &receipt(problem, items))
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
