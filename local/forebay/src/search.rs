//! `forebay events search`: the events that meet conditions.

use clap::Args;
use serde_json::{Value, json};

use crate::answers::Answers;
use crate::asking::{QueryParameters, ask};
use crate::ending::Ending;
use crate::place::ReachedPipeline;
use crate::table::{TextTable, cell};
use crate::time_range::TimeRangeArguments;

/// The most that one request may ask for.
const LARGEST_PAGE: usize = 100;

#[derive(Debug, Args)]
pub struct SearchArguments {
    /// Only events of this type.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Only events of this user.
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Only events of this campaign.
    #[arg(long, value_name = "ID")]
    campaign: Option<String>,
    /// Only events that are: valid, fraud or unscored.
    #[arg(long)]
    status: Option<String>,
    /// Only events with this value of a dimension.
    #[arg(long, value_names = ["DIMENSION", "VALUE"], num_args = 2)]
    value: Option<Vec<String>>,
    #[command(flatten)]
    range: TimeRangeArguments,
    /// The most events to show, newest first.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// Go on where an earlier search with --json ended: its `next`.
    #[arg(long, value_name = "TEXT")]
    next: Option<String>,
}

/// # Errors
/// If query does not answer, or refuses a condition.
pub async fn search(arguments: &SearchArguments, at: &ReachedPipeline, answers: &Answers) -> anyhow::Result<Ending> {
    let mut events = Vec::new();
    let mut next = arguments.next.clone();
    loop {
        let page = ask(at, "/events", &conditions(arguments, arguments.limit - events.len(), next.as_deref())).await?;
        events.extend(page["events"].as_array().cloned().unwrap_or_default());
        next = page["next"].as_str().map(str::to_owned);
        if next.is_none() || events.len() >= arguments.limit {
            break;
        }
    }
    answers.show(&json!({"events": events, "next": next}), events_text)?;
    Ok(Ending::Done)
}

fn conditions(arguments: &SearchArguments, limit: usize, next: Option<&str>) -> QueryParameters {
    let SearchArguments { event_type, user, campaign, status, value, range, limit: _, next: _ } = arguments;
    let mut parameters = QueryParameters::default();
    parameters.add_some("type", event_type.as_ref());
    parameters.add_some("user_id", user.as_ref());
    parameters.add_some("campaign_id", campaign.as_ref());
    parameters.add_some("status", status.as_ref());
    if let Some([dimension, value]) = value.as_deref() {
        parameters.add("dimension", dimension);
        parameters.add("value", value);
    }
    range.add_to(&mut parameters);
    parameters.add("limit", limit.min(LARGEST_PAGE));
    parameters.add_some("next", next);
    parameters
}

fn events_text(answer: &Value) -> String {
    let mut table = TextTable::new(["received at", "type", "status", "score", "user", "id"]);
    for event in answer["events"].as_array().into_iter().flatten() {
        let column = |name| cell(&event[name]);
        let score = cell(&event["risk"]["score"]);
        table.add([column("received_at"), column("type"), column("status"), score, column("user_id"), column("id")]);
    }
    let more = if answer["next"].is_null() { "" } else { "There are more: see --limit.\n" };
    format!("{table}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_a_line_each() {
        let answer = json!({"events": [
            {"id": "a", "type": "click", "status": "fraud", "received_at": "2026-11-20T18:02:00.000Z", "user_id": "u\n1",
             "risk": {"score": 90, "reasons": [], "rules_version": "1"}},
            {"id": "b", "type": "sensor", "status": "unscored", "received_at": "2026-11-20T18:01:00.000Z"},
        ], "next": "x"});
        assert_eq!(
            events_text(&answer),
            "RECEIVED AT               TYPE    STATUS    SCORE  USER  ID\n\
             2026-11-20T18:02:00.000Z  click   fraud     90     u\u{fffd}1   a\n\
             2026-11-20T18:01:00.000Z  sensor  unscored  -      -     b\n\
             There are more: see --limit.\n"
        );
    }
}
