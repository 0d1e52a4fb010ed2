//! Events of a schedule, for functions that also take requests.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// The `source` of scheduled events of EventBridge rules and EventBridge Scheduler.
const SOURCES: [&str; 2] = ["aws.events", "aws.scheduler"];

/// Whether a schedule sent the event, and not somebody who asks for an `action`.
///
/// # Errors
/// If the event is not a JSON object, or its `source` is not a text.
pub(crate) fn is_scheduled(event: &RawValue) -> Result<bool, serde_json::Error> {
    #[derive(Deserialize)]
    struct Fields {
        action: Option<IgnoredAny>,
        source: Option<String>,
    }
    let Fields { action, source } = serde_json::from_str(event.get())?;
    Ok(action.is_none() && source.is_some_and(|source| SOURCES.contains(&source.as_str())))
}
