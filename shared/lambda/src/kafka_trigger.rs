//! The event of a Kafka trigger, and the answer to it (reference: AWS Lambda "Using Lambda with Amazon
//! MSK" and "Retain discarded records / retry configurations for Kafka").

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use base64_simd::STANDARD;
use bytes::Bytes;
use event::Timestamp;
use pipeline::{Header, Position, Record, RecordHeaders};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The event is not a Kafka trigger event, or the position of one of its records cannot be read. A Kafka trigger does
/// not send such an event. The invocation must fail, because any other answer could lose records.
#[derive(Debug, thiserror::Error)]
#[error("the event is not a Kafka trigger event")]
pub struct TriggerError(#[from] serde_json::Error);

/// Name of the header that is added to hold the text of headers that could not be decoded.
const UNDECODABLE_HEADERS: &str = "undecodable-headers";

#[derive(Deserialize)]
struct WireEvent<'a> {
    #[serde(borrow)]
    records: BTreeMap<Cow<'a, str>, Vec<WireRecord<'a>>>,
}

#[derive(Deserialize)]
struct WireRecord<'a> {
    #[serde(borrow)]
    topic: Cow<'a, str>,
    partition: i32,
    offset: i64,
    #[serde(default)]
    timestamp: i64,
    #[serde(borrow, default)]
    key: Option<Cow<'a, str>>,
    // AWS does not document whether a tombstone has null or no value; both are accepted.
    #[serde(borrow, default)]
    value: Option<Cow<'a, str>>,
    // Kept raw, so that a malformed header makes neither its record nor the batch fail.
    #[serde(borrow, default)]
    headers: Option<&'a RawValue>,
}

/// Decodes a trigger event into records, ordered by topic, partition and offset.
///
/// # Errors
/// [`TriggerError`] if the event does not have the trigger's format. A record whose key, value or headers cannot be
/// decoded is not an error: its field `undecodable` says what is wrong.
pub fn decode(event: &str) -> Result<Vec<Record>, TriggerError> {
    let event: WireEvent<'_> = serde_json::from_str(event)?;
    let mut records = Vec::with_capacity(event.records.values().map(Vec::len).sum());
    let mut topic: Arc<str> = Arc::from("");
    for wire in event.records.into_values().flatten() {
        if *topic != *wire.topic {
            topic = Arc::from(&*wire.topic);
        }
        records.push(decode_record(wire, Arc::clone(&topic)));
    }
    records.sort_by(|a, b| a.position.cmp(&b.position));
    Ok(records)
}

fn decode_record(wire: WireRecord<'_>, topic: Arc<str>) -> Record {
    let mut problem = None;
    let mut binary = |text: Option<Cow<'_, str>>, what: &'static str| {
        text.map(|text| match STANDARD.decode_to_vec(text.as_bytes()) {
            Ok(bytes) => Bytes::from(bytes),
            Err(_) => {
                problem = Some(what);
                Bytes::copy_from_slice(text.as_bytes())
            }
        })
    };
    let key = binary(wire.key, "the key is not base64");
    let value = binary(wire.value, "the value is not base64");
    let headers = match wire.headers.map(|raw| decode_headers(raw.get())) {
        None => RecordHeaders::default(),
        Some(Some(headers)) => headers,
        Some(None) => {
            problem = Some("the headers are not objects of byte arrays");
            let text = wire.headers.map(RawValue::get).unwrap_or_default();
            RecordHeaders(vec![Header::new(UNDECODABLE_HEADERS, text.to_owned())])
        }
    };
    Record {
        position: Position { topic, partition: wire.partition, offset: wire.offset },
        timestamp: Timestamp::from_millis(wire.timestamp),
        key,
        value,
        headers,
        undecodable: problem,
    }
}

/// `[{"name": [bytes]}, …]`, with signed bytes as in Java; null is a header without a value.
fn decode_headers(json: &str) -> Option<RecordHeaders> {
    let wire: Option<Vec<BTreeMap<String, Option<Vec<i16>>>>> = serde_json::from_str(json).ok()?;
    let mut headers = Vec::new();
    for (name, value) in wire.unwrap_or_default().into_iter().flatten() {
        let value = match value {
            None => None,
            Some(numbers) => Some(numbers.into_iter().map(byte_of).collect::<Option<Vec<u8>>>()?.into()),
        };
        headers.push(Header { name: name.into(), value });
    }
    Some(RecordHeaders(headers))
}

/// Java writes bytes as -128 to 127; other emulators write 0 to 255.
fn byte_of(number: i16) -> Option<u8> {
    u8::try_from(number).ok().or_else(|| i8::try_from(number).ok().map(i8::cast_unsigned))
}

/// The answer to a Kafka batch: which records to send again.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchAnswer {
    #[serde(default)]
    pub batch_item_failures: Vec<BatchItemFailure>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchItemFailure {
    pub item_identifier: ItemIdentifier,
}

/// `partition` is the key of the event's `records` map: `<topic>-<partition>`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemIdentifier {
    pub partition: String,
    pub offset: i64,
}

impl BatchAnswer {
    /// The whole batch is done.
    pub fn done() -> Self {
        BatchAnswer::default()
    }

    /// These records must be sent again.
    pub fn retry(positions: impl IntoIterator<Item = Position>) -> Self {
        let batch_item_failures = positions
            .into_iter()
            .map(|position| BatchItemFailure {
                item_identifier: ItemIdentifier {
                    partition: format!("{}-{}", position.topic, position.partition),
                    offset: position.offset,
                },
            })
            .collect();
        BatchAnswer { batch_item_failures }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{
        "eventSource": "aws:kafka",
        "eventSourceArn": "arn:aws:kafka:eu-west-1:123456789012:cluster/forebay/1",
        "bootstrapServers": "b-1:9098,b-2:9098",
        "records": {
            "raw-events-1": [{"topic":"raw-events","partition":1,"offset":4,"timestamp":5,"timestampType":"CREATE_TIME",
                "key":"a2V5","value":"e30=","headers":[{"origin":[114,97,119,-1]},{"empty":null}]}],
            "raw-events-0": [
                {"topic":"raw-events","partition":0,"offset":8,"timestamp":5,"value":"%%%"},
                {"topic":"raw-events","partition":0,"offset":7,"timestamp":5,"value":null,"headers":"odd"}]
        }
    }"#;

    #[test]
    fn decodes_mixed_partitions_in_order() {
        let batch = decode(EVENT).unwrap();
        let positions: Vec<String> = batch.iter().map(|record| record.position.to_string()).collect();
        assert_eq!(positions, ["raw-events/0/7", "raw-events/0/8", "raw-events/1/4"]);
        let good = &batch[2];
        assert_eq!(good.undecodable, None);
        assert_eq!(good.key.as_deref(), Some(&b"key"[..]));
        assert_eq!(good.value.as_deref(), Some(&b"{}"[..]));
        assert_eq!(good.headers.get("origin"), Some(&b"raw\xff"[..]));
        assert_eq!(good.headers.get("empty"), None);
    }

    #[test]
    fn a_bad_record_keeps_its_text_and_spoils_no_other() {
        let batch = decode(EVENT).unwrap();
        assert_eq!(batch[0].undecodable, Some("the headers are not objects of byte arrays"));
        assert_eq!(batch[0].headers.get(UNDECODABLE_HEADERS), Some(&b"\"odd\""[..]));
        assert_eq!(batch[1].undecodable, Some("the value is not base64"));
        assert_eq!(batch[1].value.as_deref(), Some(&b"%%%"[..]));
    }

    #[test]
    fn refuses_what_is_not_a_kafka_event() {
        for text in ["", "null", "{}", r#"{"records":[]}"#, r#"{"Records":[{"eventSource":"aws:sqs"}]}"#] {
            assert!(decode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_answer_names_partition_and_offset() {
        let answer = BatchAnswer::retry([Position::new("raw-events", 3, 100)]);
        assert_eq!(
            serde_json::to_string(&answer).unwrap(),
            r#"{"batchItemFailures":[{"itemIdentifier":{"partition":"raw-events-3","offset":100}}]}"#
        );
        assert_eq!(serde_json::to_string(&BatchAnswer::done()).unwrap(), r#"{"batchItemFailures":[]}"#);
    }
}
