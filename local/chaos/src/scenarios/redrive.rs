//! F14: a storm of redrives during live traffic.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, ensure};
use krafka::Kafka;
use krafka::producer::{Producer, Record};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::evidence::{self, DEAD_LETTERS, RAW, Row};
use crate::ledger::Entry;
use crate::load::{Load, LoadEvent, p99};
use crate::trial::{self, ChaosRun, Scene, Setup, Trial};
use crate::verdict::{self, TrialFindings};

/// Redrivers at the same time, each in its own instance.
const REDRIVERS: usize = 3;
/// Live events per second.
const LIVE: usize = 50;
/// One letter in this many is an event that the database refuses until the fault is fixed half-way. Finding each of
/// them in a batch costs the processor about ten transactions, so there are few.
const FIXABLE: usize = 50;
/// A step that a killed redriver had begun is repeated 30 s after its call would have ended (ADR 8).
const CALL: Duration = Duration::from_secs(20);
/// How much slower live events may be stored in the storm, unless the time is below `UNNOTICED` (in milliseconds):
/// everything shares two cores and one SQLite file instead of DynamoDB, which causes tails of some hundred milliseconds
/// in a debug build.
const SLOWER: f64 = 1.5;
const UNNOTICED: i64 = if cfg!(debug_assertions) { 1_000 } else { 100 };

/// `user_id` of the events that the database refuses.
const REFUSED: &str = "refused";
/// With an error that is the data's: a check of the table would be a fault of the store, and the batch would wait.
const BREAK: &str = "
    CREATE FUNCTION storm() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.user_id = 'refused' THEN
            RAISE EXCEPTION 'refused' USING ERRCODE = 'numeric_value_out_of_range';
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER storm BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION storm()";
const FIX: &str = "DROP TRIGGER storm ON events; DROP FUNCTION storm()";

/// Milliseconds since the epoch, from and to.
type TimeSpan = (i64, i64);

#[expect(clippy::disallowed_methods, reason = "compared with times that the functions stored, from the same clock")]
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Writes bad records, which no redrive can fix, and their entries in the ledger.
async fn write_bad_records(scene: &Scene, producer: &Producer, numbers: std::ops::Range<usize>) -> anyhow::Result<()> {
    let mut entries = Vec::new();
    let mut handles = Vec::new();
    for number in numbers {
        let value = format!(r#"{{"type":"no-such-type","id":"storm-{number}"}}"#);
        let record = Record::new(RAW, value.clone()).key(format!("storm/{number}"));
        handles.push((number, value, producer.enqueue(record).await?));
    }
    for (number, value, handle) in handles {
        let written = handle.await?;
        let id = format!("poison-storm-{number}");
        entries.push(Entry::written(id, value.as_bytes(), (written.partition, written.offset)));
    }
    scene.client.ledger.write(&entries)
}

fn refused_events(numbers: std::ops::Range<usize>) -> Vec<LoadEvent> {
    let event = |number| {
        let id = format!("refused-{number}");
        let json = format!(r#"{{"type":"click","id":"{id}","user_id":"{REFUSED}","campaign_id":"c"}}"#);
        LoadEvent { id, json }
    };
    numbers.map(event).collect()
}

/// Waits until the processor has finished all records that are on `raw-events` now. Live traffic continues, so the
/// pipeline is never idle.
async fn processed(scene: &Scene, patience: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + patience;
    let topics = scene.stack.kafka.topics();
    let marks = topics.watermarks(RAW).await?;
    loop {
        let committed = topics.committed("processor").await?;
        let is_done = |partition: i32, end: i64| {
            end == 0 || committed.iter().any(|position| position.partition == partition && position.offset >= end)
        };
        if marks.iter().all(|mark| is_done(mark.partition, mark.latest)) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the processor has not finished after {} s", patience.as_secs());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The fields of a redrive's answer that are used.
#[derive(Debug, Default, Deserialize)]
struct Redriven {
    sent: usize,
    parked: usize,
    next: Option<Value>,
    until: Option<Value>,
}

/// Redrives until no letter is left to redrive; returns how many letters it sent and parked.
async fn redrive(scene: &Scene, by: usize, max_per_sec: usize) -> anyhow::Result<usize> {
    let (mut done, mut from, mut until) = (0, json!({}), json!({}));
    let deadline = Instant::now() + Duration::from_secs(3_600);
    loop {
        let request = json!({
            "action": "redrive", "max_per_sec": max_per_sec, "from": from, "until": until,
            "by": format!("redriver-{by}"),
        });
        match scene.stack.invoke("redriver", request).await {
            Ok(answer) => {
                let answer: Redriven =
                    serde_json::from_value(answer).context("the redriver's answer cannot be read")?;
                done += answer.sent + answer.parked;
                let Some(next) = answer.next else { return Ok(done) };
                (from, until) = (next, answer.until.unwrap_or_default());
                if answer.sent + answer.parked == 0 {
                    // Another redriver works on the remaining letters.
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
            // Killed: start from the beginning again, up to the known end if there is one.
            Err(_) => from = json!({}),
        }
        ensure!(Instant::now() < deadline, "a redrive did not end within an hour");
    }
}

/// Kills one redriver while the others work; false if none was running.
async fn kill_one(scene: &Scene, after: Duration) -> bool {
    tokio::time::sleep(after).await;
    let processes = scene.stack.processes("redriver");
    processes.first().is_some_and(|pid| kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).is_ok())
}

/// Runs all redrivers at the same time over all letters.
async fn wave(scene: &Scene, max_per_sec: usize) -> anyhow::Result<usize> {
    let (first, second, third) = tokio::try_join!(
        redrive(scene, 1, max_per_sec),
        redrive(scene, 2, max_per_sec),
        redrive(scene, 3, max_per_sec),
    )?;
    Ok(first + second + third)
}

async fn storm(run: &ChaosRun, scene: &mut Scene, letters: usize) -> anyhow::Result<(usize, TimeSpan, TimeSpan)> {
    let kafka = Kafka::builder(scene.stack.brokers()).connect().await?;
    let producer = kafka.producer().build().await?;
    let patience = Duration::from_secs(60 + letters as u64 / 50);
    // The baseline for the storm: only live traffic, with warm processes.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let calm_from = now();
    tokio::time::sleep(Duration::from_secs(run.size(10, 60))).await;
    let calm = (calm_from, now());

    scene.database().await?.batch_execute(BREAK).await?;
    let (fixable, again) = (letters / FIXABLE, letters / 10);
    for first in (0..letters - fixable).step_by(1_000) {
        write_bad_records(scene, &producer, first..(first + 1_000).min(letters - fixable)).await?;
    }
    let refused = Load { batch: 20, width: 1, rate: 0, ..Load::default() };
    let requests = refused_events(0..fixable).chunks(refused.batch).map(<[LoadEvent]>::to_vec).collect();
    scene.client.send(&refused, requests).await?;
    processed(scene, patience).await?;
    let buried = evidence::count(&kafka, DEAD_LETTERS).await?;
    ensure!(buried >= letters, "{buried} dead letters for {letters} bad records");

    // The whole suite uses the default rate of a redriver.
    let rate = run.size(40, 100);
    let storm_from = now();
    let mut faults = letters;
    let killed_after = Duration::from_millis(scene.rng.u64(1_000..4_000));
    let (first, killed) = tokio::join!(wave(scene, rate), kill_one(scene, killed_after));
    first?;
    faults += usize::from(killed);
    processed(scene, patience).await?;
    // Half-way: the cause of some letters is fixed, and new bad records arrive.
    scene.database().await?.batch_execute(FIX).await?;
    write_bad_records(scene, &producer, letters..letters + again).await?;
    processed(scene, patience).await?;
    faults += again;
    producer.close().await?;
    // Each wave creates letters for the next one, until all are stored or parked.
    while wave(scene, rate).await? > 0 {
        processed(scene, patience).await?;
    }
    let storm = (storm_from, now());
    scene.findings.notes.push(format!(
        "{} bad records, {REDRIVERS} redrivers at {rate} per second each for {} s",
        letters + again,
        (storm.1 - storm.0) / 1_000
    ));
    if !killed {
        scene.findings.add("--", "no redriver was killed");
    }
    Ok((faults, calm, storm))
}

/// The count and p99 of the milliseconds from receipt to row, for live events received in that time.
fn live_p99<'a>(rows: impl Iterator<Item = &'a Row>, (from, to): TimeSpan) -> (usize, i64) {
    let live = rows.filter(|row| row.event_id.starts_with('e') && (from..to).contains(&row.received_at));
    let times: Vec<i64> = live.map(|row| row.stored_at - row.received_at).collect();
    (times.len(), p99(times))
}

fn compare(rows: &[Row], calm: TimeSpan, storm: TimeSpan, findings: &mut TrialFindings) {
    let ((calm_events, before), (storm_events, during)) = (live_p99(rows.iter(), calm), live_p99(rows.iter(), storm));
    findings.notes.push(format!(
        "live events, receipt to row: p99 {before} ms before the storm ({calm_events}), {during} ms in it ({storm_events})"
    ));
    if calm_events == 0 || storm_events == 0 {
        findings.add("--", "no live events to compare");
    }
    if during > UNNOTICED && during as f64 > before as f64 * SLOWER {
        findings.add("I7", format!("live events take {during} ms in the storm and {before} ms without it (p99)"));
    }
}

pub async fn redrive_storm(run: &ChaosRun) -> anyhow::Result<Trial> {
    let letters = run.size(2_000, 100_000);
    let spans: Cell<Option<(TimeSpan, TimeSpan)>> = Cell::new(None);
    let setup = Setup {
        // The storm may last longer than the load; only events received during it count.
        load: Load { events: LIVE * run.size(180, 1_500), rate: LIVE, batch: 5, ..Load::default() },
        function_timeout: Some(CALL),
        ..Setup::default()
    };
    let fault = async |scene: &mut Scene| {
        let (faults, calm, storm) = storm(run, scene, letters).await?;
        spans.set(Some((calm, storm)));
        Ok(faults)
    };
    trial::run_and_examine(run, "F14", setup, fault, |evidence, findings| {
        verdict::all_have_ended(evidence, findings);
        let copies = evidence.raw.values().filter(|record| record.header("origin").is_some()).count();
        let parked = evidence.parked.len();
        findings.notes.push(format!("{copies} copies sent back, {parked} letters parked"));
        if let Some((calm, storm)) = spans.get() {
            compare(&evidence.rows, calm, storm, findings);
        }
    })
    .await
}
