//! Spans: what an invocation did and how long each part took, in the traces of the events that it was about.
//!
//! Spans are made at the end of an invocation from what was noted on the way ([`batch`]), not while it works. So an event
//! of a trace that is not kept costs nothing, and the decision can depend on the result: a trace that is not among the kept
//! share still has the spans of whatever failed in it (ADR 37). They go to a collector or to X-Ray by OTLP (`export.rs`).
//!
//! Does not own the ids of traces and the header that carries them (`pipeline::trace`), and when an invocation ends.

pub mod batch;
mod export;
mod settings;
mod span;

use std::time::Duration;

use pipeline::TraceContext;

pub use self::export::flush;
pub use self::settings::{Destination, TraceSettings, UserIdForm};
pub use self::span::{Attribute, FinishedSpan, SpanClock, SpanRole};

/// Longest time for sending the spans of one invocation at its end.
pub const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// Spans are kept and sent from now on, if the settings say so. Without effect if the process has started already.
pub fn start(service: &'static str, settings: TraceSettings) {
    export::start(service, settings);
}

/// Whether anything is sent at all.
pub fn is_on() -> bool {
    export::exporter().is_some()
}

/// The first span of a new trace.
pub fn root() -> TraceContext {
    TraceContext::root(export::exporter().map_or(0.0, |exporter| exporter.settings.share))
}

/// Keeps spans until the next [`flush`]. What does not fit any more is counted and dropped.
pub fn keep(spans: Vec<FinishedSpan>) {
    if let Some(exporter) = export::exporter() {
        exporter.keep(spans);
    }
}

/// The id of a user as spans may have it.
pub fn user(id: &str) -> Option<Attribute> {
    export::exporter().and_then(|exporter| exporter.settings.user_id.attribute(id))
}
