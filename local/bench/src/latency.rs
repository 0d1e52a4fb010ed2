//! From a POST to the row, at a steady 1,000 events a second.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Deserialize;
use stack::demo::{SendReceipt, latency, make_keys};
use stack::stack::Stack;
use tokio::sync::mpsc::UnboundedSender;

use crate::figures::Figures;
use crate::load::{LoadSender, bodies};
use crate::plan::Plan;

const EVENTS_PER_SECOND: usize = 1_000;
const SECONDS: usize = 10;

/// Measures POSTs of 10 events and of one.
///
/// # Errors
/// If the stack does not keep up.
pub async fn measure(plan: &Plan, stack: &mut Stack, figures: &mut Figures) -> anyhow::Result<()> {
    let key = make_keys(&stack.endpoints()).await?.collector;
    stack.start_mappings(|_| true).await?;
    for batch in [10, 1] {
        let url = if batch == 1 { stack.ingest_url() } else { format!("{}/batch", stack.ingest_url()) };
        let sender = LoadSender { client: stack.client.clone(), url, key: key.clone() };
        // The first run only warms up.
        for run in 0..=plan.runs {
            let (watch, receipts) = tokio::sync::mpsc::unbounded_channel();
            let watcher = tokio::spawn(latency::watch(stack.database_url().to_owned(), receipts));
            send_steadily(&sender, bodies(plan.scaled(EVENTS_PER_SECOND * SECONDS), batch), batch, watch).await?;
            let latencies = watcher.await.context("the watcher panicked")??;
            if run > 0 {
                figures.add_quantiles(&format!("latency_{batch}"), &latencies);
            }
        }
    }
    stack.stop_mappings().await;
    Ok(())
}

/// Sends a body whenever it is due, whether or not those before were answered: a slow answer must not hide the wait of
/// the next.
async fn send_steadily(
    sender: &LoadSender,
    bodies: Vec<String>,
    batch: usize,
    watch: UnboundedSender<(SendReceipt, Instant)>,
) -> anyhow::Result<()> {
    let every = Duration::from_secs(1) / u32::try_from(EVENTS_PER_SECOND / batch)?;
    let mut due = tokio::time::interval(every);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let mut requests = tokio::task::JoinSet::new();
    for body in bodies {
        due.tick().await;
        let started = Instant::now();
        let (sender, watch) = (sender.clone(), watch.clone());
        requests.spawn(async move {
            let answer = sender.client.post(&sender.url, &[("x-api-key", &sender.key)], body).await?;
            if let Some(receipt) = last_receipt(&answer.body) {
                // The watcher ends before the sender only if the benchmark failed.
                let _ = watch.send((receipt, started));
            }
            anyhow::Ok(())
        });
    }
    while let Some(request) = requests.join_next().await {
        request.context("a sender panicked")??;
    }
    Ok(())
}

/// The last position in ingest's answer to a batch or to a single event; `None` if nothing was accepted.
fn last_receipt(answer: &[u8]) -> Option<SendReceipt> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        items: Vec<Item>,
        #[serde(flatten)]
        item: Item,
    }
    #[derive(Deserialize)]
    struct Item {
        partition: Option<i32>,
        offset: Option<i64>,
    }
    let Answer { items, item } = serde_json::from_slice(answer).ok()?;
    let positions = items.into_iter().chain([item]);
    positions.filter_map(|item| Some(SendReceipt { partition: item.partition?, offset: item.offset? })).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_accepted_event_is_the_one_waited_for() {
        let batch =
            br#"{"accepted":2,"items":[{"partition":1,"offset":5},{"status":"rejected"},{"partition":0,"offset":9}]}"#;
        assert_eq!(last_receipt(batch), Some(SendReceipt { partition: 0, offset: 9 }));
        assert_eq!(
            last_receipt(br#"{"id":"a","partition":3,"offset":4}"#),
            Some(SendReceipt { partition: 3, offset: 4 })
        );
        assert_eq!(last_receipt(br#"{"type":"urn:forebay:problem:schema_violation"}"#), None);
    }
}
