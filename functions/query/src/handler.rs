//! One query, from its path to the answer.

use std::sync::Arc;
use std::time::Duration;

use api_keys::{Credentials, KeyError};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use event::{EventKey, Origin, TenantId, Timestamp};
use futures::future::try_join_all;
use lambda::http::Deadline;
use lambda::problem::{Problem, json_response, problem_response, retry_after};
use pipeline::ports::{ApiKey, History, Mark, MarkState, Scope};
use pipeline::{DependencyError, Position};
use serde::Serialize;
use tokio::time::Instant;

use crate::app::App;
use crate::console::{self, Desk};
use crate::document::document;
use crate::error::QueryError;
use crate::parameters;
use crate::question::Question;
use crate::search;
use crate::stats;
use crate::stream;
use crate::timeline::{self, Missing, Receipt, Timeline};

/// While a request waits, the database is asked again after this pause, then after twice that, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Time before the platform's deadline that is reserved for the last look-up and the answer.
pub(crate) const ANSWER_RESERVE: Duration = Duration::from_secs(1);
/// Largest number of origins whose redrives are looked up. Without it, an id with many dead letters could cost a
/// hundred queries.
const MAX_REDRIVEN_ORIGINS: usize = 10;

/// The routes of the function. API Gateway has a list of them too: `triggers.tf` of infra/terraform/modules/pipeline.
pub fn router(app: Arc<App>) -> Router {
    let console = app.console.clone().map(|console| console::routes(Desk { app: Arc::clone(&app), console }));
    Router::new()
        // The rest of the path, because some gateways decode %2F before they pass the path on.
        .route("/events/{*id}", get(event))
        // One event, or a search. An id as a parameter survives every gateway, whatever its characters.
        .route("/events", get(events))
        .route("/events/", get(events))
        .route("/campaigns/{id}/stats", get(stats::of_campaign))
        .route("/stats", get(stats::of_part))
        .route("/addresses/top", get(stats::of_addresses))
        .route("/stream", get(stream::stream))
        .route("/openapi.json", get(document))
        .method_not_allowed_fallback(async || refuse(&QueryError::Method))
        .fallback(async || refuse(&QueryError::NoSuchPath))
        .with_state(app)
        .merge(console.unwrap_or_default())
}

impl App {
    /// The tenant that a request asks about, if its key may, and has not asked too often: its own with the scope `read`, and
    /// with `operate` also that of the parameter `tenant`.
    pub(crate) async fn admit(&self, headers: &HeaderMap, uri: &Uri, now: Timestamp) -> Result<TenantId, QueryError> {
        let (key, tenant) = self.may_read(headers, uri, now).await?;
        self.limiter.take(&key, 1, now).await?;
        Ok(tenant)
    }

    /// The same without counting a request.
    pub(crate) async fn may_read(
        &self,
        headers: &HeaderMap,
        uri: &Uri,
        now: Timestamp,
    ) -> Result<(Arc<ApiKey>, TenantId), QueryError> {
        let key = self.authenticator.authenticate(Credentials::of_headers(headers)?, Scope::Read, now).await?;
        let tenant = match parameters::tenant(uri)? {
            Some(tenant) if tenant != key.tenant && !key.scopes.contains(&Scope::Operate) => {
                return Err(KeyError::Scope(Scope::Operate).into());
            }
            Some(tenant) => tenant,
            None => key.tenant.clone(),
        };
        Ok((key, tenant))
    }

    /// The same for what only operators may ask.
    pub(crate) async fn admit_operator(
        &self,
        headers: &HeaderMap,
        uri: &Uri,
        now: Timestamp,
    ) -> Result<TenantId, QueryError> {
        let key = self.operators_key(Credentials::of_headers(headers)?, now).await?;
        Ok(parameters::tenant(uri)?.unwrap_or_else(|| key.tenant.clone()))
    }

    /// The key of an operator, if it is one and has not asked too often.
    pub(crate) async fn operators_key(
        &self,
        credentials: Credentials,
        now: Timestamp,
    ) -> Result<Arc<ApiKey>, QueryError> {
        let key = self.authenticator.authenticate(credentials, Scope::Operate, now).await?;
        self.limiter.take(&key, 1, now).await?;
        Ok(key)
    }

    pub(crate) async fn answer(
        &self,
        key: EventKey,
        question: &Question,
        patience: Duration,
    ) -> Result<Timeline, QueryError> {
        let history = self.decided_history(&key, question, patience).await?;
        if history.is_unknown() {
            return Err(absence(&history, question));
        }
        let (marks, all_marks) = self.marks_of(&history).await;
        let history = self.with_redriven_copies(&key, question, history, &marks).await?;
        let status = timeline::status(&history).ok_or_else(|| absence(&history, question))?;
        let mut incomplete = Vec::new();
        if history.is_cut {
            incomplete.push(Missing::Records);
        }
        if !all_marks {
            incomplete.push(Missing::Redrives);
        }
        let receipt = question
            .receipt
            .clone()
            .map(|record| Receipt { processed: !history.not_reached.contains(&record), record });
        Ok(Timeline { id: key.id, status, receipt, timeline: timeline::steps(history, marks), incomplete })
    }

    /// The event's history as soon as the client's record is processed (or, without a receipt, anything is known), and
    /// at the latest when `patience` ends.
    async fn decided_history(
        &self,
        key: &EventKey,
        question: &Question,
        patience: Duration,
    ) -> Result<History, QueryError> {
        let deadline = Instant::now() + patience;
        let mut pause = FIRST_PAUSE;
        loop {
            let history = self.look_up(key, question.receipt.as_slice()).await?;
            let is_decided = match question.receipt {
                Some(_) => history.not_reached.is_empty(),
                None => !history.is_unknown(),
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if is_decided || left.is_zero() {
                return Ok(history);
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The marks of the history's letters, and whether they are complete. A timeline without them is better than none.
    async fn marks_of(&self, history: &History) -> (Vec<Mark>, bool) {
        let origins = timeline::redriven_origins(history);
        let asked: Vec<&Origin> = origins.iter().take(MAX_REDRIVEN_ORIGINS).collect();
        if asked.is_empty() {
            return (Vec::new(), true);
        }
        let read = async {
            let reads = try_join_all(asked.iter().map(|origin| self.marks.of_origin(origin)));
            let found: Result<Result<Vec<Vec<Mark>>, DependencyError>, _> =
                tokio::time::timeout(self.access_timeout, reads).await;
            found.unwrap_or_else(|_| Err(api_keys::timeout(self.access.dependency(), "reading redrive marks")))
        };
        match self.access.call_once("reading redrive marks", read).await {
            Ok(marks) => (marks.into_iter().flatten().collect(), asked.len() == origins.len()),
            Err(error) => {
                tracing::warn!(error = %pipeline::chain(&error), "cannot look up the redrives of an event");
                (Vec::new(), false)
            }
        }
    }

    /// If a redriven copy stored the event, only its mark says at which position, so a second look-up is needed.
    async fn with_redriven_copies(
        &self,
        key: &EventKey,
        question: &Question,
        history: History,
        marks: &[Mark],
    ) -> Result<History, QueryError> {
        let is_missing = |position: &Position| !history.records.iter().any(|entry| entry.position == *position);
        let mut positions: Vec<Position> = marks
            .iter()
            .filter_map(|mark| match &mark.state {
                MarkState::Done { position } => position.clone(),
                MarkState::UnderWay { .. } => None,
            })
            .filter(is_missing)
            .collect();
        if positions.is_empty() {
            return Ok(history);
        }
        positions.extend(question.receipt.clone());
        self.look_up(key, &positions).await
    }

    /// Asks once: the client will retry, and retries here would put more load on a database in trouble.
    async fn look_up(&self, key: &EventKey, positions: &[Position]) -> Result<History, QueryError> {
        self.postgres
            .call_once("looking up an event", self.ports.history.look_up(key, positions))
            .await
            .map_err(QueryError::History)
    }
}

/// Decides which error to answer when no record has the id.
fn absence(history: &History, question: &Question) -> QueryError {
    match &question.receipt {
        Some(receipt) if history.not_reached.contains(receipt) => {
            QueryError::NotYetProcessed { receipt: receipt.clone() }
        }
        receipt => QueryError::Unknown { receipt: receipt.clone() },
    }
}

type IdInPath = Result<Path<String>, PathRejection>;
pub(crate) type PlatformDeadline = Option<Extension<Deadline>>;

async fn event(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    deadline: PlatformDeadline,
    path: IdInPath,
    uri: Uri,
) -> Response {
    respond(&app, &headers, deadline, Some(path), &uri).await
}

async fn events(State(app): State<Arc<App>>, headers: HeaderMap, deadline: PlatformDeadline, uri: Uri) -> Response {
    if parameters::has(&uri, "id") {
        respond(&app, &headers, deadline, None, &uri).await
    } else {
        search::respond(&app, &headers, &uri).await
    }
}

async fn respond(
    app: &App,
    headers: &HeaderMap,
    deadline: PlatformDeadline,
    path: Option<IdInPath>,
    uri: &Uri,
) -> Response {
    let started = Instant::now();
    let answer = async {
        let tenant = app.admit(headers, uri, app.clock.now()).await?;
        let question = Question::read(path, uri)?;
        let deadline = deadline.as_ref().map(|Extension(deadline)| deadline);
        let patience = Deadline::at_most(deadline, question.wait.min(app.max_wait), ANSWER_RESERVE);
        app.answer(EventKey { tenant, id: question.id.clone() }, &question, patience).await
    };
    match answer.await {
        Ok(timeline) => {
            let took = started.elapsed();
            let (status, steps) = (timeline.status.as_str(), timeline.timeline.len());
            tracing::info!(event.id = %timeline.id, status, steps, duration_ms = pipeline::millis(took), "event looked up");
            answered(&timeline)
        }
        Err(error) => refuse(&error),
    }
}

pub(crate) fn answered(answer: &impl Serialize) -> Response {
    let mut response = json_response(StatusCode::OK, answer);
    // Not cached: a copy or a late score may change the answer at any time, and it belongs to one tenant.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Logs a query that failed, and why.
pub(crate) fn refuse(error: &QueryError) -> Response {
    let (tag, status) = (error.tag(), error.status());
    if status.is_server_error() {
        tracing::error!(tag, error = %pipeline::chain(error), "query failed");
    } else {
        tracing::info!(tag, status = status.as_u16(), "query refused");
    }
    let mut response = problem_response(status, &Problem::new(status, tag, error.to_string()));
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(wait) = error.retry_after() {
        headers.insert(header::RETRY_AFTER, retry_after(wait));
    }
    match error {
        QueryError::Key(error) => {
            if let Some(challenge) = error.challenge() {
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
        }
        QueryError::Method => _ = headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD")),
        QueryError::Rate(_)
        | QueryError::EventId
        | QueryError::Parameter { .. }
        | QueryError::OutOfBounds { .. }
        | QueryError::NoSuchParameter { .. }
        | QueryError::SearchTooWide
        | QueryError::UnknownDimension
        | QueryError::UnknownTimezone
        | QueryError::Unknown { .. }
        | QueryError::NotYetProcessed { .. }
        | QueryError::History(_)
        | QueryError::Statistics(_)
        | QueryError::StreamsOff
        | QueryError::TooManyStreams
        | QueryError::Stream(_)
        | QueryError::NoSuchPath => {}
    }
    response
}
