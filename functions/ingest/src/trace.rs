//! The trace of a request, and its spans.

use std::borrow::Cow;
use std::time::SystemTime;

use axum::http::HeaderMap;
use axum::response::Response;
use pipeline::TraceContext;
use pipeline::ports::KeyKind;
use traces::{Attribute, FinishedSpan, SpanClock, SpanRole};

use crate::answer::Sums;

/// A request as a part of a trace.
#[derive(Clone, Debug)]
pub struct RequestTrace {
    /// The span of the request.
    pub request: TraceContext,
    /// The span of publishing its events: what their records name as the span that made them.
    pub publish: TraceContext,
    /// The client's span: the parent of the request's, or another trace.
    client: Option<TraceContext>,
    clock: SpanClock,
    published: Option<(SystemTime, SystemTime)>,
}

impl RequestTrace {
    /// A trace of its own: whose request it is is not known yet.
    pub fn begin() -> Self {
        let request = traces::root();
        RequestTrace { request, publish: request.child(), client: None, clock: SpanClock::start(), published: None }
    }

    /// Goes on with the client's trace, and its decision whether to keep it, if the key is a server's. Whoever has a browser has
    /// a publishable key: its trace is linked to, and decides nothing.
    pub fn join(&mut self, headers: &HeaderMap, kind: KeyKind) {
        self.client = headers.get("traceparent").and_then(|value| TraceContext::parse(value.as_bytes()));
        match (self.client, kind) {
            (Some(client), KeyKind::Server) => {
                self.request = client.child();
                self.publish = self.request.child();
            }
            (Some(_), KeyKind::Publishable) | (None, _) => {}
        }
    }

    /// Runs `publishing` and notes when.
    pub async fn publishing<F: Future>(&mut self, publishing: F) -> F::Output {
        let start = self.clock.now();
        let output = publishing.await;
        self.published = Some((start, self.clock.now()));
        output
    }

    /// Keeps the spans of the request if its trace is kept, or if it failed by our fault.
    pub fn finish(self, route: &'static str, answer: &Response, sums: Sums, error: Option<&'static str>) {
        let status = answer.status();
        let error = error.filter(|_| status.is_server_error()).map(Cow::Borrowed);
        if !traces::is_on() || !(self.request.is_sampled || error.is_some()) {
            return;
        }
        let continues = self.client.filter(|client| client.trace_id == self.request.trace_id);
        let counts =
            [("events.accepted", sums.accepted), ("events.rejected", sums.rejected), ("events.unknown", sums.unknown)];
        let counts = counts.map(|(name, count)| Attribute::number(name, i64::try_from(count).unwrap_or(i64::MAX)));
        let request = FinishedSpan {
            context: self.request,
            parent: continues.map(|client| client.span_id),
            name: "event-ingestion",
            role: SpanRole::Server,
            start: self.clock.started(),
            end: self.clock.now(),
            attributes: counts
                .into_iter()
                .chain([
                    Attribute::text("http.request.method", "POST"),
                    Attribute::text("http.route", route),
                    Attribute::number("http.response.status_code", status.as_u16().into()),
                ])
                .collect(),
            links: self.client.filter(|_| continues.is_none()).into_iter().collect(),
            error: error.clone(),
        };
        let publish = self.published.map(|(start, end)| FinishedSpan {
            context: self.publish,
            parent: Some(self.request.span_id),
            name: "event-publish",
            role: SpanRole::Producer,
            start,
            end,
            attributes: Attribute::of_topic(pipeline::topic::RAW_EVENTS).into(),
            links: Vec::new(),
            error,
        });
        traces::keep(publish.into_iter().chain([request]).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn joined(header: Option<&str>, kind: KeyKind) -> RequestTrace {
        let headers = header.map(|value| ("traceparent".parse().unwrap(), value.parse().unwrap()));
        let mut trace = RequestTrace::begin();
        trace.join(&headers.into_iter().collect(), kind);
        trace
    }

    #[test]
    fn a_server_s_trace_goes_on_and_a_browser_s_is_linked_to() {
        let client = TraceContext::parse(CLIENT.as_bytes()).unwrap();
        let server = joined(Some(CLIENT), KeyKind::Server);
        assert_eq!((server.request.trace_id, server.request.is_sampled), (client.trace_id, true));
        assert_ne!(server.request.span_id, client.span_id);
        let browser = joined(Some(CLIENT), KeyKind::Publishable);
        assert_ne!(browser.request.trace_id, client.trace_id);
        assert!(!browser.request.is_sampled, "the client does not decide");
        assert_eq!(browser.client, Some(client));
    }

    #[test]
    fn without_a_valid_header_a_trace_begins() {
        for header in [None, Some("00-1-2-01")] {
            let (one, other) = (joined(header, KeyKind::Server), joined(header, KeyKind::Server));
            assert_ne!(one.request.trace_id, other.request.trace_id);
            assert_eq!(one.client, None);
        }
    }

    #[test]
    fn records_name_the_span_of_their_publishing() {
        let trace = joined(Some(CLIENT), KeyKind::Server);
        assert_eq!(trace.publish.trace_id, trace.request.trace_id);
        assert_ne!(trace.publish.span_id, trace.request.span_id);
    }
}
