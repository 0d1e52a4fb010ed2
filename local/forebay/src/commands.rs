//! The commands, as they are typed.

use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use serde_json::Value;

use crate::aggregates::{AggregatesCommand, aggregates};
use crate::answers::Answers;
use crate::blocks::{BlocksCommand, blocks};
use crate::dead_letters::{DeadLettersCommand, dead_letters};
use crate::dedup::{DedupCommand, dedup};
use crate::doctor::doctor;
use crate::ending::{EXIT_STATUS, Ending, Stop};
use crate::keys::{KeysCommand, keys};
use crate::limits::{LimitsCommand, limits};
use crate::output;
use crate::place::{ReachedPipeline, Reaching};
use crate::reconciliation::reconcile;
use crate::replays::{ReplayCommand, replay};
use crate::search::{SearchArguments, search};
use crate::sending::{SendArguments, send};
use crate::stats::{StatsArguments, stats};
use crate::tail::{TailArguments, tail};
use crate::timeline::{EventQuestion, timeline};
use crate::topics::{TopicsCommand, topics};
use crate::webhooks::{WebhooksCommand, webhooks};

/// Sends events to Forebay, asks what became of them, and operates it.
#[derive(Debug, Parser)]
#[command(name = "forebay", version, after_help = EXIT_STATUS)]
pub struct ForebayCommand {
    #[command(flatten)]
    reaching: Reaching,
    #[command(flatten)]
    answers: Answers,
    #[command(subcommand)]
    action: ForebayAction,
}

#[derive(Debug, Subcommand)]
enum ForebayAction {
    /// Send one event, or all of a file.
    ///
    /// A file may have any size. After an interruption the same command goes on where it ended: FILE.progress.json says where
    /// that was. An event without an id gets one from its line, so what is sent twice is one event. Lines that are no events,
    /// or that ingest refuses, go to FILE.refused.ndjson with their number and the reason.
    Send(Box<SendArguments>),
    /// Ask about events.
    #[command(subcommand)]
    Events(EventsCommand),
    /// Show how many events there were: all, those of a campaign or of another value, or the values with the most.
    Stats(StatsArguments),
    /// What could not be processed.
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
    /// Rebuild Postgres from the archive, or process again.
    #[command(subcommand)]
    Replay(ReplayCommand),
    /// Compare the processor's checkpoints with the outcomes that are recorded; exit status 1 if they differ.
    Reconcile,
    /// Statistics.
    #[command(subcommand)]
    Aggregates(AggregatesCommand),
    /// API keys.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// The block list.
    #[command(subcommand)]
    Blocks(BlocksCommand),
    /// What is remembered of event ids.
    #[command(subcommand)]
    Dedup(DedupCommand),
    /// What counts against a limit.
    #[command(subcommand)]
    Limits(LimitsCommand),
    /// What is in Kafka.
    #[command(subcommand)]
    Topics(TopicsCommand),
    /// Who is told of outcomes by signed requests.
    #[command(subcommand)]
    Webhooks(WebhooksCommand),
    /// Invoke a function with a file, and print its answer.
    Invoke {
        function: String,
        /// The event as JSON; - is standard input.
        file: PathBuf,
    },
    /// Check addresses, clocks, the API key and the functions, and say what to do.
    Doctor,
    /// Print the completions for a shell: `source <(forebay completions bash)`.
    Completions { shell: Shell },
}

#[derive(Debug, Subcommand)]
enum EventsCommand {
    /// Show what happened to an event.
    Get(EventQuestion),
    /// Find stored events, newest first.
    Search(SearchArguments),
    /// Show outcomes as they happen. After a lost connection nothing is missing.
    Tail(TailArguments),
}

impl ForebayCommand {
    /// # Errors
    /// The error says why the command did not end well; [`crate::ending::status_of`] has its exit status.
    pub async fn run(self) -> anyhow::Result<Ending> {
        let ForebayCommand { reaching, answers, action } = self;
        let at = || reaching.pipeline();
        match action {
            ForebayAction::Send(arguments) => send(*arguments, &at()?, &answers).await,
            ForebayAction::Events(EventsCommand::Get(question)) => timeline(&question, &at()?, &answers).await,
            ForebayAction::Events(EventsCommand::Search(arguments)) => search(&arguments, &at()?, &answers).await,
            ForebayAction::Events(EventsCommand::Tail(arguments)) => tail(&arguments, &at()?, &answers).await,
            ForebayAction::Stats(arguments) => stats(&arguments, &at()?, &answers).await,
            ForebayAction::DeadLetters(command) => dead_letters(command, &at()?, &answers).await,
            ForebayAction::Replay(command) => replay(command, &at()?, &answers).await,
            ForebayAction::Reconcile => reconcile(&at()?, &answers).await,
            ForebayAction::Aggregates(command) => aggregates(command, &at()?, &answers).await,
            ForebayAction::Keys(command) => keys(command, &at()?, &answers).await,
            ForebayAction::Blocks(command) => blocks(command, &at()?, &answers).await,
            ForebayAction::Dedup(command) => dedup(command, &at()?, &answers).await,
            ForebayAction::Limits(command) => limits(command, &at()?, &answers).await,
            ForebayAction::Topics(command) => topics(command, &at()?, &answers).await,
            ForebayAction::Webhooks(command) => webhooks(command, &at()?, &answers).await,
            ForebayAction::Invoke { function, file } => invoke(&function, &file, &at()?, &answers).await,
            ForebayAction::Doctor => doctor(&at()?, &answers).await,
            ForebayAction::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut ForebayCommand::command(), "forebay", &mut script);
                output::bytes(&script)?;
                Ok(Ending::Done)
            }
        }
    }
}

async fn invoke(function: &str, file: &Path, at: &ReachedPipeline, answers: &Answers) -> anyhow::Result<Ending> {
    let unreadable = |error: String| Stop::wrong_use(format!("{}: {error}", file.display()));
    let text =
        if file == Path::new("-") { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(file) };
    let text = text.map_err(|error| unreadable(error.to_string()))?;
    let event: Value = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
    let answer = at.call(function, &event).await?;
    // An answer of a function has no columns.
    answers.show(&answer, |answer| format!("{answer:#}\n"))?;
    Ok(Ending::Done)
}
