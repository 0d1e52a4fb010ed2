//! The on-failure destination: where records go that no invocation gets (Lambda Developer Guide, "Capturing discarded
//! batches for Amazon MSK and self-managed Apache Kafka event sources" and "Using a Kafka topic as an on-failure
//! destination").

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ::event::{RecordDigest, Timestamp};
use archive::S3Objects;
use aws_config::SdkConfig;
use base64_simd::STANDARD;
use bytes::Bytes;
use kafka::TopicPartition;
use pipeline::DependencyError;
use pipeline::clock::{Clock as _, SystemClock};
use pipeline::ports::{NewRecord, ObjectStore, RecordPublisher};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::batch::InvocationBatch;
use crate::config::{EventSource, MappingConfig};
use crate::event::{EncodedRecord, EventFrame, Undelivered, partition_key};
use crate::messages::{MessageError, MessageSender, MessageTarget, SignedSender};

/// Longest wait for Kafka to take the records of one attempt.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens buckets, queues and topics of SNS. A topic of Kafka is in the cluster of its mapping.
pub trait Destinations: Send + Sync {
    fn bucket(&self, name: &str) -> Arc<dyn ObjectStore>;
    fn messages(&self, target: &MessageTarget) -> Arc<dyn MessageSender>;
}

/// S3, SQS and SNS, at `AWS_ENDPOINT_URL_S3` and so on, or on AWS.
impl Destinations for SdkConfig {
    fn bucket(&self, name: &str) -> Arc<dyn ObjectStore> {
        Arc::new(S3Objects::connect(self, name))
    }

    fn messages(&self, target: &MessageTarget) -> Arc<dyn MessageSender> {
        Arc::new(SignedSender::new(self.clone(), target.clone()))
    }
}

impl Undelivered {
    /// Its name in the documents of S3, SQS and SNS.
    pub(crate) fn condition(self) -> &'static str {
        match self {
            Undelivered::PayloadTooLarge => "MaximumPayloadSizeExceeded",
            Undelivered::RetriesExhausted { .. } => "RetryAttemptsExhausted",
        }
    }

    /// Its name in the documents of a Kafka topic. AWS's page about them names the second only.
    fn condition_in_topic(self) -> &'static str {
        match self {
            Undelivered::PayloadTooLarge => "MaximumPayloadSizeExceeded",
            Undelivered::RetriesExhausted { .. } => "RetriesExhausted",
        }
    }

    fn invocations(self) -> u32 {
        match self {
            Undelivered::PayloadTooLarge => 0,
            Undelivered::RetriesExhausted { invocations } => invocations,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum DestinationError {
    #[error("cannot write the document")]
    Document(#[source] serde_json::Error),
    /// A bucket or a topic.
    #[error(transparent)]
    Dependency(#[from] DependencyError),
    #[error(transparent)]
    Message(#[from] MessageError),
}

/// Where documents are written.
#[derive(Clone)]
pub(crate) enum Outlet {
    Bucket(Arc<dyn ObjectStore>),
    Messages(Arc<dyn MessageSender>),
    KafkaTopic { name: &'static str, publisher: Arc<dyn RecordPublisher> },
}

/// The destination of one mapping.
#[derive(Clone)]
pub(crate) struct FailureDestination {
    outlet: Outlet,
    config: Arc<MappingConfig>,
    frame: EventFrame,
}

impl FailureDestination {
    pub(crate) fn new(config: Arc<MappingConfig>, outlet: Outlet) -> Self {
        FailureDestination { outlet, frame: EventFrame::new(&config), config }
    }

    /// Writes one document for the records of the batch that were given up together, and one for each that is too large. A
    /// Kafka topic gets one for each record.
    ///
    /// # Errors
    /// If a document cannot be written. Writing them again is safe: the destination has them twice at worst.
    pub(crate) async fn keep(&self, batch: &InvocationBatch) -> Result<(), DestinationError> {
        let now = SystemClock.now();
        for (why, records) in groups(batch) {
            let at = match &self.outlet {
                Outlet::Bucket(bucket) => self.put(&**bucket, why, &records, now).await?,
                Outlet::Messages(sender) => {
                    let failed = Failed::new(self, why, &records, now);
                    let text = failed.document(why.condition(), RecordsInfo::of(&records), None)?;
                    sender.send(&text).await?;
                    failed.request.clone()
                }
                Outlet::KafkaTopic { name, publisher } => {
                    self.publish(&**publisher, name, why, &records, now).await?;
                    (*name).to_owned()
                }
            };
            tracing::warn!(
                function = self.config.function,
                group = self.config.group,
                records = records.len(),
                condition = why.condition(),
                at,
                "records that no invocation gets are at the on-failure destination"
            );
        }
        Ok(())
    }

    /// Writes an object, and returns its key.
    async fn put(
        &self,
        bucket: &dyn ObjectStore,
        why: Undelivered,
        records: &[(&TopicPartition, &EncodedRecord)],
        now: Timestamp,
    ) -> Result<String, DestinationError> {
        let failed = Failed::new(self, why, records, now);
        let first = records.first().map_or_else(String::new, |(of, _)| partition_key(of));
        let key = format!("aws/lambda/{}/{first}/{}-{}", id(&self.config.group, b""), dated(now), failed.request);
        let payload = String::from_utf8_lossy(&failed.event);
        let text = failed.document(why.condition(), RecordsInfo::of(records), Some(Payload::Text(&payload)))?;
        bucket.put_new(&key, text.into()).await?;
        Ok(key)
    }

    /// Writes a record of Kafka for each record, with its key.
    async fn publish(
        &self,
        publisher: &dyn RecordPublisher,
        topic: &'static str,
        why: Undelivered,
        records: &[(&TopicPartition, &EncodedRecord)],
        now: Timestamp,
    ) -> Result<(), DestinationError> {
        let letters = records.iter().map(|one| {
            let failed = Failed::new(self, why, std::slice::from_ref(one), now);
            let payload: &RawValue = serde_json::from_slice(&failed.event).map_err(DestinationError::Document)?;
            let info = RecordsInfo::One(RecordInfo::of(one.1));
            let text = failed.document(why.condition_in_topic(), info, Some(Payload::Object(payload)))?;
            let key = key_of(one.1).map_err(DestinationError::Document)?;
            Ok(NewRecord { topic, key, value: Some(text.into()), headers: Vec::new() })
        });
        let letters = letters.collect::<Result<Vec<_>, DestinationError>>()?;
        for answer in publisher.publish(letters, PUBLISH_TIMEOUT).await {
            answer?;
        }
        Ok(())
    }

    /// The function's ARN. A name gets the parts that an emulator has no values for.
    fn function_arn(&self) -> String {
        let name = &self.config.function;
        if name.starts_with("arn:") {
            name.clone()
        } else {
            format!("arn:aws:lambda:us-east-1:000000000000:function:{name}")
        }
    }
}

/// The records of a batch that go to the destination, by object.
fn groups(batch: &InvocationBatch) -> Vec<(Undelivered, Vec<(&TopicPartition, &EncodedRecord)>)> {
    let mut groups: Vec<(Undelivered, Vec<_>)> = Vec::new();
    for (of, record, why) in batch.undelivered() {
        let group = groups.iter_mut().find(|(known, _)| *known == why && why != Undelivered::PayloadTooLarge);
        match group {
            Some((_, records)) => records.push((of, record)),
            None => groups.push((why, vec![(of, record)])),
        }
    }
    groups
}

/// `2026/11/20/2026-11-20T18.00.00`, as AWS documents it for the destinations of streams.
fn dated(now: Timestamp) -> String {
    let text = now.to_string();
    let (date, time) = text.split_once('T').unwrap_or((&text, ""));
    let time: String = time.chars().take(8).map(|c| if c == ':' { '.' } else { c }).collect();
    format!("{}/{date}T{time}", date.replace('-', "/"))
}

/// A UUID, as AWS gives one to a mapping and to an object. Here the same mapping and records get the same one again.
fn id(group: &str, event: &[u8]) -> String {
    let digest = RecordDigest::of(0, Some(group.as_bytes()), Some(event), std::iter::empty()).to_string();
    let [a, b, c, d, e] = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| digest.get(part).unwrap_or_default());
    format!("{a}-{b}-{c}-{d}-{e}")
}

/// The key of a record, from its JSON.
fn key_of(record: &EncodedRecord) -> Result<Option<Bytes>, serde_json::Error> {
    #[derive(Deserialize)]
    struct WithKey<'a> {
        key: Option<&'a str>,
    }
    let WithKey { key } = serde_json::from_slice(&record.json)?;
    Ok(key.and_then(|key| STANDARD.decode_to_vec(key).ok()).map(Bytes::from))
}

/// Records that are given up together.
struct Failed<'a> {
    destination: &'a FailureDestination,
    why: Undelivered,
    now: Timestamp,
    records: usize,
    event: Bytes,
    request: String,
}

impl<'a> Failed<'a> {
    fn new(
        destination: &'a FailureDestination,
        why: Undelivered,
        records: &[(&TopicPartition, &EncodedRecord)],
        now: Timestamp,
    ) -> Self {
        let event = destination.frame.event(records.iter().copied());
        let request = id(&destination.config.group, &event);
        Failed { destination, why, now, records: records.len(), event, request }
    }

    fn document(
        &self,
        condition: &'static str,
        info: RecordsInfo,
        payload: Option<Payload<'_>>,
    ) -> Result<String, DestinationError> {
        let config = &self.destination.config;
        let document = Document {
            request_context: RequestContext {
                request_id: &self.request,
                function_arn: &self.destination.function_arn(),
                condition,
                approximate_invoke_count: self.why.invocations(),
            },
            response_context: match self.why {
                Undelivered::PayloadTooLarge => None,
                Undelivered::RetriesExhausted { .. } => {
                    Some(ResponseContext { status_code: 200, executed_version: "$LATEST", function_error: "Unhandled" })
                }
            },
            version: "1.0",
            timestamp: self.now,
            kafka_batch_info: KafkaBatchInfo {
                batch_size: self.records,
                event_source_arn: match &config.source {
                    EventSource::Msk { arn } => Some(arn),
                    EventSource::SelfManaged => None,
                },
                bootstrap_servers: &config.bootstrap_servers,
                payload_size: self.event.len(),
                info,
            },
            payload,
        };
        serde_json::to_string(&document).map_err(DestinationError::Document)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    request_context: RequestContext<'a>,
    response_context: Option<ResponseContext>,
    version: &'static str,
    timestamp: Timestamp,
    #[serde(rename = "KafkaBatchInfo")]
    kafka_batch_info: KafkaBatchInfo<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Payload<'a>>,
}

/// The whole event: as text in an object of a bucket, as it is in a Kafka topic.
#[derive(Serialize)]
#[serde(untagged)]
enum Payload<'a> {
    Text(&'a str),
    Object(&'a RawValue),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    request_id: &'a str,
    function_arn: &'a str,
    condition: &'static str,
    approximate_invoke_count: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseContext {
    status_code: u16,
    executed_version: &'static str,
    function_error: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KafkaBatchInfo<'a> {
    batch_size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_source_arn: Option<&'a str>,
    bootstrap_servers: &'a str,
    payload_size: usize,
    #[serde(flatten)]
    info: RecordsInfo,
}

#[derive(Serialize)]
enum RecordsInfo {
    /// By partition.
    #[serde(rename = "recordsInfo")]
    Many(BTreeMap<String, RecordRange>),
    #[serde(rename = "recordInfo")]
    One(RecordInfo),
}

impl RecordsInfo {
    fn of(records: &[(&TopicPartition, &EncodedRecord)]) -> Self {
        let mut ranges = BTreeMap::<String, RecordRange>::new();
        for (of, record) in records {
            let RecordInfo { offset, timestamp } = RecordInfo::of(record);
            let range = ranges.entry(partition_key(of)).or_insert(RecordRange {
                first_record_offset: offset,
                last_record_offset: offset,
                first_record_timestamp: timestamp,
                last_record_timestamp: timestamp,
            });
            range.last_record_offset = offset;
            range.last_record_timestamp = timestamp;
        }
        RecordsInfo::Many(ranges)
    }
}

#[derive(Serialize)]
struct RecordInfo {
    offset: i64,
    timestamp: Timestamp,
}

impl RecordInfo {
    fn of(record: &EncodedRecord) -> Self {
        RecordInfo { offset: record.offset, timestamp: Timestamp::from_millis(record.timestamp) }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RecordRange {
    first_record_offset: i64,
    last_record_offset: i64,
    first_record_timestamp: Timestamp,
    last_record_timestamp: Timestamp,
}
