//! `forebay dead-letters`: what could not be processed, by requests to the redriver.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::answers::Answers;
use crate::ending::{Ending, Stop};
use crate::keys::optional;
use crate::place::ReachedPipeline;
use crate::runs::{Continuing, run_all};
use crate::table::{TextTable, cell};

#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// Count the letters by reason.
    List {
        #[command(flatten)]
        which: LetterFilters,
    },
    /// Show up to three letters of each reason, with what is known of them.
    Show {
        #[command(flatten)]
        which: LetterFilters,
    },
    /// Send letters back to raw-events, each once; one that failed too often is parked instead.
    Redrive {
        #[command(flatten)]
        which: LetterFilters,
        #[command(flatten)]
        pace: RedrivePace,
    },
    /// List the parked letters.
    Parked {
        #[command(flatten)]
        which: LetterFilters,
    },
    /// Send parked letters back to raw-events.
    Release {
        #[command(flatten)]
        which: LetterFilters,
        #[command(flatten)]
        pace: RedrivePace,
    },
}

/// A letter must meet all that are given.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which letters")]
pub struct LetterFilters {
    /// Such as schema-violation, as `list` shows it.
    #[arg(long)]
    reason: Option<String>,
    /// Of the event.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Of the event.
    #[arg(long)]
    tenant: Option<String>,
    #[arg(long, value_name = "ID")]
    event_id: Option<String>,
    /// Of the first copy, such as raw-events/0/5.
    #[arg(long)]
    origin: Option<String>,
    /// Failed at this time or later, such as 2026-11-20T18:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Failed before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl LetterFilters {
    fn request(self, action: &str) -> Value {
        let given = [
            ("reason", self.reason),
            ("type", self.event_type),
            ("tenant", self.tenant),
            ("event_id", self.event_id),
            ("origin", self.origin),
            ("from", self.from),
            ("until", self.until),
        ];
        let filters: Map<String, Value> =
            given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))).collect();
        json!({"action": action, "filters": filters})
    }
}

#[derive(Debug, Args)]
pub struct RedrivePace {
    /// Only count what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Letters per second; 100 if it is not said.
    #[arg(long, value_name = "LETTERS")]
    max_per_sec: Option<u64>,
}

/// # Errors
/// If the redriver does not answer, or refuses.
pub async fn dead_letters(
    command: DeadLettersCommand,
    at: &ReachedPipeline,
    answers: &Answers,
) -> anyhow::Result<Ending> {
    match command {
        DeadLettersCommand::List { which } => {
            let list = run_all(at, "redriver", which.request("list"), Continuing::Offsets).await?;
            answers.show(&list, reason_table)?;
            Ok(Ending::Done)
        }
        DeadLettersCommand::Show { which } => {
            let list = run_all(at, "redriver", which.request("list"), Continuing::Offsets).await?;
            let letters: Vec<Value> = examples(&list).cloned().collect();
            answers.show(&json!({"letters": letters}), letters_text)?;
            Ok(if letters.is_empty() { Ending::Refused } else { Ending::Done })
        }
        DeadLettersCommand::Parked { which } => {
            let parked = run_all(at, "redriver", which.request("parked"), Continuing::Key).await?;
            answers.show(&parked, letters_text)?;
            Ok(Ending::Done)
        }
        DeadLettersCommand::Redrive { which, pace } => {
            change(which.request("redrive"), &pace, Continuing::Offsets, at, answers).await
        }
        DeadLettersCommand::Release { which, pace } => {
            change(which.request("release"), &pace, Continuing::Key, at, answers).await
        }
    }
}

async fn change(
    request: Value,
    pace: &RedrivePace,
    continuing: Continuing,
    at: &ReachedPipeline,
    answers: &Answers,
) -> anyhow::Result<Ending> {
    let request = optional(answers.signed(request), [("max_per_sec", pace.max_per_sec)]);
    if pace.dry_run || answers.asks() {
        let mut dry_run = request.clone();
        dry_run["dry_run"] = true.into();
        let would_do = run_all(at, "redriver", dry_run, continuing).await?;
        let (sent, parked) = (count(&would_do, "sent"), count(&would_do, "parked"));
        if pace.dry_run || sent + parked == 0 {
            answers.show(&would_do, fate_table)?;
            return Ok(Ending::Done);
        }
        answers.confirm(&format!("{sent} letters would be sent again, and {parked} parked. Go on?"))?;
    }
    let done = run_all(at, "redriver", request, continuing).await?;
    answers.show(&done, fate_table)?;
    fate(&done)
}

fn count(answer: &Value, name: &str) -> u64 {
    answer[name].as_u64().unwrap_or_default()
}

/// How a redrive or release ended.
fn fate(done: &Value) -> anyhow::Result<Ending> {
    let (under_way, refused) = (count(done, "under_way"), count(done, "refused"));
    if refused > 0 {
        let text = format!(
            "{refused} letters are too large for raw-events, or their bytes are gone; the redriver's log names them"
        );
        return Err(Stop::with(Ending::Refused, text));
    }
    if under_way > 0 {
        let when = done["next_at"].as_str().unwrap_or("a few minutes");
        anyhow::bail!("another run is working on {under_way} letters: repeat this after {when}");
    }
    Ok(Ending::Done)
}

fn examples(list: &Value) -> impl Iterator<Item = &Value> {
    let groups = list["reasons"].as_object().into_iter().flatten();
    groups.flat_map(|(_, group)| group["examples"].as_array().into_iter().flatten())
}

fn reason_table(list: &Value) -> String {
    const COUNTS: [&str; 7] =
        ["letters", "open", "under_way", "redriven", "parked", "first_failed_at", "last_failed_at"];
    let mut table = TextTable::new([
        "reason",
        "letters",
        "open",
        "under way",
        "redriven",
        "parked",
        "first failed at",
        "last failed at",
    ]);
    for (reason, group) in list["reasons"].as_object().into_iter().flatten() {
        let [letters, open, under_way, redriven, parked, first, last] = COUNTS.map(|name| cell(&group[name]));
        table.add([reason.clone(), letters, open, under_way, redriven, parked, first, last]);
    }
    table.to_string()
}

fn letters_text(answer: &Value) -> String {
    const COLUMNS: [&str; 7] = ["origin", "attempt", "tenant", "type", "event_id", "failed_at", "reason"];
    let mut table = TextTable::new(["origin", "attempt", "tenant", "type", "event id", "failed at", "reason"]);
    for letter in answer["letters"].as_array().into_iter().flatten() {
        table.add(COLUMNS.map(|column| cell(&letter[column])));
    }
    table.to_string()
}

fn fate_table(answer: &Value) -> String {
    const COLUMNS: [&str; 5] = ["sent", "parked", "already", "under_way", "refused"];
    let mut table = TextTable::new(["sent", "parked", "already", "under way", "refused"]);
    table.add(COLUMNS.map(|column| cell(&answer[column])));
    let dry_run = if answer["dry_run"] == true { "nothing was changed; a run would do this:\n" } else { "" };
    format!("{dry_run}{table}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_left_letters_does_not_end_well() {
        assert_eq!(fate(&json!({"sent": 2, "under_way": 0, "refused": 0})).unwrap(), Ending::Done);
        let refused = fate(&json!({"refused": 1, "under_way": 1})).unwrap_err();
        assert_eq!(Ending::of(&refused), Ending::Refused);
        let waiting = fate(&json!({"under_way": 3, "next_at": "2026-11-20T18:00:00Z"})).unwrap_err();
        assert_eq!(Ending::of(&waiting), Ending::Failed);
        assert!(waiting.to_string().contains("after 2026-11-20T18:00:00Z"), "{waiting}");
    }
}
