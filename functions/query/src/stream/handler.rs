//! One stream, from its parameters to its end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::Response;
use event::TenantId;
use lambda::http::{AnswerLimit, Deadline, Stopping};
use pipeline::topic;
use telemetry::list::STREAMED_EVENTS;
use tokio::time::Instant;

use super::blocks::{Passage, escaped_bytes};
use super::question;
use super::slots::Slot;
use crate::app::App;
use crate::error::QueryError;
use crate::handler::{ANSWER_RESERVE, PlatformDeadline, refuse};
use crate::parameters::{self, Given};

/// How long a stream may be silent. Proxies close a connection after a minute without a byte.
const LONGEST_SILENCE: Duration = Duration::from_secs(15);
/// How often it is checked that the key may still be used.
const CHECK_EVERY: Duration = Duration::from_secs(60);

pub(crate) async fn stream(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    deadline: PlatformDeadline,
    limit: Option<Extension<AnswerLimit>>,
    stopping: Option<Extension<Stopping>>,
    uri: Uri,
) -> Response {
    let opened = match open(app, headers, uri).await {
        Ok(opened) => opened,
        Err(error) => return refuse(&error),
    };
    match limit {
        // The gateway passes on answers that are whole.
        Some(Extension(AnswerLimit(limit))) => {
            let deadline = deadline.as_ref().map(|Extension(deadline)| deadline);
            let patience = Deadline::at_most(deadline, opened.app.max_wait, ANSWER_RESERVE);
            opened.answer_in_time(patience, limit).await.unwrap_or_else(|error| refuse(&error))
        }
        None => opened.answer(stopping.map(|Extension(stopping)| stopping)),
    }
}

async fn open(app: Arc<App>, headers: HeaderMap, uri: Uri) -> Result<OpenStream, QueryError> {
    let tenant = app.admit(&headers, &uri, app.clock.now()).await?;
    let streams = app.streams.as_ref().ok_or(QueryError::StreamsOff)?;
    let request = question::read(tenant.clone(), Given(parameters::read(&uri)?), &headers)?;
    let slot = streams.slot().ok_or(QueryError::TooManyStreams)?;
    let following = streams.tail.follow(topic::PROCESSED_EVENTS, &request.start);
    let follower = streams.guard.call_once("following outcomes", following).await.map_err(QueryError::Stream)?;
    let longest = streams.longest;
    tracing::info!("stream opened");
    let now = Instant::now();
    Ok(OpenStream {
        passage: Passage::new(follower, request.wanted),
        tenant,
        headers,
        uri,
        opened_at: now,
        ends_at: now + longest,
        check_at: now + CHECK_EVERY,
        silent_since: now,
        events: 0,
        end: "client-gone",
        app,
        _slot: slot,
    })
}

/// Dropping it frees its reader and its slot.
struct OpenStream {
    passage: Passage,
    tenant: TenantId,
    headers: HeaderMap,
    uri: Uri,
    opened_at: Instant,
    ends_at: Instant,
    check_at: Instant,
    silent_since: Instant,
    events: u64,
    /// Why it ended.
    end: &'static str,
    app: Arc<App>,
    _slot: Slot,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let duration_ms = pipeline::millis(self.opened_at.elapsed());
        tracing::info!(end = self.end, events = self.events, duration_ms, "stream ended");
    }
}

impl OpenStream {
    /// An answer without an end. The client takes its pieces one by one, and the next is not made before.
    fn answer(self, stopping: Option<Stopping>) -> Response {
        let beginning = self.passage.beginning();
        let pieces =
            futures::stream::unfold((self, stopping, Some(beginning)), async |(mut open, mut stopping, first)| {
                let piece = match first {
                    Some(first) => first,
                    None => open.piece(stopping.as_mut()).await?,
                };
                Some((Ok::<_, Infallible>(piece), (open, stopping, None)))
            });
        of_events(Body::from_stream(pieces))
    }

    /// What comes next; `None` at the end.
    async fn piece(&mut self, stopping: Option<&mut Stopping>) -> Option<String> {
        let stopped = async {
            match stopping {
                Some(stopping) => stopping.asked().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stopped => {
                self.end = "stopping";
                None
            }
            piece = self.next_piece() => piece,
        }
    }

    async fn next_piece(&mut self) -> Option<String> {
        loop {
            let now = Instant::now();
            if now >= self.ends_at {
                self.end = "time-is-up";
                return None;
            }
            if now >= self.check_at {
                self.check_at = now + CHECK_EVERY;
                if !is_allowed(&self.app, &self.headers, &self.uri, &self.tenant).await {
                    self.end = "key-refused";
                    return None;
                }
            }
            let speak_at = self.silent_since + LONGEST_SILENCE;
            if now >= speak_at {
                self.silent_since = now;
                return Some(format!(": keep-alive\n{}", self.passage.place_alone()));
            }
            let wait = self.ends_at.min(self.check_at).min(speak_at).saturating_duration_since(now);
            let blocks = match self.passage.next(wait, usize::MAX).await {
                Ok(blocks) => blocks,
                Err(error) => {
                    // The client connects again, and is then answered why that does not work.
                    tracing::warn!(error = %pipeline::chain(&error), "a stream ends, because outcomes cannot be read");
                    self.end = "kafka";
                    return None;
                }
            };
            if !blocks.text.is_empty() {
                self.passed_on(blocks.events);
                self.silent_since = Instant::now();
                return Some(blocks.text);
            }
        }
    }

    fn passed_on(&mut self, events: u64) {
        self.events += events;
        STREAMED_EVENTS.add(events, []);
    }

    /// An answer that ends with the first events, or without any when `patience` does.
    async fn answer_in_time(mut self, patience: Duration, limit: usize) -> Result<Response, QueryError> {
        let until = Instant::now() + patience;
        let mut text = self.passage.beginning();
        let room = limit.saturating_sub(escaped_bytes(&text) + escaped_bytes(&self.passage.place_alone()));
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let blocks = self.passage.next(left, room).await.map_err(QueryError::Stream)?;
            if !blocks.text.is_empty() {
                self.passed_on(blocks.events);
                text.push_str(&blocks.text);
                break;
            }
            if left.is_zero() {
                text.push_str(&self.passage.place_alone());
                break;
            }
        }
        self.end = "answered";
        Ok(of_events(Body::from(text)))
    }
}

/// Whether the key may still read this tenant's events.
async fn is_allowed(app: &App, headers: &HeaderMap, uri: &Uri, opened_for: &TenantId) -> bool {
    match app.may_read(headers, uri, app.clock.now()).await {
        Ok((_, tenant)) => tenant == *opened_for,
        Err(error) => {
            tracing::info!(tag = error.tag(), "a stream ends, because its key is refused");
            false
        }
    }
}

fn of_events(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would hold the events back until its buffer is full.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
