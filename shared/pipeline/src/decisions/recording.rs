//! The rules of the store: which deliveries are of one record, and which events are copies of one another.
//!
//! The store has the last word on duplicates. It knows events by the time they were received. So it finds copies that the
//! claims cannot: those of records too old to claim an id, and all copies if the claims are lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use event::{Origin, PayloadHash, Timestamp};

use crate::ports::LedgerEntry;
use crate::tracked::Tracked;
use crate::{Position, Reason, ReasonTag};

/// What the ledger knows about a delivered record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has an entry: this is a redelivery.
    Recorded(Box<LedgerEntry>),
    /// It is a record of this incarnation of its log, and has no entry yet.
    New { incarnation: i32 },
}

/// The present incarnation of the log of each partition. It changes when another record is found at a known position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logs {
    present: BTreeMap<(Arc<str>, i32), i32>,
}

impl Logs {
    /// From the present incarnation of each partition; 0 for one that is not named.
    pub fn new(present: impl IntoIterator<Item = ((Arc<str>, i32), i32)>) -> Self {
        Logs { present: present.into_iter().collect() }
    }

    pub fn present(&self, topic: &Arc<str>, partition: i32) -> i32 {
        self.present.get(&(Arc::clone(topic), partition)).copied().unwrap_or(0)
    }

    /// Where a record stands, given every entry at its position, of any incarnation. Records of a partition must come in
    /// their order. If another record has its place in the present incarnation, the next incarnation begins with it.
    pub fn place<S>(&mut self, record: &Tracked<'_, S>, mut recorded: Vec<LedgerEntry>) -> Standing {
        if let Some(index) = index_of(record, &recorded) {
            return Standing::Recorded(Box::new(recorded.swap_remove(index)));
        }
        let Position { topic, partition, .. } = &record.position;
        let present = self.present(topic, *partition);
        if let Some(incarnation) = record.incarnation {
            self.present.insert((Arc::clone(topic), *partition), present.max(incarnation));
            return Standing::New { incarnation };
        }
        if !recorded.iter().any(|entry| entry.position.incarnation >= present) {
            return Standing::New { incarnation: present };
        }
        let incarnation = present.saturating_add(1);
        self.present.insert((Arc::clone(topic), *partition), incarnation);
        Standing::New { incarnation }
    }
}

/// The entry of a record that was read again, among all at its position. It may be one without a digest, because the
/// trigger could not decode what was now read directly.
pub fn entry_of<S>(record: &Tracked<'_, S>, mut recorded: Vec<LedgerEntry>) -> Option<LedgerEntry> {
    let undecoded = || recorded.iter().rposition(|entry| entry.digest.is_none());
    let index = index_of(record, &recorded).or_else(undecoded)?;
    Some(recorded.swap_remove(index))
}

fn index_of<S>(record: &Tracked<'_, S>, recorded: &[LedgerEntry]) -> Option<usize> {
    recorded.iter().rposition(|entry| is_entry_of(entry, record))
}

/// Whether an entry at the record's position is the record's own. One without a digest is, unless it is about another
/// event: it is from before there were digests, or neither delivery could be decoded.
fn is_entry_of<S>(entry: &LedgerEntry, record: &Tracked<'_, S>) -> bool {
    match (entry.digest, record.digest) {
        (Some(entry), Some(record)) => entry == record,
        (Some(_), None) => false,
        (None, _) => match (&entry.key, record.key()) {
            (Some(entry), Some(record)) => entry == record,
            (None, _) | (_, None) => true,
        },
    }
}

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
    use event::RecordDigest;

    use super::super::samples::{self, read};
    use super::*;
    use crate::tracked::Read;

    fn delivered(offset: i64, digest: u8) -> Tracked<'static, Read> {
        let digest = Some(RecordDigest([digest; RecordDigest::BYTES]));
        Tracked { digest, ..read(&format!("t/0/{offset}"), "a", "x") }
    }

    fn entry(record: &Tracked<'_, Read>, incarnation: i32) -> LedgerEntry {
        LedgerEntry { position: record.position.clone().in_incarnation(incarnation), ..samples::entry(record) }
    }

    fn logs(present: i32) -> Logs {
        Logs::new([((Arc::from("t"), 0), present)])
    }

    #[test]
    fn a_redelivery_is_known_by_its_content_in_whatever_incarnation() {
        let (old, new) = (delivered(5, 1), delivered(5, 2));
        let entries = || vec![entry(&old, 0), entry(&new, 1)];
        let mut logs = logs(1);
        assert_eq!(logs.place(&old, entries()), Standing::Recorded(Box::new(entry(&old, 0))));
        assert_eq!(logs.place(&new, entries()), Standing::Recorded(Box::new(entry(&new, 1))));
        assert_eq!(logs.present(&Arc::from("t"), 0), 1);
    }

    #[test]
    fn another_record_at_a_known_position_begins_an_incarnation_for_those_after_it() {
        let mut logs = logs(0);
        let standings = [
            logs.place(&delivered(4, 2), vec![]),
            logs.place(&delivered(5, 2), vec![entry(&delivered(5, 1), 0)]),
            logs.place(&delivered(6, 2), vec![entry(&delivered(6, 1), 0)]),
            logs.place(&delivered(7, 2), vec![]),
        ];
        let incarnations = standings.map(|standing| match standing {
            Standing::New { incarnation } => incarnation,
            Standing::Recorded(entry) => panic!("recorded: {entry:?}"),
        });
        assert_eq!(incarnations, [0, 1, 1, 1]);
        assert_eq!(logs.present(&Arc::from("t"), 1), 0, "another partition is another log");
    }

    #[test]
    fn an_entry_without_a_digest_is_known_by_its_event() {
        let record = delivered(5, 1);
        let before = LedgerEntry { digest: None, ..entry(&record, 0) };
        assert_eq!(logs(0).place(&record, vec![before.clone()]), Standing::Recorded(Box::new(before.clone())));
        let other = read("t/0/5", "b", "x");
        assert_eq!(logs(0).place(&other, vec![before.clone()]), Standing::New { incarnation: 1 });
        // A build that could not read the record wrote no key, and this one can.
        let unread = LedgerEntry { key: None, ..before };
        assert_eq!(logs(0).place(&record, vec![unread.clone()]), Standing::Recorded(Box::new(unread)));
        // What cannot be decoded is not the record that was recorded with a digest.
        let undecoded = Tracked { digest: None, ..delivered(5, 1) };
        assert_eq!(logs(0).place(&undecoded, vec![entry(&record, 0)]), Standing::New { incarnation: 1 });
    }

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
