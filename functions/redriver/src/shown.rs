//! The form of a dead letter in answers.

use std::borrow::Cow;

use event::Timestamp;
use pipeline::dead_letter::DeadLetter;
use serde::Serialize;

/// Longest text from a record that is shown in an answer, in characters.
const MAX_SHOWN_CHARS: usize = 256;

#[derive(Debug, Serialize)]
pub struct Shown {
    /// The position of the letter.
    pub position: String,
    pub origin: String,
    pub attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    pub reason: String,
    pub failed_at: Timestamp,
}

/// The form of the letter in answers; it never includes the payload.
pub fn shown(letter: &DeadLetter) -> Shown {
    let subject = letter.subject();
    let short = |text: Cow<'_, str>| bounded(&text, MAX_SHOWN_CHARS);
    Shown {
        position: letter.record.position.to_string(),
        origin: letter.id.origin.to_string(),
        attempt: letter.id.attempt,
        tenant: subject.tenant.map(short),
        event_type: subject.event_type.map(short),
        event_id: subject.event_id.map(short),
        reason: bounded(&letter.detail, MAX_SHOWN_CHARS),
        failed_at: letter.failed_at,
    }
}

/// Cuts a text to that many characters.
pub(crate) fn bounded(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}
