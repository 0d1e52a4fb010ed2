//! F17: another producer writes to `raw-events` in transactions, half of which it aborts. Aborted records and the markers
//! of both kinds leave offsets behind that nobody processes.

use krafka::Kafka;
use krafka::producer::Record;

use crate::evidence::RAW;
use crate::ledger::Entry;
use crate::load::{Load, LoadEvent};
use crate::scenarios::conduct::Conduct;
use crate::scenarios::outages;
use crate::trial::{self, ChaosRun, Scene, Setup};

/// The first number of the events in transactions: the load has lower ones.
const FIRST: usize = 5_000_000;

/// A good event as another producer writes it.
fn record_of(event: &LoadEvent) -> Record {
    Record::new(RAW, event.json.clone()).key(event.id.clone()).header("event-id", event.id.clone())
}

/// Transactions while the load is sent; returns their number. The verdict finds an aborted event that is stored, because it
/// does not know it, and a committed one that is not.
async fn transact(scene: &mut Scene, kafka: &Kafka) -> anyhow::Result<usize> {
    let producer = kafka.producer().build_transactional("chaos").await?;
    let (mut transactions, mut next) = (0, FIRST);
    while scene.loading() {
        scene.pause(20..200).await;
        producer.begin()?;
        let mut entries = Vec::new();
        for _ in 0..scene.rng.usize(1..30) {
            let event = LoadEvent::made_up(next, &mut scene.rng);
            next += 1;
            let written = producer.send(record_of(&event)).await?;
            entries.push(Entry::written(event.id, event.json.as_bytes(), (written.partition, written.offset)));
        }
        if transactions % 2 == 0 {
            producer.commit().await?;
            scene.client.ledger.write(&entries)?;
        } else {
            producer.abort().await?;
        }
        transactions += 1;
    }
    producer.close().await?;
    scene.findings.notes.push(format!("{} events in {transactions} transactions, half of them aborted", next - FIRST));
    Ok(transactions)
}

pub async fn in_transactions(run: &ChaosRun) -> anyhow::Result<Conduct> {
    if !outages::starts_apache(run)? {
        return Ok(Conduct::NotHere("the embedded broker has no transactions (KAFKA=apache)".to_owned()));
    }
    let setup = Setup { load: Load { events: run.size(4_000, 30_000), ..Load::default() }, ..Setup::default() };
    let trial = trial::run(run, "F17", setup, async |scene| {
        let kafka = Kafka::builder(scene.stack.brokers()).connect().await?;
        let transactions = transact(scene, &kafka).await?;
        // Markers and aborted records at the end of a partition are no lag, or this would wait for ever.
        scene.stack.wait_until_idle(trial::RECOVERY_LIMIT).await?;
        // The same question to `make reconcile`: it must not take these offsets for records.
        let unaccounted = scene.stack.unaccounted().await?;
        if unaccounted > 0 {
            scene.findings.add("I1", format!("reconcile finds {unaccounted} records without an outcome"));
        }
        Ok(transactions)
    })
    .await?;
    Ok(Conduct::Done(vec![trial]))
}
