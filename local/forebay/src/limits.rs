//! `forebay limits`: what counts against a limit, by requests to the maintainer.

use clap::Subcommand;
use serde_json::{Value, json};

use crate::answers::Answers;
use crate::blocks::why_text;
use crate::ending::Ending;
use crate::place::ReachedPipeline;
use crate::table::{TextTable, cell};

#[derive(Debug, Subcommand)]
pub enum LimitsCommand {
    /// Show how many events of an address were counted in each minute, and whether it is blocked.
    Show { address: String },
}

/// # Errors
/// If the maintainer does not answer, or refuses.
pub async fn limits(command: LimitsCommand, at: &ReachedPipeline, answers: &Answers) -> anyhow::Result<Ending> {
    let LimitsCommand::Show { address } = command;
    let limits = at.call("maintainer", &json!({"action": "show-limits", "address": address})).await?;
    answers.show(&limits, limits_text)?;
    Ok(Ending::Done)
}

fn limits_text(limits: &Value) -> String {
    let mut table = TextTable::new(["minute", "events"]);
    for minute in limits["minutes"].as_array().into_iter().flatten() {
        table.add([cell(&minute["minute"]), cell(&minute["events"])]);
    }
    format!("{table}{}", why_text(limits))
}
