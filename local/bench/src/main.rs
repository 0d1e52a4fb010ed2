//! `make bench`.
#![expect(clippy::cast_precision_loss, reason = "figures are for people, and none comes near 2^52")]

use std::path::Path;

use bench::allocations::{self, AllocationLog};
use bench::figures::Figures;
use bench::ingest::IngestLoad;
use bench::plan::{Part, Plan};
use bench::{archiver, chain, cold_start, ingest, latency, processor, query};
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
        match part {
            Part::Ingest => {
                for load in IngestLoad::ALL {
                    let (stack, log) = start("postgres", "ingest-http.log").await?;
                    let events = ingest::measure(plan, &stack, load, figures).await?;
                    stack.stop().await?;
                    figures.add(format!("{}_allocations", load.name()), "per event", per(&log, events)?);
                }
            }
            Part::Processor => {
                let (mut stack, log) = start("postgres", "processor.log").await?;
                let records =
                    processor::measure(plan, &mut stack, "processor_clock", Some("processor_cpu"), figures).await?;
                stack.stop().await?;
                figures.add("processor_allocations", "per record", per(&log, records)?);
                let (mut stack, _) = start("dynamodb", "processor.log").await?;
                processor::measure(plan, &mut stack, "processor_dynamodb_clock", None, figures).await?;
                stack.stop().await?;
            }
            Part::Archiver => {
                let (mut stack, log) = start("postgres", "archiver.log").await?;
                let records = archiver::measure(plan, &mut stack, figures).await?;
                stack.stop().await?;
                figures.add("archiver_allocations", "per record", per(&log, records)?);
            }
            Part::Chain => {
                let mut stack = start("postgres", "processor.log").await?.0;
                chain::measure(plan, &mut stack, figures).await?;
                stack.stop().await?;
            }
            Part::Latency => {
                let mut stack = start("postgres", "processor.log").await?.0;
                latency::measure(plan, &mut stack, figures).await?;
                stack.stop().await?;
            }
            Part::ColdStart => {
                let stack = start("postgres", "processor.log").await?.0;
                cold_start::measure(plan, &stack, figures).await?;
                stack.stop().await?;
            }
            Part::Query => {
                let stack = start("postgres", "query-http.log").await?.0;
                query::measure(plan, &stack, figures).await?;
                stack.stop().await?;
            }
        }
        eprintln!("{part:?} is measured");
    }
    Ok(())
}

/// A new stack, with that store of claims unless `DEDUP_STORE` names another, and the named log of a function from now
/// on.
async fn start(dedup_store: &str, log: &str) -> anyhow::Result<(Stack, AllocationLog)> {
    let options = Plan::stack_options(&ProcessEnvironment, beside_this_program()?)?;
    let options = allocations::counted(options.with_default("DEDUP_STORE", dedup_store));
    let log = AllocationLog::from_now_on(&options.logs, log);
    Ok((Stack::start(options).await?, log))
}

/// Allocations for each of so many events; includes those of the start.
fn per(log: &AllocationLog, events: usize) -> anyhow::Result<f64> {
    Ok(log.allocations()? as f64 / events as f64)
}
