//! F20: Postgres cannot store what is good: a partition or a table is missing, or its disk is full.

use std::fs;
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::disk::SmallDisk;
use crate::load::Load;
use crate::trial::{self, ChaosRun, Scene, Setup, Trial};

pub async fn store_faults(run: &ChaosRun) -> anyhow::Result<Vec<Trial>> {
    let mut missing = missing_tables(run).await?;
    if let Some(why) = SmallDisk::missing(&run.folder.join("small-disk")) {
        missing.findings.notes.push(format!("NOT RUN: a full disk of Postgres, because {why}"));
        return Ok(vec![missing]);
    }
    Ok(vec![missing, disk_full(run).await?])
}

/// The partitions of `events` and the values that each takes, the default one last: while there is a default partition,
/// adding another one reads all of it.
const PARTITIONS: &str = "
    SELECT c.relname::text, pg_get_expr(c.relpartbound, c.oid)
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'events'::regclass
    ORDER BY pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT', c.relname";

/// Takes every partition away, the default one too. What is stored is kept, outside of the table. Returns how to bring
/// them back.
async fn detach_partitions(client: &Client) -> anyhow::Result<String> {
    let (mut detach, mut attach) = (String::from("BEGIN;"), String::from("BEGIN;"));
    for row in client.query(PARTITIONS, &[]).await? {
        let (name, takes): (String, String) = (row.get(0), row.get(1));
        detach += &format!("ALTER TABLE events DETACH PARTITION {name};");
        attach += &format!("ALTER TABLE events ATTACH PARTITION {name} {takes};");
    }
    client.batch_execute(&(detach + "COMMIT")).await?;
    Ok(attach + "COMMIT")
}

async fn missing_tables(run: &ChaosRun) -> anyhow::Result<Trial> {
    let load = Load { events: run.size(4_000, 20_000), ..Load::default() };
    trial::run(run, "F20 missing tables", Setup { load, ..Setup::default() }, async |scene| {
        let client = scene.database().await?;
        let (mut faults, mut waited) = (0, 0);
        while scene.loading() {
            scene.pause(500..2_000).await;
            let bring_back = if faults % 2 == 0 {
                detach_partitions(&client).await?
            } else {
                client.batch_execute("ALTER TABLE record_outcomes RENAME TO outcomes_elsewhere").await?;
                "ALTER TABLE outcomes_elsewhere RENAME TO record_outcomes".to_owned()
            };
            scene.pause(1_000..5_000).await;
            waited = waited.max(scene.stack.lag().await?);
            client.batch_execute(&bring_back).await?;
            faults += 1;
        }
        scene.findings.notes.push(format!("tables were missing {faults} times; up to {waited} records waited"));
        Ok(faults)
    })
    .await
}

/// Size of the disk in MB: a new server takes 60, and its log up to 200 under this load.
const SMALL_DISK: u32 = 512;
/// Segments of its log that a server may have in reserve, and more.
const SEGMENTS: usize = 10;
/// How long the disk stays full while the server does not mind.
const LONGEST: Duration = Duration::from_secs(10);
/// How long a server may take to come back once its disk has space again.
const PATIENCE: Duration = Duration::from_secs(60);

/// The server refuses what needs space, and ends if its log finds none.
async fn disk_full(run: &ChaosRun) -> anyhow::Result<Trial> {
    let load = Load { events: run.size(4_000, 20_000), ..Load::default() };
    let setup = Setup { load, small_disk: Some(("postgres", SMALL_DISK)), ..Setup::default() };
    trial::run(run, "F20 disk full", setup, async |scene| {
        let (mut faults, mut refused, mut ended) = (0, 0, 0);
        while scene.loading() {
            scene.pause(500..2_000).await;
            let (before, client) = (complaints(scene)?, scene.database().await?);
            scene.disk()?.fill()?;
            if faults % 2 == 1 {
                use_up_log(&client).await;
            }
            // Until a batch needs space: tables have some in reserve.
            let until = Instant::now() + LONGEST;
            while scene.loading() && complaints(scene)? == before && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            scene.pause(1_000..5_000).await;
            refused += usize::from(complaints(scene)? > before);
            scene.disk()?.free()?;
            ended += usize::from(come_back(scene).await?);
            faults += 1;
        }
        scene.findings.notes.push(format!(
            "the disk was full {faults} times; the server lacked space {refused} times, and had ended {ended} times"
        ));
        if refused == 0 {
            scene.findings.not_run = Some("the server never needed space while its disk was full".to_owned());
        }
        Ok(refused)
    })
    .await
}

/// Lets the server's log end its segment until there is no space for another, at which the server ends too.
async fn use_up_log(client: &Client) {
    let next = "SELECT pg_logical_emit_message(false, 'chaos', 'a switch needs something in the segment');
                SELECT pg_switch_wal()";
    // It has a few segments in reserve, 80 MB at most.
    for _ in 0..SEGMENTS {
        if client.batch_execute(next).await.is_err() {
            break;
        }
    }
}

/// How often the server has lacked space since it was started, by its log.
fn complaints(scene: &Scene) -> anyhow::Result<usize> {
    let log = fs::read(scene.state.join("postgres/postgres.log"))?;
    Ok(String::from_utf8_lossy(&log).matches("No space left on device").count())
}

/// Waits until the server answers; starts it if it has ended. Returns whether it had.
async fn come_back(scene: &mut Scene) -> anyhow::Result<bool> {
    let (until, mut had_ended) = (Instant::now() + PATIENCE, false);
    while scene.database().await.is_err() {
        anyhow::ensure!(Instant::now() < until, "Postgres does not come back after its disk was full");
        if scene.postgres()?.has_ended()? {
            had_ended = true;
            scene.postgres()?.restart().await?;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(had_ended)
}
