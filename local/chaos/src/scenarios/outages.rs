//! F4, F5: a service is killed under load and started again.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use services::free_port;
use services::postgres::url_at;
use settings::ProcessEnvironment;
use stack::options::{KafkaChoice, Options};
use tokio_postgres::Client;

use crate::load::Load;
use crate::proxy::Weather;
use crate::scenarios::conduct::Conduct;
use crate::trial::{self, ChaosRun, Scene, Setup, Trial};

/// Whether the stack starts Apache Kafka.
pub fn starts_apache(run: &ChaosRun) -> anyhow::Result<bool> {
    Ok(Options::for_one_run(&ProcessEnvironment, run.binaries.clone())?.kafka == KafkaChoice::Apache)
}

pub async fn broker_killed(run: &ChaosRun) -> anyhow::Result<Conduct> {
    // The embedded broker runs in this process and keeps everything in memory, so it cannot survive a crash.
    if !starts_apache(run)? {
        return Ok(Conduct::NotHere("only Apache Kafka can be killed (KAFKA=apache)".to_owned()));
    }
    let load = Load { events: run.size(6_000, 40_000), rate: 300, ..Load::default() };
    let trial = trial::run(run, "F4", Setup { load, ..Setup::default() }, async |scene| {
        let mut faults = 0;
        while scene.loading() && faults < run.size(3, 10) {
            scene.pause(1_000..4_000).await;
            let broker = scene
                .stack
                .backing()
                .apache_kafka()
                .context("the suite did not start the broker, so it cannot kill it")?;
            broker.kill()?;
            broker.restart().await?;
            faults += 1;
        }
        Ok(faults)
    })
    .await?;
    Ok(Conduct::Done(vec![trial]))
}

pub async fn postgres_failing(run: &ChaosRun) -> anyhow::Result<Vec<Trial>> {
    let mut trials = vec![killed(run).await?, failed_over(run).await?, crowded(run).await?];
    if !run.short {
        trials.push(away_for_a_minute(run).await?);
    }
    Ok(trials)
}

/// SIGKILL again and again, so that some transactions are killed during their commit.
async fn killed(run: &ChaosRun) -> anyhow::Result<Trial> {
    let load = Load { events: run.size(6_000, 40_000), ..Load::default() };
    let setup = Setup { load, webhook: Some(204), ..Setup::default() };
    trial::run(run, "F5 killed", setup, async |scene| {
        let mut faults = 0;
        while scene.loading() {
            // Long enough for new transactions to be running.
            scene.pause(300..2_500).await;
            scene.postgres()?.kill()?;
            faults += 1;
            // Once as long as the reliability reference requires.
            let down = if faults == 2 && !run.short { 30_000 } else { scene.rng.u64(200..4_000) };
            tokio::time::sleep(Duration::from_millis(down)).await;
            scene.postgres()?.restart().await?;
        }
        Ok(faults)
    })
    .await
}

/// The server stops answering silently and comes back on another port under the same name. The functions' proxy stands
/// for the name.
async fn failed_over(run: &ChaosRun) -> anyhow::Result<Trial> {
    let load = Load { events: run.size(5_000, 40_000), ..Load::default() };
    let setup = Setup { load, proxied: true, ..Setup::default() };
    trial::run(run, "F5 failed over", setup, async |scene| {
        let mut faults = 0;
        while scene.loading() {
            scene.pause(1_000..4_000).await;
            scene.proxies()?.postgres.set(Weather::HalfOpen).await?;
            scene.pause(1_000..8_000).await;
            let port = free_port()?;
            let postgres = scene.postgres()?;
            postgres.kill()?;
            postgres.restart_on(port).await?;
            scene.stack.backing().database_url = url_at(port);
            scene.proxies()?.postgres.forward_to(port).await?;
            faults += 1;
        }
        Ok(faults)
    })
    .await
}

const CLOSE_THEIRS: &str = "
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> ALL($1)";
const DEADLOCKS: &str = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";

/// Takes every connection of the server for a while, including those of the functions.
async fn take_all_connections(scene: &mut Scene) -> anyhow::Result<()> {
    let (mut taken, mut pids) = (Vec::<Client>::new(), Vec::<i32>::new());
    let until = Instant::now() + Duration::from_millis(scene.rng.u64(1_000..5_000));
    while Instant::now() < until {
        // Until the server refuses.
        while let Ok(client) = scene.database().await {
            pids.push(client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0));
            taken.push(client);
        }
        // Functions that lose their connection try again and find none free.
        taken.first().context("the server refused the first connection")?.query_one(CLOSE_THEIRS, &[&pids]).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Batches that wait for the counts and have the lock on checkpoints, which they take before.
const WAITING_BATCHES: &str = "
    SELECT count(*) FROM pg_locks wanted JOIN pg_locks held USING (pid)
    WHERE wanted.relation = 'event_counts_hourly'::regclass AND NOT wanted.granted
      AND held.relation = 'checkpoints'::regclass AND held.mode = 'RowExclusiveLock' AND held.granted";

/// Takes the locks of a batch in the opposite order. The transaction whose `deadlock_timeout` ends first detects the
/// deadlock and is aborted: the batch, because this one waits a minute. A transaction looks for a deadlock only once, a
/// second after it began to wait; so the second lock is taken as soon as a batch waits, and there is a deadlock every time.
///
/// Returns whether there was one: no batch comes if the load ends before the functions have found a connection.
async fn deadlock(scene: &mut Scene) -> anyhow::Result<bool> {
    let client = scene.database().await?;
    client
        .batch_execute(
            "SET deadlock_timeout = '60s'; BEGIN; LOCK TABLE event_counts_hourly IN SHARE ROW EXCLUSIVE MODE",
        )
        .await?;
    while client.query_one(WAITING_BATCHES, &[]).await?.get::<_, i64>(0) == 0 {
        if !scene.loading() {
            client.batch_execute("ROLLBACK").await?;
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    client.batch_execute("LOCK TABLE checkpoints IN SHARE ROW EXCLUSIVE MODE; COMMIT").await?;
    Ok(true)
}

/// How many deadlocks the server has counted; waits a little for `expected`, because a server process reports its figures
/// up to a second later.
async fn counted_deadlocks(scene: &Scene, expected: i64) -> anyhow::Result<i64> {
    let (client, until) = (scene.database().await?, Instant::now() + Duration::from_secs(5));
    loop {
        let counted: i64 = client.query_one(DEADLOCKS, &[]).await?.get(0);
        if counted >= expected || Instant::now() >= until {
            return Ok(counted);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// No connection is free, or transactions run into deadlocks.
async fn crowded(run: &ChaosRun) -> anyhow::Result<Trial> {
    let setup = Setup { load: Load { events: run.size(5_000, 40_000), ..Load::default() }, ..Setup::default() };
    trial::run(run, "F5 crowded", setup, async |scene| {
        let (mut caused, mut taken) = (0_i64, 0);
        while scene.loading() {
            scene.pause(500..2_000).await;
            caused += i64::from(deadlock(scene).await?);
            scene.pause(500..2_000).await;
            take_all_connections(scene).await?;
            taken += 1;
        }
        let counted = counted_deadlocks(scene, caused).await?;
        scene.findings.notes.push(format!("{counted} deadlocks, all connections taken {taken} times"));
        if caused == 0 {
            scene.findings.not_run =
                Some("no batch came while its locks were taken, so there was no deadlock".to_owned());
        } else if counted < caused {
            scene.findings.add("--", format!("{caused} deadlocks were caused, and the server counted {counted}"));
        }
        Ok(usize::try_from(caused)? + taken)
    })
    .await
}

/// Events per second during an outage of a minute, with the breakers of production.
const THROUGH_OUTAGE: usize = 1_000;
const OUTAGE: Duration = Duration::from_secs(60);

async fn away_for_a_minute(run: &ChaosRun) -> anyhow::Result<Trial> {
    let load = Load { events: THROUGH_OUTAGE * 180, rate: THROUGH_OUTAGE, width: 8, ..Load::default() };
    let breaker = ("BREAKER_OPEN_SEC".to_owned(), "60".to_owned());
    let setup = Setup { load, settings: vec![breaker], ..Setup::default() };
    trial::run(run, "F5 away for a minute", setup, async |scene| {
        tokio::time::sleep(Duration::from_secs(20)).await;
        scene.postgres()?.kill()?;
        tokio::time::sleep(OUTAGE).await;
        scene.postgres()?.restart().await?;
        let (back, waiting) = (Instant::now(), scene.stack.lag().await?);
        // Caught up means that at most one second of load waits, while the load continues.
        while scene.loading() && scene.stack.lag().await? > THROUGH_OUTAGE as u64 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (seconds, still) = (back.elapsed().as_secs_f64(), scene.loading());
        scene.findings.notes.push(format!(
            "Postgres away for {} s at {THROUGH_OUTAGE} events/s: {waiting} records waited when it was back, caught up \
             {seconds:.1} s later",
            OUTAGE.as_secs()
        ));
        if !still {
            scene.findings.add("I6", "the load was over before it had caught up");
        }
        Ok(1)
    })
    .await
}
