//! Measures the time from the start of a POST until its record's outcome can be read from Postgres.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_postgres::NoTls;

use crate::demo::sender::SendReceipt;

/// How often Postgres is queried. This is the error of each measurement.
const EVERY: Duration = Duration::from_millis(2);

/// A histogram of microseconds.
pub type Latencies = Histogram<u64>;

/// Watches the last record of each request until all are visible and no more receipts come.
///
/// # Errors
/// If Postgres cannot be read.
pub async fn watch(
    database_url: String,
    mut receipts: UnboundedReceiver<(SendReceipt, Instant)>,
) -> anyhow::Result<Latencies> {
    let (client, connection) =
        tokio_postgres::connect(&database_url, NoTls).await.context("cannot connect to Postgres to measure latency")?;
    tokio::spawn(connection);
    let visible = client
        .prepare(
            "SELECT o.partition, o.record_offset FROM unnest($1::int4[], $2::int8[]) AS w (partition, record_offset) \
             JOIN record_outcomes o USING (partition, record_offset) WHERE o.topic = 'raw-events'",
        )
        .await?;
    let mut latencies = Histogram::new(3)?;
    let mut open: BTreeMap<SendReceipt, Instant> = BTreeMap::new();
    let mut more = true;
    while more || !open.is_empty() {
        while more {
            match receipts.try_recv() {
                Ok((receipt, started)) => {
                    open.insert(receipt, started);
                }
                Err(tokio::sync::mpsc::error::TryRecvError::Empty) => break,
                Err(tokio::sync::mpsc::error::TryRecvError::Disconnected) => more = false,
            }
        }
        if !open.is_empty() {
            let partitions: Vec<i32> = open.keys().map(|receipt| receipt.partition).collect();
            let offsets: Vec<i64> = open.keys().map(|receipt| receipt.offset).collect();
            for row in client.query(&visible, &[&partitions, &offsets]).await? {
                let receipt = SendReceipt { partition: row.get(0), offset: row.get(1) };
                if let Some(started) = open.remove(&receipt) {
                    latencies.record(u64::try_from(started.elapsed().as_micros())?)?;
                }
            }
        }
        tokio::time::sleep(EVERY).await;
    }
    Ok(latencies)
}
