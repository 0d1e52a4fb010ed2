//! Instants as milliseconds since the Unix epoch, a form that Kafka, Postgres and clients can all express.

use std::fmt;
use std::time::Duration;

use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::text::parse_str;

/// Milliseconds since 1970-01-01T00:00:00Z.
///
/// Serialised as an RFC 3339 string with milliseconds, in UTC: `2026-11-20T18:02:00.000Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// The text is not an RFC 3339 instant between the years 0 and 9999.
#[derive(Debug, thiserror::Error)]
#[error("not an RFC 3339 date-time")]
pub struct TimestampError;

impl Timestamp {
    pub const EPOCH: Timestamp = Timestamp(0);

    /// What Kafka gives as the time of a record that has none (`RecordBatch.NO_TIMESTAMP` of its Java client).
    pub const NONE: Timestamp = Timestamp(-1);

    /// Largest instant RFC 3339 can write: 9999-12-31T23:59:59.999Z.
    const MAX_MS: i64 = 253_402_300_799_999;
    /// Smallest: 0000-01-01T00:00:00Z.
    const MIN_MS: i64 = -62_167_219_200_000;

    /// From milliseconds since the epoch; values beyond the years 0 to 9999 are clamped, so that every
    /// `Timestamp` can be written.
    pub const fn from_millis(ms: i64) -> Self {
        if ms > Self::MAX_MS {
            Timestamp(Self::MAX_MS)
        } else if ms < Self::MIN_MS {
            Timestamp(Self::MIN_MS)
        } else {
            Timestamp(ms)
        }
    }

    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down: the unit of DynamoDB's TTL.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Whole minutes since the epoch: the window of the rate limits.
    pub const fn minute(self) -> i64 {
        self.0.div_euclid(60_000)
    }

    /// Reads an RFC 3339 date-time, as its grammar in section 5.6 has it.
    ///
    /// # Errors
    /// [`TimestampError`] if the text is anything else, or no such date or time exists.
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        if !is_rfc3339(text.as_bytes()) {
            return Err(TimestampError);
        }
        let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| TimestampError)?;
        let ms = i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000_000)).map_err(|_| TimestampError)?;
        Ok(Self::from_millis(ms))
    }

    /// Why this time, which a client gave for an event that was received at `received_at`, is hardly true.
    pub fn doubt(self, received_at: Timestamp) -> Option<TimeDoubt> {
        if self < YEAR_2000 {
            Some(TimeDoubt::Before2000)
        } else if self > received_at.plus(A_DAY) {
            Some(TimeDoubt::InTheFuture)
        } else {
            None
        }
    }

    pub fn plus(self, by: Duration) -> Self {
        let ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_add(ms))
    }

    /// Time from `earlier` to `self`; zero if `earlier` is later, as after a clock jump.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// As a date and time in UTC.
    pub fn to_utc(self) -> OffsetDateTime {
        let millis = time::Duration::milliseconds(self.0.rem_euclid(1000));
        OffsetDateTime::from_unix_timestamp(self.as_secs()).map_or(OffsetDateTime::UNIX_EPOCH, |second| second + millis)
    }

    /// As RFC 3339. Every event has several times in it, and writing them with `write!` took 4 % of the CPU of ingest (perf).
    fn to_text(self) -> [u8; 24] {
        let at = self.to_utc();
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let mut put = |place: std::ops::Range<usize>, mut number: u16| {
            for digit in text.iter_mut().take(place.end).skip(place.start).rev() {
                // The rest of a division by ten.
                *digit += u8::try_from(number % 10).unwrap_or_default();
                number /= 10;
            }
        };
        // A `Timestamp` is between the years 0 and 9999.
        put(0..4, u16::try_from(at.year()).unwrap_or_default());
        put(5..7, u8::from(at.month()).into());
        put(8..10, at.day().into());
        put(11..13, at.hour().into());
        put(14..16, at.minute().into());
        put(17..19, at.second().into());
        put(20..23, at.millisecond());
        text
    }
}

/// Clocks that were never set begin in 1970 or 1980.
const YEAR_2000: Timestamp = Timestamp(946_684_800_000);
/// The time zones are up to 14 hours ahead, for clients that send local times as UTC.
const A_DAY: Duration = Duration::from_secs(86_400);

/// Why the time that a client gave is hardly true. The event is kept with it all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeDoubt {
    Before2000,
    /// More than a day after the event was received.
    InTheFuture,
}

impl TimeDoubt {
    pub const ALL: [TimeDoubt; 2] = [TimeDoubt::Before2000, TimeDoubt::InTheFuture];

    pub const fn as_str(self) -> &'static str {
        match self {
            TimeDoubt::Before2000 => "before-2000",
            TimeDoubt::InTheFuture => "in-the-future",
        }
    }
}

impl Serialize for TimeDoubt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What `time` does not check: the letter between date and time, and an offset of at most 23:59.
fn is_rfc3339(text: &[u8]) -> bool {
    let has_letter = matches!(text.get(10), Some(b'T' | b't'));
    let has_offset = match text.split_last_chunk::<6>() {
        Some((_, [b'+' | b'-', tens, ones, b':', _, _])) => (*tens, *ones) <= (b'2', b'3'),
        Some(_) | None => matches!(text.last(), Some(b'Z' | b'z')),
    };
    has_letter && has_offset
}

impl From<OffsetDateTime> for Timestamp {
    fn from(at: OffsetDateTime) -> Self {
        Self::from_millis(i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000_000)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.to_text()).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(&self.to_text()).map_err(S::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_str(deserializer, Timestamp::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_2000_or_more_than_a_day_ahead_is_doubted() {
        let at = |text: &str| Timestamp::parse(text).unwrap();
        let doubt = |text: &str| at(text).doubt(at("2026-11-20T18:02:00Z"));
        assert_eq!(doubt("1999-12-31T23:59:59.999Z"), Some(TimeDoubt::Before2000));
        assert_eq!(doubt("2000-01-01T00:00:00Z"), None);
        assert_eq!(doubt("2026-11-21T18:02:00Z"), None);
        assert_eq!(doubt("2026-11-21T18:02:00.001Z"), Some(TimeDoubt::InTheFuture));
    }

    #[test]
    fn writes_and_reads_rfc3339_in_milliseconds() {
        let at = Timestamp::parse("2015-05-17T12:05:03.0429+02:00").unwrap();
        assert_eq!(at.to_string(), "2015-05-17T10:05:03.042Z");
        assert_eq!(Timestamp::parse(&at.to_string()).unwrap(), at);
    }

    #[test]
    fn writes_every_instant_as_the_time_crate_does() {
        let whole =
            time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
        let some = [
            i64::MIN,
            -62_167_219_199_999,
            -1,
            0,
            1,
            951_782_399_999,
            951_782_400_000,
            1_795_197_720_042,
            253_402_300_799_998,
            i64::MAX,
        ];
        // Two weeks apart, over more than seven thousand years.
        let many = (0..200_000_i64).map(|step| step * 1_234_567_891 - 61_000_000_000_000);
        for ms in some.into_iter().chain(many) {
            let at = Timestamp::from_millis(ms);
            assert_eq!(at.to_string(), at.to_utc().format(whole).unwrap(), "{ms}");
            assert_eq!(Timestamp::from(at.to_utc()), at);
        }
        assert_eq!(serde_json::to_string(&Timestamp::EPOCH).unwrap(), "\"1970-01-01T00:00:00.000Z\"");
    }

    #[test]
    fn refuses_what_is_no_instant() {
        for text in [
            "",
            "yesterday",
            "2015-05-17",
            "2015-13-17T00:00:00Z",
            "1431857103",
            "2015-05-17 12:05:03Z",
            "2015-05-17_12:05:03Z",
            "2015-05-17T12:05:03",
            "2015-05-17T12:05:03+24:00",
            "2015-05-17T12:05:03+25:59",
            "2015-05-17T12:05:03+02:60",
            "2015-05-17T12:05:03+0200",
            "2015-05-17T12:05:03+02",
            "2015-05-17T12:05:03.Z",
            "2015-05-17T12:05:03,5Z",
            "2015-05-17T12:05Z",
            "2015-05-17T24:00:00Z",
            "2015-05-17T12:05:61Z",
            "2015-02-29T12:05:03Z",
            "2015-5-17T12:05:03Z",
            "+2015-05-17T12:05:03Z",
            "2015-05-17T12:05:03Z ",
            "2015-05-17T12:05:03 Z",
        ] {
            assert!(Timestamp::parse(text).is_err(), "{text}");
        }
        for text in [
            "2015-05-17t12:05:03z",
            "2015-05-17T12:05:03-00:00",
            "2015-05-17T12:05:03+23:59",
            "2015-05-17T12:05:03.123456789123Z",
            "2016-12-31T23:59:60Z",
            "2000-02-29T00:00:00Z",
        ] {
            assert!(Timestamp::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn clamps_to_what_can_be_written() {
        for ms in [i64::MAX, i64::MIN] {
            let at = Timestamp::from_millis(ms);
            assert_eq!(Timestamp::parse(&at.to_string()).unwrap(), at);
        }
    }

    #[test]
    fn minutes_before_the_epoch_round_down() {
        assert_eq!(Timestamp::from_millis(-1).minute(), -1);
    }
}
