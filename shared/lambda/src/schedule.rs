//! Events of a schedule.

/// The `source` of what EventBridge rules and EventBridge Scheduler send on a schedule.
const SOURCES: [&str; 2] = ["aws.events", "aws.scheduler"];

/// Whether an event with that `source` comes from a schedule.
pub fn is_source(source: &str) -> bool {
    SOURCES.contains(&source)
}
