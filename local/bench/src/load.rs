//! Events, and sending them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use pipeline::clock::{Clock as _, SystemClock};
use stack::client::JsonClient;
use stack::demo::Traffic;
use tokio::sync::Mutex;

/// Events in a batch.
pub const BATCH: usize = 500;

/// About `events` made-up events as request bodies: arrays of `batch_size`, or single events if that is 1.
pub fn bodies(events: usize, batch_size: usize) -> Vec<String> {
    let mut traffic = Traffic::made_up(events, batch_size, fastrand::u64(..), SystemClock.now());
    // The last two are the demo's: an address that sends too much, and a single event without a collector.
    traffic.batches.truncate(events.div_ceil(batch_size));
    let bodies = traffic.batches.into_iter();
    if batch_size == 1 {
        bodies.flat_map(|batch| batch.events).collect()
    } else {
        bodies.map(|batch| batch.body()).collect()
    }
}

/// Times of requests, in microseconds, and what all of them took together.
#[derive(Debug)]
pub struct LoadTimes {
    pub latencies: Histogram<u64>,
    pub elapsed: Duration,
}

/// Where to send, and how.
#[derive(Clone, Debug)]
pub struct LoadSender {
    pub client: JsonClient,
    pub url: String,
    pub key: String,
}

impl LoadSender {
    /// Sends all bodies over `width` connections at a time, each as soon as the one before was answered.
    ///
    /// # Errors
    /// If an answer is not a success.
    pub async fn send(&self, bodies: Vec<String>, width: usize) -> anyhow::Result<LoadTimes> {
        let sender = Arc::new(self.clone());
        work_off(bodies, width, move |body| {
            let sender = Arc::clone(&sender);
            async move { sender.post(body).await }
        })
        .await
    }

    async fn post(&self, body: String) -> anyhow::Result<()> {
        let answer = self.client.post(&self.url, &[("x-api-key", &self.key)], body).await?;
        // Some events are made to break their schema: a single one is answered 400 for it.
        let expected = answer.status.is_success() || answer.status == 400;
        anyhow::ensure!(expected, "{} answered {}: {}", self.url, answer.status, String::from_utf8_lossy(&answer.body));
        Ok(())
    }
}

/// Does something with each of the items, `width` at a time, each as soon as one before is done.
///
/// # Errors
/// Those of the work.
pub async fn work_off<T, W>(
    items: Vec<T>,
    width: usize,
    work: impl Fn(T) -> W + Clone + Send + Sync + 'static,
) -> anyhow::Result<LoadTimes>
where
    T: Send + 'static,
    W: Future<Output = anyhow::Result<()>> + Send,
{
    let started = Instant::now();
    let queue = Arc::new(Mutex::new(items.into_iter()));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..width {
        let (work, queue) = (work.clone(), Arc::clone(&queue));
        workers.spawn(async move {
            let mut latencies = histogram()?;
            loop {
                let Some(item) = queue.lock().await.next() else { return anyhow::Ok(latencies) };
                let started = Instant::now();
                work(item).await?;
                latencies.record(u64::try_from(started.elapsed().as_micros())?)?;
            }
        });
    }
    let mut latencies = histogram()?;
    while let Some(worker) = workers.join_next().await {
        latencies.add(worker.context("a sender panicked")??)?;
    }
    Ok(LoadTimes { latencies, elapsed: started.elapsed() })
}

/// Microseconds, with three significant digits.
///
/// # Errors
/// Never in practice.
fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new(3)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_arrays_or_single_events() {
        let batches = bodies(1200, BATCH);
        let sizes: Vec<usize> =
            batches.iter().map(|body| serde_json::from_str::<Vec<serde_json::Value>>(body).unwrap().len()).collect();
        assert_eq!(sizes, [500, 500, 200]);
        let single = bodies(7, 1);
        assert_eq!(single.len(), 7);
        assert!(single.iter().all(|body| body.starts_with('{')));
    }
}
