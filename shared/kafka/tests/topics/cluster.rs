//! The brokers on which the tests run: the in-process one and a real one, that of `KAFKA_BROKERS`, or with `KAFKA=apache` one that
//! the test starts.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kafka::{ConsumerOptions, KafkaClient, KafkaConfig, KafkaPublisher, PublisherOptions, StartingPosition, TopicSpec};
use pipeline::Record;
use pipeline::clock::{Clock, SystemClock};
use pipeline::ports::RecordPublisher;
use services::apache_kafka::ApacheKafka;
use services::kafka::EmbeddedKafka;
use settings::{ProcessEnvironment, Variables};
use testkit::contracts::publisher::Broker;
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// One broker for all tests of this binary; its supervisor stops it when the process ends.
static APACHE: OnceCell<ApacheKafka> = OnceCell::const_new();

pub const PATIENCE: Duration = Duration::from_secs(30);
pub const POLL: Duration = Duration::from_millis(200);

pub struct Cluster {
    pub config: KafkaConfig,
    pub client: KafkaClient,
    pub publisher: KafkaPublisher,
}

impl Cluster {
    pub async fn at(brokers: String) -> Self {
        let config = KafkaConfig::plaintext(brokers);
        let client = KafkaClient::connect(&config, "contract").await.unwrap();
        let publisher = client.publisher(PublisherOptions::default()).await.unwrap();
        Cluster { config, client, publisher }
    }

    /// Every broker on which the contract runs.
    pub async fn all(embedded: &EmbeddedKafka) -> Vec<Self> {
        let mut clusters = vec![Cluster::at(embedded.brokers()).await];
        if let Some(brokers) = ProcessEnvironment.get("KAFKA_BROKERS") {
            clusters.push(Cluster::at(brokers).await);
        } else if ProcessEnvironment.get("KAFKA").as_deref() == Some("apache") {
            let apache = APACHE.get_or_init(async || ApacheKafka::start(None, None).await.unwrap()).await;
            clusters.push(Cluster::at(apache.brokers()).await);
        }
        clusters
    }
}

/// A name that no other run uses, even on a broker that keeps its data.
pub fn unique() -> &'static str {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    Box::leak(format!("topics-{}-{}-{number}", SystemClock.now().as_millis(), std::process::id()).into_boxed_str())
}

#[async_trait]
impl Broker for Cluster {
    fn publisher(&self) -> &dyn RecordPublisher {
        &self.publisher
    }

    async fn new_topic(&self, partitions: i32) -> &'static str {
        let topic = unique();
        self.client.topics().ensure(&[TopicSpec::new(topic, partitions)]).await.unwrap();
        topic
    }

    /// Reads as a group, to compare with what is under test.
    async fn records(&self, topic: &'static str) -> Vec<Record> {
        let watermarks = self.client.topics().watermarks(topic).await.unwrap();
        let count: usize = watermarks.iter().map(|of| usize::try_from(of.latest - of.earliest).unwrap()).sum();
        let options = ConsumerOptions::new(unique(), &[topic], StartingPosition::TrimHorizon);
        let consumer = self.client.consumer(options).await.unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut records = Vec::new();
        while records.len() < count {
            assert!(Instant::now() < deadline, "{} of {count} records", records.len());
            records.extend(consumer.poll(POLL).await.unwrap());
        }
        consumer.close(PATIENCE).await.unwrap();
        records.sort_by(|a, b| a.position.cmp(&b.position));
        records
    }
}
