//! `forebay webhooks`: who is told of outcomes, by requests to the maintainer and the notifier.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::answers::Answers;
use crate::ending::Ending;
use crate::kept_secret::KeptSecret;
use crate::place::ReachedPipeline;
use crate::table::{TextTable, cell};

#[derive(Debug, Subcommand)]
pub enum WebhooksCommand {
    /// Tell a URL of outcomes. The secret that signs is shown this once.
    Create(NewEndpoint),
    /// Show the webhooks, and why one is paused.
    List {
        /// Only those of this tenant.
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Give one a new secret; the one before signs too for a day.
    Rotate {
        /// As `list` shows it.
        webhook: String,
        #[command(flatten)]
        keep: KeptSecret,
    },
    /// Tell one nothing until it is resumed.
    Pause {
        webhook: String,
        #[arg(long)]
        reason: Option<String>,
    },
    /// Tell one of outcomes again.
    Resume { webhook: String },
    /// Remove one, with what waits for it.
    Delete { webhook: String },
    /// Show the last deliveries that failed at every attempt.
    Dead { webhook: String },
    /// Send dead deliveries again: one, or all of a webhook.
    Resend {
        webhook: String,
        #[arg(long, value_name = "ID")]
        message_id: Option<String>,
    },
}

#[derive(Debug, Args)]
pub struct NewEndpoint {
    #[arg(long)]
    tenant: String,
    /// With https.
    #[arg(long)]
    url: String,
    /// With commas between them: valid, fraud, duplicate, blocked, dead_lettered.
    #[arg(long, value_delimiter = ',', required = true)]
    outcomes: Vec<String>,
    /// Types of events, with commas between them; all if it is not said.
    #[arg(long, value_delimiter = ',')]
    types: Vec<String>,
    #[command(flatten)]
    keep: KeptSecret,
}

/// # Errors
/// If the function does not answer, or refuses.
pub async fn webhooks(command: WebhooksCommand, at: &ReachedPipeline, answers: &Answers) -> anyhow::Result<Ending> {
    match command {
        WebhooksCommand::Create(NewEndpoint { tenant, url, outcomes, types, keep }) => {
            let request = json!({
                "action": "create-webhook", "tenant": tenant, "url": url, "outcomes": outcomes, "types": types,
            });
            with_secret(&answers.signed(request), &keep, at, answers).await
        }
        WebhooksCommand::List { tenant } => {
            let request = json!({"action": "list-webhooks", "tenant": tenant});
            answers.show(&at.call("maintainer", &request).await?, |answer| webhook_table(&answer["webhooks"]))?;
            Ok(Ending::Done)
        }
        WebhooksCommand::Rotate { webhook, keep } => {
            let request = answers.signed(json!({"action": "rotate-webhook", "webhook": webhook}));
            with_secret(&request, &keep, at, answers).await
        }
        WebhooksCommand::Pause { webhook, reason } => {
            answers.confirm(&format!("Pause {webhook}? It is not told later of what happens meanwhile."))?;
            let request = json!({"action": "pause-webhook", "webhook": webhook, "reason": reason});
            change(request, at, answers).await
        }
        WebhooksCommand::Resume { webhook } => {
            change(json!({"action": "resume-webhook", "webhook": webhook}), at, answers).await
        }
        WebhooksCommand::Delete { webhook } => {
            answers.confirm(&format!("Delete {webhook}, and what waits for it?"))?;
            change(json!({"action": "delete-webhook", "webhook": webhook}), at, answers).await
        }
        WebhooksCommand::Dead { webhook } => {
            let request = json!({"action": "list-dead", "webhook": webhook});
            answers.show(&at.call("notifier", &request).await?, |answer| dead_table(&answer["dead"]))?;
            Ok(Ending::Done)
        }
        WebhooksCommand::Resend { webhook, message_id } => {
            if message_id.is_none() {
                answers.confirm(&format!("Send all dead deliveries of {webhook} again?"))?;
            }
            let request = json!({"action": "resend", "webhook": webhook, "message_id": message_id});
            let answer = at.call("notifier", &answers.signed(request)).await?;
            answers.show(&answer, |answer| format!("{} are sent again\n", cell(&answer["revived"])))?;
            Ok(if answer["revived"] == 0 { Ending::Refused } else { Ending::Done })
        }
    }
}

async fn change(request: Value, at: &ReachedPipeline, answers: &Answers) -> anyhow::Result<Ending> {
    let changed = at.call("maintainer", &answers.signed(request)).await?;
    answers.show(&changed, |answer| webhook_table(&json!([answer])))?;
    Ok(Ending::Done)
}

async fn with_secret(
    request: &Value,
    keep: &KeptSecret,
    at: &ReachedPipeline,
    answers: &Answers,
) -> anyhow::Result<Ending> {
    let file = keep.file()?;
    let mut made = at.call("maintainer", request).await?;
    file.take(&mut made["secret"])?;
    answers.show(&made, |made| {
        let old = match made["previous_secret_until"].as_str() {
            Some(end) => format!("the old secret signs too until {end}\n"),
            None => String::new(),
        };
        format!("webhook  {}\nsecret   {}\n{old}", cell(&made["webhook"]), cell(&made["secret"]))
    })?;
    Ok(Ending::Done)
}

fn webhook_table(webhooks: &Value) -> String {
    const COLUMNS: [&str; 6] = ["webhook", "tenant", "url", "outcomes", "types", "paused"];
    let mut table = TextTable::new(COLUMNS);
    for webhook in webhooks.as_array().into_iter().flatten() {
        table.add(COLUMNS.map(|column| cell(&webhook[column])));
    }
    table.to_string()
}

fn dead_table(dead: &Value) -> String {
    const COLUMNS: [&str; 4] = ["message_id", "failed_at", "attempts", "error"];
    let mut table = TextTable::new(["message id", "failed at", "attempts", "error"]);
    for delivery in dead.as_array().into_iter().flatten() {
        table.add(COLUMNS.map(|column| cell(&delivery[column])));
    }
    table.to_string()
}
