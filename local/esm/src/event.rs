//! The event that AWS sends for Kafka, encoded by hand: each record is encoded once, when it arrives, and a batch joins
//! the encoded records (Lambda Developer Guide, "Using Lambda with Amazon MSK" and "with self-managed Apache Kafka").

use std::io::Write as _;

use base64_simd::STANDARD;
use bytes::Bytes;
use kafka::TopicPartition;
use pipeline::{Header, Record};

use crate::config::{EventSource, MappingConfig};

/// Lambda's limit for the payload of a synchronous invocation. It applies to the whole event.
pub(crate) const MAX_EVENT_BYTES: usize = pipeline::quota::MAX_PAYLOAD_BYTES;

/// The part that is the same in every event of a mapping.
#[derive(Clone, Debug)]
pub(crate) struct EventFrame {
    /// Everything up to and including the opening brace of `records`.
    head: Vec<u8>,
}

/// Why a record is in no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undelivered {
    /// Alone it exceeds the limit of an event.
    PayloadTooLarge,
    /// The function has failed with it as often, or for as long, as the mapping allows.
    RetriesExhausted { invocations: u32 },
}

const TAIL: &[u8] = b"}}";

impl EventFrame {
    pub(crate) fn new(config: &MappingConfig) -> Self {
        let mut head = Vec::new();
        head.extend_from_slice(br#"{"eventSource":"#);
        match &config.source {
            EventSource::Msk { arn } => {
                head.extend_from_slice(br#""aws:kafka","eventSourceArn":"#);
                push_string(&mut head, arn);
            }
            EventSource::SelfManaged => head.extend_from_slice(br#""SelfManagedKafka""#),
        }
        head.extend_from_slice(br#","bootstrapServers":"#);
        push_string(&mut head, &config.bootstrap_servers);
        head.extend_from_slice(br#","records":{"#);
        EventFrame { head }
    }

    /// Size in bytes of an event without partitions.
    pub(crate) fn len(&self) -> usize {
        self.head.len() + TAIL.len()
    }

    /// The event with these records. Those of a partition follow one another.
    pub(crate) fn event<'a>(&self, records: impl Iterator<Item = (&'a TopicPartition, &'a EncodedRecord)>) -> Bytes {
        let mut event = self.head.clone();
        let mut current = None;
        for (of, record) in records {
            if current == Some(of) {
                event.push(b',');
            } else {
                if current.replace(of).is_some() {
                    event.extend_from_slice(b"],");
                }
                push_string(&mut event, &partition_key(of));
                event.extend_from_slice(b":[");
            }
            event.extend_from_slice(&record.json);
        }
        if current.is_some() {
            event.push(b']');
        }
        event.extend_from_slice(TAIL);
        event.into()
    }
}

/// The key of the `records` map, and the `partition` of a partial answer: `<topic>-<partition>`.
pub(crate) fn partition_key(of: &TopicPartition) -> String {
    format!("{}-{}", of.topic, of.partition)
}

/// Bytes that a partition adds to an event besides its records: a comma, the quoted key, a colon, two brackets.
pub(crate) fn partition_overhead(of: &TopicPartition) -> usize {
    partition_key(of).len() + 6
}

/// A record as it appears in the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EncodedRecord {
    pub(crate) offset: i64,
    /// In milliseconds; −1 if it has none.
    pub(crate) timestamp: i64,
    pub(crate) json: Vec<u8>,
    /// Such a record is skipped: it goes to the on-failure destination, if there is one, and its offset is committed.
    pub(crate) undelivered: Option<Undelivered>,
    /// Whether the on-failure destination has it.
    pub(crate) kept: bool,
}

impl EncodedRecord {
    pub(crate) fn new(record: &Record) -> Self {
        let size = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, |bytes| STANDARD.encoded_length(bytes.len()));
        let mut json = Vec::with_capacity(256 + size(&record.key) + size(&record.value));
        json.extend_from_slice(br#"{"topic":"#);
        push_string(&mut json, &record.position.topic);
        let (partition, offset, timestamp) =
            (record.position.partition, record.position.offset, record.timestamp.as_millis());
        // The client does not report the type of the timestamp; our topics keep Kafka's default.
        push_formatted(
            &mut json,
            format_args!(
                r#","partition":{partition},"offset":{offset},"timestamp":{timestamp},"timestampType":"CREATE_TIME""#
            ),
        );
        push_base64(&mut json, br#","key":""#, record.key.as_ref());
        push_base64(&mut json, br#","value":""#, record.value.as_ref());
        json.extend_from_slice(br#","headers":["#);
        for (position, header) in record.headers.0.iter().enumerate() {
            if position > 0 {
                json.push(b',');
            }
            push_header(&mut json, header);
        }
        json.extend_from_slice(b"]}");
        EncodedRecord { offset, timestamp, json, undelivered: None, kept: false }
    }
}

fn push_formatted(json: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to memory does not fail.
    let _ = json.write_fmt(text);
}

fn push_string(json: &mut Vec<u8>, text: &str) {
    // Text always serialises, and writing to memory does not fail.
    let _ = serde_json::to_writer(json, text);
}

/// A missing key or value is not written: AWS does not document whether it writes null instead.
fn push_base64(json: &mut Vec<u8>, name: &[u8], bytes: Option<&Bytes>) {
    if let Some(bytes) = bytes {
        json.extend_from_slice(name);
        STANDARD.encode_append(bytes, json);
        json.push(b'"');
    }
}

/// `{"name":[bytes]}`, each byte signed as in Java.
fn push_header(json: &mut Vec<u8>, header: &Header) {
    json.push(b'{');
    push_string(json, &header.name);
    json.push(b':');
    match &header.value {
        None => json.extend_from_slice(b"null"),
        Some(value) => {
            json.push(b'[');
            for (position, byte) in value.iter().enumerate() {
                if position > 0 {
                    json.push(b',');
                }
                push_signed(json, byte.cast_signed());
            }
            json.push(b']');
        }
    }
    json.push(b'}');
}

/// Most digits of an event are in its headers. This is several times faster than `format!`.
fn push_signed(json: &mut Vec<u8>, number: i8) {
    if number < 0 {
        json.push(b'-');
    }
    let digits = number.unsigned_abs();
    if digits >= 100 {
        json.push(b'1');
    }
    if digits >= 10 {
        json.push(b'0' + digits / 10 % 10);
    }
    json.push(b'0' + digits % 10);
}

#[cfg(test)]
mod tests {
    use ::event::Timestamp;
    use pipeline::{Position, RecordHeaders};

    use super::*;

    fn record(partition: i32, offset: i64) -> Record {
        Record {
            position: Position::new("raw-events", partition, offset),
            timestamp: Timestamp::from_millis(1_545_084_650_987),
            key: Some(Bytes::from_static(b"key")),
            value: Some(Bytes::from_static(b"Hello, this is a test.")),
            headers: RecordHeaders(vec![Header::new("headerKey", "headerValue")]),
            undecodable: None,
        }
    }

    fn event(config: &MappingConfig, records: &[Record]) -> String {
        let mut partitions: Vec<(TopicPartition, Vec<EncodedRecord>)> = Vec::new();
        for record in records {
            let of = TopicPartition::new(record.position.topic.clone(), record.position.partition);
            match partitions.iter_mut().find(|(known, _)| *known == of) {
                Some((_, records)) => records.push(EncodedRecord::new(record)),
                None => partitions.push((of, vec![EncodedRecord::new(record)])),
            }
        }
        let frame = EventFrame::new(config);
        let event =
            frame.event(partitions.iter().flat_map(|(of, records)| records.iter().map(move |record| (of, record))));
        String::from_utf8(event.to_vec()).unwrap()
    }

    fn msk() -> MappingConfig {
        MappingConfig {
            source: EventSource::Msk { arn: "arn:aws:kafka:eu-west-1:123456789012:cluster/forebay/1".into() },
            bootstrap_servers: "b-2:9092,b-1:9092".into(),
            ..MappingConfig::new("f", "t", "g")
        }
    }

    // The two samples below come from the Developer Guide, with our topic and key.
    #[test]
    fn msk_event() {
        let expected = concat!(
            r#"{"eventSource":"aws:kafka","#,
            r#""eventSourceArn":"arn:aws:kafka:eu-west-1:123456789012:cluster/forebay/1","#,
            r#""bootstrapServers":"b-2:9092,b-1:9092","#,
            r#""records":{"raw-events-0":[{"topic":"raw-events","partition":0,"offset":15,"timestamp":1545084650987,"#,
            r#""timestampType":"CREATE_TIME","key":"a2V5","value":"SGVsbG8sIHRoaXMgaXMgYSB0ZXN0Lg==","#,
            r#""headers":[{"headerKey":[104,101,97,100,101,114,86,97,108,117,101]}]}]}}"#
        );
        assert_eq!(event(&msk(), &[record(0, 15)]), expected);
    }

    #[test]
    fn self_managed_event_has_no_arn() {
        let config = MappingConfig { source: EventSource::SelfManaged, ..msk() };
        assert!(
            event(&config, &[record(0, 15)]).starts_with(
                r#"{"eventSource":"SelfManagedKafka","bootstrapServers":"b-2:9092,b-1:9092","records":{""#
            )
        );
    }

    #[test]
    fn mixed_partitions_hostile_headers_and_tombstones_survive_encoding_and_decoding() {
        let odd = Record {
            key: None,
            value: None,
            headers: RecordHeaders(vec![
                Header::new("quote\"\u{1}\u{fc}", (0..=255).collect::<Vec<u8>>()),
                Header { name: "none".into(), value: None },
                Header::new("", Bytes::new()),
            ]),
            ..record(1, 7)
        };
        let records = [record(0, 15), record(0, 16), odd];
        let decoded = lambda::kafka_trigger::decode(&event(&msk(), &records)).unwrap();
        assert!(decoded.iter().all(|record| record.undecodable.is_none()));
        assert_eq!(decoded, records);
    }

    #[test]
    fn header_bytes_are_signed() {
        let mut json = Vec::new();
        push_header(&mut json, &Header::new("h", vec![0, 9, 10, 99, 100, 127, 128, 156, 246, 255]));
        assert_eq!(String::from_utf8(json).unwrap(), r#"{"h":[0,9,10,99,100,127,-128,-100,-10,-1]}"#);
    }

    #[test]
    fn a_header_without_a_value_is_null_and_an_empty_one_is_empty() {
        let written = |value| {
            let mut json = Vec::new();
            push_header(&mut json, &Header { name: "h".into(), value });
            String::from_utf8(json).unwrap()
        };
        assert_eq!(written(None), r#"{"h":null}"#);
        assert_eq!(written(Some(Bytes::new())), r#"{"h":[]}"#);
    }
}
