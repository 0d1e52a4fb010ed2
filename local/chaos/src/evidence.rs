//! What the pipeline left behind, read without any of its code: Kafka by its protocol, Postgres by SQL, the archive
//! by S3, zstd and JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use aws_sdk_s3::Client as S3;
use base64_simd::STANDARD;
use krafka::Kafka;
use krafka::admin::{DescribeTopicsOptions, ListOffsetsOptions, OffsetSpec, TopicPartition};
use krafka::consumer::AutoOffsetReset;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tokio_postgres::NoTls;

pub const RAW: &str = "raw-events";
pub const OUTCOMES: &str = "processed-events";
pub const DEAD_LETTERS: &str = "dead-letter-events";

/// Longest wait for a topic's last record.
const PATIENCE: Duration = Duration::from_secs(60);

/// Partition and offset.
pub type Place = (i32, i64);

/// A record's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
}

impl Message {
    /// The last header of that name, as text.
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().rev().find(|(known, _)| known == name)?;
        Some(String::from_utf8_lossy(value.as_deref()?).into_owned())
    }
}

pub type Topic = BTreeMap<Place, Message>;

/// A row of `events`.
#[derive(Clone, Debug)]
pub struct Row {
    pub event_id: String,
    pub payload: String,
    /// In hex.
    pub payload_hash: String,
}

/// A row of `record_outcomes`.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub event_id: Option<String>,
    pub outcome: String,
    pub reason: String,
}

/// An object of the archive.
#[derive(Clone, Debug)]
pub struct Object {
    pub key: String,
    /// Topic of each line with its place and what it holds.
    pub lines: Vec<(String, Place, Message)>,
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    pub raw: Topic,
    pub outcomes: Topic,
    pub dead_letters: Topic,
    pub rows: Vec<Row>,
    /// By place on `raw-events`.
    pub record_outcomes: BTreeMap<Place, Outcome>,
    /// The sum over `event_counts_hourly`.
    pub counted: i64,
    pub objects: Vec<Object>,
}

/// Where to look.
#[derive(Clone, Debug)]
pub struct Sources {
    pub brokers: String,
    pub database_url: String,
    pub s3: S3,
    pub bucket: String,
}

impl Evidence {
    /// Reads it all. The pipeline should be at rest.
    ///
    /// # Errors
    /// If a source cannot be read, or holds what cannot be understood.
    pub async fn gather(sources: &Sources) -> anyhow::Result<Self> {
        let kafka = Kafka::builder(&sources.brokers).connect().await?;
        let mut evidence = Evidence {
            raw: topic(&kafka, RAW).await?,
            outcomes: topic(&kafka, OUTCOMES).await?,
            dead_letters: topic(&kafka, DEAD_LETTERS).await?,
            objects: objects(&sources.s3, &sources.bucket).await?,
            ..Evidence::default()
        };
        let (client, connection) = tokio_postgres::connect(&sources.database_url, NoTls).await?;
        let connection = tokio::spawn(connection);
        let sql = "SELECT event_id, payload, encode(payload_hash, 'hex') FROM events";
        let rows = client.query(sql, &[]).await?;
        let row =
            |row: &tokio_postgres::Row| Row { event_id: row.get(0), payload: row.get(1), payload_hash: row.get(2) };
        evidence.rows = rows.iter().map(row).collect();
        let sql = "SELECT partition, record_offset, event_id, outcome, reason FROM record_outcomes WHERE topic = $1";
        for row in client.query(sql, &[&RAW]).await? {
            let outcome = Outcome { event_id: row.get(2), outcome: row.get(3), reason: row.get(4) };
            evidence.record_outcomes.insert((row.get(0), row.get(1)), outcome);
        }
        let sql = "SELECT coalesce(sum(events), 0)::bigint FROM event_counts_hourly";
        evidence.counted = client.query_one(sql, &[]).await?.get(0);
        connection.abort();
        Ok(evidence)
    }
}

/// All records of a topic up to where it ends now.
///
/// # Errors
/// If they cannot be read.
pub async fn read_topic(brokers: &str, name: &str) -> anyhow::Result<Topic> {
    topic(&Kafka::builder(brokers).connect().await?, name).await
}

async fn topic(kafka: &Kafka, name: &str) -> anyhow::Result<Topic> {
    let admin = kafka.admin();
    let mut described = admin.describe_topics([name], DescribeTopicsOptions::default()).await?;
    let described = described.remove(name).with_context(|| format!("no topic {name}"))??;
    let partitions: Vec<i32> = described.partitions.iter().map(|of| of.partition).collect();
    let wanted = partitions.iter().map(|of| (TopicPartition::new(name, *of), OffsetSpec::Latest));
    let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
    for (of, end) in admin.list_offsets(wanted, ListOffsetsOptions::default()).await? {
        ends.insert(of.partition, end?.offset);
    }
    let expected: usize = ends.values().map(|end| usize::try_from(*end).unwrap_or_default()).sum();
    let consumer = kafka.consumer_without_group().auto_offset_reset(AutoOffsetReset::Earliest).build().await?;
    consumer.assign(name, partitions.clone()).await?;
    for partition in partitions {
        consumer.seek(name, partition, 0).await?;
    }
    let (mut records, deadline) = (Topic::new(), Instant::now() + PATIENCE);
    while records.len() < expected {
        ensure!(Instant::now() < deadline, "{name}: {} of {expected} records can be read", records.len());
        for record in consumer.poll(Duration::from_millis(500)).await? {
            let headers = record.headers.into_iter().map(|(name, value)| (name, value.map(|value| value.to_vec())));
            let message = Message {
                key: record.key.map(|key| key.to_vec()),
                value: record.value.map(|value| value.to_vec()),
                headers: headers.collect(),
                timestamp: record.timestamp,
            };
            records.insert((record.partition, record.offset), message);
        }
    }
    consumer.close().await?;
    Ok(records)
}

async fn objects(s3: &S3, bucket: &str) -> anyhow::Result<Vec<Object>> {
    let mut objects = Vec::new();
    let mut after = None;
    loop {
        let page = s3.list_objects_v2().bucket(bucket).set_continuation_token(after).send().await?;
        for listed in page.contents() {
            let key = listed.key().unwrap_or_default();
            if !key.ends_with(".ndjson.zst") {
                continue;
            }
            let body = s3.get_object().bucket(bucket).key(key).send().await?.body.collect().await?.into_bytes();
            let text = zstd::decode_all(body.as_ref()).with_context(|| format!("{key} is not zstd"))?;
            let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(line);
            let lines = lines.collect::<anyhow::Result<_>>().with_context(|| format!("a line of {key}"))?;
            objects.push(Object { key: key.to_owned(), lines });
        }
        after = page.next_continuation_token().map(str::to_owned);
        if after.is_none() {
            return Ok(objects);
        }
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    topic: String,
    partition: i32,
    offset: i64,
    timestamp: i64,
    key: Option<String>,
    key_base64: Option<String>,
    headers: Vec<LineHeader>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    value_text: Option<String>,
    value_base64: Option<String>,
}

#[derive(Deserialize)]
struct LineHeader {
    name: String,
    value: Option<String>,
    value_base64: Option<String>,
}

fn bytes(text: Option<String>, base64: Option<String>) -> anyhow::Result<Option<Vec<u8>>> {
    match (text, base64) {
        (None, Some(base64)) => Ok(Some(STANDARD.decode_to_vec(base64)?)),
        (text, _) => Ok(text.map(String::into_bytes)),
    }
}

fn line(line: &[u8]) -> anyhow::Result<(String, Place, Message)> {
    let line: Line<'_> = serde_json::from_slice(line)?;
    let headers = line.headers.into_iter().map(|of| Ok((of.name, bytes(of.value, of.value_base64)?)));
    let value = match line.value {
        Some(json) if json.get() != "null" => Some(json.get().as_bytes().to_vec()),
        Some(_) | None => bytes(line.value_text, line.value_base64)?,
    };
    let message = Message {
        key: bytes(line.key, line.key_base64)?,
        value,
        headers: headers.collect::<anyhow::Result<_>>()?,
        timestamp: line.timestamp,
    };
    Ok((line.topic, (line.partition, line.offset), message))
}
