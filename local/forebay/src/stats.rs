//! `forebay stats`: how many events there were.

use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::answers::Answers;
use crate::asking::{QueryParameters, ask};
use crate::ending::Ending;
use crate::place::ReachedPipeline;
use crate::table::{TextTable, cell};
use crate::time_range::TimeRangeArguments;

const STATUSES: [&str; 6] = ["valid", "fraud", "unscored", "duplicate", "blocked", "dead_lettered"];

#[derive(Debug, Args)]
pub struct StatsArguments {
    /// The events of this campaign.
    #[arg(long, value_name = "ID", conflicts_with_all = ["dimension", "value", "limit"])]
    campaign: Option<String>,
    /// The values of this dimension with the most records; with --value, the events with that value.
    #[arg(long, value_name = "NAME")]
    dimension: Option<String>,
    #[arg(long, requires = "dimension", conflicts_with = "limit")]
    value: Option<String>,
    #[command(flatten)]
    range: TimeRangeArguments,
    /// Whether the series has hours or days.
    #[arg(long, value_name = "hour|day")]
    interval: Option<String>,
    /// The time zone of the hours or days, such as Europe/Berlin.
    #[arg(long, value_name = "NAME")]
    timezone: Option<String>,
    /// How many values of the dimension to show.
    #[arg(long, requires = "dimension")]
    limit: Option<u16>,
}

/// # Errors
/// If query does not answer, or refuses an argument.
pub async fn stats(arguments: &StatsArguments, at: &ReachedPipeline, answers: &Answers) -> anyhow::Result<Ending> {
    let StatsArguments { campaign, dimension, value, range, interval, timezone, limit } = arguments;
    let path = match campaign {
        Some(campaign) => format!("/campaigns/{}/stats", utf8_percent_encode(campaign, NON_ALPHANUMERIC)),
        None => "/stats".to_owned(),
    };
    let mut parameters = QueryParameters::default();
    parameters.add_some("dimension", dimension.as_ref());
    parameters.add_some("value", value.as_ref());
    range.add_to(&mut parameters);
    parameters.add_some("interval", interval.as_ref());
    parameters.add_some("timezone", timezone.as_ref());
    parameters.add_some("limit", *limit);
    let answer = ask(at, &path, &parameters).await?;
    answers
        .show(&answer, |answer| if answer["values"].is_array() { values_text(answer) } else { report_text(answer) })?;
    Ok(Ending::Done)
}

fn values_text(answer: &Value) -> String {
    let mut table = TextTable::new(["value", "records", "events", "fraud", "duplicate", "blocked", "dead lettered"]);
    for value in answer["values"].as_array().into_iter().flatten() {
        let names = ["value", "records", "events", "fraud", "duplicate", "blocked", "dead_lettered"];
        table.add(names.map(|name| cell(&value[name])));
    }
    format!("{table}{}", completeness(answer))
}

fn report_text(answer: &Value) -> String {
    let mut types = TextTable::new(["type", "valid", "fraud", "unscored", "duplicate", "blocked", "dead lettered"]);
    for (name, counts) in answer["by_type"].as_object().into_iter().flatten() {
        let [valid, fraud, unscored, duplicate, blocked, dead_lettered] = STATUSES.map(|status| cell(&counts[status]));
        types.add([cell(&name.as_str().into()), valid, fraud, unscored, duplicate, blocked, dead_lettered]);
    }
    let mut series = TextTable::new(["start", "events", "fraud"]);
    for entry in answer["series"].as_array().into_iter().flatten() {
        series.add(["start", "events", "fraud"].map(|name| cell(&entry[name])));
    }
    let users = cell(&answer["distinct_users"]["estimate"]);
    let rate = answer.get("click_through_rate").map(|rate| format!(", click-through rate {}", cell(rate)));
    format!(
        "{} events, about {users} users{}\n\n{types}\n{series}{}",
        cell(&answer["events"]),
        rate.unwrap_or_default(),
        completeness(answer)
    )
}

fn completeness(answer: &Value) -> String {
    match answer["complete_until"].as_str() {
        Some(_) => format!("Everything received before {} is counted.\n", cell(&answer["complete_until"])),
        None => "Nothing is counted yet: the aggregator has not run.\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_has_a_line_for_each_type_and_each_hour() {
        let answer = json!({
            "campaign_id": "camp456", "events": 9, "complete_until": "2026-11-20T18:32:00.000Z", "click_through_rate": 0.285714,
            "by_type": {"click": {"valid": 1, "fraud": 1, "unscored": 0, "duplicate": 1, "blocked": 1, "dead_lettered": 0}},
            "distinct_users": {"estimate": 7, "relative_error": 0.01625},
            "series": [{"start": "2026-11-20T22:30:00+05:30", "events": 7, "by_type": {}, "fraud": 0}],
        });
        assert_eq!(
            report_text(&answer),
            "9 events, about 7 users, click-through rate 0.285714\n\n\
             TYPE   VALID  FRAUD  UNSCORED  DUPLICATE  BLOCKED  DEAD LETTERED\n\
             click  1      1      0         1          1        0\n\n\
             START                      EVENTS  FRAUD\n\
             2026-11-20T22:30:00+05:30  7       0\n\
             Everything received before 2026-11-20T18:32:00.000Z is counted.\n"
        );
    }

    #[test]
    fn values_are_a_line_each() {
        let answer = json!({"dimension": "unit", "complete_until": null, "values": [
            {"value": "C", "records": 3, "events": 2, "valid": 2, "fraud": 0, "unscored": 0, "duplicate": 1, "blocked": 0,
             "dead_lettered": 0},
        ]});
        assert_eq!(
            values_text(&answer),
            "VALUE  RECORDS  EVENTS  FRAUD  DUPLICATE  BLOCKED  DEAD LETTERED\n\
             C      3        2       0      1          0        0\n\
             Nothing is counted yet: the aggregator has not run.\n"
        );
    }
}
