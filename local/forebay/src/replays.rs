//! `forebay replay`: rebuilding Postgres from the archive, and processing again, by requests to the replayer.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::answers::Answers;
use crate::ending::Ending;
use crate::keys::optional;
use crate::place::ReachedPipeline;
use crate::runs::{Continuing, run_all};
use crate::table::{TextTable, cell};

#[derive(Debug, Subcommand)]
pub enum ReplayCommand {
    /// Put the rows of archived outcomes back into Postgres.
    Restore {
        #[command(flatten)]
        run: ReplaySelection,
    },
    /// Score archived records again, and keep the outcomes under a version of their own.
    Reprocess {
        /// The name under which the outcomes are kept.
        #[arg(long)]
        version: String,
        /// The scorer's function, alias or ARN.
        #[arg(long)]
        scorer: Option<String>,
        #[command(flatten)]
        run: ReplaySelection,
    },
}

#[derive(Debug, Args)]
pub struct ReplaySelection {
    /// The name of the run, by which it goes on after a stop.
    #[arg(long, value_name = "NAME", required_unless_present = "dry_run")]
    run: Option<String>,
    /// Only count.
    #[arg(long)]
    dry_run: bool,
    /// Records per second; 1000 if it is not said.
    #[arg(long, value_name = "RECORDS")]
    max_per_sec: Option<u64>,
    /// Records that came to Kafka at this time or later, such as 2026-11-20T18:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Records that came to Kafka before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Of the event.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Of the event.
    #[arg(long)]
    tenant: Option<String>,
    /// Partitions of the archived topic, with commas between them.
    #[arg(long, value_delimiter = ',')]
    partitions: Vec<i32>,
}

impl ReplaySelection {
    fn request(&self, action: &str) -> Value {
        let given =
            [("from", &self.from), ("until", &self.until), ("type", &self.event_type), ("tenant", &self.tenant)];
        let mut filters: Map<String, Value> =
            given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?.into()))).collect();
        if !self.partitions.is_empty() {
            filters.insert("partitions".to_owned(), self.partitions.clone().into());
        }
        let mut request = json!({"action": action, "dry_run": self.dry_run});
        if !filters.is_empty() {
            request["filters"] = filters.into();
        }
        if let Some(run) = &self.run {
            request["run"] = run.as_str().into();
        }
        optional(request, [("max_per_sec", self.max_per_sec)])
    }
}

/// # Errors
/// If the replayer does not answer, or refuses.
pub async fn replay(command: ReplayCommand, at: &ReachedPipeline, answers: &Answers) -> anyhow::Result<Ending> {
    let (mut request, run) = match command {
        ReplayCommand::Restore { run } => (run.request("restore"), run),
        ReplayCommand::Reprocess { version, scorer, run } => {
            let mut request = run.request("reprocess");
            request["version"] = version.into();
            if let Some(scorer) = scorer {
                request["scorer"] = scorer.into();
            }
            (request, run)
        }
    };
    request = answers.signed(request);
    if run.dry_run {
        // A dry run keeps no progress, so the request says where to go on.
        let counted = run_all(at, "replayer", request, Continuing::Offsets).await?;
        answers.show(&counted, counts_table)?;
        return Ok(Ending::Done);
    }
    answers.confirm(&format!(
        "{} from the archive changes Postgres (--dry-run counts first). Go on?",
        cell(&request["action"])
    ))?;
    loop {
        let answer = at.call("replayer", &request).await?;
        if answer["complete"] != false {
            answers.show(&answer, counts_table)?;
            return Ok(if answer["counts"]["damaged_objects"].as_u64().unwrap_or(0) == 0 {
                Ending::Done
            } else {
                Ending::Failed
            });
        }
        if !answers.is_json() {
            crate::output::complain(format_args!("{} records so far", cell(&answer["counts"]["records"])));
        }
    }
}

/// All counts, one a line.
fn counts_table(answer: &Value) -> String {
    let mut table = TextTable::new(["count", "value"]);
    list("", &answer["counts"], &mut table);
    table.to_string()
}

fn list(before: &str, counts: &Value, table: &mut TextTable) {
    for (name, value) in counts.as_object().into_iter().flatten() {
        let name = format!("{before}{name}");
        if value.is_object() {
            list(&format!("{name}."), value, table);
        } else {
            table.add([name, cell(value)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_within_counts_are_named_by_both() {
        let answer = json!({"counts": {"records": 3, "outcomes": {"fraud": 1, "valid": 2}}});
        assert_eq!(
            counts_table(&answer),
            "COUNT           VALUE\noutcomes.fraud  1\noutcomes.valid  2\nrecords         3\n"
        );
    }
}
