//! The client: sends events according to a plan and writes its ledger.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use fastrand::Rng;
use http::StatusCode;
use serde::Deserialize;
use stack::client::JsonClient;
use tokio::task::JoinSet;

use crate::ledger::{AttemptResult, ClientLedger, Entry, hash};

/// Maximum wait for one answer, and until an event is accepted.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(120);

/// How much to send, and how.
#[derive(Clone, Debug)]
pub struct Load {
    /// Number of events with different ids.
    pub events: usize,
    /// Events per request.
    pub batch: usize,
    /// Requests at the same time.
    pub width: usize,
    /// Events per second in total; 0 means as fast as possible.
    pub rate: usize,
    /// Probability that a copy of an earlier event follows an event.
    pub copies: f64,
    /// Whether events that were not accepted are sent again.
    pub insists: bool,
}

impl Default for Load {
    fn default() -> Self {
        Load { events: 1500, batch: 20, width: 4, rate: 400, copies: 0.05, insists: true }
    }
}

/// An event to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadEvent {
    pub id: String,
    pub json: String,
}

impl LoadEvent {
    /// A click whose bytes depend only on the number and the seed. Its address is one that counts as fraud, one that
    /// does not, or missing.
    pub fn made_up(number: usize, rng: &mut Rng) -> Self {
        let id = format!("e{number:07}");
        let address = match rng.u8(0..8) {
            0 => String::new(),
            1 => format!(r#","client_ip":"10.0.0.{}""#, rng.u8(..)),
            _ => format!(r#","client_ip":"203.0.113.{}""#, rng.u8(..)),
        };
        let json = format!(
            r#"{{"type":"click","id":"{id}","user_id":"u{}","campaign_id":"c{}"{address},"note":"{:0width$x}"}}"#,
            rng.u32(0..500),
            rng.u32(0..20),
            rng.u64(..),
            width = rng.usize(1..120),
        );
        LoadEvent { id, json }
    }

    /// Whether an id is one of [`LoadEvent::made_up`].
    pub fn is_made_up(id: &str) -> bool {
        id.strip_prefix('e').is_some_and(|number| number.len() >= 7 && number.bytes().all(|byte| byte.is_ascii_digit()))
    }
}

impl Load {
    /// The requests, in order: the same for the same seed.
    pub fn plan(&self, rng: &mut Rng) -> Vec<Vec<LoadEvent>> {
        let mut events: Vec<LoadEvent> = Vec::new();
        for number in 0..self.events {
            events.push(LoadEvent::made_up(number, rng));
            if rng.f64() < self.copies {
                let copy = events[rng.usize(0..events.len())].clone();
                events.push(copy);
            }
        }
        events.chunks(self.batch.max(1)).map(<[LoadEvent]>::to_vec).collect()
    }
}

/// Where to send, and with which key.
#[derive(Clone)]
pub struct Client {
    pub http: JsonClient,
    /// URL of the batch endpoint.
    pub url: String,
    pub key: String,
    pub ledger: ClientLedger,
}

/// What the client saw in addition to the ledger.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub sent: usize,
    /// Requests, including those that were sent again.
    pub requests: usize,
    /// Requests that ended without an answer or with 5xx.
    pub failures: usize,
    /// Requests answered 429 or 503.
    pub busy: usize,
    /// Busy answers without Retry-After: I7 allows none.
    pub without_retry_after: usize,
    /// Latencies of the requests with an answer for each event.
    pub latencies: Vec<Duration>,
}

impl Seen {
    fn merge(&mut self, other: Seen) {
        self.sent += other.sent;
        self.requests += other.requests;
        self.failures += other.failures;
        self.busy += other.busy;
        self.without_retry_after += other.without_retry_after;
        self.latencies.extend(other.latencies);
    }
}

/// The 99th percentile.
pub fn p99<T: Ord + Copy + Default>(values: impl IntoIterator<Item = T>) -> T {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort_unstable();
    let index = (values.len() * 99).div_ceil(100).saturating_sub(1);
    values.get(index).copied().unwrap_or_default()
}

#[derive(Deserialize)]
struct Body {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    status: String,
    partition: Option<i32>,
    offset: Option<i64>,
}

impl Client {
    /// Sends all requests, each until every event is accepted or the patience ends.
    ///
    /// # Errors
    /// If the ledger cannot be written.
    pub async fn send(&self, load: &Load, requests: Vec<Vec<LoadEvent>>) -> anyhow::Result<Seen> {
        let (started, mut planned) = (Instant::now(), 0_usize);
        let queue: VecDeque<(usize, Duration, Vec<LoadEvent>)> = requests
            .into_iter()
            .enumerate()
            .map(|(number, events)| {
                let at = planned.checked_mul(1000).and_then(|millis| millis.checked_div(load.rate)).unwrap_or(0);
                planned += events.len();
                (number, Duration::from_millis(at as u64), events)
            })
            .collect();
        let queue = Arc::new(Mutex::new(queue));
        let mut senders = JoinSet::new();
        for _ in 0..load.width.max(1) {
            let (client, queue) = (self.clone(), Arc::clone(&queue));
            let patience = if load.insists { PATIENCE } else { Duration::ZERO };
            senders.spawn(async move {
                let mut seen = Seen::default();
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some((number, at, events)) = next else { return anyhow::Ok(seen) };
                    tokio::time::sleep(at.saturating_sub(started.elapsed())).await;
                    seen.merge(client.send_one(number, events, patience).await?);
                }
            });
        }
        let mut seen = Seen::default();
        while let Some(sender) = senders.join_next().await {
            seen.merge(sender.context("a sender panicked")??);
        }
        Ok(seen)
    }

    async fn send_one(&self, batch: usize, mut open: Vec<LoadEvent>, patience: Duration) -> anyhow::Result<Seen> {
        let started = Instant::now();
        let mut seen = Seen { sent: open.len(), ..Seen::default() };
        for attempt in 1.. {
            let asked = Instant::now();
            let body = format!("[{}]", open.iter().map(|event| event.json.as_str()).collect::<Vec<_>>().join(","));
            let headers = [("x-api-key", self.key.as_str())];
            let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.http.post(&self.url, &headers, body)).await;
            seen.requests += 1;
            let mut results = vec![(AttemptResult::Unknown, None, None); open.len()];
            match answer {
                Ok(Ok(answer)) => {
                    let busy = matches!(answer.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
                    seen.busy += usize::from(busy);
                    seen.without_retry_after +=
                        usize::from(busy && !answer.headers.contains_key(http::header::RETRY_AFTER));
                    seen.failures += usize::from(answer.status.is_server_error());
                    match serde_json::from_slice::<Body>(&answer.body) {
                        Ok(body) if body.items.len() == open.len() => {
                            results = body.items.into_iter().map(result).collect();
                            seen.latencies.push(asked.elapsed());
                        }
                        // The whole request was refused before any event was checked.
                        Ok(_) | Err(_) if answer.status.is_client_error() => {
                            results.fill((AttemptResult::Rejected, None, None));
                        }
                        Ok(_) | Err(_) => {}
                    }
                }
                Ok(Err(_)) | Err(_) => seen.failures += 1,
            }
            let entries: Vec<Entry> = open
                .iter()
                .zip(&results)
                .map(|(event, (result, partition, offset))| Entry {
                    event_id: event.id.clone(),
                    payload_hash: hash(event.json.as_bytes()),
                    batch,
                    attempt,
                    result: *result,
                    partition: *partition,
                    offset: *offset,
                })
                .collect();
            self.ledger.write(&entries)?;
            let taken = results.iter().map(|(result, _, _)| *result == AttemptResult::Acked);
            open = open.into_iter().zip(taken).filter(|(_, taken)| !taken).map(|(event, _)| event).collect();
            if open.is_empty() || started.elapsed() >= patience {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(seen)
    }
}

/// Every event of the plan is good, so a refused one is sent again too: the reason may have been a limit.
fn result(item: Item) -> (AttemptResult, Option<i32>, Option<i64>) {
    match item.status.as_str() {
        "accepted" => (AttemptResult::Acked, item.partition, item.offset),
        "rejected" => (AttemptResult::Rejected, None, None),
        _ => (AttemptResult::Unknown, None, None),
    }
}
