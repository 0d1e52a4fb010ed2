//! `forebay topics`: what is in Kafka, by requests to the maintainer, which can reach it.

use clap::Subcommand;
use serde_json::{Value, json};

use crate::answers::Answers;
use crate::ending::Ending;
use crate::place::ReachedPipeline;
use crate::table::{TextTable, cell};

#[derive(Clone, Copy, Debug, Subcommand)]
pub enum TopicsCommand {
    /// Show the topics with the offsets of their partitions.
    List,
    /// Show how far each consumer group is.
    Lag,
}

/// # Errors
/// If the maintainer does not answer, or Kafka does not answer it.
pub async fn topics(command: TopicsCommand, at: &ReachedPipeline, answers: &Answers) -> anyhow::Result<Ending> {
    match command {
        TopicsCommand::List => {
            let answer = at.call("maintainer", &json!({"action": "list-topics"})).await?;
            answers.show(&answer, |answer| topic_table(&answer["topics"]))?;
        }
        TopicsCommand::Lag => {
            let answer = at.call("maintainer", &json!({"action": "lag"})).await?;
            answers.show(&answer, |answer| lag_table(&answer["groups"]))?;
        }
    }
    Ok(Ending::Done)
}

fn topic_table(topics: &Value) -> String {
    let mut table = TextTable::new(["topic", "partition", "earliest", "latest"]);
    for (topic, partition) in with_partitions(topics) {
        let of = |name| cell(&partition[name]);
        table.add([cell(&topic["topic"]), of("partition"), of("earliest"), of("latest")]);
    }
    table.to_string()
}

fn lag_table(groups: &Value) -> String {
    let mut table = TextTable::new(["group", "topic", "partition", "committed", "latest", "lag"]);
    for (group, place) in with_partitions(groups) {
        let of = |name| cell(&place[name]);
        // What nothing reads with has no lag.
        let lag = if group["lag"].is_null() { cell(&Value::Null) } else { of("lag") };
        table.add([cell(&group["group"]), cell(&group["topic"]), of("partition"), of("committed"), of("latest"), lag]);
    }
    table.to_string()
}

fn with_partitions(listed: &Value) -> impl Iterator<Item = (&Value, &Value)> {
    let listed = listed.as_array().into_iter().flatten();
    listed.flat_map(|one| one["partitions"].as_array().into_iter().flatten().map(move |partition| (one, partition)))
}
