//! The command behind the Makefile: run, demo, invoke, reconcile and the operator's commands.

#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};
use process::stop_signal;
use settings::ProcessEnvironment;
use stack::demo::Demo;
use stack::functions::{FUNCTIONS, beside_this_program};
use stack::options::Options;
use stack::output::OutputError;
use stack::session::Session;
use stack::stack::Stack;
use stack::watch::Watched;
use stack::{commands, output, reconcile};
use tracing_subscriber::EnvFilter;

/// Forebay on one machine.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start everything, send sample traffic, and run until Ctrl-C.
    Run {
        /// Keep state in this folder instead of a temporary one.
        #[arg(long)]
        keep: Option<PathBuf>,
        /// Serve the functions with `cargo lambda watch`.
        #[arg(long)]
        watch: bool,
        /// With `--watch`: serve only this function so, and the others from their binaries.
        #[arg(long, requires = "watch", value_parser = PossibleValuesParser::new(FUNCTIONS))]
        function: Option<String>,
    },
    /// Send events through a new stack and count the outcome of each.
    Demo {
        /// A web server's log in the combined format, instead of generated events.
        #[arg(long)]
        input: Option<PathBuf>,
        /// Number of generated events to send.
        #[arg(long)]
        events: Option<usize>,
    },
    /// Invoke a running function with events/<function>/<event>.json.
    Invoke { function: String, event: String },
    /// Check that every record has exactly one outcome and is in the archive; exit status 1 if not.
    Reconcile {
        /// Also show this many of the last minutes: how many records were written in each, and how they ended.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1440))]
        minutes: Option<u16>,
    },
    /// Block an IP address.
    Block {
        address: String,
        #[arg(long)]
        reason: String,
        /// Seconds until the block ends; without this it stays until it is removed.
        #[arg(long)]
        for_sec: Option<u64>,
    },
    /// Remove an IP address from the block list.
    Unblock { address: String },
    /// Show the block list.
    Blocks,
    /// Keys, blocks, exceptions and their audit trail: a request to the maintainer as JSON.
    Operate {
        #[arg(default_value = r#"{"action":"list-keys"}"#)]
        request: String,
    },
    /// List dead letters, or send them again: a request to the redriver as JSON.
    Redrive {
        #[arg(default_value = r#"{"action":"list"}"#)]
        request: String,
    },
    /// Rebuild Postgres from the archive, or process records again as another version: a request to the replayer as
    /// JSON.
    Replay {
        #[arg(default_value = r#"{"action":"restore","dry_run":true}"#)]
        request: String,
    },
    /// Print a hash over all rows of events, outcomes and counts: equal rows have equal hashes.
    Fingerprint,
    /// List the archive's objects, or print its records.
    Archive(commands::ArchiveArguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    // When a poll ends during a fetch, krafka warns that it lost its session with the broker, and opens another at
    // once.
    let quiet = || EnvFilter::new("warn,krafka::consumer::fetcher=error");
    let filter = EnvFilter::try_from_env("STACK_LOG").unwrap_or_else(|_| quiet());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    carry_out(Arguments::parse().command).await.unwrap_or_else(|error| {
        OutputError::exit_of(&error).unwrap_or_else(|| {
            // The chain of causes: a backtrace does not help a person who typed a command.
            output::complain(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        })
    })
}

async fn carry_out(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run { keep, watch, function } => {
            run(keep, watch.then(|| function.map_or(Watched::All, Watched::Only))).await
        }
        Command::Demo { input, events } => demo(input, events).await,
        Command::Invoke { function, event } => commands::invoke(&Session::read()?, &function, &event).await,
        Command::Reconcile { minutes } => reconcile::command(&Session::read()?, minutes).await,
        Command::Block { address, reason, for_sec } => {
            commands::block(&Session::read()?, &address, &reason, for_sec).await
        }
        Command::Unblock { address } => commands::unblock(&Session::read()?, &address).await,
        Command::Blocks => commands::blocks(&Session::read()?).await,
        Command::Operate { request } => commands::operate(&Session::read()?, request).await,
        Command::Redrive { request } => commands::redrive(&Session::read()?, request).await,
        Command::Replay { request } => commands::replay(&Session::read()?, &request).await,
        Command::Fingerprint => commands::fingerprint(&Session::read()?).await,
        Command::Archive(arguments) => commands::archive(&Session::read()?, &arguments).await,
    }
}

async fn run(keep: Option<PathBuf>, watched: Option<Watched>) -> anyhow::Result<ExitCode> {
    let mut options = Options::for_people(&ProcessEnvironment, beside_this_program()?)?;
    options.keep = keep;
    let started = std::time::Instant::now();
    let stack = tokio::select! {
        stack = start(options, watched) => stack?,
        () = stop_signal() => return Ok(ExitCode::from(130)),
    };
    let published = stack.session.publish()?;
    output::line(format_args!("started in {:.1} s", started.elapsed().as_secs_f64()))?;
    let sample = Demo { events: 200, batch_size: 50, ..Demo::default() };
    tokio::select! {
        done = commands::introduce(&stack, &sample) => done?,
        () = stop_signal() => {}
    }
    output::line("Ctrl-C stops it.")?;
    stop_signal().await;
    // It is stopped, and keeps its state, whether or not somebody reads that.
    let said = output::line("stopping");
    drop(published);
    stack.stop().await?;
    said?;
    Ok(ExitCode::SUCCESS)
}

async fn start(options: Options, watched: Option<Watched>) -> anyhow::Result<Stack> {
    match watched {
        Some(watched) => Stack::start_watched(options, watched).await,
        None => Stack::start(options).await,
    }
}

async fn demo(input: Option<PathBuf>, events: Option<usize>) -> anyhow::Result<ExitCode> {
    let mut options = Options::for_one_run(&ProcessEnvironment, beside_this_program()?)?;
    if input.is_some() {
        // A log covers days: sent within seconds, its busiest addresses would all exceed the rate limit.
        options = options.with_default("IP_RATE_LIMIT_PER_MIN", "0");
    }
    let demo = Demo { input, events: events.unwrap_or(Demo::default().events), ..Demo::default() };
    let traffic = demo.traffic()?;
    commands::report_bad_lines(&traffic);
    anyhow::ensure!(!traffic.is_empty(), "the input contains no events");
    let stack = tokio::select! {
        stack = Stack::start(options) => stack?,
        () = stop_signal() => return Ok(ExitCode::from(130)),
    };
    let report = tokio::select! {
        report = demo.run(&stack, traffic) => report,
        () = stop_signal() => return Ok(ExitCode::from(130)),
    };
    let report = report.with_context(|| format!("the functions' logs are in {}", stack.options.logs.display()))?;
    stack.stop().await?;
    output::line(&report)?;
    output::line(serde_json::to_string(&report)?)?;
    Ok(if report.unaccounted == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
