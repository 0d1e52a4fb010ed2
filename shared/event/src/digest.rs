//! What the broker fixed when it appended a record, in 16 bytes.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::text::serde_as_text;

/// The first half of a SHA-256 over a record's timestamp, key, value and headers. Two records at one position that differ
/// in it are different records: positions come back when a topic is made again, a log loses its tail or a cluster is
/// replaced.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordDigest(pub [u8; RecordDigest::BYTES]);

impl RecordDigest {
    pub const BYTES: usize = 16;

    /// The digest of a record with Kafka's timestamp in milliseconds (−1 if it has none).
    ///
    /// What is absent counts as empty, because not every reader of a record can tell the two apart: a key and a value
    /// that are null, and a header without a value.
    pub fn of<'a>(
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) -> Self {
        let mut hash = Sha256::new();
        hash.update(timestamp.to_be_bytes());
        // With its length before each part, so that no two records give the same bytes.
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        part(key.unwrap_or_default());
        part(value.unwrap_or_default());
        for (name, value) in headers {
            part(name.as_bytes());
            part(value.unwrap_or_default());
        }
        let mut digest = [0; Self::BYTES];
        for (to, from) in digest.iter_mut().zip(hash.finalize()) {
            *to = from;
        }
        RecordDigest(digest)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// 32 hexadecimal digits in lower case.
impl fmt::Display for RecordDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for RecordDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordDigest({self})")
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a digest of a record has 32 hexadecimal digits in lower case")]
pub struct RecordDigestError;

impl FromStr for RecordDigest {
    type Err = RecordDigestError;

    fn from_str(text: &str) -> Result<Self, RecordDigestError> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 2 * Self::BYTES || !text.bytes().all(is_digit) {
            return Err(RecordDigestError);
        }
        let bits = u128::from_str_radix(text, 16).map_err(|_| RecordDigestError)?;
        Ok(RecordDigest(bits.to_be_bytes()))
    }
}

serde_as_text!(RecordDigest, str::parse);

#[cfg(test)]
mod tests {
    use super::*;

    type Headers<'a> = &'a [(&'a str, Option<&'a [u8]>)];

    fn of(timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>, headers: Headers<'_>) -> RecordDigest {
        RecordDigest::of(timestamp, key, value, headers.iter().copied())
    }

    #[test]
    fn what_is_absent_counts_as_empty() {
        let absent = of(5, None, None, &[("a", None)]);
        assert_eq!(absent, of(5, Some(b""), Some(b""), &[("a", Some(b""))]));
        assert_ne!(absent, of(5, None, None, &[]), "a header without a value is a header");
    }

    #[test]
    fn every_part_counts_where_it_stands() {
        let digests = [
            of(1, Some(b"k"), Some(b"v"), &[("h", Some(b"x"))]),
            of(-1, Some(b"k"), Some(b"v"), &[("h", Some(b"x"))]),
            of(1, Some(b"kv"), None, &[("h", Some(b"x"))]),
            of(1, None, Some(b"kv"), &[("h", Some(b"x"))]),
            of(1, Some(b"k"), Some(b"v"), &[("hx", None)]),
            of(1, Some(b"k"), Some(b"v"), &[("h", None), ("x", None)]),
            of(1, Some(b"k"), Some(b"v"), &[("x", None), ("h", None)]),
        ];
        let different: std::collections::BTreeSet<_> = digests.iter().collect();
        assert_eq!(different.len(), digests.len());
    }

    #[test]
    fn text_form_round_trips() {
        let digest = RecordDigest([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        assert_eq!(digest.to_string(), "000102030405060708090a0b0c0d0eff");
        assert_eq!(digest.to_string().parse::<RecordDigest>().unwrap(), digest);
        for text in ["", "00", "+00102030405060708090a0b0c0d0eff", "000102030405060708090A0B0C0D0EFF"] {
            assert!(text.parse::<RecordDigest>().is_err(), "{text}");
        }
    }
}
