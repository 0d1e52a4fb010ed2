//! The command behind `make chaos`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use chaos::report::{RunReport, ScenarioLine, ScenarioResult};
use chaos::scenarios::{Conduct, Scenario};
use chaos::trial::ChaosRun;
use clap::{Parser, ValueEnum as _};
use tracing_subscriber::EnvFilter;

/// Breaks the pipeline on purpose, and checks that nothing is lost and nothing is done twice.
#[derive(Parser)]
struct Arguments {
    /// Seed of the plan: the same seed gives the same events and faults. Random if absent.
    #[arg(long)]
    seed: Option<u64>,
    /// Repeats the scenarios, each time with the next seed, until this many minutes have passed.
    #[arg(long)]
    minutes: Option<u64>,
    /// Run only these scenarios, separated by commas.
    #[arg(long, value_delimiter = ',', ignore_case = true)]
    scenario: Vec<Scenario>,
    /// Run only the short selection.
    #[arg(long)]
    short: bool,
    /// In F1, use only the failpoints whose names contain this.
    #[arg(long)]
    point: Option<String>,
    /// Folder of the function binaries, built with failpoints.
    #[arg(long, default_value = "target/chaos/bin")]
    binaries: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    // The faults cause warnings all the time, which are useful only for investigating a failure.
    let filter = EnvFilter::try_from_env("CHAOS_LOG").unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    let mut seed = arguments.seed.unwrap_or_else(|| fastrand::u64(0..1_000_000));
    let started = Instant::now();
    let end = arguments.minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let mut failed = 0;
    loop {
        let folder = std::env::current_dir()?.join(format!("target/chaos/{}-{seed}", std::process::id()));
        let (binaries, point) = (arguments.binaries.clone(), arguments.point.clone());
        let run = ChaosRun { seed, binaries, folder, short: arguments.short, point };
        let report = run_all(&arguments, &run).await;
        println!("{report}");
        failed += report.failed();
        seed += 1;
        if end.is_none_or(|end| started.elapsed() >= end) {
            return Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
}

async fn run_all(arguments: &Arguments, run: &ChaosRun) -> RunReport {
    let mut report = RunReport { seed: run.seed, lines: Vec::new() };
    println!("seed {}, ledgers in {}", run.seed, run.folder.display());
    let chosen = |scenario: &Scenario| match arguments.scenario.as_slice() {
        [] => !run.short || scenario.is_short(),
        some => some.contains(scenario),
    };
    for scenario in Scenario::value_variants().iter().copied().filter(chosen) {
        let started = Instant::now();
        let verdict = match scenario.run(run).await {
            Ok(Conduct::Done(trials)) => ScenarioResult::Judged(trials),
            Ok(Conduct::NotHere(why)) => ScenarioResult::NotRun(why),
            Err(error) => ScenarioResult::Broken(error),
        };
        let line = ScenarioLine { scenario, verdict, took: started.elapsed() };
        print!("{line}");
        report.lines.push(line);
    }
    report
}
