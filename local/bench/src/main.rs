//! `make bench`.

use std::path::Path;

use bench::figures::Figures;
use bench::plan::{Part, Plan};
use bench::{archiver, chain, ingest, latency, processor};
use process::stop_signal;
use settings::ProcessEnvironment;
use stack::functions::beside_this_program;
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
        let mut stack = start("postgres").await?;
        match part {
            Part::Ingest => ingest::measure(plan, &stack, figures).await?,
            Part::Processor => {
                processor::measure(plan, &mut stack, "processor_clock", Some("processor_cpu"), figures).await?;
                stack.stop().await?;
                stack = start("dynamodb").await?;
                processor::measure(plan, &mut stack, "processor_dynamodb_clock", None, figures).await?;
            }
            Part::Archiver => archiver::measure(plan, &mut stack, figures).await?,
            Part::Chain => chain::measure(plan, &mut stack, figures).await?,
            Part::Latency => latency::measure(plan, &mut stack, figures).await?,
        }
        stack.stop().await?;
        eprintln!("{part:?} is measured");
    }
    Ok(())
}

/// A new stack, with that store of claims unless `DEDUP_STORE` names another.
async fn start(dedup_store: &str) -> anyhow::Result<Stack> {
    let options =
        Plan::stack_options(&ProcessEnvironment, beside_this_program()?)?.with_default("DEDUP_STORE", dedup_store);
    Stack::start(options).await
}
