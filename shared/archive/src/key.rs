//! The names of objects.
//!
//! ```text
//! raw/topic=raw-events/dt=2026-11-20/hour=18/partition=3/00000000000000000005-00000000000000000009.ndjson.zst
//! outcomes/status=valid/dt=2026-11-20/hour=18/partition=3/00000000000000000005-00000000000000000009.n3.ndjson.zst
//! ```
//!
//! Offsets have 20 digits, so names sort as numbers do. An object without `.n<count>` in its name holds every offset
//! from first to last: it is **dense**, and its name alone shows which offsets it covers. Otherwise the object has
//! gaps, and the name says how many records it holds. The records in the gaps have another hour or status and are in
//! other objects. `.x<digest>` distinguishes objects of the same range whose bytes differ (see [`crate::writer`]).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use event::Timestamp;
use pipeline::{Outcome, Record, header, topic};

const MS_PER_HOUR: i64 = 3_600_000;
const EXTENSION: &str = ".ndjson.zst";

/// The outcome of a record's event, for the prefix `outcomes/status=…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    Known(Outcome),
    /// The `outcome` header is missing or unknown. The record is archived anyway.
    Unknown,
}

impl Status {
    pub const ALL: [Status; 6] = [
        Status::Known(Outcome::Valid),
        Status::Known(Outcome::Fraud),
        Status::Known(Outcome::Duplicate),
        Status::Known(Outcome::Blocked),
        Status::Known(Outcome::DeadLettered),
        Status::Unknown,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Known(outcome) => outcome.as_str(),
            Status::Unknown => "unknown",
        }
    }

    /// The status of an outcome record; `None` for records of other topics. Read from the `outcome` header, so that the
    /// value does not have to be parsed.
    pub fn of(record: &Record) -> Option<Self> {
        if *record.position.topic != *topic::PROCESSED_EVENTS {
            return None;
        }
        Some(record.headers.parse::<Outcome>(header::OUTCOME).map_or(Status::Unknown, Status::Known))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not the name of an archive object, nor a part of one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of an archive object")]
pub struct NotAnArchiveKey;

impl FromStr for Status {
    type Err = NotAnArchiveKey;

    fn from_str(text: &str) -> Result<Self, NotAnArchiveKey> {
        Status::ALL.into_iter().find(|status| status.as_str() == text).ok_or(NotAnArchiveKey)
    }
}

/// The first part of an object's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Series {
    /// `raw/topic=…`: the records of a topic other than `processed-events`.
    Raw { topic: Arc<str> },
    /// `outcomes/status=…`: the records of `processed-events`, by outcome.
    Outcomes { status: Status },
}

impl Series {
    pub fn of(record: &Record) -> Self {
        match Status::of(record) {
            Some(status) => Series::Outcomes { status },
            None => Series::Raw { topic: Arc::clone(&record.position.topic) },
        }
    }

    /// The Kafka topic of the records.
    pub fn topic(&self) -> &str {
        match self {
            Series::Raw { topic } => topic,
            Series::Outcomes { .. } => topic::PROCESSED_EVENTS,
        }
    }
}

impl fmt::Display for Series {
    /// The prefix, without a slash at the end. Kafka allows only letters, digits, `.`, `_` and `-` in topic names, so
    /// nothing needs escaping.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Series::Raw { topic } => write!(f, "raw/topic={topic}"),
            Series::Outcomes { status } => write!(f, "outcomes/status={status}"),
        }
    }
}

/// An hour in UTC, or that of all records without a time, which is before every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour {
    /// Counted from the epoch.
    known: Option<i64>,
}

impl Hour {
    pub const UNKNOWN: Hour = Hour { known: None };

    pub fn of(at: Timestamp) -> Self {
        Hour { known: (at != Timestamp::NONE).then(|| at.as_millis().div_euclid(MS_PER_HOUR)) }
    }

    /// Days since the epoch.
    pub(crate) fn day(self) -> Option<i64> {
        Some(self.known?.div_euclid(24))
    }
}

/// `dt=YYYY-MM-DD` of a day counted from the epoch.
pub(crate) fn day_name(day: i64) -> String {
    let at = Timestamp::from_millis(day.saturating_mul(24 * MS_PER_HOUR)).to_utc();
    format!("dt={:04}-{:02}-{:02}", at.year(), u8::from(at.month()), at.day())
}

impl fmt::Display for Hour {
    /// `dt=YYYY-MM-DD/hour=HH`, or `dt=unknown/hour=00`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known {
            Some(hour) => write!(f, "{}/hour={:02}", day_name(hour.div_euclid(24)), hour.rem_euclid(24)),
            None => f.write_str("dt=unknown/hour=00"),
        }
    }
}

/// First 48 bits of the SHA-256 of an object's body: enough to distinguish the few bodies of one range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BodyDigest(u64);

impl BodyDigest {
    pub fn of(body: &[u8]) -> Self {
        use sha2::{Digest as _, Sha256};
        let hash = Sha256::digest(body);
        BodyDigest(hash.iter().take(6).fold(0, |digest, byte| digest << 8 | u64::from(*byte)))
    }
}

/// The parsed name of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectKey {
    pub series: Series,
    pub hour: Hour,
    pub partition: i32,
    /// Lowest offset in the object.
    pub first: i64,
    /// Highest offset in the object.
    pub last: i64,
    /// Number of records in the object. No two have the same offset.
    pub records: u64,
    /// Only set if the plain name was taken by an object with different bytes.
    pub digest: Option<BodyDigest>,
}

impl ObjectKey {
    /// The number of offsets from first to last.
    pub fn span(&self) -> u64 {
        u64::try_from(self.last.saturating_sub(self.first)).unwrap_or(0).saturating_add(1)
    }

    /// Whether it holds every offset from first to last.
    pub fn is_dense(&self) -> bool {
        self.records == self.span()
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ObjectKey { series, hour, partition, first, last, records, digest } = self;
        write!(f, "{series}/{hour}/partition={partition}/{first:020}-{last:020}")?;
        if !self.is_dense() {
            write!(f, ".n{records}")?;
        }
        if let Some(BodyDigest(digest)) = digest {
            write!(f, ".x{digest:012x}")?;
        }
        f.write_str(EXTENSION)
    }
}

impl FromStr for ObjectKey {
    type Err = NotAnArchiveKey;

    fn from_str(text: &str) -> Result<Self, NotAnArchiveKey> {
        let key = parse(text).ok_or(NotAnArchiveKey)?;
        // Other spellings of the same values are not names that we write.
        if key.to_string() == text { Ok(key) } else { Err(NotAnArchiveKey) }
    }
}

fn parse(text: &str) -> Option<ObjectKey> {
    let mut levels = text.split('/');
    let family = levels.next()?;
    let series = match (family, levels.next()?.split_once('=')?) {
        ("raw", ("topic", topic)) => Series::Raw { topic: Arc::from(topic) },
        ("outcomes", ("status", status)) => Series::Outcomes { status: status.parse().ok()? },
        _ => return None,
    };
    let day = levels.next()?.strip_prefix("dt=")?;
    let hour = levels.next()?.strip_prefix("hour=")?;
    let hour = match day {
        "unknown" => Hour::UNKNOWN,
        day => Hour::of(Timestamp::parse(&format!("{day}T{hour}:00:00Z")).ok()?),
    };
    let partition = levels.next()?.strip_prefix("partition=")?.parse().ok()?;
    let name = levels.next()?.strip_suffix(EXTENSION)?;
    if levels.next().is_some() {
        return None;
    }
    let mut parts = name.split('.');
    let (first, last) = parts.next()?.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    let mut key = ObjectKey { series, hour, partition, first, last, records: 0, digest: None };
    key.records = key.span();
    for part in parts {
        if let Some(records) = part.strip_prefix('n') {
            key.records = records.parse().ok()?;
        } else {
            key.digest = Some(BodyDigest(u64::from_str_radix(part.strip_prefix('x')?, 16).ok()?));
        }
    }
    (0 <= first && first <= last && 0 < key.records && key.records <= key.span()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(records: u64, digest: Option<BodyDigest>) -> ObjectKey {
        ObjectKey {
            series: Series::Raw { topic: Arc::from(topic::RAW_EVENTS) },
            hour: Hour::of(Timestamp::parse("2026-11-20T18:59:59.999Z").unwrap()),
            partition: 3,
            first: 5,
            last: 9,
            records,
            digest,
        }
    }

    #[test]
    fn names_are_as_designed_and_read_back() {
        let dense = "raw/topic=raw-events/dt=2026-11-20/hour=18/partition=3/\
                     00000000000000000005-00000000000000000009.ndjson.zst";
        assert_eq!(key(5, None).to_string(), dense);
        assert_eq!(dense.parse(), Ok(key(5, None)));

        let sparse = key(3, Some(BodyDigest(0xab)));
        let text = sparse.to_string();
        assert!(text.ends_with("00000000000000000005-00000000000000000009.n3.x0000000000ab.ndjson.zst"), "{text}");
        assert_eq!(text.parse(), Ok(sparse));

        for status in Status::ALL {
            let outcome = ObjectKey { series: Series::Outcomes { status }, ..key(5, None) };
            assert!(outcome.to_string().starts_with(&format!("outcomes/status={status}/dt=2026-11-20/hour=18/")));
            assert_eq!(outcome.to_string().parse(), Ok(outcome));
        }
    }

    #[test]
    fn hours_before_the_epoch_and_in_the_last_year_have_names() {
        for (at, name) in [
            (Timestamp::NONE, "dt=unknown/hour=00"),
            (Timestamp::from_millis(-2), "dt=1969-12-31/hour=23"),
            (Timestamp::EPOCH, "dt=1970-01-01/hour=00"),
            (Timestamp::from_millis(i64::MAX), "dt=9999-12-31/hour=23"),
            (Timestamp::from_millis(i64::MIN), "dt=0000-01-01/hour=00"),
        ] {
            assert_eq!(Hour::of(at).to_string(), name);
            let key = ObjectKey { hour: Hour::of(at), ..key(5, None) };
            assert_eq!(key.to_string().parse(), Ok(key));
        }
    }

    #[test]
    fn other_names_are_refused() {
        let good = key(5, None).to_string();
        for bad in [
            good.replace("raw/", "parked/"),
            good.replace("topic=", "status="),
            good.replace("hour=18", "hour=24"),
            good.replace("hour=18", "hour=8"),
            good.replace("dt=2026-11-20", "dt=unknown"),
            good.replace("0005-", "005-"),
            good.replace("0005-", "0010-"),
            good.replace(".ndjson", ".n5.ndjson"),
            good.replace(".ndjson", ".n6.ndjson"),
            good.replace(".ndjson", ".n0.ndjson"),
            good.replace(".ndjson", ".tmp.ndjson"),
            good.replace(".zst", ".gz"),
            format!("{good}/x"),
            String::new(),
        ] {
            assert_eq!(bad.parse::<ObjectKey>(), Err(NotAnArchiveKey), "{bad}");
        }
    }
}
