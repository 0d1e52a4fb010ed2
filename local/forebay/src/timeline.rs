//! `forebay events get`: what became of an event, asked of query.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use http::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::answers::Answers;
use crate::ending::{Ending, Stop};
use crate::ingest_answer::problem_text;
use crate::ingest_client::key_refused;
use crate::place::{ReachedPipeline, key_header};
use crate::table::{TextTable, cell};

#[derive(Debug, Subcommand)]
pub enum EventsCommand {
    /// Show what happened to an event.
    Get(EventQuestion),
}

#[derive(Debug, Args)]
pub struct EventQuestion {
    id: String,
    /// How long to wait until something is known, in milliseconds.
    #[arg(long, value_name = "MILLISECONDS")]
    wait_ms: Option<u32>,
}

/// # Errors
/// If query does not answer, or does not know the event.
pub async fn events(command: EventsCommand, at: &ReachedPipeline, answers: &Answers) -> anyhow::Result<Ending> {
    let EventsCommand::Get(EventQuestion { id, wait_ms }) = command;
    let (query, key) = (at.query()?, at.key()?);
    let mut url = format!("{query}/events?id={}", utf8_percent_encode(&id, NON_ALPHANUMERIC));
    if let Some(wait_ms) = wait_ms {
        let _ = write!(url, "&wait_ms={wait_ms}");
    }
    let answer = at.client.get(&url, &key_header(&key)).await?;
    let problem = || problem_text(answer.status, &answer.body);
    match answer.status {
        StatusCode::OK => {
            answers.show(&answer.json(), timeline_text)?;
            Ok(Ending::Done)
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(key_refused(&problem())),
        status if status.is_client_error() => Err(Stop::with(Ending::Refused, problem())),
        _ => anyhow::bail!("query does not answer: {}", problem()),
    }
}

fn timeline_text(answer: &Value) -> String {
    let mut table = TextTable::new(["at", "step", "record", "what"]);
    for step in answer["timeline"].as_array().into_iter().flatten() {
        let what: Vec<String> = ["outcome", "reason", "action", "state", "type", "risk"]
            .into_iter()
            .filter_map(|name| Some((name, step.get(name)?)))
            .map(|(name, value)| if name == "risk" { format!("score {}", cell(&value["score"])) } else { cell(value) })
            .collect();
        table.add([cell(&step["at"]), cell(&step["step"]), cell(&step["record"]), what.join(" ")]);
    }
    format!("{}: {}\n{table}", cell(&answer["id"]), cell(&answer["status"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_timeline_is_a_line_for_each_step() {
        let answer = json!({"id": "a", "status": "valid", "timeline": [
            {"step": "accepted", "at": "2026-11-20T18:02:00.000Z", "record": "raw-events/2/5"},
            {"step": "scored", "at": "2026-11-20T18:02:01.000Z", "outcome": "valid", "risk": {"score": 7}},
        ]});
        assert_eq!(
            timeline_text(&answer),
            "a: valid\n\
             AT                        STEP      RECORD          WHAT\n\
             2026-11-20T18:02:00.000Z  accepted  raw-events/2/5\n\
             2026-11-20T18:02:01.000Z  scored    -               valid score 7\n"
        );
    }
}
