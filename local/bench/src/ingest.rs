//! Ingest alone: batches, and single events.

use anyhow::Context as _;
use stack::client::JsonClient;
use stack::demo::make_keys;
use stack::stack::Stack;
use stack::usage::{cpu_seconds, peak_memory};

use crate::figures::Figures;
use crate::load::{BATCH, LoadSender, bodies, millis};
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
    let keys = make_keys(stack).await?;
    let sender = |url: String| LoadSender { client: stack.client.clone(), url, key: keys.collector.clone() };
    let batches = sender(format!("{}/batch", stack.ingest_url()));
    runs(plan, "ingest_batch", &batches, pid, (BATCH_EVENTS, BATCH, BATCH_WIDTH), figures).await?;
    runs(plan, "ingest_single", &sender(stack.ingest_url()), pid, (SINGLE_EVENTS, 1, SINGLE_WIDTH), figures).await?;
    figures.add("ingest_peak_memory", "MB", peak_memory(pid).context("ingest ended")? as f64 / 1e6);
    Ok(())
}

/// Measures another program by the same load. It is to answer both an array and a single event at its URL.
///
/// # Errors
/// If it does not answer with success.
pub async fn measure_target(plan: &Plan, target: &Target, figures: &mut Figures) -> anyhow::Result<()> {
    let sender = LoadSender { client: JsonClient::default(), url: target.url.clone(), key: String::new() };
    runs(plan, "ingest_batch", &sender, target.pid, (BATCH_EVENTS, BATCH, BATCH_WIDTH), figures).await?;
    runs(plan, "ingest_single", &sender, target.pid, (SINGLE_EVENTS, 1, SINGLE_WIDTH), figures).await?;
    let memory = peak_memory(target.pid).context("the process TARGET_PID does not exist")?;
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
        for (quantile, text) in [(0.5, "p50"), (0.95, "p95"), (0.99, "p99")] {
            figures.add(format!("{name}_{text}"), "ms", millis(&sent.latencies, quantile));
        }
    }
    Ok(())
}
