//! The span of a request for scores, in the trace of the batch that they are for.

use pipeline::TraceContext;
use traces::{Attribute, FinishedSpan, SpanClock, SpanRole};

/// A request that is being answered; without spans unless the caller's trace is kept.
pub struct ScoreTrace(Option<(TraceContext, SpanClock, usize)>);

impl ScoreTrace {
    pub fn begin(traceparent: Option<&str>, events: usize) -> Self {
        let caller = traceparent.and_then(|text| TraceContext::parse(text.as_bytes()));
        let kept = caller.filter(|caller| caller.is_sampled && traces::is_on());
        ScoreTrace(kept.map(|caller| (caller, SpanClock::start(), events)))
    }

    pub fn finish(self, error: Option<&'static str>) {
        let Some((caller, clock, events)) = self.0 else { return };
        traces::keep(vec![FinishedSpan {
            context: caller.child(),
            parent: Some(caller.span_id),
            name: "score",
            role: SpanRole::Server,
            start: clock.started(),
            end: clock.now(),
            attributes: vec![Attribute::number("events", i64::try_from(events).unwrap_or(i64::MAX))],
            links: Vec::new(),
            error: error.map(Into::into),
        }]);
    }
}
