//! F3, F6, F7, F15: a service behind a proxy becomes silent, slow or unreachable.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio_postgres::Client;

use crate::disk::SmallDisk;
use crate::load::Load;
use crate::proxy::Weather;
use crate::trial::{self, ChaosRun, Proxies, Scene, Setup, Trial};

/// Sets the weather and clears it again for as long as the load lasts; returns how often.
async fn storms(
    scene: &mut Scene,
    weathers: &[Weather],
    millis: std::ops::Range<u64>,
    set: impl AsyncFn(&mut Proxies, Weather) -> anyhow::Result<()>,
) -> anyhow::Result<usize> {
    let mut faults = 0;
    while scene.loading() {
        scene.pause(500..2000).await;
        let weather = weathers[faults % weathers.len()];
        set(scene.proxies()?, weather).await?;
        faults += 1;
        scene.pause(millis.clone()).await;
        set(scene.proxies()?, Weather::Clear).await?;
    }
    Ok(faults)
}

fn proxied(events: usize) -> Setup {
    Setup { load: Load { events, rate: 300, ..Load::default() }, proxied: true, ..Setup::default() }
}

pub async fn cut_off_from_kafka(run: &ChaosRun) -> anyhow::Result<Trial> {
    let longest = run.size(4_000, 30_000);
    trial::run(run, "F3", proxied(run.size(5_000, 40_000)), async |scene| {
        let weathers = [Weather::Silent, Weather::HalfOpen, Weather::AnswersLost, Weather::Refusing];
        storms(scene, &weathers, 2_000..longest, async |proxies, weather| proxies.kafka.set(weather).await).await
    })
    .await
}

pub async fn dynamodb_failing(run: &ChaosRun) -> anyhow::Result<Trial> {
    trial::run(run, "F6", proxied(run.size(4_000, 20_000)), async |scene| {
        let weathers =
            [Weather::AnswersLost, Weather::Slow(2_000), Weather::Refusing, Weather::HalfOpen, Weather::Silent];
        storms(scene, &weathers, 1_000..6_000, async |proxies, weather| proxies.dynamodb.set(weather).await).await
    })
    .await
}

/// How many transactions the database got in some time.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    transactions: i64,
    during: Duration,
}

impl Asked {
    fn per_second(self) -> f64 {
        self.transactions as f64 / self.during.as_secs_f64().max(f64::EPSILON)
    }
}

const TRANSACTIONS: &str =
    "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()";

/// Counts the transactions of the database while `during` runs.
async fn count_transactions(
    database: &Client,
    asked: &mut Asked,
    during: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let (before, began): (i64, _) = (database.query_one(TRANSACTIONS, &[]).await?.get(0), Instant::now());
    during.await;
    let after: i64 = database.query_one(TRANSACTIONS, &[]).await?.get(0);
    asked.transactions += after - before;
    asked.during += began.elapsed();
    Ok(())
}

/// F7: a dependency in trouble must not get more calls than a healthy one, times this factor.
const ATTEMPTS: f64 = 1.2;

pub async fn slow_dependencies(run: &ChaosRun) -> anyhow::Result<Trial> {
    trial::run(run, "F7", proxied(run.size(4_000, 20_000)), async |scene| {
        let weathers =
            [Weather::Slow(100), Weather::Narrow(10), Weather::Slow(1_000), Weather::HalfOpen, Weather::Slow(5_000)];
        let database = scene.database().await?;
        let (mut faults, mut calm, mut storm) = (0, Asked::default(), Asked::default());
        while scene.loading() {
            count_transactions(&database, &mut calm, scene.pause(1_500..3_000)).await?;
            let weather = weathers[faults % weathers.len()];
            scene.proxies()?.postgres.set(weather).await?;
            scene.proxies()?.kafka.set(weather).await?;
            faults += 1;
            count_transactions(&database, &mut storm, scene.pause(2_000..8_000)).await?;
            scene.proxies()?.postgres.set(Weather::Clear).await?;
            scene.proxies()?.kafka.set(Weather::Clear).await?;
        }
        let (calm, storm) = (calm.per_second(), storm.per_second());
        let asked = format!("Postgres got {calm:.1} transactions per second when healthy and {storm:.1} in trouble");
        if storm > calm * ATTEMPTS {
            scene.findings.add("I7", asked);
        } else {
            scene.findings.notes.push(asked);
        }
        Ok(faults)
    })
    .await
}

pub async fn s3_failing(run: &ChaosRun) -> anyhow::Result<Vec<Trial>> {
    let mut cut_off = s3_cut_off(run).await?;
    if let Some(why) = SmallDisk::missing(&run.folder.join("small-disk")) {
        cut_off.findings.notes.push(format!("NOT RUN: a full disk, because {why}"));
        return Ok(vec![cut_off]);
    }
    Ok(vec![cut_off, disk_full(run).await?])
}

async fn s3_cut_off(run: &ChaosRun) -> anyhow::Result<Trial> {
    trial::run(run, "F15", proxied(run.size(5_000, 20_000)), async |scene| {
        let mut faults = 0;
        while scene.loading() {
            scene.pause(300..1_500).await;
            let weathers = [Weather::AnswersLost, Weather::Refusing, Weather::HalfOpen, Weather::Silent];
            scene.proxies()?.s3.set(weathers[faults % weathers.len()]).await?;
            scene.pause(300..3_000).await;
            if scene.rng.bool() {
                scene.signal("archiver", Signal::SIGKILL);
            }
            scene.proxies()?.s3.set(Weather::Clear).await?;
            faults += 1;
        }
        Ok(faults)
    })
    .await
}

/// Size of the disk in MB: enough for the archive of the load.
const SMALL_DISK: u32 = 256;

/// S3 answers 500, because its disk is full, and may keep objects that it has written in part.
async fn disk_full(run: &ChaosRun) -> anyhow::Result<Trial> {
    let load = Load { events: run.size(4_000, 20_000), ..Load::default() };
    let setup = Setup { load, small_disk: Some(("s3", SMALL_DISK)), ..Setup::default() };
    trial::run(run, "F15 disk full", setup, async |scene| {
        let mut faults = 0;
        while scene.loading() {
            scene.pause(500..2_000).await;
            scene.disk()?.fill()?;
            scene.pause(500..4_000).await;
            scene.disk()?.free()?;
            faults += 1;
        }
        Ok(faults)
    })
    .await
}
