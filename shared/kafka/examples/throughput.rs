//! Measures how many records per second go through a broker: `cargo run --release -p kafka --example throughput
//! [RECORDS]`. Uses the broker of `KAFKA_BROKERS`, or the embedded one.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use kafka::{ConsumerOptions, KafkaClient, KafkaConfig, PublisherOptions, StartingPosition, TopicSpec};
use pipeline::clock::{Clock, SystemClock};
use pipeline::ports::{NewRecord, RecordPublisher};
use services::kafka::EmbeddedKafka;
use settings::{ProcessEnvironment, Variables};

const PARTITIONS: i32 = 6;
/// Records per call, and calls at the same time: about the load of busy instances of ingest.
const BATCH: usize = 500;
const CALLERS: usize = 8;
const VALUE_BYTES: usize = 700;
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let records: usize = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse())?;
    let (brokers, _embedded) = match ProcessEnvironment.get("KAFKA_BROKERS") {
        Some(brokers) => (brokers, None),
        None => {
            let embedded = EmbeddedKafka::start().await?;
            (embedded.brokers(), Some(embedded))
        }
    };
    let client = KafkaClient::connect(&KafkaConfig::plaintext(brokers), "throughput").await?;
    let topic: &'static str = Box::leak(format!("throughput-{}", SystemClock.now().as_millis()).into_boxed_str());
    client.topics().ensure(&[TopicSpec::new(topic, PARTITIONS)]).await?;
    let publisher = client.publisher(PublisherOptions::default()).await?;

    let start = Instant::now();
    let publisher = &publisher;
    let callers = (0..CALLERS).map(|caller| async move {
        for call in (caller..records.div_ceil(BATCH)).step_by(CALLERS) {
            let batch = (call * BATCH..records.min((call + 1) * BATCH)).map(|number| record(topic, number)).collect();
            for answer in publisher.publish(batch, PATIENCE).await {
                answer?;
            }
        }
        anyhow::Ok(())
    });
    futures::future::try_join_all(callers).await?;
    report("published", records, start.elapsed());

    let options = ConsumerOptions::new(topic, &[topic], StartingPosition::TrimHorizon);
    let consumer = client.consumer(options).await?;
    let (start, mut read, mut last) = (Instant::now(), 0, Instant::now());
    while read < records {
        let polled = consumer.poll(Duration::from_millis(500)).await?;
        if !polled.is_empty() {
            last = Instant::now();
        }
        anyhow::ensure!(last.elapsed() < PATIENCE, "reading stalled after {read} of {records} records");
        read += polled.len();
    }
    report("read", read, start.elapsed());
    consumer.close(PATIENCE).await.context("leaving the group")
}

/// A JSON value that compresses about as well as an event does.
fn record(topic: &'static str, number: usize) -> NewRecord {
    let mut value = format!(r#"{{"id":"event-{number}","tenant":"acme","amount":{},"note":""#, number * 7919 % 100_003);
    let mut seed = number as u64;
    while value.len() < VALUE_BYTES - 2 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        value.push_str(["click ", "page_view ", "transaction ", "sensor "][(seed >> 62) as usize]);
        value.push_str(&((seed >> 40) % 1000).to_string());
    }
    value.push_str("\"}");
    NewRecord {
        topic,
        key: Some(format!("acme/event-{number}").into()),
        value: Some(Bytes::from(value)),
        headers: vec![],
    }
}

#[expect(clippy::print_stdout, clippy::cast_precision_loss, reason = "a figure for people")]
fn report(what: &str, records: usize, took: Duration) {
    println!("{what} {records} records in {took:.2?}: {:.0} a second", records as f64 / took.as_secs_f64());
}
