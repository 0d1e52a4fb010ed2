//! The end of a topic, as operators see it. What is in a record is shown only to who asks for it: it is what clients sent.

use std::collections::BTreeMap;
use std::time::Duration;

use event::Timestamp;
use pipeline::Record;
use pipeline::ports::TopicSource as _;
use serde::Serialize;
use tokio::time::Instant;

use crate::app::App;
use crate::error::MaintainerError;
use crate::request::TopicName;

/// Longest time that is read.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest wait for one read.
const READ_WAIT: Duration = Duration::from_secs(1);
/// Longest text of a header or a key, and of a value, in characters. A hundred values fit into an answer of Lambda.
const SHORT_CHARS: usize = 256;
const VALUE_CHARS: usize = 8_000;

/// The answer to `tail-topic`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct LastRecords {
    topic: &'static str,
    /// Those that were written last, the oldest of them first.
    records: Vec<ShownRecord>,
    /// Whether the topic was read to the end that it had when the request came.
    complete: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ShownRecord {
    partition: i32,
    offset: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    headers: BTreeMap<String, String>,
    /// Length of the value; `None` for a tombstone.
    bytes: Option<usize>,
    /// If it was asked for. Bytes that are not UTF-8 are replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// Whether the value is longer than what is shown.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
}

/// The last records of a topic, over all its partitions.
pub(crate) async fn last_records(
    app: &App,
    TopicName(topic): TopicName,
    count: usize,
    shows_values: bool,
) -> Result<LastRecords, MaintainerError> {
    let kafka = app.kafka().await?;
    let marks = kafka.topics().watermarks(topic).await.map_err(MaintainerError::topics)?;
    // All of them may be in one partition.
    let before = i64::try_from(count).unwrap_or(i64::MAX);
    let from: BTreeMap<i32, i64> =
        marks.iter().map(|of| (of.partition, of.latest.saturating_sub(before).max(of.earliest))).collect();
    let mut reader = kafka.open(topic, &from).await.map_err(MaintainerError::Log)?;
    let deadline = Instant::now() + PATIENCE;
    let mut records = Vec::new();
    let is_finished =
        |reader: &dyn pipeline::ports::TopicReader| reader.spans().values().all(|span| span.is_finished());
    while !is_finished(&*reader) && Instant::now() < deadline {
        let read = reader.read(READ_WAIT).await.map_err(MaintainerError::Log)?;
        records.extend(read.into_iter().map(|record| ShownRecord::of(record, shows_values)));
        // Not all that was read is kept: records may be large, and partitions many.
        records.sort_by_key(|record: &ShownRecord| (record.timestamp, record.partition, record.offset));
        records.drain(..records.len().saturating_sub(count));
    }
    Ok(LastRecords { topic, records, complete: is_finished(&*reader) })
}

impl ShownRecord {
    fn of(record: Record, shows_value: bool) -> Self {
        let Record { position, timestamp, key, value, headers, undecodable: _ } = record;
        let header = |header: pipeline::Header| {
            (header.name.to_string(), header.value.map(|value| bounded(&value, SHORT_CHARS).0).unwrap_or_default())
        };
        let (text, cut) = value
            .as_ref()
            .filter(|_| shows_value)
            .map(|value| bounded(value, VALUE_CHARS))
            .map_or((None, false), |(text, cut)| (Some(text), cut));
        ShownRecord {
            partition: position.partition,
            offset: position.offset,
            timestamp: Some(timestamp).filter(|timestamp| *timestamp != Timestamp::NONE),
            key: key.map(|key| bounded(&key, SHORT_CHARS).0),
            headers: headers.0.into_iter().map(header).collect(),
            bytes: value.as_ref().map(|value| value.len()),
            value: text,
            cut,
        }
    }
}

/// The first characters of a text, and whether there are more.
fn bounded(bytes: &[u8], chars: usize) -> (String, bool) {
    let text = String::from_utf8_lossy(bytes);
    match text.char_indices().nth(chars) {
        Some((end, _)) => (text.get(..end).unwrap_or_default().to_owned(), true),
        None => (text.into_owned(), false),
    }
}

#[cfg(test)]
mod tests {
    use pipeline::{Header, Position, RecordHeaders};

    use super::*;

    #[test]
    fn a_record_is_shown_without_what_is_in_it_unless_that_is_asked_for() {
        let record = || Record {
            position: Position::new("raw-events", 3, 7),
            timestamp: Timestamp::NONE,
            key: Some("acme".into()),
            value: Some(vec![b'x'; VALUE_CHARS + 1].into()),
            headers: RecordHeaders(vec![Header { name: "tenant".into(), value: Some("acme".into()) }]),
            undecodable: None,
        };
        let without = ShownRecord::of(record(), false);
        assert_eq!((&without.value, without.cut, without.bytes), (&None, false, Some(VALUE_CHARS + 1)));
        assert_eq!((without.timestamp, without.key.as_deref()), (None, Some("acme")));
        assert_eq!(without.headers["tenant"], "acme");
        let with = ShownRecord::of(record(), true);
        assert_eq!((with.value.unwrap().len(), with.cut), (VALUE_CHARS, true));
        let tombstone = ShownRecord::of(Record { value: None, ..record() }, true);
        assert_eq!((tombstone.bytes, tombstone.value), (None, None));
        assert_eq!(bounded("aé😀".as_bytes(), 3), ("aé😀".to_owned(), false));
        assert_eq!(bounded("aé😀".as_bytes(), 2), ("aé".to_owned(), true));
        assert_eq!(bounded(&[0xff, b'a'], 1), ("\u{fffd}".to_owned(), true));
    }
}
