//! A Kafka record, as the pipeline represents it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use event::{Origin, RecordDigest, Timestamp};

use crate::TraceContext;

/// Topic names (DESIGN section 3).
pub mod topic {
    pub const RAW_EVENTS: &str = "raw-events";
    pub const PROCESSED_EVENTS: &str = "processed-events";
    pub const DEAD_LETTER_EVENTS: &str = "dead-letter-events";
    pub const ALL: [&str; 3] = [RAW_EVENTS, PROCESSED_EVENTS, DEAD_LETTER_EVENTS];
}

/// Consumer groups: each is one function's on one topic (DESIGN section 3).
pub mod group {
    use super::topic::{PROCESSED_EVENTS, RAW_EVENTS};

    pub const PROCESSOR: &str = "processor";
    pub const ARCHIVER_RAW: &str = "archiver-raw";
    pub const ARCHIVER_OUTCOMES: &str = "archiver-outcomes";
    /// There is none without webhooks.
    pub const NOTIFIER: &str = "notifier";
    /// Each with its topic.
    pub const ALL: [(&str, &str); 4] = [
        (PROCESSOR, RAW_EVENTS),
        (ARCHIVER_RAW, RAW_EVENTS),
        (ARCHIVER_OUTCOMES, PROCESSED_EVENTS),
        (NOTIFIER, PROCESSED_EVENTS),
    ];
}

/// Header names (DESIGN sections 3 and 10).
pub mod header {
    pub const EVENT_ID: &str = "event-id";
    pub const EVENT_TYPE: &str = "event-type";
    pub const TRACEPARENT: &str = "traceparent";
    /// The origin of the first copy ([`event::Origin`]); only on redriven or replayed copies, outcomes and dead letters.
    pub const ORIGIN: &str = "origin";
    /// The first copy's Kafka timestamp, in milliseconds; goes with `origin`.
    pub const ORIGIN_TIMESTAMP: &str = "origin-timestamp";
    pub const ATTEMPT: &str = "attempt";
    /// The outcome, on `processed-events`, so that the archiver can sort without parsing values.
    pub const OUTCOME: &str = "outcome";
    pub const ERROR_CLASS: &str = "error-class";
    pub const ERROR_REASON: &str = "error-reason";
    pub const FAILED_AT: &str = "failed-at";
    /// The key of the object with the record's bytes; only on dead letters of records that are too large.
    pub const QUARANTINE: &str = "quarantine";
    pub const ALL: [&str; 11] = [
        EVENT_ID,
        EVENT_TYPE,
        TRACEPARENT,
        ORIGIN,
        ORIGIN_TIMESTAMP,
        ATTEMPT,
        OUTCOME,
        ERROR_CLASS,
        ERROR_REASON,
        FAILED_AT,
        QUARANTINE,
    ];
}

/// The position of a record in Kafka; the key of `record_outcomes`.
///
/// Unlike an [`Origin`], which is the position of a record's first copy, this is the position of the record itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub topic: Arc<str>,
    pub partition: i32,
    /// Which log of this partition, as the ledger counts them: 0 is the first, and each time that another record is found
    /// at a known position, the next one has begun. Kafka does not know it: 0 in a record that is not recorded yet.
    pub incarnation: i32,
    pub offset: i64,
}

impl Position {
    /// A position as Kafka knows it.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32, offset: i64) -> Self {
        Position { topic: topic.into(), partition, incarnation: 0, offset }
    }

    pub fn in_incarnation(self, incarnation: i32) -> Self {
        Position { incarnation, ..self }
    }

    /// The origin of a record that is its own first copy.
    pub fn as_origin(&self, digest: Option<RecordDigest>) -> Origin {
        Origin { topic: Arc::clone(&self.topic), partition: self.partition, offset: self.offset, digest }
    }
}

/// `raw-events/3/1234`, and `raw-events/3/1234@1` in the first incarnation after the first log.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset)?;
        if self.incarnation == 0 { Ok(()) } else { write!(f, "@{}", self.incarnation) }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a position must have the form <topic>/<partition>/<offset> or <topic>/<partition>/<offset>@<incarnation>")]
pub struct PositionError;

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let (origin, incarnation) = match text.rsplit_once('@') {
            Some((origin, incarnation)) => (origin, incarnation.parse().map_err(|_| PositionError)?),
            None => (text, 0),
        };
        // The rest has the form of an origin from before there were digests.
        match origin.parse() {
            Ok(Origin { topic, partition, offset, digest: None }) if incarnation >= 0 => {
                Ok(Position { topic, partition, incarnation, offset })
            }
            Ok(_) | Err(_) => Err(PositionError),
        }
    }
}

/// A header: Kafka allows any bytes and no value at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Borrowed for the names in [`header`], which are most of them.
    pub name: Cow<'static, str>,
    pub value: Option<Bytes>,
}

impl Header {
    pub fn new(name: impl Into<Cow<'static, str>>, value: impl Into<Bytes>) -> Self {
        Header { name: name.into(), value: Some(value.into()) }
    }

    /// A header of a record that was read. Only a name that is not one of [`header::ALL`] is copied.
    pub fn read(name: &str, value: Option<Bytes>) -> Self {
        let known = header::ALL.into_iter().find(|known| *known == name);
        Header { name: known.map_or_else(|| Cow::Owned(name.to_owned()), Cow::Borrowed), value }
    }
}

/// Headers in their order; names may repeat, and the last one counts, as in Kafka's own `lastHeader`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordHeaders(pub Vec<Header>);

impl RecordHeaders {
    /// The last header of that name, if it has a value.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().rev().find(|header| header.name == name).and_then(|header| header.value.as_deref())
    }

    /// The last header of that name, if it is text that parses.
    pub fn parse<T: FromStr>(&self, name: &str) -> Option<T> {
        std::str::from_utf8(self.get(name)?).ok()?.parse().ok()
    }
}

/// A record as the trigger delivered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub position: Position,
    /// Kafka's timestamp of the record; [`Timestamp::NONE`] if it has none.
    pub timestamp: Timestamp,
    pub key: Option<Bytes>,
    /// `None` is a tombstone.
    pub value: Option<Bytes>,
    pub headers: RecordHeaders,
    /// Why a part of the record could not be decoded from the trigger's text, if so. The field concerned then holds the
    /// text as it was delivered, so that a dead letter loses nothing.
    pub undecodable: Option<&'static str>,
}

impl Record {
    /// What the broker fixed: equal in every delivery of this record, through the trigger and read directly. `None` if it
    /// could not be decoded, because then only a direct reader sees its bytes.
    pub fn digest(&self) -> Option<RecordDigest> {
        if self.undecodable.is_some() {
            return None;
        }
        let headers = self.headers.0.iter().map(|header| (&*header.name, header.value.as_deref()));
        Some(RecordDigest::of(self.timestamp.as_millis(), self.key.as_deref(), self.value.as_deref(), headers))
    }

    /// The record's first copy: the `origin` header, or the record itself, with its digest.
    ///
    /// A header that cannot be parsed is ignored: then the record is its own origin.
    pub fn origin(&self, digest: Option<RecordDigest>) -> Origin {
        self.headers.parse(header::ORIGIN).unwrap_or_else(|| self.position.as_origin(digest))
    }

    /// Kafka's timestamp of the first copy; `None` if it has none.
    pub fn origin_timestamp(&self) -> Option<Timestamp> {
        let header = self.headers.parse::<i64>(header::ORIGIN_TIMESTAMP).map(Timestamp::from_millis);
        [header, Some(self.timestamp)].into_iter().flatten().find(|at| *at != Timestamp::NONE)
    }

    /// Kafka's timestamp of the oldest of these records; `None` if none of them has one.
    pub fn oldest<'a>(records: impl IntoIterator<Item = &'a Record>) -> Option<Timestamp> {
        records.into_iter().map(|record| record.timestamp).filter(|at| *at != Timestamp::NONE).min()
    }

    /// The span that made the record, if a valid header names it.
    pub fn trace(&self) -> Option<TraceContext> {
        TraceContext::parse(self.headers.get(header::TRACEPARENT)?)
    }

    /// How many times the record has been redriven.
    pub fn attempt(&self) -> u32 {
        self.headers.parse(header::ATTEMPT).unwrap_or(0)
    }
}

/// How records come to a function of the Kafka trigger.
#[derive(Debug)]
pub enum Delivery {
    /// As the trigger sends them, ordered by topic, partition and offset.
    Records(Vec<Record>),
    /// As the keys of objects that hold one record each: the redriver sends this for records that fit in no event.
    Objects(Vec<String>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(headers: Vec<Header>) -> Record {
        Record {
            position: Position::new(topic::RAW_EVENTS, 1, 7),
            timestamp: Timestamp::from_millis(5),
            key: None,
            value: None,
            headers: RecordHeaders(headers),
            undecodable: None,
        }
    }

    #[test]
    fn origin_is_the_position_unless_a_header_names_another() {
        let digest = Some(RecordDigest([0; RecordDigest::BYTES]));
        assert_eq!(record(vec![]).origin(digest).to_string(), "raw-events/1/7/00000000000000000000000000000000");
        let redriven = record(vec![Header::new(header::ORIGIN, "raw-events/0/3"), Header::new(header::ATTEMPT, "2")]);
        assert_eq!(redriven.origin(digest).to_string(), "raw-events/0/3");
        assert_eq!(redriven.attempt(), 2);
    }

    #[test]
    fn hostile_headers_are_ignored() {
        let odd = record(vec![
            Header::new(header::ORIGIN, Bytes::from_static(b"\xff\xfe")),
            Header { name: header::ATTEMPT.into(), value: None },
            Header::new(header::ORIGIN_TIMESTAMP, "soon"),
        ]);
        assert_eq!(odd.origin(odd.digest()), odd.position.as_origin(odd.digest()));
        assert_eq!(odd.attempt(), 0);
        assert_eq!(odd.origin_timestamp(), Some(odd.timestamp));
        let undated = Record { timestamp: Timestamp::NONE, ..odd };
        assert_eq!(undated.origin_timestamp(), None);
    }

    #[test]
    fn the_text_of_a_position_round_trips() {
        let first = Position::new("raw-events", 3, 12);
        for (position, text) in [(first.clone(), "raw-events/3/12"), (first.in_incarnation(2), "raw-events/3/12@2")] {
            assert_eq!(position.to_string(), text);
            assert_eq!(text.parse::<Position>().unwrap(), position);
        }
        for text in ["", "raw-events/3", "raw-events/3/12@", "raw-events/3/12@-1", "a@1/3/12"] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }

    #[test]
    fn last_header_of_a_name_counts() {
        let record = record(vec![Header::new("a", "1"), Header::new("a", "2")]);
        assert_eq!(record.headers.get("a"), Some(&b"2"[..]));
    }
}
