//! `forebay reconcile`: the maintainer compares checkpoints with the ledger.

use serde_json::{Value, json};

use crate::answers::Answers;
use crate::ending::Ending;
use crate::place::ReachedPipeline;
use crate::table::{TextTable, cell};

/// # Errors
/// If the maintainer does not answer.
pub async fn reconcile(at: &ReachedPipeline, answers: &Answers) -> anyhow::Result<Ending> {
    let account = at.call("maintainer", &json!({"action": "reconcile"})).await?;
    answers.show(&account, account_text)?;
    Ok(if account["unaccounted"] == 0 { Ending::Done } else { Ending::Failed })
}

fn account_text(account: &Value) -> String {
    const COLUMNS: [&str; 6] = ["topic", "partition", "floor_offset", "next_offset", "rows", "difference"];
    let mut table = TextTable::new(["topic", "partition", "from", "next", "rows", "difference", "outcomes"]);
    for partition in account["partitions"].as_array().into_iter().flatten() {
        let [topic, number, from, next, rows, difference] = COLUMNS.map(|column| cell(&partition[column]));
        let outcomes: Vec<String> = partition["outcomes"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(outcome, count)| format!("{outcome} {count}"))
            .collect();
        table.add([topic, number, from, next, rows, difference, outcomes.join(", ")]);
    }
    let unaccounted = cell(&account["unaccounted"]);
    let doubt = if account["unaccounted"] == 0 {
        ""
    } else {
        "an offset without an outcome may hold no record: `make reconcile`, which reads Kafka too, can tell\n"
    };
    format!("{table}unaccounted: {unaccounted}\n{doubt}")
}
