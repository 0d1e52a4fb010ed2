//! `forebay aggregates`: whether statistics are what the stored events make.

use clap::Subcommand;
use serde_json::{Value, json};

use crate::answers::Answers;
use crate::ending::Ending;
use crate::place::ReachedPipeline;
use crate::table::cell;

#[derive(Clone, Debug, Subcommand)]
pub enum AggregatesCommand {
    /// Count the stored events of a time span again, and compare them with the statistics; exit status 1 if they differ. They always
    /// do where retention has deleted the events. Changes nothing.
    Verify {
        /// From this instant on, such as 2026-11-20T18:00:00Z; widened to a quarter of an hour.
        #[arg(long, value_name = "INSTANT")]
        from: String,
        /// Before this instant; widened, too.
        #[arg(long, value_name = "INSTANT")]
        to: String,
    },
}

/// # Errors
/// If the aggregator does not answer, or refuses.
pub async fn aggregates(command: AggregatesCommand, at: &ReachedPipeline, answers: &Answers) -> anyhow::Result<Ending> {
    let AggregatesCommand::Verify { from, to } = command;
    let verification = at.call("aggregator", &json!({"action": "verify", "from": from, "to": to})).await?;
    answers.show(&verification, verification_text)?;
    Ok(if verification["different"] == 0 { Ending::Done } else { Ending::Failed })
}

fn verification_text(verification: &Value) -> String {
    let of = |name| cell(&verification[name]);
    let examples = verification["examples"].as_array().into_iter().flatten();
    let examples: String = examples.map(|example| format!("  {}\n", cell(example))).collect();
    format!("events {}, cells {}, different {}\n{examples}", of("events"), of("cells"), of("different"))
}
