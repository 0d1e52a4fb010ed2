//! F16: `raw-events` is deleted and made again under load, so that its positions come back with other records.

use std::collections::BTreeSet;
use std::time::Duration;

use krafka::Kafka;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::evidence::{self, RAW};
use crate::load::Load;
use crate::trial::{self, ChaosRun, Scene, Setup, Trial};

/// How long the functions may take to finish what Kafka has, while ingest accepts nothing.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long after the topic was made again ingest is still frozen: its consumers wait at offsets that the new log does not
/// have yet, and begin at its start. If there were records at those offsets, they could not tell.
const PAUSE: Duration = Duration::from_secs(2);

/// Deletes the topic and makes it again while ingest is frozen and everything accepted is processed: a record that nobody
/// has read is lost with its topic. Returns whether it did: not if a partition is empty, because what comes to it next does
/// not reuse any position.
async fn make_again(scene: &mut Scene) -> anyhow::Result<bool> {
    scene.signal("ingest", Signal::SIGSTOP);
    let made = made_again(scene).await;
    tokio::time::sleep(PAUSE).await;
    scene.signal("ingest", Signal::SIGCONT);
    made
}

async fn made_again(scene: &mut Scene) -> anyhow::Result<bool> {
    scene.stack.wait_until_idle(PATIENCE).await?;
    let topics = scene.stack.kafka.topics();
    let partitions = topics.watermarks(RAW).await?.len();
    // A client that has read the topic before would wait for the one that is deleted.
    let kafka = Kafka::builder(scene.stack.brokers()).connect().await?;
    let log = evidence::read_topic(&kafka, RAW).await?;
    let used: BTreeSet<i32> = log.keys().map(|(partition, _)| *partition).collect();
    if used.len() < partitions {
        return Ok(false);
    }
    topics.delete(RAW).await?;
    scene.stack.invoke("maintainer", json!({"action": "maintain"})).await?;
    scene.ended_logs.push(log);
    Ok(true)
}

pub async fn positions_reused(run: &ChaosRun) -> anyhow::Result<Trial> {
    let setup = Setup { load: Load { events: run.size(5_000, 30_000), ..Load::default() }, ..Setup::default() };
    trial::run(run, "F16", setup, async |scene| {
        let mut faults = 0;
        while scene.loading() {
            scene.pause(1_500..3_000).await;
            faults += usize::from(make_again(scene).await?);
        }
        scene.findings.notes.push(format!("the topic was made again {faults} times"));
        Ok(faults)
    })
    .await
}
