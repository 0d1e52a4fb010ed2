//! The command behind the Makefile for what needs this machine: run, demo, invoke, reconcile, the archive. Operators' commands
//! are those of `forebay`.

#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};
use esm::FunctionUrl;
use process::stop_signal;
use settings::{ProcessEnvironment, Settings};
use stack::demo::{Demo, DemoReport, Traffic};
use stack::endpoints::Endpoints;
use stack::functions::{FUNCTIONS, beside_this_program};
use stack::gateway::Gateway;
use stack::observe::RunningObserver;
use stack::options::Options;
use stack::output::OutputError;
use stack::schedule::Schedule;
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
        /// The folder of the program `prometheus`, which then runs beside it.
        #[arg(long)]
        prometheus: Option<PathBuf>,
        /// The program `jaeger`, which then runs beside it and gets every trace.
        #[arg(long, value_name = "PROGRAM")]
        jaeger: Option<PathBuf>,
    },
    /// Send events through a new stack and count the outcome of each.
    Demo {
        /// A web server's log in the combined format, instead of generated events.
        #[arg(long)]
        input: Option<PathBuf>,
        /// Number of generated events to send.
        #[arg(long)]
        events: Option<usize>,
        /// Send them through the pipeline that runs already, instead of a new one.
        #[arg(long)]
        running: bool,
    },
    /// Create the tables, the topics and the schema of a running deployment, and the API key of the samples.
    Prepare,
    /// The Invoke API and the schedules of functions that run in containers, at `PORT` of `HTTP_BIND`.
    Gateway {
        /// Where a function is, as name=http://host:port/path; several with commas between them.
        #[arg(long = "function-url", env = "FUNCTION_URLS", value_delimiter = ',', required = true)]
        function_urls: Vec<FunctionUrl>,
        /// A function and the seconds between its calls, as name=seconds; several with commas between them.
        #[arg(long = "schedule", env = "SCHEDULES", value_delimiter = ',')]
        schedules: Vec<Schedule>,
    },
    /// Invoke a running function with events/<function>/<event>.json.
    Invoke { function: String, event: String },
    /// Check that every record has exactly one outcome and is in the archive; exit status 1 if not.
    Reconcile {
        /// Also show this many of the last minutes: how many records were written in each, and how they ended.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1440))]
        minutes: Option<u16>,
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
    process::health::exit_if_asked();
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
        Command::Run { keep, watch, function, prometheus, jaeger } => {
            let watched = watch.then(|| function.map_or(Watched::All, Watched::Only));
            run(keep, watched, prometheus.as_deref(), jaeger.as_deref()).await
        }
        Command::Demo { input, events, running } => demo(input, events, running).await,
        Command::Prepare => commands::prepare(&Session::read()?).await,
        Command::Gateway { function_urls, schedules } => gateway(function_urls, schedules).await,
        Command::Invoke { function, event } => commands::invoke(&Session::read()?, &function, &event).await,
        Command::Reconcile { minutes } => reconcile::command(&Session::read()?, minutes).await,
        Command::Replay { request } => commands::replay(&Session::read()?, &request).await,
        Command::Fingerprint => commands::fingerprint(&Session::read()?).await,
        Command::Archive(arguments) => commands::archive(&Session::read()?, &arguments).await,
    }
}

async fn run(
    keep: Option<PathBuf>,
    watched: Option<Watched>,
    prometheus: Option<&Path>,
    jaeger: Option<&Path>,
) -> anyhow::Result<ExitCode> {
    let mut options = Options::for_people(&ProcessEnvironment, beside_this_program()?)?;
    options.keep = keep;
    let metrics = options.ports.metrics;
    if metrics.stack.fixed().is_some() {
        // Before anything else starts, so that nothing is missing.
        telemetry::start_prometheus("esm", metrics.stack.address()).context("set METRICS_PORT to a free port")?;
    }
    let prometheus = match prometheus {
        Some(programs) => Some(RunningObserver::prometheus(programs, options.ports.prometheus, &metrics).await?),
        None => None,
    };
    let mut traces = None;
    if let Some(program) = jaeger {
        let (jaeger, traced) = RunningObserver::jaeger(program, options).await?;
        (traces, options) = (Some(jaeger), traced);
    }
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
    if let Some(prometheus) = &prometheus {
        output::line(format_args!("Prometheus  {}/alerts", prometheus.url))?;
    }
    if let Some(jaeger) = &traces {
        output::line(format_args!("Jaeger      {}/api/traces/<trace_id of a receipt>", jaeger.url))?;
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

async fn demo(input: Option<PathBuf>, events: Option<usize>, running: bool) -> anyhow::Result<ExitCode> {
    let has_input = input.is_some();
    let demo = Demo { input, events: events.unwrap_or(Demo::default().events), ..Demo::default() };
    let traffic = demo.traffic()?;
    commands::report_bad_lines(&traffic);
    anyhow::ensure!(!traffic.is_empty(), "the input contains no events");
    let report = tokio::select! {
        report = async {
            if running { demo_of_running(&demo, traffic).await } else { demo_of_new(&demo, traffic, has_input).await }
        } => report?,
        () = stop_signal() => return Ok(ExitCode::from(130)),
    };
    output::line(&report)?;
    output::line(serde_json::to_string(&report)?)?;
    Ok(if report.unaccounted == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn demo_of_running(demo: &Demo, traffic: Traffic) -> anyhow::Result<DemoReport> {
    demo.run_at(&Endpoints::of_session(Session::read()?).await?, traffic).await
}

async fn demo_of_new(demo: &Demo, traffic: Traffic, has_input: bool) -> anyhow::Result<DemoReport> {
    let mut options = Options::for_one_run(&ProcessEnvironment, beside_this_program()?)?;
    if has_input {
        // A log covers days: sent within seconds, its busiest addresses would all exceed the rate limit.
        options = options.with_default("IP_RATE_LIMIT_PER_MIN", "0");
    }
    let stack = Stack::start(options).await?;
    let report = demo.run(&stack, traffic).await;
    let report = report.with_context(|| format!("the functions' logs are in {}", stack.options.logs.display()))?;
    stack.stop().await?;
    Ok(report)
}

async fn gateway(function_urls: Vec<FunctionUrl>, schedules: Vec<Schedule>) -> anyhow::Result<ExitCode> {
    let mut settings = Settings::new(&ProcessEnvironment);
    let port = settings.required::<u16>("PORT");
    let bind = settings.or("HTTP_BIND", IpAddr::V4(Ipv4Addr::LOCALHOST));
    let listen = settings.build(port.map(|port| SocketAddr::new(bind, port)))?;
    let gateway = Gateway::start(listen, function_urls, schedules).await?;
    stop_signal().await;
    gateway.stop().await;
    Ok(ExitCode::SUCCESS)
}
