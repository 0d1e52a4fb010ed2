//! `forebay keys`: the API keys, by requests to the maintainer.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::answers::Answers;
use crate::ending::Ending;
use crate::kept_secret::KeptSecret;
use crate::place::ReachedPipeline;
use crate::table::{TextTable, cell};

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key. It is shown this once.
    Create(KeyRequest),
    /// Show the keys, never the keys themselves.
    List {
        /// Only those of this tenant.
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Make a key that may do the same, and let the old one end.
    Rotate {
        /// The hash of the old one, as `list` shows it.
        key_hash: String,
        /// How long the old one still works, in seconds; a day if it is not said.
        #[arg(long, value_name = "SECONDS")]
        grace_sec: Option<u64>,
        /// When the new one expires, in seconds.
        #[arg(long, value_name = "SECONDS")]
        expires_in_sec: Option<u64>,
        #[command(flatten)]
        keep: KeptSecret,
    },
    /// End a key for good.
    Revoke {
        /// Its hash, as `list` shows it.
        key_hash: String,
    },
}

#[derive(Debug, Args)]
pub struct KeyRequest {
    #[arg(long)]
    tenant: String,
    /// What `list` calls it.
    #[arg(long)]
    name: String,
    /// `server` for a program that keeps it secret, `publishable` for browsers and apps.
    #[arg(long, default_value = "server")]
    kind: String,
    /// With commas between them: write, read, operate.
    #[arg(long, value_delimiter = ',', default_value = "write")]
    scopes: Vec<String>,
    /// Events per minute.
    #[arg(long, value_name = "EVENTS")]
    rate_limit_per_min: Option<u32>,
    /// Events at once, and so the largest batch.
    #[arg(long, value_name = "EVENTS")]
    burst: Option<u32>,
    #[arg(long, value_name = "SECONDS")]
    expires_in_sec: Option<u64>,
    #[command(flatten)]
    keep: KeptSecret,
}

/// # Errors
/// If the maintainer does not answer, or refuses.
pub async fn keys(command: KeysCommand, at: &ReachedPipeline, answers: &Answers) -> anyhow::Result<Ending> {
    match command {
        KeysCommand::Create(key) => {
            let request = optional(
                json!({
                    "action": "create-key", "tenant": key.tenant, "name": key.name, "kind": key.kind,
                    "scopes": key.scopes,
                }),
                [
                    ("rate_limit_per_min", key.rate_limit_per_min.map(u64::from)),
                    ("burst", key.burst.map(u64::from)),
                    ("expires_in_sec", key.expires_in_sec),
                ],
            );
            make(&answers.signed(request), &key.keep, at, answers).await
        }
        KeysCommand::List { tenant } => {
            let mut request = json!({"action": "list-keys"});
            if let Some(tenant) = tenant {
                request["tenant"] = tenant.into();
            }
            answers.show(&at.call("maintainer", &request).await?, |answer| key_table(&answer["keys"]))?;
            Ok(Ending::Done)
        }
        KeysCommand::Rotate { key_hash, grace_sec, expires_in_sec, keep } => {
            let request = json!({"action": "rotate-key", "key_hash": key_hash});
            let request = optional(request, [("grace_sec", grace_sec), ("expires_in_sec", expires_in_sec)]);
            make(&answers.signed(request), &keep, at, answers).await
        }
        KeysCommand::Revoke { key_hash } => {
            answers.confirm(&format!("Revoke the key {key_hash}? Who uses it is refused from then on."))?;
            let request = answers.signed(json!({"action": "revoke-key", "key_hash": key_hash}));
            let revoked = at.call("maintainer", &request).await?;
            answers.show(&revoked, |answer| key_table(&json!([answer])))?;
            Ok(Ending::Done)
        }
    }
}

/// The request with those members that have a value.
pub(crate) fn optional<const N: usize>(mut request: Value, members: [(&str, Option<u64>); N]) -> Value {
    for (name, value) in members {
        if let Some(value) = value {
            request[name] = value.into();
        }
    }
    request
}

async fn make(request: &Value, keep: &KeptSecret, at: &ReachedPipeline, answers: &Answers) -> anyhow::Result<Ending> {
    let file = keep.file()?;
    let mut made = at.call("maintainer", request).await?;
    file.take(&mut made["key"])?;
    answers.show(&made, |made| {
        let old = match made["old"]["expires_at"].as_str() {
            Some(end) => format!("the old key works until {end}\n"),
            None => String::new(),
        };
        format!("key       {}\nkey hash  {}\n{old}", cell(&made["key"]), cell(&made["key_hash"]))
    })?;
    Ok(Ending::Done)
}

fn key_table(keys: &Value) -> String {
    const COLUMNS: [&str; 9] =
        ["tenant", "name", "kind", "scopes", "state", "rate_limit_per_min", "burst", "expires_at", "key_hash"];
    let mut table = TextTable::new(COLUMNS.map(heading));
    for key in keys.as_array().into_iter().flatten() {
        table.add(COLUMNS.map(|column| cell(&key[column])));
    }
    table.to_string()
}

fn heading(member: &'static str) -> &'static str {
    match member {
        "rate_limit_per_min" => "per min",
        "expires_at" => "expires",
        "key_hash" => "key hash",
        other => other,
    }
}
