//! The archiver, with what is already on `raw-events`.

use std::sync::Arc;
use std::time::Duration;

use archive::reader::{ArchiveReader, Filter};
use pipeline::topic::RAW_EVENTS;
use stack::stack::Stack;

use crate::figures::Figures;
use crate::plan::Plan;
use crate::processor::fill;

const PATIENCE: Duration = Duration::from_secs(300);
const GROUP: &str = "archiver-raw";

/// Measures the archiver: bytes of values, and records, per CPU-second. Returns the number of records it archived.
///
/// # Errors
/// If the stack does not finish.
pub async fn measure(plan: &Plan, stack: &mut Stack, figures: &mut Figures) -> anyhow::Result<usize> {
    let (mut runs, mut archived) = (Vec::new(), 0);
    for _ in 0..=plan.runs {
        fill(plan, stack).await?;
        let waiting = stack.lag_of(|group| group == GROUP).await?;
        archived += usize::try_from(waiting)?;
        let before = stack.cpu_seconds("archiver");
        stack.start_mappings(|group| group == GROUP).await?;
        stack.wait_until_done(|group| group == GROUP, PATIENCE).await?;
        runs.push(waiting as f64 / (stack.cpu_seconds("archiver") - before));
        stack.stop_mappings().await;
    }
    // All runs have records of the same kinds, so one mean size is that of each.
    let bytes_per_record = mean_value_bytes(stack).await?;
    // The first run only warms up.
    for records_per_second in runs.into_iter().skip(1) {
        figures.add("archiver", "MB of values/CPU-s", records_per_second * bytes_per_record / 1e6);
        figures.add("archiver_records", "records/CPU-s", records_per_second);
    }
    Ok(archived)
}

async fn mean_value_bytes(stack: &Stack) -> anyhow::Result<f64> {
    let reader = ArchiveReader::new(Arc::new(stack.archive().await));
    let mut records = reader.records(&Filter::topic(RAW_EVENTS)).await?;
    let (mut count, mut bytes) = (0_u64, 0);
    while let Some(record) = records.next().await? {
        count += 1;
        bytes += record.value.map_or(0, |value| value.len() as u64);
    }
    anyhow::ensure!(count > 0, "the archive is empty");
    Ok(bytes as f64 / count as f64)
}
