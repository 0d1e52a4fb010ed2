//! Sends batches to ingest as a careful client does: it keeps every receipt, and sends events again that were not
//! acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use http::StatusCode;
use serde::Deserialize;

use crate::client::JsonClient;
use crate::demo::traffic::{RequestBatch, SenderKind};

/// The keys of the two senders.
#[derive(Clone, Debug)]
pub struct Keys {
    pub client: String,
    pub collector: String,
}

/// The partition and offset of an accepted event on `raw-events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SendReceipt {
    pub partition: i32,
    pub offset: i64,
}

/// The results for everything that was sent.
#[derive(Debug, Default)]
pub struct Sent {
    pub events: u64,
    /// Positions in `raw-events`; each accepted event has a different one.
    pub receipts: BTreeSet<SendReceipt>,
    /// By the reason that ingest gave.
    pub rejected: BTreeMap<String, u64>,
}

impl Sent {
    /// Adds the results of another sender.
    pub fn merge(&mut self, other: Sent) {
        self.events += other.events;
        self.receipts.extend(other.receipts);
        for (reason, count) in other.rejected {
            *self.rejected.entry(reason).or_default() += count;
        }
    }
}

#[derive(Deserialize)]
struct BatchBody {
    items: Vec<Item>,
}

/// One item of ingest's answer.
#[derive(Deserialize)]
struct Item {
    status: String,
    partition: Option<i32>,
    offset: Option<i64>,
    problem: Option<RejectedProblem>,
}

#[derive(Deserialize)]
struct RejectedProblem {
    /// `urn:forebay:problem:<tag>`.
    #[serde(rename = "type")]
    kind: String,
}

/// Maximum time to keep sending a batch again.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct BatchSender {
    pub client: JsonClient,
    pub url: String,
    pub keys: Keys,
}

impl BatchSender {
    /// Sends one batch until every event of it is accepted or rejected. Returns its last receipt.
    ///
    /// # Errors
    /// If ingest gives an answer that its API does not have, or stays unavailable for a minute.
    pub async fn send(&self, batch: &RequestBatch, sent: &mut Sent) -> anyhow::Result<Option<SendReceipt>> {
        let key = match batch.sender {
            SenderKind::Client => &self.keys.client,
            SenderKind::Collector => &self.keys.collector,
        };
        let started = Instant::now();
        let mut open: Vec<String> = batch.events.clone();
        sent.events += open.len() as u64;
        let mut last = None;
        loop {
            let body = RequestBatch { sender: batch.sender, events: open.clone() }.body();
            let answer = self.client.post(&self.url, &[("x-api-key", key)], body).await;
            let wait = match answer {
                Ok(answer) => {
                    let retry_after = answer.headers.get(http::header::RETRY_AFTER);
                    let wait = retry_after.and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
                    match serde_json::from_slice::<BatchBody>(&answer.body) {
                        Ok(body) if body.items.len() == open.len() => {
                            open = take_items(body.items, open, sent, &mut last);
                        }
                        Ok(_) | Err(_) if is_busy(answer.status) => {}
                        Ok(_) | Err(_) => anyhow::bail!(
                            "ingest answered {} with {}",
                            answer.status,
                            String::from_utf8_lossy(&answer.body)
                        ),
                    }
                    wait
                }
                // After a broken connection it is unknown whether the events arrived, so they are sent again.
                Err(error) if started.elapsed() < PATIENCE => {
                    tracing::debug!(%error, "a request to ingest got no answer and is sent again");
                    None
                }
                Err(error) => return Err(error),
            };
            if open.is_empty() {
                return Ok(last);
            }
            anyhow::ensure!(
                started.elapsed() < PATIENCE,
                "ingest did not accept {} events within a minute",
                open.len()
            );
            tokio::time::sleep(wait.unwrap_or(Duration::from_millis(200))).await;
        }
    }
}

fn is_busy(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE
}

/// Counts accepted and rejected items, and returns the events that must be sent again.
fn take_items(items: Vec<Item>, events: Vec<String>, sent: &mut Sent, last: &mut Option<SendReceipt>) -> Vec<String> {
    let mut again = Vec::new();
    for (item, event) in items.into_iter().zip(events) {
        match (item.status.as_str(), item.partition, item.offset) {
            ("accepted", Some(partition), Some(offset)) => {
                let receipt = SendReceipt { partition, offset };
                sent.receipts.insert(receipt);
                *last = Some(receipt);
            }
            ("rejected", _, _) => {
                let reason = item.problem.map_or_else(String::new, |problem| problem.kind);
                let reason = reason.rsplit(':').next().unwrap_or_default().to_owned();
                *sent.rejected.entry(reason).or_default() += 1;
            }
            _ => again.push(event),
        }
    }
    again
}

/// Sends all batches over `width` connections at the same time, in order on each connection.
///
/// # Errors
/// If a batch could not be sent completely.
pub async fn send_all(
    sender: std::sync::Arc<BatchSender>,
    batches: Vec<RequestBatch>,
    width: usize,
    watch: tokio::sync::mpsc::UnboundedSender<(SendReceipt, Instant)>,
    progress: indicatif::ProgressBar,
) -> anyhow::Result<Sent> {
    let queue = std::sync::Arc::new(tokio::sync::Mutex::new(batches.into_iter()));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..width {
        let (sender, queue, watch, progress) =
            (std::sync::Arc::clone(&sender), std::sync::Arc::clone(&queue), watch.clone(), progress.clone());
        workers.spawn(async move {
            let mut sent = Sent::default();
            loop {
                let Some(batch) = queue.lock().await.next() else { return anyhow::Ok(sent) };
                let started = Instant::now();
                if let Some(receipt) = sender.send(&batch, &mut sent).await? {
                    // The watcher ends before the sender only if the demo failed.
                    let _ = watch.send((receipt, started));
                }
                progress.inc(batch.events.len() as u64);
            }
        });
    }
    let mut sent = Sent::default();
    while let Some(worker) = workers.join_next().await {
        sent.merge(worker.context("a sender panicked")??);
    }
    Ok(sent)
}
