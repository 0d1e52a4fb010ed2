//! `forebay blocks`: the block list, by requests to the maintainer.

use clap::Subcommand;
use serde_json::{Value, json};

use crate::answers::Answers;
use crate::ending::Ending;
use crate::keys::optional;
use crate::place::ReachedPipeline;
use crate::table::{TextTable, cell};

#[derive(Debug, Subcommand)]
pub enum BlocksCommand {
    /// Block an address or a range.
    Add {
        /// An IPv4 address, an IPv6 /64, or a larger range such as 203.0.113.0/24.
        address: String,
        #[arg(long)]
        reason: String,
        /// Seconds until the block ends; without this it stays until it is removed.
        #[arg(long, value_name = "SECONDS")]
        for_sec: Option<u64>,
    },
    /// Remove the entry of exactly this address or range.
    Remove { address: String },
    /// Show blocks and exceptions that are in force.
    List,
    /// Show whether an address is blocked, and by which entry.
    Why { address: String },
}

/// # Errors
/// If the maintainer does not answer, or refuses.
pub async fn blocks(command: BlocksCommand, at: &ReachedPipeline, answers: &Answers) -> anyhow::Result<Ending> {
    match command {
        BlocksCommand::Add { address, reason, for_sec } => {
            if address.contains('/') {
                answers.confirm(&format!("Block all addresses of {address}?"))?;
            }
            let request = json!({"action": "block", "address": address, "reason": reason});
            let request = answers.signed(optional(request, [("for_sec", for_sec)]));
            answers.show(&at.call("maintainer", &request).await?, |answer| block_table(&json!([answer["blocked"]])))?;
            Ok(Ending::Done)
        }
        BlocksCommand::Remove { address } => {
            let request = answers.signed(json!({"action": "unblock", "address": address}));
            let answer = at.call("maintainer", &request).await?;
            answers.show(&answer, |answer| removed_text(&address, answer))?;
            Ok(if answer["was_listed"] == true { Ending::Done } else { Ending::Refused })
        }
        BlocksCommand::List => {
            let answer = at.call("maintainer", &json!({"action": "list-blocks"})).await?;
            answers.show(&answer, |answer| block_table(&answer["blocks"]))?;
            Ok(Ending::Done)
        }
        BlocksCommand::Why { address } => {
            let answer = at.call("maintainer", &json!({"action": "find-block", "address": address})).await?;
            answers.show(&answer, why_text)?;
            Ok(Ending::Done)
        }
    }
}

/// What `find-block` answers, for people.
pub fn why_text(answer: &Value) -> String {
    let address = cell(&answer["address"]);
    let said = match (answer["blocked"] == true, answer["by"].is_object()) {
        (true, _) => "is blocked by the first of these entries",
        (false, true) => "is an exception by the first of these entries",
        (false, false) => return format!("{address} is in no entry: it is not blocked\n"),
    };
    format!("{address} {said}:\n{}", block_table(&answer["entries"]))
}

fn removed_text(address: &str, answer: &Value) -> String {
    let removed = if answer["was_listed"] == true { "is removed" } else { "was not on the list" };
    let around: Vec<String> =
        answer["still_in"].as_array().into_iter().flatten().map(|block| cell(&block["address"])).collect();
    let around = if around.is_empty() { String::new() } else { format!("; it is still in {}", around.join(", ")) };
    format!("{address} {removed}{around}\n")
}

fn block_table(blocks: &Value) -> String {
    let mut table = TextTable::new(["address", "rule", "until", "reason"]);
    for block in blocks.as_array().into_iter().flatten() {
        let rule = if block["allows"] == true { "allow" } else { "block" };
        table.add([cell(&block["address"]), rule.to_owned(), cell(&block["until"]), cell(&block["reason"])]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_still_blocked_by_a_range_is_said_to_be() {
        let answer = json!({"was_listed": true, "still_in": [{"address": "203.0.113.0/24"}]});
        assert_eq!(removed_text("203.0.113.7", &answer), "203.0.113.7 is removed; it is still in 203.0.113.0/24\n");
        let answer = json!({"was_listed": false, "still_in": []});
        assert_eq!(removed_text("203.0.113.7", &answer), "203.0.113.7 was not on the list\n");
    }
}
