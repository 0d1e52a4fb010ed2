//! F11: records that are not events.

use fastrand::Rng;
use krafka::Kafka;
use krafka::producer::Record;
use nix::sys::signal::Signal;

use crate::evidence::RAW;
use crate::ledger::Entry;
use crate::load::Load;
use crate::trial::{self, ChaosRun, Setup, Trial};

/// A record that another producer may write and that is not an event.
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

pub async fn poison(run: &ChaosRun) -> anyhow::Result<Trial> {
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
            let entry = Entry::written(format!("poison-{faults}"), &value, (written.partition, written.offset));
            scene.client.ledger.write(&[entry])?;
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
