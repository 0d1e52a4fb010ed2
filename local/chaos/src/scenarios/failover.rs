//! F19: another server becomes the primary; what a connection had prepared is gone or stale; the pooler is restarted.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::Signal;
use serde_json::json;
use services::pgbouncer::PgBouncer;
use services::postgres::ThrowAwayPostgres;
use tokio_postgres::Client;

use crate::load::Load;
use crate::proxy::{Proxy, Weather};
use crate::trial::{self, ChaosRun, Scene, Setup, Trial};

pub async fn failover(run: &ChaosRun) -> anyhow::Result<Vec<Trial>> {
    let mut trials = vec![synchronous(run).await?, asynchronous(run).await?, stale_plans(run).await?];
    match PgBouncer::find() {
        Ok(_) => trials.push(pooler_restarted(run).await?),
        Err(why) => trials[0].findings.notes.push(format!("NOT RUN: the pooler restarted, because {why}")),
    }
    Ok(trials)
}

/// Where ledger rows are counted to see that a server records again.
const RECORDED: &str = "SELECT count(*) FROM record_outcomes";
/// How long functions may take to record at the new primary, which is ready. Longer means that they hold on to the old one.
const SLOWEST: Duration = Duration::from_secs(30);

/// Starts a standby of the primary, which it reaches through `port`.
async fn stand_by(scene: &mut Scene, number: usize, port: Option<u16>) -> anyhow::Result<ThrowAwayPostgres> {
    let folder = scene.state.join(format!("postgres-{number}"));
    let primary = scene.postgres()?;
    primary.start_standby(&folder, port.unwrap_or(primary.port())).await
}

/// Makes the standby the primary, and the name lead to it. The former primary is returned.
async fn promote(scene: &mut Scene, standby: ThrowAwayPostgres) -> anyhow::Result<ThrowAwayPostgres> {
    standby.promote().await?;
    scene.name()?.point_to(standby.port());
    let backing = scene.stack.backing();
    backing.database_url = standby.url();
    backing.postgres.replace(standby).context("the suite did not start Postgres, so it cannot replace it")
}

async fn recorded(client: &Client) -> anyhow::Result<i64> {
    Ok(client.query_one(RECORDED, &[]).await?.get(0))
}

/// Waits until a batch is recorded at the primary, and returns how long that took.
async fn until_recorded(scene: &Scene) -> anyhow::Result<Option<Duration>> {
    let (began, client) = (Instant::now(), scene.database().await?);
    let before = recorded(&client).await?;
    while scene.loading() {
        if recorded(&client).await? > before {
            return Ok(Some(began.elapsed()));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(None)
}

/// What is committed is on both servers, as with RDS Multi-AZ. In turns, the primary becomes read-only and keeps its
/// connections, as an Aurora writer that becomes a reader, or is killed; then the standby is promoted and the name leads
/// to it. No function is restarted.
async fn synchronous(run: &ChaosRun) -> anyhow::Result<Trial> {
    let load = Load { events: run.size(8_000, 40_000), ..Load::default() };
    trial::run(run, "F19 failed over", Setup { load, named_postgres: true, ..Setup::default() }, async |scene| {
        let (mut faults, mut slowest) = (0, Duration::ZERO);
        while scene.loading() {
            let standby = stand_by(scene, faults, None).await?;
            scene.postgres()?.commit_on_standby_too().await?;
            scene.pause(1_000..3_000).await;
            let processes = scene.processes();
            if faults % 2 == 0 {
                scene.postgres()?.become_read_only().await?;
            } else {
                scene.postgres()?.kill()?;
            }
            let former = promote(scene, standby).await?;
            if faults % 2 == 0 {
                scene.former.push(former);
            }
            faults += 1;
            if let Some(took) = until_recorded(scene).await? {
                slowest = slowest.max(took);
            }
            let restarted = processes.difference(&scene.processes()).count();
            if restarted > 0 {
                scene.findings.add("I7", format!("{restarted} processes ended at failover {faults}"));
            }
        }
        if slowest > SLOWEST {
            let seconds = slowest.as_secs_f64();
            scene.findings.add("I6", format!("it took {seconds:.1} s until the new primary got a batch"));
        }
        scene.findings.notes.push(format!(
            "{faults} failovers, the first and every second one with open connections to a server that became read-only; \
             at most {:.1} s from the promotion to the first batch at the new primary",
            slowest.as_secs_f64()
        ));
        Ok(faults)
    })
    .await
}

/// Checks that `reconcile` names as many records as were lost: below a checkpoint without an outcome, or between a
/// checkpoint and what the group has committed.
async fn named(scene: &mut Scene, lost: u64, when: &str) -> anyhow::Result<()> {
    let (proof, progress) = (scene.stack.ledger_proof().await?, scene.stack.group_progress().await?);
    if proof.unaccounted() + progress.skipped() != lost {
        let what = format!("{lost} records are lost {when}, and reconcile says:\n{proof}\n{progress}");
        scene.findings.add("I1", what);
    }
    Ok(())
}

/// The standby lacks what was recorded last. `reconcile` names it, and `restore` brings it back.
async fn asynchronous(run: &ChaosRun) -> anyhow::Result<Trial> {
    let load = Load { events: run.size(4_000, 20_000), ..Load::default() };
    let name = "F19 failed over asynchronously";
    trial::run(run, name, Setup { load, named_postgres: true, ..Setup::default() }, async |scene| {
        let mut replication = Proxy::start(scene.postgres()?.port()).await?;
        let standby = stand_by(scene, 0, Some(replication.port)).await?;
        scene.pause(1_000..2_000).await;
        replication.set(Weather::Refusing).await?;
        scene.pause(1_000..3_000).await;
        // The server is lost between two batches: the outcomes of one that was recorded and not published yet would be
        // made again, and differ in their times.
        scene.signal("ingest", Signal::SIGSTOP);
        scene.stack.wait_until_idle(trial::RECOVERY_LIMIT).await?;
        let had = recorded(&scene.database().await?).await?;
        scene.postgres()?.kill()?;
        drop(promote(scene, standby).await?);
        let lost = u64::try_from(had - recorded(&scene.database().await?).await?)?;
        named(scene, lost, "after the failover").await?;
        scene.signal("ingest", Signal::SIGCONT);
        while scene.loading() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        scene.stack.wait_until_idle(trial::RECOVERY_LIMIT).await?;

        // Checkpoints have passed those that were lost, where records came after them.
        named(scene, lost, "after the load").await?;
        let restore = json!({"action": "restore", "run": "failover", "max_per_sec": 50_000});
        while scene.stack.invoke("replayer", restore.clone()).await?["complete"] != true {}
        named(scene, 0, "after the restore").await?;
        scene.findings.notes.push(format!("the standby lacked {lost} records; reconcile named them"));
        Ok(usize::try_from(lost)?)
    })
    .await
}

/// A session that forgets its statements after each batch, as one behind a pooler that resets sessions does (`DISCARD ALL`,
/// `DEALLOCATE ALL`). Nobody can do that to another session but what runs in it: a trigger, at the end of the
/// transaction. The sequence counts how often; a rollback does not take that back.
const FORGET: &str = "
    CREATE SEQUENCE IF NOT EXISTS chaos_forgotten;
    CREATE OR REPLACE FUNCTION chaos_forget() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN EXECUTE 'DEALLOCATE ALL'; PERFORM nextval('chaos_forgotten'); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER chaos_forget AFTER INSERT OR UPDATE ON checkpoints DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION chaos_forget();";
const REMEMBER: &str = "DROP TRIGGER chaos_forget ON checkpoints";
const FORGOTTEN: &str = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM chaos_forgotten";
/// Changes the type of a column that the prepared statements return, and back.
const OTHER_TYPE: [&str; 2] = [
    "ALTER TABLE record_outcomes ALTER COLUMN reason TYPE varchar",
    "ALTER TABLE record_outcomes ALTER COLUMN reason TYPE text",
];

/// Changes the schema. Where that ends in a deadlock with a batch, it is tried again.
async fn change(client: &Client, sql: &str) -> anyhow::Result<()> {
    loop {
        match client.batch_execute(sql).await {
            Err(error) if error.code() == Some(&tokio_postgres::error::SqlState::T_R_DEADLOCK_DETECTED) => {}
            result => return Ok(result?),
        }
    }
}

async fn stale_plans(run: &ChaosRun) -> anyhow::Result<Trial> {
    let load = Load { events: run.size(4_000, 20_000), ..Load::default() };
    trial::run(run, "F19 stale plans", Setup { load, ..Setup::default() }, async |scene| {
        let (client, mut changed, mut forgotten) = (scene.database().await?, 0, 0_i64);
        while scene.loading() {
            scene.pause(300..1_000).await;
            change(&client, OTHER_TYPE[changed % OTHER_TYPE.len()]).await?;
            changed += 1;
            scene.pause(300..1_000).await;
            let before = forgotten;
            change(&client, FORGET).await?;
            // At least one batch has to come, which may take a while on a busy machine.
            while forgotten == before && scene.loading() {
                scene.pause(300..1_000).await;
                forgotten = client.query_one(FORGOTTEN, &[]).await?.get(0);
            }
            change(&client, REMEMBER).await?;
        }
        scene.findings.notes.push(format!(
            "a column that statements return got another type {changed} times; {forgotten} times a session forgot its \
             statements"
        ));
        if forgotten == 0 {
            scene.findings.not_run = Some("no batch came while sessions forgot their statements".to_owned());
        }
        Ok(changed + usize::try_from(forgotten)?)
    })
    .await
}

/// PgBouncer is killed under load and started again: transactions break at any point, and every connection is another's.
async fn pooler_restarted(run: &ChaosRun) -> anyhow::Result<Trial> {
    let load = Load { events: run.size(4_000, 20_000), ..Load::default() };
    trial::run(run, "F19 pooler restarted", Setup { load, pooled: true, ..Setup::default() }, async |scene| {
        let mut faults = 0;
        while scene.loading() {
            scene.pause(300..2_500).await;
            let pooler = scene.stack.backing().pooler.as_mut().context("this trial has no pooler")?;
            pooler.kill()?;
            let down = scene.rng.u64(100..3_000);
            tokio::time::sleep(Duration::from_millis(down)).await;
            let pooler = scene.stack.backing().pooler.as_mut().context("this trial has no pooler")?;
            pooler.restart().await?;
            faults += 1;
        }
        Ok(faults)
    })
    .await
}
