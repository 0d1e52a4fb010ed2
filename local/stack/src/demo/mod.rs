//! Sends traffic through the whole pipeline and counts the outcome of every event.

pub mod latency;
mod report;
mod sender;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use archive::reader::{ArchiveReader, Filter};
use bytes::Bytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kafka::PublisherOptions;
use pipeline::Outcome;
use pipeline::clock::{Clock as _, SystemClock};
use pipeline::ports::{KeyKind, NewRecord, RecordPublisher as _};
use pipeline::topic::RAW_EVENTS;
use tokio_postgres::{NoTls, Row};

use crate::endpoints::Endpoints;
use crate::stack::Stack;

pub use report::DemoReport;
pub use sender::{BatchSender, Keys, SendReceipt, Sent, send_all};
pub use traffic::{BadLines, RequestBatch, SenderKind, Traffic};

/// What to send, and how.
#[derive(Clone, Debug)]
pub struct Demo {
    /// A web server's log; generated events if absent.
    pub input: Option<PathBuf>,
    /// Number of generated events to send.
    pub events: usize,
    pub batch_size: usize,
    /// Requests at the same time.
    pub width: usize,
    pub seed: u64,
}

impl Default for Demo {
    fn default() -> Self {
        Demo { input: None, events: 5000, batch_size: 500, width: 4, seed: 1 }
    }
}

/// Whose events the demo sends.
pub const TENANT: &str = "demo";

/// Maximum wait until the pipeline has finished everything that was sent.
const SETTLE: Duration = Duration::from_secs(300);
/// The rate limit of the demo's key, so high that it never applies.
const NO_LIMIT: u32 = 100_000_000;

impl Demo {
    /// The traffic of this demo.
    ///
    /// # Errors
    /// If the input cannot be read.
    pub fn traffic(&self) -> anyhow::Result<Traffic> {
        match &self.input {
            Some(path) => Traffic::from_access_log(path, self.batch_size),
            None => Ok(Traffic::made_up(self.events, self.batch_size, self.seed, SystemClock.now())),
        }
    }

    /// Sends the traffic through a stack, waits until all of it has been processed, and counts.
    ///
    /// # Errors
    /// If the pipeline stops answering or does not finish.
    pub async fn run(&self, stack: &Stack, traffic: Traffic) -> anyhow::Result<DemoReport> {
        let report = self.run_at(&stack.endpoints(), traffic).await?;
        Ok(DemoReport { cpu_seconds: cpu_of_functions(stack), ..report })
    }

    /// The same with any running pipeline. What its functions cost is not known.
    ///
    /// # Errors
    /// As [`Demo::run`].
    pub async fn run_at(&self, at: &Endpoints, traffic: Traffic) -> anyhow::Result<DemoReport> {
        let keys = make_keys(at).await?;
        let started = Instant::now();
        let (watch, receipts) = tokio::sync::mpsc::unbounded_channel();
        let watcher = tokio::spawn(latency::watch(at.database_url.clone(), receipts));
        let progress = progress("sending", traffic.len() as u64);
        let sender = Arc::new(BatchSender { client: at.client.clone(), url: format!("{}/batch", at.ingest_url), keys });
        let bad_lines = traffic.bad_lines.values().map(|bad| bad.count).sum();
        let mut sent = send_all(sender, traffic.batches, self.width, watch, progress.clone()).await?;
        send_foreign(at, &traffic.foreign, &mut sent).await?;
        progress.set_message("finishing");
        at.wait_until_done(|_| true, SETTLE).await?;
        let latencies = watcher.await.context("the watcher panicked")??;
        let elapsed = started.elapsed();
        progress.finish_and_clear();
        let ledger = LedgerFigures::read(at, &sent.receipts).await?;
        let archive = ArchiveFigures::read(at, &sent.receipts).await?;
        let accepted = sent.receipts.len() as u64;
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let events_per_second = accepted as f64 / elapsed.as_secs_f64();
        Ok(DemoReport {
            sent: sent.events,
            accepted,
            persisted: ledger.stored,
            fraud: ledger.count(Outcome::Fraud),
            duplicate: ledger.count(Outcome::Duplicate),
            blocked: ledger.count(Outcome::Blocked),
            dead_lettered: ledger.count(Outcome::DeadLettered),
            archived: archive.records,
            archive_bytes_before: archive.bytes_before,
            archive_bytes_after: archive.bytes_after,
            visible_p50_ms: latencies.value_at_quantile(0.50) / 1000,
            visible_p99_ms: latencies.value_at_quantile(0.99) / 1000,
            seconds: elapsed.as_secs_f64(),
            events_per_second,
            cpu_seconds: BTreeMap::new(),
            unaccounted: ledger.missing + ledger.unaccounted + ledger.contradictions() + archive.missing,
            rejected: sent.rejected,
            bad_lines,
        })
    }
}

/// One key for clients, one for a server that forwards the events of others.
///
/// # Errors
/// If the maintainer refuses.
pub async fn make_keys(at: &Endpoints) -> anyhow::Result<Keys> {
    Ok(Keys {
        client: at.create_key(TENANT, "demo-client", KeyKind::Publishable, NO_LIMIT).await?,
        collector: at.create_key(TENANT, "demo-collector", KeyKind::Server, NO_LIMIT).await?,
    })
}

async fn send_foreign(at: &Endpoints, foreign: &[(&'static str, Vec<u8>)], sent: &mut Sent) -> anyhow::Result<()> {
    let publisher = at.kafka.publisher(PublisherOptions::default()).await?;
    let records = foreign
        .iter()
        .map(|(key, value)| NewRecord {
            topic: RAW_EVENTS,
            key: Some(Bytes::from_static(key.as_bytes())),
            value: Some(Bytes::from(value.clone())),
            headers: Vec::new(),
        })
        .collect();
    for result in publisher.publish(records, Duration::from_secs(10)).await {
        let position = result?;
        sent.events += 1;
        sent.receipts.insert(SendReceipt { partition: position.partition, offset: position.offset });
    }
    publisher.close(Duration::from_secs(1)).await?;
    Ok(())
}

/// CPU time so far of the functions that process events.
fn cpu_of_functions(stack: &Stack) -> BTreeMap<String, f64> {
    ["ingest", "processor", "scorer", "archiver"]
        .map(|function| (function.to_owned(), stack.cpu_seconds(function)))
        .into()
}

/// What Postgres knows about the receipts, read with plain SQL: the demo checks the pipeline without using its code.
struct LedgerFigures {
    outcomes: BTreeMap<String, u64>,
    /// Rows in `events`.
    stored: u64,
    /// Receipts without an outcome.
    missing: u64,
    /// Offsets below a checkpoint without an outcome, from any sender.
    unaccounted: u64,
}

impl LedgerFigures {
    async fn read(at: &Endpoints, receipts: &BTreeSet<SendReceipt>) -> anyhow::Result<Self> {
        let (client, connection) = tokio_postgres::connect(&at.database_url, NoTls).await?;
        tokio::spawn(connection);
        let receipt = |row: &Row| SendReceipt { partition: row.get(0), offset: row.get(1) };
        let mut open: BTreeSet<SendReceipt> = receipts.clone();
        let mut outcomes = BTreeMap::new();
        let ledger = "SELECT partition, record_offset, outcome FROM record_outcomes WHERE topic = $1";
        for row in client.query(ledger, &[&RAW_EVENTS]).await? {
            if open.remove(&receipt(&row)) {
                *outcomes.entry(row.get(2)).or_default() += 1;
            }
        }
        let events = "SELECT origin_partition, origin_offset FROM events WHERE origin_topic = $1";
        let rows = client.query(events, &[&RAW_EVENTS]).await?;
        let stored = rows.iter().filter(|row| receipts.contains(&receipt(row))).count() as u64;
        Ok(LedgerFigures {
            outcomes,
            stored,
            missing: open.len() as u64,
            unaccounted: at.ledger_proof().await?.unaccounted(),
        })
    }

    fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(outcome.as_str()).copied().unwrap_or_default()
    }

    /// Number of events that are stored by the ledger but not in `events`, or the reverse.
    fn contradictions(&self) -> u64 {
        self.stored.abs_diff(self.count(Outcome::Valid) + self.count(Outcome::Fraud))
    }
}

/// What the archive holds for the receipts.
struct ArchiveFigures {
    records: u64,
    bytes_before: u64,
    bytes_after: u64,
    missing: u64,
}

impl ArchiveFigures {
    async fn read(at: &Endpoints, receipts: &BTreeSet<SendReceipt>) -> anyhow::Result<Self> {
        let reader = ArchiveReader::new(Arc::new(at.archive().await));
        let mut open: BTreeSet<SendReceipt> = receipts.clone();
        let mut records = reader.records(&Filter::topic(RAW_EVENTS)).await?;
        let mut bytes_before = 0;
        let mut line = Vec::new();
        while let Some(record) = records.next().await? {
            open.remove(&SendReceipt { partition: record.position.partition, offset: record.position.offset });
            line.clear();
            archive::line::encode(&record, &mut line)?;
            bytes_before += line.len() as u64;
        }
        Ok(ArchiveFigures {
            records: (receipts.len() - open.len()) as u64,
            bytes_before,
            bytes_after: records.tally().bytes,
            missing: open.len() as u64,
        })
    }
}

/// A progress bar on a terminal; hidden elsewhere.
fn progress(what: &'static str, length: u64) -> ProgressBar {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(length), target).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{msg:<10} {bar:30} {pos}/{len} {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
