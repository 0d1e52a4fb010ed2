//! F1 to F15 of the reliability reference: how each fault is made.

use std::time::Duration;

use base64_simd::STANDARD;
use clap::ValueEnum;
use fastrand::Rng;
use krafka::Kafka;
use krafka::producer::Record;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::evidence::{self, Message, OUTCOMES, Place, RAW};
use crate::ledger::{Answer, Entry};
use crate::load::{Event, Load, hash};
use crate::proxy::Weather;
use crate::trial::{self, FUNCTIONS, Proxies, Run, Scene, Setup, Trial};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum Scenario {
    F1,
    F2,
    F3,
    F4,
    F5,
    F6,
    F7,
    F8,
    F9,
    F10,
    F11,
    F12,
    F13,
    F14,
    F15,
}

impl Scenario {
    pub const fn title(self) -> &'static str {
        match self {
            Scenario::F1 => "killed at a failpoint",
            Scenario::F2 => "stopped, frozen, timed out",
            Scenario::F3 => "cut off from Kafka",
            Scenario::F4 => "broker killed",
            Scenario::F5 => "Postgres killed under load",
            Scenario::F6 => "DynamoDB slow, silent, down",
            Scenario::F7 => "slow Postgres and Kafka",
            Scenario::F8 => "flood of duplicates",
            Scenario::F9 => "tenfold spike, cold",
            Scenario::F10 => "clock skew",
            Scenario::F11 => "poison, scorer killed",
            Scenario::F12 => "oversize and bombs",
            Scenario::F13 => "redelivered in other batches",
            Scenario::F14 => "redrive storm",
            Scenario::F15 => "S3 failing, archiver killed",
        }
    }

    /// In the short selection.
    pub const fn is_short(self) -> bool {
        matches!(self, Scenario::F1 | Scenario::F2 | Scenario::F5 | Scenario::F8 | Scenario::F11 | Scenario::F13)
    }

    /// Carries it out; `None` if it is not built, or cannot be with this broker.
    ///
    /// # Errors
    /// If a trial could not be carried out.
    pub async fn carry_out(self, run: &Run) -> anyhow::Result<Option<Vec<Trial>>> {
        Ok(Some(match self {
            Scenario::F1 => killed_at_failpoints(run).await?,
            Scenario::F2 => vec![stopped_and_frozen(run).await?],
            Scenario::F3 => vec![cut_off_from_kafka(run).await?],
            Scenario::F4 => return broker_killed(run).await,
            Scenario::F5 => vec![postgres_killed(run).await?],
            Scenario::F6 => vec![dynamodb_failing(run).await?],
            Scenario::F7 => vec![slow_dependencies(run).await?],
            Scenario::F8 => vec![flood_of_duplicates(run).await?],
            Scenario::F11 => vec![poison(run).await?],
            Scenario::F13 => vec![redelivered(run).await?],
            Scenario::F15 => vec![s3_failing(run).await?],
            Scenario::F9 | Scenario::F10 | Scenario::F12 | Scenario::F14 => return Ok(None),
        }))
    }
}

/// Every failpoint, and from which to which pass its process dies. The archiver sees few, large batches, and writes up
/// to one object per partition in each: with fewer passes than that no batch would ever get through.
const FAILPOINTS: [(&str, u32, u32); 13] = [
    ("ingest::decided", 4, 10),
    ("ingest::produced", 4, 10),
    ("processor::read", 1, 2),
    ("processor::claimed", 1, 2),
    ("processor::limited", 1, 2),
    ("processor::scored", 1, 2),
    ("postgres::in-transaction", 1, 2),
    ("postgres::committed", 1, 2),
    ("processor::stored", 1, 2),
    ("processor::published", 1, 2),
    ("archiver::packed", 1, 2),
    ("archiver::writing", 13, 24),
    ("archiver::written", 1, 2),
];

async fn killed_at_failpoints(run: &Run) -> anyhow::Result<Vec<Trial>> {
    let mut trials = Vec::new();
    for round in 0..run.size(1, 20) {
        for (point, from, to) in FAILPOINTS {
            let name = format!("F1 {point} {round}");
            let passes = run.rng(&name).u32(from..=to);
            let setup = Setup {
                load: Load { events: run.size(300, 1500), ..Load::default() },
                settings: vec![("FAILPOINTS".to_owned(), format!("{point}={passes}*off->return"))],
                ..Setup::default()
            };
            trials.push(trial::run(run, &name, setup, async |scene| Ok(scene.count_ends().await)).await?);
        }
    }
    Ok(trials)
}

/// The host ends a call that takes longer.
const SHORT_TIMEOUT: Duration = Duration::from_secs(3);

async fn stopped_and_frozen(run: &Run) -> anyhow::Result<Trial> {
    let setup = Setup {
        load: Load { events: run.size(6_000, 40_000), ..Load::default() },
        function_timeout: Some(SHORT_TIMEOUT),
        ..Setup::default()
    };
    trial::run(run, "F2", setup, async |scene| {
        let mut faults = 0;
        while scene.loading() {
            scene.pause(100..700).await;
            let function = FUNCTIONS[scene.rng.usize(..FUNCTIONS.len())];
            // Longer than the timeout: the host kills it. Ingest has no host, and its client gives up later.
            let freeze = scene.rng.choice([50, 400, 1500, 3500]).unwrap_or(50);
            if scene.rng.bool() {
                faults += scene.signal(function, Signal::SIGTERM);
            } else {
                let frozen = scene.stack.processes(function);
                faults += scene.signal(function, Signal::SIGSTOP);
                tokio::time::sleep(Duration::from_millis(freeze)).await;
                if scene.stack.processes(function).iter().any(|pid| frozen.contains(pid)) {
                    scene.signal(function, Signal::SIGCONT);
                }
            }
        }
        Ok(faults)
    })
    .await
}

/// Makes weather and clears it again, as long as the load lasts; gives how often.
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

async fn cut_off_from_kafka(run: &Run) -> anyhow::Result<Trial> {
    let longest = run.size(4_000, 30_000);
    trial::run(run, "F3", proxied(run.size(5_000, 40_000)), async |scene| {
        let weathers = [Weather::Silent, Weather::AnswersLost, Weather::Refusing];
        storms(scene, &weathers, 2_000..longest, async |proxies, weather| proxies.kafka.set(weather).await).await
    })
    .await
}

async fn broker_killed(run: &Run) -> anyhow::Result<Option<Vec<Trial>>> {
    let mut real = true;
    let setup =
        Setup { load: Load { events: run.size(6_000, 40_000), rate: 300, ..Load::default() }, ..Setup::default() };
    let trial = trial::run(run, "F4", setup, async |scene| {
        let mut faults = 0;
        while scene.loading() && faults < run.size(3, 10) {
            scene.pause(1_000..4_000).await;
            let Some(broker) = scene.stack.backing().apache_kafka() else {
                real = false;
                return Ok(0);
            };
            broker.kill()?;
            broker.restart().await?;
            faults += 1;
        }
        Ok(faults)
    })
    .await?;
    // The embedded broker lives in this process and in memory: it has no crash to survive.
    Ok(real.then(|| vec![trial]))
}

async fn postgres_killed(run: &Run) -> anyhow::Result<Trial> {
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

async fn dynamodb_failing(run: &Run) -> anyhow::Result<Trial> {
    trial::run(run, "F6", proxied(run.size(4_000, 20_000)), async |scene| {
        let weathers = [Weather::AnswersLost, Weather::Slow(2_000), Weather::Refusing, Weather::Silent];
        storms(scene, &weathers, 1_000..6_000, async |proxies, weather| proxies.dynamodb.set(weather).await).await
    })
    .await
}

async fn slow_dependencies(run: &Run) -> anyhow::Result<Trial> {
    trial::run(run, "F7", proxied(run.size(4_000, 20_000)), async |scene| {
        let weathers = [Weather::Slow(100), Weather::Slow(1_000), Weather::Slow(5_000)];
        storms(scene, &weathers, 2_000..6_000, async |proxies, weather| {
            proxies.postgres.set(weather).await?;
            proxies.kafka.set(weather).await
        })
        .await
    })
    .await
}

async fn s3_failing(run: &Run) -> anyhow::Result<Trial> {
    trial::run(run, "F15", proxied(run.size(5_000, 20_000)), async |scene| {
        let mut faults = 0;
        while scene.loading() {
            scene.pause(300..1_500).await;
            let weather = [Weather::AnswersLost, Weather::Refusing, Weather::Silent][faults % 3];
            scene.proxies()?.s3.set(weather).await?;
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

async fn flood_of_duplicates(run: &Run) -> anyhow::Result<Trial> {
    let name = "F8";
    let mut rng = run.rng(name);
    let load = Load { events: run.size(2_000, 20_000), batch: 50, width: 16, rate: 0, copies: 1.0 };
    let mut requests = load.plan(&mut rng);
    // One event, ever again: whole requests of it, side by side with all others.
    let hot = Event::made_up(load.events, &mut rng);
    let copies = run.size(2_000, 10_000);
    requests.extend((0..copies / load.batch).map(|_| vec![hot.clone(); load.batch]));
    rng.shuffle(&mut requests);
    let setup = Setup { load: load.clone(), requests: Some(requests), ..Setup::default() };
    trial::run(run, name, setup, async |scene| {
        scene.pause(500..1_500).await;
        Ok(copies + load.events + scene.signal("processor", Signal::SIGKILL))
    })
    .await
}

/// What other producers may write, none of it an event.
fn poisonous(number: usize, rng: &mut Rng) -> Record {
    let nested = "[".repeat(100_000);
    let record = match number % 8 {
        0 => Record::new(RAW, "not JSON at all"),
        1 => Record::new(RAW, ""),
        2 => return Record::tombstone(RAW, format!("poison/{number}")),
        3 => Record::new(RAW, vec![0xff, 0xfe, 0x00]),
        4 => Record::new(RAW, r#"{"envelope":99,"id":"x"}"#),
        5 => Record::new(RAW, nested),
        6 => Record::new(RAW, r#"{"type":"no-such-type","id":"y"}"#),
        _ => Record::new(RAW, "{}").null_header("traceparent").header("event-id", vec![0xff; 300]),
    };
    record.key(format!("poison/{}", rng.u32(..)))
}

async fn poison(run: &Run) -> anyhow::Result<Trial> {
    let setup = Setup { load: Load { events: run.size(4_000, 40_000), ..Load::default() }, ..Setup::default() };
    trial::run(run, "F11", setup, async |scene| {
        let kafka = Kafka::builder(scene.stack.brokers()).connect().await?;
        let producer = kafka.producer().build().await?;
        let mut faults = 0;
        while scene.loading() {
            scene.pause(20..200).await;
            let record = poisonous(faults, &mut scene.rng);
            let value = record.value.clone().unwrap_or_default();
            let written = producer.send(record).await?;
            scene.client.ledger.write(&[Entry {
                event_id: format!("poison-{faults}"),
                payload_hash: hash(&value),
                batch: 0,
                attempt: 1,
                result: Answer::Acked,
                partition: Some(written.partition),
                offset: Some(written.offset),
            }])?;
            faults += 1;
            if faults % 20 == 0 {
                faults += scene.signal("scorer", Signal::SIGKILL);
            }
        }
        producer.close().await?;
        Ok(faults)
    })
    .await
}

/// Records cut anew, as a trigger would hand them over.
fn recut(name: &str, topic: &evidence::Topic, rng: &mut Rng) -> Option<Value> {
    let places: Vec<&Place> = topic.keys().collect();
    let size = rng.choice([1, 7, 100, 500])?.min(places.len());
    let start = rng.usize(0..=places.len() - size);
    let mut records = serde_json::Map::new();
    for place in &places[start..start + size] {
        let list = records.entry(format!("{name}-{}", place.0)).or_insert_with(|| json!([]));
        if let Value::Array(list) = list {
            list.push(wire(name, **place, &topic[*place]));
        }
    }
    (size > 0).then(|| json!({"eventSource": "aws:kafka", "bootstrapServers": "localhost:9092", "records": records}))
}

fn wire(topic: &str, (partition, offset): Place, message: &Message) -> Value {
    let base64 = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| STANDARD.encode_to_string(bytes));
    let headers: Vec<Value> = message
        .headers
        .iter()
        .map(|(name, value)| json!({name.as_str(): value.as_deref().unwrap_or_default()}))
        .collect();
    json!({
        "topic": topic, "partition": partition, "offset": offset, "timestamp": message.timestamp,
        "timestampType": "CREATE_TIME", "key": base64(&message.key), "value": base64(&message.value), "headers": headers,
    })
}

async fn redelivered(run: &Run) -> anyhow::Result<Trial> {
    let setup = Setup { load: Load { events: run.size(3_000, 20_000), ..Load::default() }, ..Setup::default() };
    trial::run(run, "F13", setup, async |scene| {
        let mut faults = 0;
        scene.pause(1_000..2_000).await;
        // Beside the pollers, which do not know of it: what a consumer does that has lost its partitions.
        for round in 0..run.size(8, 60) {
            let raw = evidence::read_topic(scene.stack.brokers(), RAW).await?;
            let outcomes = evidence::read_topic(scene.stack.brokers(), OUTCOMES).await?;
            for _ in 0..4 {
                let again = recut(RAW, &raw, &mut scene.rng);
                let archived = if round % 2 == 0 { again.clone() } else { recut(OUTCOMES, &outcomes, &mut scene.rng) };
                let (Some(again), Some(archived)) = (again, archived) else { continue };
                // A failure is an answer too: the pollers deliver it all once more.
                let _ = tokio::join!(
                    scene.stack.invoke("processor", again.clone()),
                    scene.stack.invoke("processor", again),
                    scene.stack.invoke("archiver", archived)
                );
                faults += 3;
            }
        }
        Ok(faults)
    })
    .await
}
