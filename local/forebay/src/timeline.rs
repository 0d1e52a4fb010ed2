//! `forebay events get`: what became of an event, asked of query.

use clap::Args;
use serde_json::Value;

use crate::answers::Answers;
use crate::asking::{QueryParameters, ask};
use crate::ending::Ending;
use crate::place::ReachedPipeline;
use crate::table::{TextTable, cell};

#[derive(Debug, Args)]
pub struct EventQuestion {
    id: String,
    /// How long to wait until something is known, in milliseconds.
    #[arg(long, value_name = "MILLISECONDS")]
    wait_ms: Option<u32>,
}

/// # Errors
/// If query does not answer, or does not know the event.
pub async fn timeline(question: &EventQuestion, at: &ReachedPipeline, answers: &Answers) -> anyhow::Result<Ending> {
    let mut parameters = QueryParameters::default();
    parameters.add("id", &question.id);
    parameters.add_some("wait_ms", question.wait_ms);
    answers.show(&ask(at, "/events", &parameters).await?, timeline_text)?;
    Ok(Ending::Done)
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
