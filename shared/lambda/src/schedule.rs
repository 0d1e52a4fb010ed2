//! Events of a schedule, for functions that also take requests.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// The `source` of scheduled events of EventBridge rules and EventBridge Scheduler.
const SOURCES: [&str; 2] = ["aws.events", "aws.scheduler"];

/// What invoked the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// An operator, with an `action`.
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

/// Whether the event came from a schedule and not from an operator with an `action`.
///
/// # Errors
/// Like [`Trigger::of`].
pub(crate) fn is_scheduled(event: &RawValue) -> Result<bool, serde_json::Error> {
    Ok(Trigger::of(event)? == Trigger::Schedule)
}
