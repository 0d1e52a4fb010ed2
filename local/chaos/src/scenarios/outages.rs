//! F4, F5: a service killed under load, and started again.

use std::time::Duration;

use anyhow::Context as _;
use lambda::settings::ProcessEnvironment;
use stack::options::{KafkaChoice, Options};

use super::Conduct;
use crate::load::Load;
use crate::trial::{self, Run, Setup, Trial};

/// Whether the stack starts Apache Kafka. The embedded broker lives in this process and in memory: it has no crash to
/// survive.
fn has_broker_to_kill(run: &Run) -> anyhow::Result<bool> {
    Ok(Options::for_one_run(&ProcessEnvironment, run.binaries.clone())?.kafka == KafkaChoice::Apache)
}

pub async fn broker_killed(run: &Run) -> anyhow::Result<Conduct> {
    if !has_broker_to_kill(run)? {
        return Ok(Conduct::NotHere("only Apache Kafka can be killed (KAFKA=apache)".to_owned()));
    }
    let load = Load { events: run.size(6_000, 40_000), rate: 300, ..Load::default() };
    let trial = trial::run(run, "F4", Setup { load, ..Setup::default() }, async |scene| {
        let mut faults = 0;
        while scene.loading() && faults < run.size(3, 10) {
            scene.pause(1_000..4_000).await;
            let broker = scene.stack.backing().apache_kafka().context("the broker is not ours to kill")?;
            broker.kill()?;
            broker.restart().await?;
            faults += 1;
        }
        Ok(faults)
    })
    .await?;
    Ok(Conduct::Done(vec![trial]))
}

pub async fn postgres_killed(run: &Run) -> anyhow::Result<Trial> {
    let setup = Setup { load: Load { events: run.size(6_000, 40_000), ..Load::default() }, ..Setup::default() };
    trial::run(run, "F5", setup, async |scene| {
        let mut faults = 0;
        while scene.loading() {
            // Long enough to be in the middle of transactions again.
            scene.pause(300..2_500).await;
            let Some(postgres) = &mut scene.stack.backing().postgres else {
                anyhow::bail!("Postgres is not ours to kill")
            };
            postgres.kill()?;
            faults += 1;
            // Once as long as the reference says.
            let down = if faults == 2 && !run.short { 30_000 } else { scene.rng.u64(200..4_000) };
            tokio::time::sleep(Duration::from_millis(down)).await;
            if let Some(postgres) = &mut scene.stack.backing().postgres {
                postgres.restart().await?;
            }
        }
        Ok(faults)
    })
    .await
}
