//! Events of a schedule, for functions that take requests as well.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// The `source` of what EventBridge rules and EventBridge Scheduler send on a schedule.
const SOURCES: [&str; 2] = ["aws.events", "aws.scheduler"];

/// What invoked the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Somebody, with an `action`.
    Request,
    Schedule,
    /// Neither.
    Unknown,
}

impl Trigger {
    /// # Errors
    /// If the event is not a JSON object, or its `source` is not a text.
    pub fn of(event: &RawValue) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Kind {
            action: Option<IgnoredAny>,
            source: Option<String>,
        }
        let Kind { action, source } = serde_json::from_str(event.get())?;
        Ok(match (action, source) {
            (Some(_), _) => Trigger::Request,
            (None, Some(source)) if SOURCES.contains(&source.as_str()) => Trigger::Schedule,
            (None, _) => Trigger::Unknown,
        })
    }
}

/// Whether a schedule sent the event, and not somebody who asks for an `action`.
///
/// # Errors
/// As [`Trigger::of`].
pub(crate) fn is_scheduled(event: &RawValue) -> Result<bool, serde_json::Error> {
    Ok(Trigger::of(event)? == Trigger::Schedule)
}
