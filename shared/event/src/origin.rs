//! The identity of a record: where in Kafka it was first written, and what.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::digest::RecordDigest;
use crate::text::serde_as_text;

/// The topic, partition and offset at which a record was first written, and the digest of what was written there:
/// `raw-events/3/1234/` and 32 hexadecimal digits.
///
/// A redriven or replayed copy has another position but names the origin of the first record in the header `origin`.
/// Everything idempotent uses the origin as its key, so copies are recognised.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
    /// `None` in what was written before origins had digests. Other producers may also leave it out of the header.
    pub digest: Option<RecordDigest>,
}

/// Whether Kafka would take it as the name of a topic (`Topic.validate` of its Java client, but for `.` and `..`).
pub fn is_topic_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && name.bytes().all(legal)
}

#[derive(Debug, thiserror::Error)]
#[error("an origin must have the form <topic>/<partition>/<offset>/<digest>, or without the digest")]
pub struct OriginError;

impl Origin {
    pub fn new(topic: impl Into<Arc<str>>, partition: i32, offset: i64) -> Self {
        Origin { topic: topic.into(), partition, offset, digest: None }
    }

    pub fn with_digest(self, digest: Option<RecordDigest>) -> Self {
        Origin { digest, ..self }
    }

    /// Whether both name the same record. One without a digest names any record at its position.
    pub fn is_same(&self, other: &Origin) -> bool {
        let digests_agree = match (self.digest, other.digest) {
            (Some(digest), Some(other)) => digest == other,
            (None, _) | (_, None) => true,
        };
        digests_agree && (self.offset, self.partition, &*self.topic) == (other.offset, other.partition, &*other.topic)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset)?;
        match self.digest {
            Some(digest) => write!(f, "/{digest}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let mut parts = text.split('/');
        let (Some(topic), Some(partition), Some(offset), digest, None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(OriginError);
        };
        let digest = digest.map(str::parse).transpose().map_err(|_| OriginError)?;
        let partition: i32 = partition.parse().map_err(|_| OriginError)?;
        let offset: i64 = offset.parse().map_err(|_| OriginError)?;
        // Anyone can write this header, and its text goes into the ledger. If it had a NUL, Postgres would refuse every
        // batch with this record.
        if !is_topic_name(topic) || partition < 0 || offset < 0 {
            return Err(OriginError);
        }
        Ok(Origin::new(topic, partition, offset).with_digest(digest))
    }
}

serde_as_text!(Origin, str::parse);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        let origin = Origin::new("raw-events", 3, 1234);
        let digested = origin.clone().with_digest(Some(RecordDigest([1; RecordDigest::BYTES])));
        let text = "raw-events/3/1234/01010101010101010101010101010101";
        for (origin, text) in [(origin, "raw-events/3/1234"), (digested, text)] {
            assert_eq!(origin.to_string(), text);
            assert_eq!(text.parse::<Origin>().unwrap(), origin);
        }
    }

    #[test]
    fn an_origin_without_a_digest_names_any_record_at_its_position() {
        let of = |digest: Option<u8>| {
            Origin::new("t", 1, 2).with_digest(digest.map(|byte| RecordDigest([byte; RecordDigest::BYTES])))
        };
        assert!(of(Some(1)).is_same(&of(Some(1))) && of(None).is_same(&of(Some(1))) && of(Some(1)).is_same(&of(None)));
        assert!(!of(Some(1)).is_same(&of(Some(2))));
        assert!(!of(None).is_same(&Origin::new("t", 1, 3)) && !of(None).is_same(&Origin::new("u", 1, 2)));
    }

    #[test]
    fn refuses_malformed_text() {
        for text in [
            "",
            "a",
            "a/1",
            "a/1/2/3",
            "a/1/2/",
            "a/1/2/3/4",
            "a/x/2",
            "/1/2",
            "a/-1/2",
            "a/1/-2",
            "a\0/1/2",
            "a/1/99999999999999999999",
        ] {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }
}
