//! Ingest alone: batches, and single events.

use anyhow::Context as _;
use stack::client::JsonClient;
use stack::demo::make_keys;
use stack::stack::Stack;
use stack::usage::{cpu_seconds, peak_memory};

use crate::figures::Figures;
use crate::load::{BATCH, LoadSender, bodies};
use crate::plan::{Plan, Target};

const BATCH_EVENTS: usize = 100_000;
const SINGLE_EVENTS: usize = 20_000;
/// Connections at a time.
const BATCH_WIDTH: usize = 4;
const SINGLE_WIDTH: usize = 64;

/// Measures our ingest.
///
/// # Errors
/// If the stack does not answer.
pub async fn measure(plan: &Plan, stack: &Stack, figures: &mut Figures) -> anyhow::Result<()> {
    let pid = *stack.processes("ingest").first().context("ingest does not run")?;
    let key = make_keys(stack).await?.collector;
    let sender = |url| LoadSender { client: stack.client.clone(), url, key: key.clone() };
    let (batches, singles) = (sender(format!("{}/batch", stack.ingest_url())), sender(stack.ingest_url()));
    measure_process(plan, &batches, &singles, pid, figures).await
}

/// Measures another program by the same load. It is to answer both an array and a single event at its URL.
///
/// # Errors
/// If it does not answer with success.
pub async fn measure_target(plan: &Plan, target: &Target, figures: &mut Figures) -> anyhow::Result<()> {
    let sender = LoadSender { client: JsonClient::default(), url: target.url.clone(), key: String::new() };
    measure_process(plan, &sender, &sender, target.pid, figures).await
}

async fn measure_process(
    plan: &Plan,
    batches: &LoadSender,
    singles: &LoadSender,
    pid: u32,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    runs(plan, "ingest_batch", batches, pid, (BATCH_EVENTS, BATCH, BATCH_WIDTH), figures).await?;
    runs(plan, "ingest_single", singles, pid, (SINGLE_EVENTS, 1, SINGLE_WIDTH), figures).await?;
    let memory = peak_memory(pid).with_context(|| format!("process {pid} does not exist"))?;
    figures.add("ingest_peak_memory", "MB", memory as f64 / 1e6);
    Ok(())
}

async fn runs(
    plan: &Plan,
    name: &str,
    sender: &LoadSender,
    pid: u32,
    (events, batch, width): (usize, usize, usize),
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let events = plan.scaled(events);
    // Opens the connections and warms caches up.
    sender.send(bodies(events.div_ceil(20), batch), width).await?;
    for _ in 0..plan.runs {
        let bodies = bodies(events, batch);
        let cpu = || cpu_seconds(pid).with_context(|| format!("process {pid} ended"));
        let before = cpu()?;
        let sent = sender.send(bodies, width).await?;
        let used = cpu()? - before;
        figures.add(name, "events/CPU-s", events as f64 / used);
        figures.add(format!("{name}_clock"), "events/s", events as f64 / sent.elapsed.as_secs_f64());
        figures.add_quantiles(name, &sent.latencies);
    }
    Ok(())
}
