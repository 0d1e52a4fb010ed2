//! A record as a line of JSON, and back without losing a byte.
//!
//! ```json
//! {"topic":"raw-events","partition":3,"offset":5,"timestamp":1763661600000,"key":"acme/7f",
//!  "headers":[{"name":"event-type","value":"click"}],"value":{"id":"7f","data":{}}}
//! ```
//!
//! (One line in the object; `timestamp` is Kafka's, in milliseconds.) Bytes are written in the most readable form that
//! can be read back exactly. The name of the field says which form it is:
//!
//! | bytes | key, header value | value |
//! |---|---|---|
//! | none (Kafka's null) | `"key":null` | `"value":null` |
//! | one JSON text on one line, without spaces around it, other than `null` | as any text | `"value":…`, as it is |
//! | other UTF-8 | `"key":"…"` | `"value_text":"…"` |
//! | anything else | `"key_base64":"…"` | `"value_base64":"…"` |

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use base64_simd::STANDARD;
use bytes::Bytes;
use event::Timestamp;
use pipeline::{Header, Position, Record, RecordHeaders};
use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

#[derive(Debug, thiserror::Error)]
pub enum LineError {
    #[error("the line does not have the format of the archive")]
    Json(#[from] serde_json::Error),
    #[error("{field} of the record is not base64")]
    Base64 { field: &'static str },
    #[error("{field} of the record is given in more than one form")]
    Ambiguous { field: &'static str },
}

#[derive(Serialize)]
struct LineOut<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<Base64<'a>>,
    headers: HeadersOut<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Option<&'a RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<Base64<'a>>,
}

#[derive(Serialize)]
struct HeaderOut<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<Base64<'a>>,
}

/// Writes the headers one by one, without allocating a list.
struct HeadersOut<'a>(&'a [Header]);

impl Serialize for HeadersOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut headers = serializer.serialize_seq(Some(self.0.len()))?;
        for header in self.0 {
            let (value, value_base64) = text_or_base64(header.value.as_deref());
            headers.serialize_element(&HeaderOut { name: &header.name, value, value_base64 })?;
        }
        headers.end()
    }
}

struct Base64<'a>(&'a [u8]);

impl fmt::Display for Base64<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode_to_string(self.0))
    }
}

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The two fields of a key or header value; exactly one of them is written.
fn text_or_base64(bytes: Option<&[u8]>) -> (Option<Option<&str>>, Option<Base64<'_>>) {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => (Some(None), None),
        Some((_, Ok(text))) => (Some(Some(text)), None),
        Some((bytes, Err(_))) => (None, Some(Base64(bytes))),
    }
}

/// The value as JSON, if a reader gets exactly these bytes back.
fn embeddable(value: &[u8]) -> Option<&RawValue> {
    // A line break would end the line. This is checked first because it costs far less than parsing.
    if value.contains(&b'\n') || value.contains(&b'\r') || value == b"null" {
        return None;
    }
    // A parser drops the spaces around a JSON text.
    serde_json::from_slice::<&RawValue>(value).ok().filter(|json| json.get().len() == value.len())
}

/// Appends the record's line, line feed included. The same record always gives the same bytes.
///
/// # Errors
/// None is known: the line is written to memory, and every field can be written as JSON.
pub fn encode(record: &Record, line: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    let (key, key_base64) = text_or_base64(record.key.as_deref());
    let (value, value_text, value_base64) = match record.value.as_deref() {
        None => (Some(None), None, None),
        Some(bytes) => match (embeddable(bytes), std::str::from_utf8(bytes)) {
            (Some(json), _) => (Some(Some(json)), None, None),
            (None, Ok(text)) => (None, Some(text), None),
            (None, Err(_)) => (None, None, Some(Base64(bytes))),
        },
    };
    let out = LineOut {
        topic: &record.position.topic,
        partition: record.position.partition,
        offset: record.position.offset,
        timestamp: record.timestamp.as_millis(),
        key,
        key_base64,
        headers: HeadersOut(&record.headers.0),
        value,
        value_text,
        value_base64,
    };
    serde_json::to_writer(&mut *line, &out)?;
    line.push(b'\n');
    Ok(())
}

#[derive(Deserialize)]
struct LineIn<'a> {
    #[serde(borrow)]
    topic: Cow<'a, str>,
    partition: i32,
    offset: i64,
    timestamp: i64,
    #[serde(borrow, default)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    key_base64: Option<Cow<'a, str>>,
    #[serde(borrow)]
    headers: Vec<HeaderIn<'a>>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    value_text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    value_base64: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct HeaderIn<'a> {
    name: String,
    #[serde(borrow, default)]
    value: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    value_base64: Option<Cow<'a, str>>,
}

/// The offset alone.
#[derive(Deserialize)]
struct OffsetIn {
    offset: i64,
}

/// Reads a line back. If the line has the topic `topic`, the record shares its allocation.
///
/// # Errors
/// If the line does not have the format that [`encode`] writes. Unknown fields are ignored.
pub fn decode(line: &[u8], topic: &Arc<str>) -> Result<Record, LineError> {
    let line: LineIn<'_> = serde_json::from_slice(line)?;
    let topic = if *line.topic == **topic { Arc::clone(topic) } else { Arc::from(&*line.topic) };
    let headers = line.headers.into_iter().map(|header| {
        let value = one_form("a header's value", header.value.map(text_bytes), header.value_base64)?;
        Ok(Header { name: header.name.into(), value })
    });
    let json = line.value.map(|json| Bytes::copy_from_slice(json.get().as_bytes()));
    let value = match (json, line.value_text) {
        (Some(_), Some(_)) => return Err(LineError::Ambiguous { field: "the value" }),
        (json, text) => json.or(text.map(text_bytes)),
    };
    Ok(Record {
        position: Position::new(topic, line.partition, line.offset),
        timestamp: Timestamp::from_millis(line.timestamp),
        key: one_form("the key", line.key.map(text_bytes), line.key_base64)?,
        value: one_form("the value", value, line.value_base64)?,
        headers: RecordHeaders(headers.collect::<Result<_, LineError>>()?),
        undecodable: None,
    })
}

/// The offset of a line; the rest of the line is not read.
///
/// # Errors
/// If the line is not a JSON object with an offset.
pub fn decode_offset(line: &[u8]) -> Result<i64, LineError> {
    Ok(serde_json::from_slice::<OffsetIn>(line)?.offset)
}

fn text_bytes(text: Cow<'_, str>) -> Bytes {
    Bytes::from(text.into_owned())
}

fn one_form(
    field: &'static str,
    plain: Option<Bytes>,
    base64: Option<Cow<'_, str>>,
) -> Result<Option<Bytes>, LineError> {
    match (plain, base64) {
        (Some(_), Some(_)) => Err(LineError::Ambiguous { field }),
        (plain, None) => Ok(plain),
        (None, Some(text)) => match STANDARD.decode_to_vec(text.as_bytes()) {
            Ok(bytes) => Ok(Some(Bytes::from(bytes))),
            Err(_) => Err(LineError::Base64 { field }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: Option<&[u8]>, value: Option<&[u8]>, headers: Vec<Header>) -> Record {
        Record {
            position: Position::new("raw-events", 3, 5),
            timestamp: Timestamp::from_millis(1_763_661_600_000),
            key: key.map(Bytes::copy_from_slice),
            value: value.map(Bytes::copy_from_slice),
            headers: RecordHeaders(headers),
            undecodable: None,
        }
    }

    fn line_of(record: &Record) -> String {
        let mut line = Vec::new();
        encode(record, &mut line).unwrap();
        String::from_utf8(line).unwrap()
    }

    fn round_trip(record: &Record) {
        let line = line_of(record);
        assert_eq!(line.bytes().filter(|byte| matches!(byte, b'\n' | b'\r')).count(), 1, "{line:?}");
        let topic = Arc::clone(&record.position.topic);
        assert_eq!(decode(line.as_bytes(), &topic).unwrap(), *record, "{line}");
        assert_eq!(decode_offset(line.as_bytes()).unwrap(), record.position.offset);
    }

    #[test]
    fn a_line_is_readable_json() {
        let headers = vec![
            Header::new("event-type", "click"),
            Header { name: "empty".into(), value: None },
            Header::new("odd", Bytes::from_static(b"\xff")),
        ];
        assert_eq!(
            line_of(&record(Some(b"acme/7f"), Some(br#"{"b": 1.0,"a":[]}"#), headers)),
            concat!(
                r#"{"topic":"raw-events","partition":3,"offset":5,"timestamp":1763661600000,"key":"acme/7f","#,
                r#""headers":[{"name":"event-type","value":"click"},{"name":"empty","value":null},"#,
                r#"{"name":"odd","value_base64":"/w=="}],"value":{"b": 1.0,"a":[]}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn each_kind_of_bytes_has_its_field() {
        let tail = |key: Option<&[u8]>, value: Option<&[u8]>| {
            let line = line_of(&record(key, value, vec![]));
            line.split_once(r#""timestamp":1763661600000,"#).unwrap().1.trim_end().to_owned()
        };
        assert_eq!(tail(None, None), r#""key":null,"headers":[],"value":null}"#);
        assert_eq!(tail(Some(b""), Some(b"")), r#""key":"","headers":[],"value_text":""}"#);
        assert_eq!(tail(None, Some(b"null")), r#""key":null,"headers":[],"value_text":"null"}"#);
        assert_eq!(tail(None, Some(b" {}")), r#""key":null,"headers":[],"value_text":" {}"}"#);
        assert_eq!(tail(None, Some(b"{\n}")), r#""key":null,"headers":[],"value_text":"{\n}"}"#);
        assert_eq!(tail(None, Some(b"{}{}")), r#""key":null,"headers":[],"value_text":"{}{}"}"#);
        assert_eq!(
            tail(Some(b"\xff"), Some(b"\"\xff\"")),
            r#""key_base64":"/w==","headers":[],"value_base64":"Iv8i"}"#
        );
    }

    #[test]
    fn awkward_bytes_come_back() {
        let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
        let values: [&[u8]; 18] = [
            b"",
            b"null",
            b"true",
            b"-0",
            b"1E400",
            b"12345678901234567890123456789.0000",
            b"\"\"",
            br#""\ud800""#,
            br#"{"a":1,"a":2}"#,
            br#"{"$serde_json::private::RawValue":"x"}"#,
            b"{} ",
            b"\t{}",
            b"{\"a\":\r\n1}",
            b"{\"a\":\x00}",
            "\u{feff}{}".as_bytes(),
            "\"\u{2028}\u{0}\u{1f}\"".as_bytes(),
            b"\xed\xa0\x80",
            &deep,
        ];
        for value in values {
            let header = Header::new("h", Bytes::copy_from_slice(value));
            round_trip(&record(Some(value), Some(value), vec![header.clone(), header]));
        }
        round_trip(&record(None, None, vec![Header { name: "\"\n\u{0}é".into(), value: None }]));
    }

    /// Random bytes, made of parts that have a meaning in JSON, UTF-8 or lines.
    #[test]
    fn random_bytes_come_back() {
        const PIECES: [&[u8]; 20] = [
            b"{",
            b"}",
            b"[",
            b"]",
            b"\"",
            b":",
            b",",
            b"null",
            b"1",
            b"e",
            b" ",
            b"\n",
            b"\r",
            b"\\",
            b"\\u",
            b"d8",
            b"\x00",
            b"\xff",
            b"\xc3\xa9",
            b"\xe2\x80",
        ];
        let mut random = fastrand::Rng::with_seed(7);
        let bytes = |random: &mut fastrand::Rng| {
            let pieces = random.usize(0..9);
            (0..pieces).flat_map(|_| PIECES[random.usize(0..PIECES.len())]).copied().collect::<Vec<u8>>()
        };
        for _ in 0..20_000 {
            let (key, value, header) = (bytes(&mut random), bytes(&mut random), bytes(&mut random));
            let name = String::from_utf8_lossy(&bytes(&mut random)).into_owned();
            round_trip(&record(Some(&key), Some(&value), vec![Header::new(name, header)]));
        }
    }

    #[test]
    fn other_lines_are_refused() {
        let topic = Arc::from("raw-events");
        let refused = |line: &str| decode(line.as_bytes(), &topic).unwrap_err();
        let line = line_of(&record(Some(b"k"), Some(b"{}"), vec![]));
        assert!(matches!(refused(&line.replace("}}", "}")), LineError::Json(_)));
        assert!(matches!(refused(""), LineError::Json(_)));
        assert!(matches!(
            refused(&line.replace(r#""value":{}"#, r#""value":{},"value_text":"{}""#)),
            LineError::Ambiguous { field: "the value" }
        ));
        assert!(matches!(
            refused(&line.replace(r#""key":"k""#, r#""key":"k","key_base64":"aw==""#)),
            LineError::Ambiguous { field: "the key" }
        ));
        assert!(matches!(
            refused(&line.replace(r#""value":{}"#, r#""value_base64":"%""#)),
            LineError::Base64 { field: "the value" }
        ));
    }
}
