//! `forebay dedup`: what is remembered of event ids, by requests to the maintainer.

use clap::Subcommand;
use serde_json::{Value, json};

use crate::answers::Answers;
use crate::ending::Ending;
use crate::place::ReachedPipeline;
use crate::table::cell;

#[derive(Debug, Subcommand)]
pub enum DedupCommand {
    /// Show which record owns an event id, and until when others with it are duplicates.
    Show {
        id: String,
        #[arg(long)]
        tenant: String,
    },
}

/// # Errors
/// If the maintainer does not answer, or refuses.
pub async fn dedup(command: DedupCommand, at: &ReachedPipeline, answers: &Answers) -> anyhow::Result<Ending> {
    let DedupCommand::Show { id, tenant } = command;
    let request = json!({"action": "show-dedup", "tenant": tenant, "event_id": id});
    answers.show(&at.call("maintainer", &request).await?, claim_text)?;
    Ok(Ending::Done)
}

fn claim_text(answer: &Value) -> String {
    let id = cell(&answer["event_id"]);
    let claim = &answer["claim"];
    if claim.is_null() {
        return format!("nothing is remembered of {id}: the next event with this id is no duplicate\n");
    }
    let [owner, end, hash] = ["owner", "expires_at", "payload_hash"].map(|name| cell(&claim[name]));
    let until = if claim["expired"] == true { "was remembered until" } else { "is remembered until" };
    format!("{id} {until} {end}\nowner    {owner}\ncontent  {hash}\n")
}
