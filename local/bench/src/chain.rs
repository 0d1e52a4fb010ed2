//! The whole chain: POST to row, outcome and archive.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use stack::demo::make_keys;
use stack::stack::Stack;
use stack::usage::{cpu_of_descendants, cpu_seconds};

use crate::figures::Figures;
use crate::load::{BATCH, LoadSender, bodies};
use crate::plan::Plan;

const EVENTS: usize = 50_000;
const PATIENCE: Duration = Duration::from_secs(300);

/// Measures how fast all of it is together, and which process uses how much CPU for it.
///
/// # Errors
/// If the stack does not finish.
pub async fn measure(plan: &Plan, stack: &mut Stack, figures: &mut Figures) -> anyhow::Result<()> {
    let key = make_keys(&stack.endpoints()).await?.collector;
    let sender = LoadSender { client: stack.client.clone(), url: format!("{}/batch", stack.ingest_url()), key };
    stack.start_mappings(|_| true).await?;
    let events = plan.scaled(EVENTS);
    sender.send(bodies(events.div_ceil(10), BATCH), 4).await?;
    stack.wait_until_idle(PATIENCE).await?;
    for _ in 0..plan.runs {
        let bodies = bodies(events, BATCH);
        let before = used();
        let started = Instant::now();
        sender.send(bodies, 4).await?;
        stack.wait_until_idle(PATIENCE).await?;
        figures.add("chain", "events/s", events as f64 / started.elapsed().as_secs_f64());
        for (process, seconds) in used() {
            let used = seconds - before.get(&process).copied().unwrap_or_default();
            if used > 0.05 {
                figures.add(
                    format!("chain_cpu_{process}"),
                    "CPU-s per 100,000 events",
                    used * 100_000.0 / events as f64,
                );
            }
        }
    }
    stack.stop_mappings().await;
    Ok(())
}

/// CPU by process. This one is the load, the mappings, DynamoDB and S3.
fn used() -> BTreeMap<String, f64> {
    let mut used = cpu_of_descendants();
    used.insert("load_and_trigger".to_owned(), cpu_seconds(std::process::id()).unwrap_or_default());
    used
}
