//! The position in Kafka at which a record was first written.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::text::parse_str;

/// The topic, partition and offset at which a record was first written, `raw-events/3/1234`.
///
/// A redriven or replayed copy has another position but names the origin of the first record in the header `origin`.
/// Everything idempotent uses the origin as its key, so copies are recognised.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
}

#[derive(Debug, thiserror::Error)]
#[error("an origin must have the form <topic>/<partition>/<offset>")]
pub struct OriginError;

impl Origin {
    pub fn new(topic: impl Into<Arc<str>>, partition: i32, offset: i64) -> Self {
        Origin { topic: topic.into(), partition, offset }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset)
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let mut parts = text.split('/');
        let (Some(topic), Some(partition), Some(offset), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(OriginError);
        };
        let partition: i32 = partition.parse().map_err(|_| OriginError)?;
        let offset: i64 = offset.parse().map_err(|_| OriginError)?;
        // Kafka's own rule for topic names. Anyone can write this header, and its text goes into the ledger. If it had
        // a NUL, Postgres would refuse every batch with this record.
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if topic.is_empty() || topic.len() > 249 || !topic.bytes().all(legal) || partition < 0 || offset < 0 {
            return Err(OriginError);
        }
        Ok(Origin::new(topic, partition, offset))
    }
}

impl Serialize for Origin {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_str(deserializer, str::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        let origin = Origin::new("raw-events", 3, 1234);
        assert_eq!(origin.to_string(), "raw-events/3/1234");
        assert_eq!("raw-events/3/1234".parse::<Origin>().unwrap(), origin);
    }

    #[test]
    fn refuses_malformed_text() {
        for text in
            ["", "a", "a/1", "a/1/2/3", "a/x/2", "/1/2", "a/-1/2", "a/1/-2", "a\0/1/2", "a/1/99999999999999999999"]
        {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }
}
