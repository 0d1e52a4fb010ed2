//! One request, from its headers to the answer.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api_keys::Credentials;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use axum::routing::post;
use bytes::BytesMut;
use event::{EventId, TimeDoubt};
use lambda::http::{AnswerLimit, Deadline, Peer};
use pipeline::ports::Scope;
use pipeline::{ErrorClass, TraceId, failpoint};
use telemetry::list::{EVENTS_RECEIVED, EVENTS_REJECTED, PUBLISH_DURATION};
use tokio::time::Instant;

use crate::answer::{IdFrom, ItemOutcome, Sums};
use crate::app::App;
use crate::decide::{Acceptable, Sender, decide, record_bytes};
use crate::error::IngestError;
use crate::submission::{Endpoint, Submission};
use crate::trace::RequestTrace;
use crate::{address, answer, body, error, headers, submission};

/// Time before the platform's deadline that is reserved for the answer.
const ANSWER_RESERVE: Duration = Duration::from_millis(500);
/// Largest length of a stored user agent, in characters.
const MAX_USER_AGENT_CHARS: usize = 512;

/// The routes of the function.
pub fn router(app: Arc<App>) -> Router {
    let cors = app.cors.layer();
    let single = || post(|app, request| submit(app, Endpoint::Events, request));
    let batch = || post(|app, request| submit(app, Endpoint::Batch, request));
    let router = Router::new()
        .route("/events", single())
        .route("/events/", single())
        .route("/event", single())
        .route("/event/", single())
        .route("/events/batch", batch())
        .route("/events/batch/", batch())
        .method_not_allowed_fallback(async || turn_away(&IngestError::Method, None))
        .fallback(async || turn_away(&IngestError::NoSuchPath, None))
        .with_state(app);
    match cors {
        Some(cors) => router.layer(cors),
        None => router,
    }
}

impl App {
    /// The outcome of each event, and whether the answer lists them. An error refuses the request as a whole.
    async fn accept(
        &self,
        endpoint: Endpoint,
        request: Request,
        trace: &mut RequestTrace,
    ) -> Result<(bool, Vec<ItemOutcome>), IngestError> {
        let (parts, body) = request.into_parts();
        let headers = &parts.headers;
        headers::check(headers)?;
        let credentials = Credentials::of_request(headers, parts.uri.query())?;
        let key = self.authenticator.authenticate(credentials, Scope::Write, self.clock.now()).await?;
        trace.join(headers, key.kind);
        let peer = parts.extensions.get::<Peer>().copied().unwrap_or(Peer::Unknown);
        let forwarded: Vec<&[u8]> = headers.get_all("x-forwarded-for").iter().map(|value| value.as_bytes()).collect();
        let address = address::client_address(peer, forwarded.into_iter(), &self.trusted_proxies)?;
        submission::check_media_type(headers, key.kind)?;
        let body = body::read(headers, body, &self.body_limits).await?;
        let submission = Submission::split(endpoint, headers, key.kind, &body, &self.limits)?;
        // After the body, which may have taken its time.
        let now = self.clock.now();
        let events = u32::try_from(submission.items.len()).unwrap_or(u32::MAX);
        self.limiter.take(&key, events, now).await?;

        let user_agent = user_agent(headers);
        let sender = Sender {
            key: &key,
            address,
            user_agent: user_agent.as_deref(),
            traceparent: trace.publish.to_string().into(),
            received_at: now,
            idempotency_key: submission.idempotency_key,
            form: submission.form,
        };
        let mut buffer = BytesMut::with_capacity(record_bytes(&submission.items));
        let decisions = submission
            .items
            .into_iter()
            .map(|item| decide(item, &sender, &self.registry, &self.limits, &mut buffer))
            .collect();
        let timeout = Deadline::at_most(parts.extensions.get::<Deadline>(), self.kafka_timeout, ANSWER_RESERVE);
        Ok((submission.is_batch, self.publish(decisions, timeout, trace).await))
    }

    /// Publishes the valid events, all at once, and returns the result of each event.
    async fn publish(
        &self,
        decisions: Vec<Result<Acceptable, IngestError>>,
        timeout: Duration,
        trace: &mut RequestTrace,
    ) -> Vec<ItemOutcome> {
        let mut records = Vec::with_capacity(decisions.len());
        let decisions: Vec<Result<Receivable, IngestError>> = decisions
            .into_iter()
            .map(|decision| {
                decision.map(|Acceptable { id, id_from, time_doubt, event_type, record }| {
                    records.push(record);
                    Receivable { id, id_from, time_doubt, event_type }
                })
            })
            .collect();
        let answers = if records.is_empty() {
            Vec::new()
        } else {
            let started = Instant::now();
            failpoint!("ingest::decided");
            let publishing = self.kafka.publish_once("publishing events", &*self.publisher, records, timeout);
            let answers = trace.publishing(publishing).await;
            failpoint!("ingest::produced");
            PUBLISH_DURATION.record(started.elapsed().as_secs_f64(), []);
            answers
        };
        let mut answers = answers.into_iter();
        let mut received: BTreeMap<&'static str, u64> = BTreeMap::new();
        let outcomes = decisions
            .into_iter()
            .map(|decision| match decision {
                Err(error) => ItemOutcome::Rejected(error),
                Ok(Receivable { id, id_from, time_doubt, event_type }) => {
                    match answers.next().unwrap_or_else(|| Err(error::no_answer())) {
                        Ok(position) => {
                            *received.entry(event_type).or_default() += 1;
                            ItemOutcome::Accepted { id, id_source: id_from, time_doubt, position }
                        }
                        // Only what the record itself is guilty of is permanent, and then it has not been written.
                        Err(error) if error.class == ErrorClass::Permanent => {
                            ItemOutcome::Rejected(IngestError::Refused(error))
                        }
                        Err(error) => ItemOutcome::Unknown { id, error: IngestError::Unacknowledged(error) },
                    }
                }
            })
            .collect();
        for (event_type, count) in received {
            EVENTS_RECEIVED.add(count, [event_type]);
        }
        outcomes
    }
}

/// What the receipt of an event says besides its position.
struct Receivable {
    id: EventId,
    id_from: IdFrom,
    time_doubt: Option<TimeDoubt>,
    event_type: &'static str,
}

fn user_agent(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    let text = String::from_utf8_lossy(headers.get(header::USER_AGENT)?.as_bytes());
    let beyond = text.char_indices().nth(MAX_USER_AGENT_CHARS);
    Some(match beyond {
        Some((end, _)) => text[..end].to_owned().into(),
        None => text,
    })
}

async fn submit(State(app): State<Arc<App>>, endpoint: Endpoint, request: Request) -> Response {
    let started = Instant::now();
    let limit = request.extensions().get::<AnswerLimit>().copied();
    let mut trace = RequestTrace::begin();
    let accepted = app.accept(endpoint, request, &mut trace).await;
    let trace_id = trace.request.trace_id;
    match accepted {
        Ok((is_batch, outcomes)) => {
            let response = match outcomes.as_slice() {
                [outcome] if !is_batch => answer::single(outcome, trace_id),
                outcomes => answer::batch(outcomes, trace_id, limit),
            };
            let (sums, failure) = report(&outcomes, trace_id, started.elapsed());
            trace.finish(endpoint.path(), &response, sums, failure);
            response
        }
        Err(error) => {
            let response = turn_away(&error, Some(trace_id));
            trace.finish(endpoint.path(), &response, Sums::default(), Some(error.tag()));
            response
        }
    }
}

/// Counts and logs a request that was refused as a whole.
fn turn_away(error: &IngestError, trace_id: Option<TraceId>) -> Response {
    let trace_id = trace_id.map(tracing::field::display);
    EVENTS_REJECTED.add(1, [error.tag()]);
    // A body that comes slowly or breaks off is the client's, although the same request may succeed later.
    if error.status().is_server_error() {
        tracing::error!(trace_id, tag = error.tag(), error = %pipeline::chain(error), "request failed");
    } else {
        tracing::info!(trace_id, tag = error.tag(), status = error.status().as_u16(), "request refused");
    }
    answer::problem(error)
}

/// Counts and logs a request whose events were checked one by one. Returns its sums, and why an event is unknown if one is.
fn report(outcomes: &[ItemOutcome], trace_id: TraceId, took: Duration) -> (Sums, Option<&'static str>) {
    let mut reasons: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut failure = None;
    for outcome in outcomes {
        match outcome {
            ItemOutcome::Accepted { .. } => {}
            ItemOutcome::Rejected(error) => *reasons.entry(error.tag()).or_default() += 1,
            ItemOutcome::Unknown { error, .. } => {
                *reasons.entry(error.tag()).or_default() += 1;
                failure = Some(error);
            }
        }
    }
    if let Some(error) = failure {
        // One error is logged for all events, because they failed together.
        tracing::error!(%trace_id, error = %pipeline::chain(error), "kafka did not acknowledge in time");
    }
    let sums = Sums::of(outcomes);
    let Sums { accepted, rejected, unknown } = sums;
    tracing::info!(
        %trace_id,
        accepted,
        rejected,
        unknown,
        ?reasons,
        duration_ms = pipeline::millis(took),
        "request answered"
    );
    for (reason, count) in reasons {
        EVENTS_REJECTED.add(count, [reason]);
    }
    (sums, failure.map(IngestError::tag))
}
