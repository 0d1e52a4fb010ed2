//! The event of a Kafka trigger, and the answer to it (reference: AWS Lambda "Using Lambda with Amazon
//! MSK" and "Retain discarded records / retry configurations for Kafka").

mod headers;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use base64_simd::STANDARD;
use bytes::BytesMut;
use event::{JsonStr, Timestamp};
use pipeline::{Delivery, Header, Position, Record, RecordHeaders};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use telemetry::list::OLDEST_RECORD_AGE;

/// The event is not a Kafka trigger event, or the position of one of its records cannot be read. A Kafka trigger does
/// not send such an event. The invocation must fail, because any other answer could lose records.
#[derive(Debug, thiserror::Error)]
#[error(
    "the event is not a Kafka trigger event: expected an object \"records\" that has lists of records with topic, partition \
     and offset; the fault is at {path}"
)]
pub struct TriggerError {
    /// The path of the member that is missing something or has another type; `.` is the event itself.
    path: String,
}

impl TriggerError {
    /// Reads again for the path, so that events without a fault do not pay for it. The message of `serde_json` would
    /// name our own types.
    fn locate(event: &str) -> Self {
        let mut json = serde_json::Deserializer::from_str(event);
        let read: Result<WireEvent<'_>, _> = serde_path_to_error::deserialize(&mut json);
        TriggerError { path: read.map_or_else(|error| error.path().to_string(), |_| ".".to_owned()) }
    }
}

/// Name of the header that is added to hold the text of headers that could not be decoded.
const UNDECODABLE_HEADERS: &str = "undecodable-headers";

#[derive(Deserialize)]
struct WireEvent<'a> {
    #[serde(borrow)]
    records: BTreeMap<JsonStr<'a>, Vec<WireRecord<'a>>>,
}

#[derive(Deserialize)]
struct WireRecord<'a> {
    #[serde(borrow)]
    topic: JsonStr<'a>,
    partition: i32,
    offset: i64,
    #[serde(default)]
    timestamp: i64,
    #[serde(borrow, default)]
    key: Option<JsonStr<'a>>,
    // AWS does not document whether a tombstone has null or no value; both are accepted.
    #[serde(borrow, default)]
    value: Option<JsonStr<'a>>,
    // Kept raw, so that a malformed header makes neither its record nor the batch fail.
    #[serde(borrow, default)]
    headers: Option<&'a RawValue>,
}

/// The event with the keys of objects; AWS has no such event.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ObjectsEvent<'a> {
    event_source: Cow<'a, str>,
    objects: Cow<'a, [String]>,
}

const OBJECTS_SOURCE: &str = "forebay:objects";

/// Reads an event.
///
/// # Errors
/// As [`decode`].
pub fn read(event: &str) -> Result<Delivery, TriggerError> {
    // The other form comes so seldom that only what is no event of the trigger is tried.
    decode(event).map(Delivery::Records).or_else(|error| match serde_json::from_str::<ObjectsEvent<'_>>(event) {
        Ok(event) if event.event_source == OBJECTS_SOURCE => Ok(Delivery::Objects(event.objects.into_owned())),
        Ok(_) | Err(_) => Err(error),
    })
}

/// The event that [`read`] reads as these keys.
///
/// # Errors
/// If the keys cannot be written as JSON.
pub fn objects_event(keys: &[String]) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&ObjectsEvent { event_source: OBJECTS_SOURCE.into(), objects: keys.into() })
}

/// Decodes a trigger event into records, ordered by topic, partition and offset.
///
/// # Errors
/// [`TriggerError`] if the event does not have the trigger's format. A record whose key, value or headers cannot be
/// decoded is not an error: its field `undecodable` says what is wrong.
pub fn decode(event: &str) -> Result<Vec<Record>, TriggerError> {
    // The decoded bytes of a batch are shorter than its text.
    let mut buffer = BytesMut::with_capacity(event.len());
    let event: WireEvent<'_> = serde_json::from_str(event).map_err(|_| TriggerError::locate(event))?;
    let mut records = Vec::with_capacity(event.records.values().map(Vec::len).sum());
    let mut topic: Arc<str> = Arc::from("");
    for wire in event.records.into_values().flatten() {
        if *topic != *wire.topic.0 {
            topic = Arc::from(&*wire.topic.0);
        }
        records.push(decode_record(&wire, Arc::clone(&topic), &mut buffer));
    }
    records.sort_by(|a, b| a.position.cmp(&b.position));
    Ok(records)
}

/// The parts of the record are pieces of `buffer`, which is empty before and after.
fn decode_record(wire: &WireRecord<'_>, topic: Arc<str>, buffer: &mut BytesMut) -> Record {
    let mut problem = None;
    let mut binary = |text: Option<&JsonStr<'_>>, what: &'static str| {
        let JsonStr(text) = text?;
        buffer.extend_from_slice(text.as_bytes());
        match STANDARD.decode_inplace(buffer).map(|bytes| bytes.len()) {
            Ok(length) => buffer.truncate(length),
            Err(_) => {
                problem = Some(what);
                // What is decoded before the fault is found has changed the text.
                buffer.clear();
                buffer.extend_from_slice(text.as_bytes());
            }
        }
        Some(buffer.split().freeze())
    };
    let key = binary(wire.key.as_ref(), "the key is not base64");
    let value = binary(wire.value.as_ref(), "the value is not base64");
    let headers = match wire.headers.map(RawValue::get) {
        None => RecordHeaders::default(),
        Some(json) => headers::decode(json, buffer).unwrap_or_else(|_| {
            problem = Some("the headers are not objects of byte arrays");
            buffer.clear();
            RecordHeaders(vec![Header::new(UNDECODABLE_HEADERS, json.to_owned())])
        }),
    };
    Record {
        position: Position::new(topic, wire.partition, wire.offset),
        timestamp: Timestamp::from_millis(wire.timestamp),
        key,
        value,
        headers,
        undecodable: problem,
    }
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

/// Tells by a metric how far the consumer is behind: the age of the oldest of the records at `now`.
pub fn observe_age(records: &[Record], now: Timestamp) {
    if let Some(oldest) = Record::oldest(records) {
        OLDEST_RECORD_AGE.record(now.since(oldest).as_secs_f64(), []);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_event_is_told_what_was_expected_and_not_which_type_of_ours() {
        for (event, path) in [
            ("[]", "."),
            ("{}", "."),
            (r#"{"records":7}"#, "records"),
            (r#"{"records":{"t-0":[{"topic":"t","partition":"x","offset":1}]}}"#, "records.?[0].partition"),
        ] {
            let message = decode(event).unwrap_err().to_string();
            let expected = "expected an object \"records\" that has lists of records with topic, partition and offset";
            assert!(message.contains(expected) && message.ends_with(&format!("the fault is at {path}")), "{message}");
            assert!(!message.contains("Wire") && !message.contains("i32"), "{message}");
        }
    }

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
    fn records_may_come_as_objects_and_nothing_else_is_taken_for_that() {
        let keys = ["a".to_owned(), "b".to_owned()];
        let event = String::from_utf8(objects_event(&keys).unwrap()).unwrap();
        let Delivery::Objects(found) = read(&event).unwrap() else { panic!("{event}") };
        assert_eq!(found, keys);
        for other in [event.replace("forebay:objects", "aws:s3"), event.replace("\"b\"", "7"), "{}".to_owned()] {
            assert!(read(&other).is_err(), "{other}");
        }
        let Delivery::Records(records) = read(EVENT).unwrap() else { panic!("records") };
        assert_eq!(records.len(), 3);
    }

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
