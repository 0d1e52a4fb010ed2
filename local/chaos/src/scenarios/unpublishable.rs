//! F18: records that `raw-events` takes because they were compressed, and whose outcome or dead letter no topic takes.

use fastrand::Rng;
use krafka::Kafka;
use krafka::producer::Record;
use serde_json::json;

use crate::evidence::RAW;
use crate::ledger::Entry;
use crate::load::Load;
use crate::proxy::Weather;
use crate::trial::{self, ChaosRun, Setup, Trial};

/// A record of 1.6 to 4 MB: an event, an event with a long key or header, or none.
fn vast(number: usize, rng: &mut Rng) -> Record {
    let filling = "v".repeat(rng.usize(1_600_000..4_000_000));
    let event = |note: &str| {
        let id = format!("vast-{number}");
        json!({"type": "sensor", "id": id, "device_id": "d", "reading": 1, "unit": "m", "note": note}).to_string()
    };
    let record = match number % 4 {
        0 => Record::new(RAW, event(&filling)).key(format!("vast/{number}")),
        1 => Record::new(RAW, filling).key(format!("vast/{number}")),
        2 => Record::new(RAW, event("")).key(filling),
        // In the trigger's event a byte of a header takes up to four, and the event has at most 6 MB.
        _ => Record::new(RAW, event(&filling[..700_000]))
            .key(format!("vast/{number}"))
            .header("traceparent", filling[..900_000].to_owned()),
    };
    record.header("event-id", format!("vast-{number}"))
}

pub async fn too_large_to_publish(run: &ChaosRun) -> anyhow::Result<Trial> {
    let load = Load { events: run.size(4_000, 30_000), ..Load::default() };
    let setup = Setup { load, proxied: true, ..Setup::default() };
    trial::run(run, "F18", setup, async |scene| {
        // Not through the proxy: this client is no part of the pipeline.
        let kafka = Kafka::builder(scene.stack.brokers()).connect().await?;
        let producer = kafka.producer().compression(krafka::Compression::Lz4).build().await?;
        let weathers = [Weather::Refusing, Weather::AnswersLost, Weather::HalfOpen];
        let mut faults = 0;
        while scene.loading() {
            scene.pause(100..600).await;
            let record = vast(faults, &mut scene.rng);
            let value = record.value.clone().unwrap_or_default();
            if faults % 5 == 4 {
                scene.proxies()?.s3.set(weathers[faults / 5 % weathers.len()]).await?;
            }
            let written = producer.send(record).await?;
            let entry = Entry::written(format!("vast-{faults}"), &value, (written.partition, written.offset));
            scene.client.ledger.write(&[entry])?;
            scene.pause(100..1_000).await;
            scene.proxies()?.s3.set(Weather::Clear).await?;
            faults += 1;
        }
        producer.close().await?;
        Ok(faults)
    })
    .await
}
