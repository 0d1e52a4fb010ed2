//! `forebay topics`: what is in Kafka, by requests to the maintainer, which can reach it.

use clap::Subcommand;
use serde_json::{Value, json};

use crate::answers::Answers;
use crate::ending::Ending;
use crate::place::ReachedPipeline;
use crate::table::{TextTable, cell};

#[derive(Clone, Debug, Subcommand)]
pub enum TopicsCommand {
    /// Show the topics with the offsets of their partitions.
    List,
    /// Show how far each consumer group is.
    Lag,
    /// Show the records that were written last, the oldest of them first.
    Tail {
        /// Such as raw-events, processed-events or dead-letter-events.
        topic: String,
        /// How many, 1 to 100.
        #[arg(long, default_value_t = 10, value_name = "NUMBER")]
        records: u16,
        /// Show what is in them, too: what clients sent.
        #[arg(long)]
        values: bool,
    },
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
        TopicsCommand::Tail { topic, records, values } => {
            let request = json!({"action": "tail-topic", "topic": topic, "records": records, "values": values});
            let answer = at.call("maintainer", &request).await?;
            answers.show(&answer, |answer| tail_table(answer, values))?;
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

fn tail_table(answer: &Value, shows_values: bool) -> String {
    let last = if shows_values { "value" } else { "headers" };
    let mut table = TextTable::new(["time", "partition", "offset", "key", "bytes", last]);
    for record in answer["records"].as_array().into_iter().flatten() {
        let headers = record["headers"].as_object().into_iter().flatten();
        let headers: Vec<String> = headers.map(|(name, value)| format!("{name}={}", cell(value))).collect();
        let last = if shows_values { cell(&record["value"]) } else { headers.join(" ") };
        let [time, partition, offset, key, bytes] =
            ["timestamp", "partition", "offset", "key", "bytes"].map(|name| cell(&record[name]));
        table.add([time, partition, offset, key, bytes, last]);
    }
    let unread = if answer["complete"] == true { "" } else { "the time was too short to read to the end\n" };
    format!("{table}{unread}")
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
