//! An in-process broker that speaks the Kafka protocol: krafka's broker behind a gateway that can serve a backlog.
//!
//! It has one node, keeps everything in memory and acknowledges at once. Groups with several members work only with the
//! consumer protocol (KIP-848). There is no retention, and there are no transactions.

mod gateway;
mod snapshot;

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use krafka::testing::FakeBroker;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use gateway::Gateway;

/// A running broker on a loopback port. Dropping it stops it and discards its records.
pub struct EmbeddedKafka {
    broker: Arc<FakeBroker>,
    serving: JoinHandle<()>,
    port: u16,
}

impl EmbeddedKafka {
    /// Starts in milliseconds, on a free port.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_on(None).await
    }

    /// Starts on `port`, or on a free port.
    ///
    /// # Errors
    /// If the port is taken.
    pub async fn start_on(port: Option<u16>) -> anyhow::Result<Self> {
        Self::start_announced(port, None).await
    }

    /// Like [`EmbeddedKafka::start_on`], but the broker advertises the port `announced`, where a proxy listens.
    ///
    /// # Errors
    /// If the port is taken.
    pub async fn start_announced(port: Option<u16>, announced: Option<u16>) -> anyhow::Result<Self> {
        let wanted = port.unwrap_or(0);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted))
            .await
            .with_context(|| format!("port {wanted} for Kafka is taken"))?;
        let port = listener.local_addr()?.port();
        let broker = Arc::new(FakeBroker::start().await?);
        let gateway = Arc::new(Gateway::new(Arc::clone(&broker), announced.unwrap_or(port))?);
        let serving = tokio::spawn(gateway.serve(listener));
        Ok(EmbeddedKafka { broker, serving, port })
    }

    /// The bootstrap address, in the format of `KAFKA_BROKERS`.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Writes all topics with their records, and all committed offsets, to a file. Records that are written at the same
    /// time may or may not be in it. The file is replaced as a whole.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn snapshot(&self, file: &Path) -> anyhow::Result<()> {
        snapshot::write(&self.broker, file)
            .with_context(|| format!("cannot write Kafka's records to {}", file.display()))
    }

    /// Reads a snapshot into a broker that is still empty. Every record gets its old offset.
    ///
    /// # Errors
    /// If the file is missing or is not a snapshot.
    pub fn restore(&self, file: &Path) -> anyhow::Result<()> {
        snapshot::read(&self.broker, file)
            .with_context(|| format!("cannot read Kafka's records from {}", file.display()))
    }
}

impl Drop for EmbeddedKafka {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use krafka::consumer::{AutoOffsetReset, Consumer, GroupProtocol, OffsetAndMetadata, TopicPartition};
    use krafka::{Kafka, Record};
    use tokio::time::Instant;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    async fn connect(kafka: &EmbeddedKafka) -> Kafka {
        Kafka::builder(kafka.brokers()).max_response_size(1024 * 1024).connect().await.unwrap()
    }

    async fn publish(client: &Kafka, values: impl IntoIterator<Item = Vec<u8>>) {
        let producer = client.producer().build().await.unwrap();
        for value in values {
            let stored = producer.send(Record::new("topic", value).partition(1)).await.unwrap();
            assert!(stored.is_success());
        }
        producer.close().await.unwrap();
    }

    async fn subscribe(client: &Kafka) -> Consumer {
        let consumer = client
            .consumer("group")
            .group_protocol(GroupProtocol::Consumer)
            .auto_offset_reset(AutoOffsetReset::Earliest)
            .enable_auto_commit(false)
            .fetch_max_bytes(256 * 1024)
            .max_partition_fetch_bytes(256 * 1024);
        let consumer = consumer.build().await.unwrap();
        consumer.subscribe(["topic"]).await.unwrap();
        consumer
    }

    async fn read(consumer: &Consumer, count: usize) -> Vec<i64> {
        let (mut offsets, deadline) = (Vec::new(), Instant::now() + PATIENCE);
        while offsets.len() < count {
            assert!(Instant::now() < deadline, "{} of {count} records", offsets.len());
            let records = consumer.poll(Duration::from_millis(200)).await.unwrap();
            offsets.extend(records.iter().map(|record| record.offset));
        }
        offsets
    }

    #[tokio::test]
    async fn a_backlog_is_read_to_its_end_whatever_its_size() {
        let kafka = EmbeddedKafka::start().await.unwrap();
        kafka.broker.create_topic("topic", 2);
        let client = connect(&kafka).await;
        // Four times what the client accepts in one answer, and one record that is larger than the limit it sets.
        publish(&client, (0..40).map(|_| vec![7; 100_000]).chain([vec![8; 500_000]])).await;
        let consumer = subscribe(&client).await;
        assert_eq!(read(&consumer, 41).await, (0..41).collect::<Vec<i64>>());
        consumer.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_snapshot_keeps_records_offsets_and_commits() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("kafka.snapshot");
        let kafka = EmbeddedKafka::start().await.unwrap();
        kafka.broker.create_topic("topic", 2);
        let client = connect(&kafka).await;
        publish(&client, (0..10_u8).map(|number| vec![number])).await;
        let consumer = subscribe(&client).await;
        read(&consumer, 10).await;
        consumer.commit_offsets([(TopicPartition::new("topic", 1), OffsetAndMetadata::new(4))]).await.unwrap();
        consumer.close().await.unwrap();
        kafka.snapshot(&file).unwrap();
        drop(kafka);

        let kafka = EmbeddedKafka::start().await.unwrap();
        kafka.restore(&file).unwrap();
        assert!(kafka.restore(&file).is_err(), "it is not empty any more");
        let client = connect(&kafka).await;
        publish(&client, [vec![10]]).await;
        let consumer = subscribe(&client).await;
        assert_eq!(
            read(&consumer, 7).await,
            (4..11).collect::<Vec<i64>>(),
            "from the committed offset, and new records follow the old end"
        );
        consumer.close().await.unwrap();

        std::fs::write(&file, &std::fs::read(&file).unwrap()[..200]).unwrap();
        assert!(EmbeddedKafka::start().await.unwrap().restore(&file).is_err(), "it is cut short");
    }

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let kafka = EmbeddedKafka::start().await.unwrap();
        let error = EmbeddedKafka::start_on(Some(kafka.port)).await.err().unwrap();
        assert!(format!("{error:#}").contains(&format!("port {}", kafka.port)), "{error:#}");
    }
}
