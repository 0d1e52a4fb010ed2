//! The processor, with what is already on `raw-events`.

use std::time::Duration;

use anyhow::Context as _;
use pipeline::topic::RAW_EVENTS;
use stack::demo::make_keys;
use stack::stack::Stack;
use stack::usage::peak_memory;
use tokio_postgres::NoTls;

use crate::figures::Figures;
use crate::load::{BATCH, LoadSender, bodies};
use crate::plan::Plan;

const RECORDS: usize = 50_000;
const PATIENCE: Duration = Duration::from_secs(300);
const GROUP: &str = "processor";

/// Records that wait on `raw-events`, made by ingest.
///
/// # Errors
/// If ingest does not accept them.
pub async fn fill(plan: &Plan, stack: &Stack) -> anyhow::Result<()> {
    let key = make_keys(&stack.endpoints()).await?.collector;
    let sender = LoadSender { client: stack.client.clone(), url: format!("{}/batch", stack.ingest_url()), key };
    sender.send(bodies(plan.scaled(RECORDS), BATCH), 4).await?;
    Ok(())
}

/// Measures the processor, and returns the number of records it processed. `clock` is the figure by the clock, `cpu`
/// that by CPU time, if it is wanted.
///
/// # Errors
/// If the stack does not finish.
pub async fn measure(
    plan: &Plan,
    stack: &mut Stack,
    clock: &str,
    cpu: Option<&str>,
    figures: &mut Figures,
) -> anyhow::Result<usize> {
    let (client, connection) = tokio_postgres::connect(stack.database_url(), NoTls).await?;
    tokio::spawn(connection);
    // The first run only warms up.
    for run in 0..=plan.runs {
        fill(plan, stack).await?;
        let start = client.query_one("SELECT count(*) FROM record_outcomes", &[]).await?.get::<_, i64>(0);
        let waiting = stack.lag_of(|group| group == GROUP).await?;
        let before = stack.cpu_seconds("processor");
        stack.start_mappings(|group| group == GROUP).await?;
        stack.wait_until_done(|group| group == GROUP, PATIENCE).await?;
        let used = stack.cpu_seconds("processor") - before;
        stack.stop_mappings().await;
        // From the first batch's commit to the last's: joining the consumer group is not in it.
        let row = client
            .query_one(
                "SELECT count(*) FILTER (WHERE recorded_at > first), extract(epoch FROM max(recorded_at) - min(first))::float8 \
                 FROM (SELECT recorded_at, min(recorded_at) OVER () AS first \
                       FROM (SELECT recorded_at FROM record_outcomes WHERE topic = $1 \
                             ORDER BY recorded_at DESC LIMIT $2) AS newest) AS run",
                &[&RAW_EVENTS, &i64::try_from(waiting)?],
            )
            .await?;
        let end = client.query_one("SELECT count(*) FROM record_outcomes", &[]).await?.get::<_, i64>(0);
        anyhow::ensure!(end - start == i64::try_from(waiting)?, "{} of {waiting} records have an outcome", end - start);
        let (after_first, seconds): (i64, f64) = (row.get(0), row.get(1));
        if run > 0 {
            figures.add(clock, "records/s", after_first as f64 / seconds);
            if let Some(cpu) = cpu {
                figures.add(cpu, "records/CPU-s", waiting as f64 / used);
            }
        }
    }
    let peak: u64 =
        stack.processes("processor").into_iter().filter_map(peak_memory).max().context("no processor runs")?;
    figures.add("processor_peak_memory", "MB", peak as f64 / 1e6);
    Ok((plan.runs + 1) * plan.scaled(RECORDS))
}
