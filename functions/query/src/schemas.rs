//! Schemas of what other crates own, which know nothing of HTTP.

use event::TypeDefinition;
use lambda::openapi::one_of;
use pipeline::Outcome;
use pipeline::ports::LetterStep;
use statistics::SeriesInterval;
use utoipa::openapi::Schema;

pub(crate) fn outcome() -> Schema {
    one_of(Outcome::ALL.iter().map(|outcome| outcome.as_str())).into()
}

pub(crate) fn letter_step() -> Schema {
    one_of([LetterStep::Send, LetterStep::Park].map(LetterStep::as_str)).into()
}

pub(crate) fn interval() -> Schema {
    let intervals = [SeriesInterval::Hour, SeriesInterval::Day].map(SeriesInterval::as_str);
    one_of(intervals).description(Some("What an entry of the series is; `hour`.")).into()
}

pub(crate) fn dimension() -> Schema {
    let description =
        "A member that event types declare for statistics. Without a value: its values with the most records.";
    one_of(TypeDefinition::all_dimensions()).description(Some(description)).into()
}
