//! The rule by which the store, which has the last word on duplicates, treats events as copies of one another.
//!
//! The store knows events by the time they were received. So it finds copies that the claims cannot: those of records
//! too old to claim an id, and all copies if the claims are lost.

use std::time::Duration;

use event::{Origin, PayloadHash, Timestamp};

use crate::{Reason, ReasonTag};

const DAY_MS: i64 = 86_400_000;

/// Whether two events with the same key are copies: they are if they were received on the same UTC day, which is a
/// table partition with a unique key, or less than `window` apart.
pub fn are_copies(a: Timestamp, b: Timestamp, window: Duration) -> bool {
    let day = |at: Timestamp| at.as_millis().div_euclid(DAY_MS);
    day(a) == day(b) || a.since(b).max(b.since(a)) < window
}

/// An event that has a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCopy {
    pub payload_hash: PayloadHash,
    pub origin: Origin,
}

impl StoredCopy {
    /// The reason why a copy with that payload is a duplicate. The detail names the record that is stored.
    pub fn duplicate(&self, payload_hash: PayloadHash) -> Reason {
        let tag = if payload_hash == self.payload_hash { ReasonTag::AlreadyStored } else { ReasonTag::PayloadDiffers };
        Reason::new(tag, self.origin.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_of_one_day_or_within_the_window() {
        let window = Duration::from_secs(3600);
        let are = |a, b| are_copies(Timestamp::from_millis(a), Timestamp::from_millis(b), window);
        assert!(are(0, DAY_MS - 1) && are(DAY_MS - 1, 0));
        assert!(are(DAY_MS - 1, DAY_MS + 3_599_998));
        assert!(!are(DAY_MS - 1, DAY_MS + 3_599_999));
        assert!(are(-1, 0) && !are(-DAY_MS, DAY_MS));
    }

    #[test]
    fn a_duplicate_names_the_stored_record() {
        let copy = StoredCopy { payload_hash: PayloadHash::of(b"x"), origin: "t/1/2".parse().unwrap() };
        assert_eq!(copy.duplicate(PayloadHash::of(b"x")).to_string(), "already-stored: t/1/2");
        assert_eq!(copy.duplicate(PayloadHash::of(b"y")).to_string(), "payload-differs: t/1/2");
    }
}
