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

/// How events are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IngestLoad {
    Batches,
    Singles,
}

impl IngestLoad {
    pub const ALL: [IngestLoad; 2] = [IngestLoad::Batches, IngestLoad::Singles];

    pub const fn name(self) -> &'static str {
        match self {
            IngestLoad::Batches => "ingest_batch",
            IngestLoad::Singles => "ingest_single",
        }
    }

    const fn events(self) -> usize {
        match self {
            IngestLoad::Batches => BATCH_EVENTS,
            IngestLoad::Singles => SINGLE_EVENTS,
        }
    }

    /// Events in a POST, and connections.
    const fn shape(self) -> (usize, usize) {
        match self {
            IngestLoad::Batches => (BATCH, BATCH_WIDTH),
            IngestLoad::Singles => (1, SINGLE_WIDTH),
        }
    }
}

/// Measures our ingest, and returns the number of events sent.
///
/// # Errors
/// If the stack does not answer.
pub async fn measure(plan: &Plan, stack: &Stack, load: IngestLoad, figures: &mut Figures) -> anyhow::Result<usize> {
    let pid = *stack.processes("ingest").first().context("ingest does not run")?;
    let key = make_keys(&stack.endpoints()).await?.collector;
    let url = match load {
        IngestLoad::Batches => format!("{}/batch", stack.ingest_url()),
        IngestLoad::Singles => stack.ingest_url(),
    };
    let sender = LoadSender { client: stack.client.clone(), url, key };
    let sent = runs(plan, load, &sender, pid, figures).await?;
    add_peak_memory(pid, figures)?;
    Ok(sent)
}

/// Measures another program by the same load. It is to answer both an array and a single event at its URL.
///
/// # Errors
/// If it does not answer with success.
pub async fn measure_target(plan: &Plan, target: &Target, figures: &mut Figures) -> anyhow::Result<()> {
    let sender = LoadSender { client: JsonClient::default(), url: target.url.clone(), key: String::new() };
    for load in IngestLoad::ALL {
        runs(plan, load, &sender, target.pid, figures).await?;
    }
    add_peak_memory(target.pid, figures)
}

fn add_peak_memory(pid: u32, figures: &mut Figures) -> anyhow::Result<()> {
    let memory = peak_memory(pid).with_context(|| format!("process {pid} does not exist"))?;
    figures.add("ingest_peak_memory", "MB", memory as f64 / 1e6);
    Ok(())
}

async fn runs(
    plan: &Plan,
    load: IngestLoad,
    sender: &LoadSender,
    pid: u32,
    figures: &mut Figures,
) -> anyhow::Result<usize> {
    let (name, (batch, width), events) = (load.name(), load.shape(), plan.scaled(load.events()));
    // Opens the connections and warms caches up.
    let warm_up = events.div_ceil(20);
    sender.send(bodies(warm_up, batch), width).await?;
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
    Ok(warm_up + plan.runs * events)
}
