//! The spans of a batch of records: one for the batch with its steps, and one for each record whose trace is kept.
//!
//! A batch belongs to no trace of its records, because it is about many. It is a trace of its own, and its span links to those
//! of its records; the span of a record is in the record's trace and links back (OpenTelemetry semantic conventions,
//! messaging, "batch receiving").

use std::borrow::Cow;
use std::time::SystemTime;

use pipeline::TraceContext;

use crate::span::{Attribute, FinishedSpan, SpanClock, SpanRole};
use crate::{is_on, keep};

/// When something was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    pub start: SystemTime,
    pub end: SystemTime,
}

/// What a batch notes while it is worked on. If it is dropped before it has ended (the work was given up, or it panicked),
/// its span says so.
#[derive(Debug)]
pub struct BatchTrace(Option<Box<Notes>>);

#[derive(Debug)]
struct Notes {
    name: &'static str,
    context: TraceContext,
    clock: SpanClock,
    /// The traces of the records that have one.
    records: Vec<TraceContext>,
    count: i64,
    last_lap: SystemTime,
    steps: Vec<(&'static str, Interval)>,
    events: Vec<FinishedSpan>,
}

/// A record and how it ended.
#[derive(Debug)]
pub struct RecordNote {
    /// The name of its span.
    pub name: &'static str,
    /// As its header says.
    pub trace: TraceContext,
    pub attributes: Vec<Attribute>,
    /// When its row was written, if it has got one.
    pub stored: Option<Interval>,
    /// Why it became a dead letter, if it did.
    pub error: Option<Cow<'static, str>>,
}

impl BatchTrace {
    /// For a batch that begins now, with the name of its span; `traces` has an item for each of its records.
    pub fn begin(name: &'static str, traces: impl Iterator<Item = Option<TraceContext>>) -> Self {
        BatchTrace(is_on().then(|| Box::new(Notes::begin(name, traces))))
    }

    /// The batch's own span, for the services that it calls.
    pub fn context(&self) -> Option<TraceContext> {
        self.0.as_ref().map(|notes| notes.context)
    }

    /// Notes a step from the end of the last one until now.
    pub fn lap(&mut self, step: &'static str) -> Option<Interval> {
        let notes = self.0.as_mut()?;
        let interval = Interval { start: notes.last_lap, end: notes.clock.now() };
        notes.last_lap = interval.end;
        notes.steps.push((step, interval));
        Some(interval)
    }

    /// Does `work`, and tells when, if anybody wants to know.
    pub async fn timed<F: Future>(&self, work: F) -> (F::Output, Option<Interval>) {
        let clock = self.0.as_ref().map(|notes| notes.clock);
        let start = clock.map(SpanClock::now);
        let output = work.await;
        (output, clock.zip(start).map(|(clock, start)| Interval { start, end: clock.now() }))
    }

    /// Notes steps that were timed apart, because they went on at the same time; the next lap begins now.
    pub fn steps<const N: usize>(&mut self, steps: [(&'static str, Option<Interval>); N]) {
        if let Some(notes) = self.0.as_mut() {
            notes.steps.extend(steps.into_iter().filter_map(|(step, interval)| Some((step, interval?))));
            notes.last_lap = notes.clock.now();
        }
    }

    /// Whether anything is noted: else nothing need be prepared for [`BatchTrace::record`].
    pub fn is_noted(&self) -> bool {
        self.0.is_some()
    }

    /// The span of a record.
    pub fn record(&mut self, note: RecordNote) {
        if let Some(notes) = self.0.as_mut() {
            notes.record(note);
        }
    }

    /// Keeps the spans of a batch that succeeded, or failed because of `error`.
    pub fn finish(mut self, error: Option<Cow<'static, str>>) {
        if let Some(notes) = self.0.take() {
            keep(notes.into_spans(error));
        }
    }
}

impl Drop for BatchTrace {
    fn drop(&mut self) {
        if let Some(notes) = self.0.take() {
            keep(notes.into_spans(Some("the batch was given up before it ended".into())));
        }
    }
}

impl Notes {
    fn begin(name: &'static str, traces: impl Iterator<Item = Option<TraceContext>>) -> Self {
        let clock = SpanClock::start();
        let (mut count, mut records) = (0, Vec::new());
        for trace in traces {
            count += 1;
            records.extend(trace);
        }
        Notes {
            name,
            // Whether it is kept depends on its records.
            context: TraceContext {
                is_sampled: records.iter().any(|trace| trace.is_sampled),
                ..TraceContext::root(0.0)
            },
            clock,
            records,
            count,
            last_lap: clock.started(),
            steps: Vec::new(),
            events: Vec::new(),
        }
    }

    fn record(&mut self, RecordNote { name, trace, attributes, stored, error }: RecordNote) {
        let (start, end) = (self.clock.started(), self.clock.now());
        let context = trace.child();
        self.events.push(FinishedSpan {
            context,
            parent: Some(trace.span_id),
            name,
            role: SpanRole::Consumer,
            start,
            end,
            attributes,
            links: vec![self.context],
            error,
        });
        self.events.extend(stored.map(|stored| step(context, "state-store", stored)));
    }

    fn into_spans(self, error: Option<Cow<'static, str>>) -> Vec<FinishedSpan> {
        let end = self.clock.now();
        let mut spans = self.events;
        let links = match &error {
            // What a failed batch was about must be found, whichever traces are kept.
            Some(_) => self.records,
            None => self.records.into_iter().filter(|trace| trace.is_sampled).collect(),
        };
        if spans.is_empty() && links.is_empty() && error.is_none() {
            return spans;
        }
        let context = self.context;
        spans.extend(self.steps.into_iter().map(|(name, interval)| step(context, name, interval)));
        spans.push(FinishedSpan {
            context,
            parent: None,
            name: self.name,
            role: SpanRole::Consumer,
            start: self.clock.started(),
            end,
            attributes: vec![Attribute::number("messaging.batch.message_count", self.count)],
            links,
            error,
        });
        spans
    }
}

fn step(parent: TraceContext, name: &'static str, interval: Interval) -> FinishedSpan {
    FinishedSpan {
        context: parent.child(),
        parent: Some(parent.span_id),
        name,
        role: SpanRole::Internal,
        start: interval.start,
        end: interval.end,
        attributes: Vec::new(),
        links: Vec::new(),
        error: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(shares: &[f64]) -> (Notes, Vec<TraceContext>) {
        let traces: Vec<TraceContext> = shares.iter().map(|share| TraceContext::root(*share)).collect();
        (Notes::begin("batch", traces.iter().copied().map(Some).chain([None])), traces)
    }

    fn names(spans: &[FinishedSpan]) -> Vec<&str> {
        spans.iter().map(|span| span.name).collect()
    }

    #[test]
    fn a_batch_of_traces_that_are_not_kept_has_no_spans_unless_it_fails() {
        let (notes, _) = notes(&[0.0, 0.0]);
        assert!(notes.into_spans(None).is_empty());
        let (notes, traces) = super::tests::notes(&[0.0, 1.0, 0.0]);
        let spans = notes.into_spans(Some("postgres: unavailable".into()));
        assert_eq!(names(&spans), ["batch"]);
        assert_eq!(spans[0].links, traces, "every record of a failed batch is found");
        assert_eq!(spans[0].error.as_deref(), Some("postgres: unavailable"));
    }

    #[test]
    fn a_record_has_its_span_in_its_own_trace() {
        let (mut notes, traces) = notes(&[1.0, 0.0]);
        let now = notes.clock.now();
        notes.steps.push(("claim", Interval { start: now, end: now }));
        notes.record(RecordNote {
            name: "event-processing",
            trace: traces[0],
            attributes: vec![Attribute::text("event.id", "order-1")],
            stored: Some(Interval { start: now, end: now }),
            error: None,
        });
        let batch = notes.context;
        let spans = notes.into_spans(None);
        assert_eq!(names(&spans), ["event-processing", "state-store", "claim", "batch"]);
        let [event, row, claim, of_batch] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!((event.context.trace_id, event.parent), (traces[0].trace_id, Some(traces[0].span_id)));
        assert_eq!((row.context.trace_id, row.parent), (traces[0].trace_id, Some(event.context.span_id)));
        assert_eq!(event.links, [batch]);
        assert_eq!((claim.context.trace_id, claim.parent), (batch.trace_id, Some(batch.span_id)));
        assert_eq!(of_batch.links, [traces[0]], "only of traces that are kept");
    }

    #[test]
    fn a_dead_letter_of_a_trace_that_is_not_kept_has_its_span() {
        let (mut notes, traces) = notes(&[0.0]);
        let error = Some("schema: amount: too small".into());
        notes.record(RecordNote {
            name: "event-processing",
            trace: traces[0],
            attributes: Vec::new(),
            stored: None,
            error,
        });
        assert_eq!(names(&notes.into_spans(None)), ["event-processing", "batch"]);
    }
}
