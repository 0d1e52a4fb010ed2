//! One span, and the clock that spans are timed by.

use std::borrow::Cow;
use std::time::{Instant, SystemTime};

use opentelemetry::trace::{Link, SpanContext, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use pipeline::trace::SpanId;
use pipeline::{Position, TraceContext};

/// What a span is in the calls between services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanRole {
    /// Answers a request.
    Server,
    /// Writes records that others read.
    Producer,
    /// Works on records that others wrote.
    Consumer,
    Internal,
}

/// A name and a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute(KeyValue);

impl Attribute {
    pub fn text(name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        Attribute(KeyValue::new(name, value.into()))
    }

    pub fn number(name: &'static str, value: i64) -> Self {
        Attribute(KeyValue::new(name, value))
    }

    /// A topic of Kafka. Source of the names, here and in [`Attribute::of_position`]: OpenTelemetry semantic conventions for
    /// messaging and Kafka.
    pub fn of_topic(topic: impl Into<Cow<'static, str>>) -> [Self; 2] {
        [Attribute::text("messaging.system", "kafka"), Attribute::text("messaging.destination.name", topic)]
    }

    /// The place of a record in Kafka.
    pub fn of_position(position: &Position) -> [Self; 4] {
        let [system, topic] = Attribute::of_topic(position.topic.to_string());
        let partition = Attribute::text("messaging.destination.partition.id", position.partition.to_string());
        [system, topic, partition, Attribute::number("messaging.kafka.offset", position.offset)]
    }
}

/// The time of a span's ends: the wall clock read once, and a clock that never goes back for what comes after.
#[derive(Clone, Copy, Debug)]
pub struct SpanClock {
    wall: SystemTime,
    steady: Instant,
}

impl SpanClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "with milliseconds, as a Clock has them, a span could begin before its parent"
    )]
    pub fn start() -> Self {
        SpanClock { wall: SystemTime::now(), steady: Instant::now() }
    }

    /// When it was started.
    pub fn started(self) -> SystemTime {
        self.wall
    }

    pub fn now(self) -> SystemTime {
        self.wall + self.steady.elapsed()
    }
}

/// A finished span.
#[derive(Clone, Debug)]
pub struct FinishedSpan {
    pub context: TraceContext,
    /// `None` for the first span of a trace.
    pub parent: Option<SpanId>,
    pub name: &'static str,
    pub role: SpanRole,
    pub start: SystemTime,
    pub end: SystemTime,
    pub attributes: Vec<Attribute>,
    /// Spans of other traces, or of the same, that it is about. None of them is left away, however many there are: the
    /// SDK's own limit of 128 is less than a batch has records.
    pub links: Vec<TraceContext>,
    /// Why it failed, if it did.
    pub error: Option<Cow<'static, str>>,
}

impl FinishedSpan {
    pub(crate) fn into_data(self, scope: &InstrumentationScope) -> SpanData {
        let kind = match self.role {
            SpanRole::Server => SpanKind::Server,
            SpanRole::Producer => SpanKind::Producer,
            SpanRole::Consumer => SpanKind::Consumer,
            SpanRole::Internal => SpanKind::Internal,
        };
        let mut links = SpanLinks::default();
        links.links = self.links.into_iter().map(|linked| Link::new(exported(linked, true), Vec::new(), 0)).collect();
        SpanData {
            span_context: exported(self.context, false),
            parent_span_id: self.parent.map_or(opentelemetry::trace::SpanId::INVALID, span_id),
            parent_span_is_remote: matches!(self.role, SpanRole::Server | SpanRole::Consumer),
            span_kind: kind,
            name: Cow::Borrowed(self.name),
            start_time: self.start,
            end_time: self.end,
            attributes: self.attributes.into_iter().map(|Attribute(attribute)| attribute).collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: self.error.map_or(Status::Unset, |description| Status::Error { description }),
            instrumentation_scope: scope.clone(),
        }
    }
}

/// Whatever is sent is kept, also of a trace that is not sampled.
fn exported(context: TraceContext, is_remote: bool) -> SpanContext {
    let trace_id = opentelemetry::trace::TraceId::from_bytes(context.trace_id.to_bytes());
    SpanContext::new(trace_id, span_id(context.span_id), TraceFlags::SAMPLED, is_remote, TraceState::NONE)
}

fn span_id(id: SpanId) -> opentelemetry::trace::SpanId {
    opentelemetry::trace::SpanId::from_bytes(id.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_of_a_large_batch_is_sent() {
        let links: Vec<TraceContext> = (0..10_000).map(|_| TraceContext::root(0.0)).collect();
        let clock = SpanClock::start();
        let span = FinishedSpan {
            context: TraceContext::root(0.0),
            parent: None,
            name: "event-processing",
            role: SpanRole::Consumer,
            start: clock.started(),
            end: clock.now(),
            attributes: vec![Attribute::number("messaging.batch.message_count", 10_000)],
            links: links.clone(),
            error: Some("kafka: unavailable".into()),
        };
        let context = span.context;
        let data = span.into_data(&InstrumentationScope::builder("test").build());
        assert_eq!((data.links.links.len(), data.links.dropped_count), (10_000, 0));
        assert_eq!(data.links.links[9_999].span_context.trace_id().to_string(), links[9_999].trace_id.to_string());
        assert_eq!(data.span_context.trace_id().to_string(), context.trace_id.to_string());
        assert!(data.span_context.is_sampled(), "a collector drops what is not");
        assert!(data.end_time >= data.start_time);
        assert_eq!(data.status, Status::error("kafka: unavailable"));
    }
}
