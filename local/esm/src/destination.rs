//! The on-failure destination: where records go that no invocation gets (Lambda Developer Guide, "Capturing discarded
//! batches for an Amazon MSK event source").

use std::collections::BTreeMap;
use std::sync::Arc;

use ::event::{RecordDigest, Timestamp};
use archive::S3Objects;
use aws_config::SdkConfig;
use bytes::Bytes;
use kafka::TopicPartition;
use pipeline::DependencyError;
use pipeline::clock::{Clock as _, SystemClock};
use pipeline::ports::ObjectStore;
use serde::Serialize;

use crate::batch::InvocationBatch;
use crate::config::{EventSource, MappingConfig};
use crate::event::{EncodedRecord, EventFrame, Undelivered, partition_key};

/// Opens buckets.
pub trait Destinations: Send + Sync {
    fn bucket(&self, name: &str) -> Arc<dyn ObjectStore>;
}

/// S3, at `AWS_ENDPOINT_URL_S3` or on AWS.
impl Destinations for SdkConfig {
    fn bucket(&self, name: &str) -> Arc<dyn ObjectStore> {
        Arc::new(S3Objects::connect(self, name))
    }
}

impl Undelivered {
    /// Its name in the documents of S3, SQS and SNS. The page about Kafka topics says `RetriesExhausted` for the second.
    pub(crate) fn condition(self) -> &'static str {
        match self {
            Undelivered::PayloadTooLarge => "MaximumPayloadSizeExceeded",
            Undelivered::RetriesExhausted { .. } => "RetryAttemptsExhausted",
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
    #[error(transparent)]
    Bucket(#[from] DependencyError),
}

/// The bucket of one mapping.
#[derive(Clone)]
pub(crate) struct FailureDestination {
    bucket: Arc<dyn ObjectStore>,
    config: Arc<MappingConfig>,
    frame: EventFrame,
}

impl FailureDestination {
    pub(crate) fn new(config: Arc<MappingConfig>, bucket: Arc<dyn ObjectStore>) -> Self {
        FailureDestination { bucket, frame: EventFrame::new(&config), config }
    }

    /// Writes an object for the records of the batch that were given up together, and one for each that is too large.
    ///
    /// # Errors
    /// If an object cannot be written. Writing them again is safe: the function gets a record twice at worst.
    pub(crate) async fn keep(&self, batch: &InvocationBatch) -> Result<(), DestinationError> {
        let now = SystemClock.now();
        for (why, records) in groups(batch) {
            let event = self.frame.event(records.iter().copied());
            let request = id(&self.config.group, &event);
            let first = records.first().map_or_else(String::new, |(of, _)| partition_key(of));
            let key = format!("aws/lambda/{}/{first}/{}-{request}", id(&self.config.group, b""), dated(now));
            let body = self.document(why, &records, &event, &request, now).map_err(DestinationError::Document)?;
            self.bucket.put_new(&key, body.into()).await?;
            tracing::warn!(
                function = self.config.function,
                group = self.config.group,
                records = records.len(),
                condition = why.condition(),
                object = key,
                "records that no invocation gets are at the on-failure destination"
            );
        }
        Ok(())
    }

    fn document(
        &self,
        why: Undelivered,
        records: &[(&TopicPartition, &EncodedRecord)],
        event: &Bytes,
        request: &str,
        now: Timestamp,
    ) -> Result<Vec<u8>, serde_json::Error> {
        let mut info = BTreeMap::<String, RecordsInfo>::new();
        for (of, record) in records {
            let range = info.entry(partition_key(of)).or_insert(RecordsInfo {
                first_record_offset: record.offset,
                last_record_offset: record.offset,
                first_record_timestamp: Timestamp::from_millis(record.timestamp),
                last_record_timestamp: Timestamp::from_millis(record.timestamp),
            });
            range.last_record_offset = record.offset;
            range.last_record_timestamp = Timestamp::from_millis(record.timestamp);
        }
        let document = Document {
            request_context: RequestContext {
                request_id: request,
                function_arn: &self.function_arn(),
                condition: why.condition(),
                approximate_invoke_count: why.invocations(),
            },
            response_context: match why {
                Undelivered::PayloadTooLarge => None,
                Undelivered::RetriesExhausted { .. } => {
                    Some(ResponseContext { status_code: 200, executed_version: "$LATEST", function_error: "Unhandled" })
                }
            },
            version: "1.0",
            timestamp: now,
            kafka_batch_info: KafkaBatchInfo {
                batch_size: records.len(),
                event_source_arn: match &self.config.source {
                    EventSource::Msk { arn } => Some(arn),
                    EventSource::SelfManaged => None,
                },
                bootstrap_servers: &self.config.bootstrap_servers,
                payload_size: event.len(),
                records_info: info,
            },
            payload: &String::from_utf8_lossy(event),
        };
        serde_json::to_vec(&document)
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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    request_context: RequestContext<'a>,
    response_context: Option<ResponseContext>,
    version: &'static str,
    timestamp: Timestamp,
    #[serde(rename = "KafkaBatchInfo")]
    kafka_batch_info: KafkaBatchInfo<'a>,
    /// The whole event as text.
    payload: &'a str,
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
    records_info: BTreeMap<String, RecordsInfo>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RecordsInfo {
    first_record_offset: i64,
    last_record_offset: i64,
    first_record_timestamp: Timestamp,
    last_record_timestamp: Timestamp,
}
