//! F13: old records are delivered again, in other batches.

use base64_simd::STANDARD;
use fastrand::Rng;
use krafka::Kafka;
use serde_json::{Value, json};

use crate::evidence::{self, Message, OUTCOMES, PartitionOffset, RAW};
use crate::load::Load;
use crate::trial::{self, ChaosRun, Setup, Trial};

/// A new batch of old records, as a trigger would send it.
fn recut(name: &str, topic: &evidence::TopicRecords, rng: &mut Rng) -> Option<Value> {
    let places: Vec<&PartitionOffset> = topic.keys().collect();
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

fn wire(topic: &str, (partition, offset): PartitionOffset, message: &Message) -> Value {
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

pub async fn redelivered(run: &ChaosRun) -> anyhow::Result<Trial> {
    let setup = Setup { load: Load { events: run.size(3_000, 20_000), ..Load::default() }, ..Setup::default() };
    trial::run(run, "F13", setup, async |scene| {
        let kafka = Kafka::builder(scene.stack.brokers()).connect().await?;
        let mut faults = 0;
        scene.pause(1_000..2_000).await;
        // At the same time as the pollers, like a consumer that has lost its partitions without noticing it.
        for round in 0..run.size(8, 60) {
            let raw = evidence::read_topic(&kafka, RAW).await?;
            let outcomes = evidence::read_topic(&kafka, OUTCOMES).await?;
            for _ in 0..4 {
                let again = recut(RAW, &raw, &mut scene.rng);
                let archived = if round % 2 == 0 { again.clone() } else { recut(OUTCOMES, &outcomes, &mut scene.rng) };
                let (Some(again), Some(archived)) = (again, archived) else { continue };
                // A failure is allowed: the pollers deliver everything again.
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
