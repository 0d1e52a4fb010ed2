//! The events of each address that this instance has counted and not yet told the other instances.
//!
//! The counters are shared, and a write for each address of a batch would cost more than everything else: a batch of a
//! thousand visitors has a thousand addresses, nearly all of them far below the limit. So an address is counted here first,
//! and told to the others after every [`step`] events, or when it seems to be over the limit.
//!
//! What that costs: each instance may know of up to `step - 1` events of an address that the others do not. So an address may
//! have up to `step - 1` events over its limit for each other instance, and there are never more of those than partitions
//! of `raw-events`. With the default limit of 100 the step is 5: in the worst case 4 events for each partition.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};

use event::AddressKey;
use pipeline::WrongNumberOfAnswers;
use pipeline::ports::AddressCount;

/// The others are told after this part of the limit.
const PARTS: u32 = 20;
/// Most addresses and minutes that are kept, some 100 bytes each.
const MAX_COUNTS: usize = 50_000;

/// After how many events of an address the others are told.
fn step(limit: NonZeroU32) -> u32 {
    (limit.get() / PARTS).max(1)
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// The shared counter when it was last written.
    shared: u64,
    /// What it has not been told since then.
    pending: u32,
}

impl Seen {
    fn total(self) -> u64 {
        self.shared.saturating_add(self.pending.into())
    }
}

#[derive(Debug, Default)]
pub struct AddressCounts(Mutex<HashMap<(AddressKey, i64), Seen>>);

impl AddressCounts {
    fn seen(&self) -> MutexGuard<'_, HashMap<(AddressKey, i64), Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts, and returns what has to be added to the shared counters. What is over the limit is always among it, so no
    /// address is blocked without asking: an operator may have unblocked it, and then its shared counter is gone.
    pub fn add(&self, counts: &[AddressCount], limit: NonZeroU32) -> Vec<AddressCount> {
        let mut all = self.seen();
        make_room(&mut all, counts);
        let step = step(limit);
        let due = counts.iter().filter_map(|count| {
            let seen = all.entry((count.address, count.minute)).or_default();
            seen.pending = seen.pending.saturating_add(count.count);
            let is_due = seen.pending >= step || seen.total() > limit.get().into();
            is_due.then_some(AddressCount { count: seen.pending, ..*count })
        });
        due.collect()
    }

    /// Takes over the shared counters' answers to what was due, and returns the total of each of `counts`.
    ///
    /// # Errors
    /// If there are not as many answers.
    pub fn totals(
        &self,
        counts: &[AddressCount],
        due: &[AddressCount],
        answers: &[u64],
    ) -> Result<Vec<u64>, WrongNumberOfAnswers> {
        WrongNumberOfAnswers::check(due.len(), answers.len())?;
        let mut all = self.seen();
        for (told, shared) in due.iter().zip(answers) {
            let seen = all.entry((told.address, told.minute)).or_default();
            seen.shared = *shared;
            seen.pending = seen.pending.saturating_sub(told.count);
        }
        let total = |count: &AddressCount| all.get(&(count.address, count.minute)).map_or(0, |seen| seen.total());
        Ok(counts.iter().map(total).collect())
    }
}

/// Past minutes first; and all of them, if a minute has too many addresses: then each may have a few events more.
fn make_room(all: &mut HashMap<(AddressKey, i64), Seen>, counts: &[AddressCount]) {
    if all.len() + counts.len() <= MAX_COUNTS {
        return;
    }
    let newest = counts.iter().map(|count| count.minute).max().unwrap_or_default();
    all.retain(|(_, minute), _| *minute >= newest.saturating_sub(1));
    if all.len() + counts.len() > MAX_COUNTS {
        all.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const LIMIT: NonZeroU32 = NonZeroU32::new(100).unwrap();

    fn count(last: u8, minute: i64, count: u32) -> AddressCount {
        AddressCount { address: AddressKey::of(Ipv4Addr::new(192, 0, 2, last).into()), minute, count }
    }

    /// Adds to `shared`, one counter for each last byte, what is due of `counts`; returns the totals and what was due.
    fn run(counts: &AddressCounts, shared: &mut [u64; 256], batch: &[AddressCount]) -> (Vec<u64>, Vec<AddressCount>) {
        let due = counts.add(batch, LIMIT);
        let answers: Vec<u64> = due
            .iter()
            .map(|due| {
                let last: usize = due.address.to_string().rsplit('.').next().unwrap().parse().unwrap();
                shared[last] += u64::from(due.count);
                shared[last]
            })
            .collect();
        (counts.totals(batch, &due, &answers).unwrap(), due)
    }

    #[test]
    fn a_thousand_visitors_cost_no_write_and_a_busy_address_one_for_each_step() {
        let (counts, mut shared) = (AddressCounts::default(), [0; 256]);
        let visitors: Vec<AddressCount> = (0..=255).map(|last| count(last, 7, 4)).collect();
        let (totals, due) = run(&counts, &mut shared, &visitors);
        assert_eq!((totals, due), (vec![4; 256], vec![]));
        let (totals, due) = run(&counts, &mut shared, &[count(1, 7, 1)]);
        assert_eq!((totals, due), (vec![5], vec![count(1, 7, 5)]), "with what was kept");
        let (totals, due) = run(&counts, &mut shared, &[count(1, 7, 3), count(1, 8, 1)]);
        assert_eq!((totals, due), (vec![8, 1], vec![]), "minutes are apart");
    }

    #[test]
    fn what_others_counted_is_seen_with_the_next_write() {
        let (one, other, mut shared) = (AddressCounts::default(), AddressCounts::default(), [0; 256]);
        assert_eq!(run(&one, &mut shared, &[count(1, 7, 60)]).0, [60]);
        assert_eq!(run(&other, &mut shared, &[count(1, 7, 4)]).0, [4], "not yet");
        assert_eq!(run(&other, &mut shared, &[count(1, 7, 1)]).0, [65]);
    }

    #[test]
    fn an_address_over_its_limit_is_always_asked_about() {
        let (counts, mut shared) = (AddressCounts::default(), [0; 256]);
        assert_eq!(run(&counts, &mut shared, &[count(1, 7, 100)]).0, [100]);
        let (totals, due) = run(&counts, &mut shared, &[count(1, 7, 1)]);
        assert_eq!((totals, due.len()), (vec![101], 1));
        shared[1] = 0;
        assert_eq!(run(&counts, &mut shared, &[count(1, 7, 1)]).0, [1], "an operator has unblocked it");
    }

    #[test]
    fn what_could_not_be_told_is_told_later() {
        let (counts, mut shared) = (AddressCounts::default(), [0; 256]);
        assert_eq!(counts.add(&[count(1, 7, 9)], LIMIT), [count(1, 7, 9)], "and the call fails");
        assert_eq!(run(&counts, &mut shared, &[count(1, 7, 1)]).0, [10]);
    }

    #[test]
    fn the_memory_is_bounded() {
        let counts = AddressCounts::default();
        for minute in 0..1_000 {
            let batch: Vec<AddressCount> = (0..=255).map(|last| count(last, minute, 1)).collect();
            counts.add(&batch, LIMIT);
            assert!(counts.seen().len() <= MAX_COUNTS);
        }
        assert!(counts.totals(&[], &[], &[1]).is_err());
    }
}
