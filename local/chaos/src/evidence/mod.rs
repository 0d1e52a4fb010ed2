//! What the pipeline has written, read without any of its code: Kafka with its protocol, Postgres with SQL, the archive
//! with S3, zstd and JSON.

mod archive;
mod message;
mod topics;

use std::collections::BTreeMap;

use aws_sdk_s3::Client as S3;
use krafka::Kafka;
use serde::Deserialize;
use tokio_postgres::{Client, NoTls};

pub use message::{Message, Object, PartitionOffset, TopicRecords, in_log, place_of, position};
pub use topics::{count, read as read_topic};

pub const RAW: &str = "raw-events";
pub const OUTCOMES: &str = "processed-events";
pub const DEAD_LETTERS: &str = "dead-letter-events";

/// A row of `events`.
#[derive(Clone, Debug)]
pub struct Row {
    pub event_id: String,
    pub payload: String,
    /// In hexadecimal.
    pub payload_hash: String,
    /// `valid` or `fraud`.
    pub status: String,
    pub ip: Option<String>,
    pub user_id: Option<String>,
    /// `None` if the scorer was down.
    pub risk: Option<StoredRisk>,
    /// Milliseconds since the epoch, from the clocks of ingest and of the processor.
    pub received_at: i64,
    pub stored_at: i64,
}

/// The scorer's answer for an event.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct StoredRisk {
    #[serde(rename = "risk_score")]
    pub score: i16,
    pub reasons: Vec<String>,
    pub rules_version: String,
}

/// A row of `record_outcomes`.
#[derive(Clone, Debug)]
pub struct OutcomeRow {
    pub event_id: Option<String>,
    pub outcome: String,
    pub reason: String,
    /// Partition and offset of the first copy of the record.
    pub origin: PartitionOffset,
}

impl OutcomeRow {
    /// Whether the record created a row of `events`.
    pub fn is_stored(&self) -> bool {
        matches!(self.outcome.as_str(), "valid" | "fraud")
    }
}

/// Everything that the checks read.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// The records of every log of `raw-events`.
    pub raw: TopicRecords,
    /// How many logs `raw-events` had before the present one.
    pub ended_logs: i64,
    pub outcomes: TopicRecords,
    pub dead_letters: TopicRecords,
    pub rows: Vec<Row>,
    /// By partition and offset on `raw-events`.
    pub record_outcomes: BTreeMap<PartitionOffset, OutcomeRow>,
    /// The sum over `event_counts_hourly`.
    pub counted: i64,
    /// The objects under `raw/` and `outcomes/`.
    pub objects: Vec<Object>,
    /// Names of the objects under `parked/`.
    pub parked: Vec<String>,
    /// The objects under `quarantine/`, each with one record.
    pub quarantined: Vec<Object>,
}

/// Where to read the evidence.
#[derive(Clone, Debug)]
pub struct Sources {
    pub brokers: String,
    pub database_url: String,
    pub s3: S3,
    pub bucket: String,
}

impl Evidence {
    /// Reads everything. The pipeline must be idle. `ended` are the records of the logs of `raw-events` that are deleted.
    ///
    /// # Errors
    /// If a source cannot be read, or has an unexpected format.
    pub async fn gather(sources: &Sources, ended: Vec<TopicRecords>) -> anyhow::Result<Self> {
        let kafka = Kafka::builder(&sources.brokers).connect().await?;
        let Sources { s3, bucket, .. } = sources;
        let mut archived = archive::keys(s3, bucket, "raw/").await?;
        archived.extend(archive::keys(s3, bucket, "outcomes/").await?);
        let ended_logs = i64::try_from(ended.len())?;
        let logs = ended.into_iter().chain([topics::read(&kafka, RAW).await?]).zip(0..);
        let mut evidence = Evidence {
            raw: logs.flat_map(|(log, of)| log.into_iter().map(move |(at, record)| (in_log(at, of), record))).collect(),
            ended_logs,
            outcomes: topics::read(&kafka, OUTCOMES).await?,
            dead_letters: topics::read(&kafka, DEAD_LETTERS).await?,
            objects: archive::objects(s3, bucket, archived).await?,
            parked: archive::keys(s3, bucket, "parked/").await?,
            quarantined: archive::objects(s3, bucket, archive::keys(s3, bucket, "quarantine/").await?).await?,
            ..Evidence::default()
        };
        let client = connect(&sources.database_url).await?;
        evidence.rows = client.query(EVENTS, &[]).await?.iter().map(event_row).collect();
        let sql = "SELECT partition, record_offset, event_id, outcome, reason, origin_partition, origin_offset,
                          incarnation::int8
                   FROM record_outcomes WHERE topic = $1";
        for row in client.query(sql, &[&RAW]).await? {
            let origin = (row.get(5), row.get(6));
            let outcome = OutcomeRow { event_id: row.get(2), outcome: row.get(3), reason: row.get(4), origin };
            evidence.record_outcomes.insert(in_log((row.get(0), row.get(1)), row.get(7)), outcome);
        }
        let sql = "SELECT coalesce(sum(events), 0)::bigint FROM event_counts_hourly";
        evidence.counted = client.query_one(sql, &[]).await?.get(0);
        Ok(evidence)
    }

    /// The places that a partition and offset without a log may mean.
    pub fn places(&self, at: PartitionOffset) -> impl Iterator<Item = PartitionOffset> {
        (0..=self.ended_logs).map(move |log| in_log(at, log))
    }
}

/// A separate connection to Postgres, which ends with the client.
///
/// # Errors
/// If the server does not accept it.
pub async fn connect(database_url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(database_url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

const EVENTS: &str = "
    SELECT event_id, payload, encode(payload_hash, 'hex'), status, host(ip_address), user_id, risk_score,
           coalesce(risk_reasons, '{}'), rules_version,
           (extract(epoch FROM received_at) * 1000)::bigint, (extract(epoch FROM stored_at) * 1000)::bigint
    FROM events";

fn event_row(row: &tokio_postgres::Row) -> Row {
    let (score, rules): (Option<i16>, Option<String>) = (row.get(6), row.get(8));
    Row {
        event_id: row.get(0),
        payload: row.get(1),
        payload_hash: row.get(2),
        status: row.get(3),
        ip: row.get(4),
        user_id: row.get(5),
        risk: score.zip(rules).map(|(score, rules_version)| StoredRisk { score, reasons: row.get(7), rules_version }),
        received_at: row.get(9),
        stored_at: row.get(10),
    }
}
