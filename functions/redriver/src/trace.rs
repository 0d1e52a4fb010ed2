//! The spans of letters that are sent again, in the traces of their events.

use pipeline::Position;
use pipeline::dead_letter::DeadLetter;
use traces::{Attribute, FinishedSpan, SpanClock, SpanRole};

/// The span of a letter that was sent to `position`, begun when `clock` was started. Of every trace, kept or not: something
/// failed in it. `None` if the letter names no trace, or nobody wants spans.
pub fn redriven(letter: &DeadLetter, position: &Position, clock: SpanClock) -> Option<FinishedSpan> {
    let context = letter.trace().filter(|_| traces::is_on())?;
    Some(FinishedSpan {
        context: context.child(),
        parent: Some(context.span_id),
        name: "redrive",
        role: SpanRole::Producer,
        start: clock.started(),
        end: clock.now(),
        attributes: Attribute::of_position(position)
            .into_iter()
            .chain([
                Attribute::text("event.origin", letter.id.origin.to_string()),
                Attribute::number("event.attempt", i64::from(letter.id.attempt) + 1),
                Attribute::text("event.reason", letter.reason.clone()),
            ])
            .collect(),
        links: Vec::new(),
        error: None,
    })
}
