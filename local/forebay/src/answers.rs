//! How answers are shown, and questions asked.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use clap::Args;
use serde_json::Value;

use crate::ending::{Ending, Stop};
use crate::output;

/// How to talk with the person, or program, that called.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "What is printed and asked")]
pub struct Answers {
    /// Print each answer as a line of JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,
    /// Do not ask before a change that concerns many things.
    #[arg(long, global = true)]
    yes: bool,
    /// Your name for the audit trail.
    #[arg(long, env = "USER", value_name = "NAME", hide_env_values = true, global = true)]
    by: Option<String>,
}

impl Answers {
    /// Prints an answer: as JSON, or as the text that `shown` makes of it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn show(&self, answer: &Value, shown: impl FnOnce(&Value) -> String) -> anyhow::Result<()> {
        if self.json {
            output::line(answer)?;
        } else {
            output::text(shown(answer))?;
        }
        Ok(())
    }

    pub fn is_json(&self) -> bool {
        self.json
    }

    pub fn asks(&self) -> bool {
        !self.yes
    }

    /// The request with the operator's name.
    pub fn signed(&self, mut request: Value) -> Value {
        if let Some(by) = self.by.as_deref().filter(|by| !by.is_empty()) {
            request["by"] = by.into();
        }
        request
    }

    /// Goes on only if a person agrees, or has agreed beforehand.
    ///
    /// # Errors
    /// If nobody can be asked, or the answer is not yes.
    pub fn confirm(&self, question: &str) -> anyhow::Result<()> {
        if self.yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            return Err(Stop::wrong_use(format!("{question} There is no terminal to ask at: repeat it with --yes")));
        }
        let mut error = std::io::stderr();
        write!(error, "{question} [y/N] ")?;
        error.flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        if is_yes(&answer) { Ok(()) } else { Err(Stop::with(Ending::Interrupted, "nothing was changed")) }
    }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_yes_is_yes() {
        assert!(["y\n", "YES\r\n", " yes "].into_iter().all(is_yes));
        assert!(!["", "\n", "n\n", "yep\n"].into_iter().any(is_yes));
    }

    #[test]
    fn a_request_has_the_name_of_its_operator() {
        let by = |by: Option<&str>| Answers { json: false, yes: false, by: by.map(str::to_owned) };
        assert_eq!(by(Some("ada")).signed(json!({"action": "list"})), json!({"action": "list", "by": "ada"}));
        assert_eq!(by(Some("")).signed(json!({"action": "list"})), json!({"action": "list"}));
        assert_eq!(by(None).signed(json!({})), json!({}));
    }
}
