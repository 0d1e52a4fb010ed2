//! `make bench`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bench::figures::Figures;
use bench::plan::{Part, Plan};
use bench::{archiver, chain, ingest, latency, processor};
use process::stop_signal;
use settings::ProcessEnvironment;
use stack::stack::Stack;
use tracing_subscriber::EnvFilter;

/// Relative to the project's folder.
const RESULT: &str = "target/bench/result.json";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_env_filter(EnvFilter::new("error")).with_writer(std::io::stderr).init();
    let plan = Plan::from_variables(&ProcessEnvironment)?;
    let mut figures = Figures::default();
    tokio::select! {
        done = run(&plan, &mut figures) => done?,
        () = stop_signal() => anyhow::bail!("stopped"),
    }
    print!("{figures}");
    figures.write(Path::new(RESULT))?;
    println!("written to {RESULT}");
    Ok(())
}

async fn run(plan: &Plan, figures: &mut Figures) -> anyhow::Result<()> {
    if let Some(target) = &plan.target {
        return ingest::measure_target(plan, target, figures).await;
    }
    for part in &plan.parts {
        match part {
            Part::Ingest => {
                let stack = start("postgres").await?;
                ingest::measure(plan, &stack, figures).await?;
                stack.stop().await?;
            }
            Part::Processor => {
                let mut stack = start("postgres").await?;
                processor::measure(plan, &mut stack, "processor_clock", Some("processor_cpu"), figures).await?;
                stack.stop().await?;
                let mut stack = start("dynamodb").await?;
                processor::measure(plan, &mut stack, "processor_dynamodb_clock", None, figures).await?;
                stack.stop().await?;
            }
            Part::Archiver => {
                let mut stack = start("postgres").await?;
                archiver::measure(plan, &mut stack, figures).await?;
                stack.stop().await?;
            }
            Part::Chain => {
                let mut stack = start("postgres").await?;
                chain::measure(plan, &mut stack, figures).await?;
                stack.stop().await?;
            }
            Part::Latency => {
                let mut stack = start("postgres").await?;
                latency::measure(plan, &mut stack, figures).await?;
                stack.stop().await?;
            }
        }
        eprintln!("{part:?} is measured");
    }
    Ok(())
}

/// A new stack, with that store of claims unless `DEDUP_STORE` names another.
async fn start(dedup_store: &str) -> anyhow::Result<Stack> {
    let options = Plan::stack_options(&ProcessEnvironment, binaries()?)?.with_default("DEDUP_STORE", dedup_store);
    Stack::start(options).await
}

/// The function binaries are beside this one.
fn binaries() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find this program's own folder")?;
    Ok(program.parent().context("this program has no folder")?.to_owned())
}
