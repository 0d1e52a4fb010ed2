//! The limit of new events per address and minute, and the block list.
//!
//! Only first claims are counted, so a redelivery never counts towards an address's limit twice. The price: after a
//! crash between counting and writing the ledger, nothing remembers which records were over the limit, and the block
//! list alone decides about the redelivered records. The records of an address are ordered by `received_at`, and its
//! block starts at the first one over the limit. So the block list gives the same answer again, except for records
//! received in that same millisecond, which are accepted. With the opposite rule, a crash could block an event that was
//! within the limit, and losing an event is worse than storing one too many.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::time::Duration;

use event::{AddressKey, AddressRange, Timestamp};

use crate::ports::{AddressCount, Block};
use crate::tracked::{Admitted, Claimed, Event, Tracked};
use crate::{Outcome, Reason, ReasonTag, WrongNumberOfAnswers};

/// How much an address may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitPolicy {
    /// New events per address and minute; `None` means no limit.
    pub per_minute: Option<NonZeroU32>,
    /// How long an address over the limit is blocked, from the first event over the limit.
    pub block_for: Duration,
}

/// The block list, indexed for look-ups.
#[derive(Debug, Default)]
pub struct Blocks {
    entries: HashMap<AddressRange, Block>,
    /// The sizes of ranges that occur, the smallest ranges first.
    sizes: BTreeSet<Reverse<u8>>,
}

/// What the block list says about an event.
#[derive(Debug, PartialEq, Eq)]
enum Listed<'b> {
    Nothing,
    Allowed,
    Blocked(&'b Block),
}

impl Blocks {
    pub fn new(list: Vec<Block>) -> Self {
        let sizes = list.iter().map(|block| Reverse(block.address.prefix_bits())).collect();
        Blocks { entries: list.into_iter().map(|block| (block.address, block)).collect(), sizes }
    }

    /// What the smallest range with the address says that is in force. For a redelivered record the first millisecond of
    /// a block does not count; see the module's comment.
    fn about(&self, address: AddressKey, received_at: Timestamp, redelivered: bool) -> Listed<'_> {
        let holds = self.sizes.iter().find_map(|Reverse(bits)| {
            let entry = self.entries.get(&AddressRange::around(address, *bits)?)?;
            block_covers(entry, received_at, redelivered).then_some(entry)
        });
        match holds {
            None => Listed::Nothing,
            Some(entry) if entry.allows => Listed::Allowed,
            Some(entry) => Listed::Blocked(entry),
        }
    }
}

fn block_covers(block: &Block, received_at: Timestamp, redelivered: bool) -> bool {
    block.covers(received_at) && !(redelivered && received_at == block.from)
}

/// What to count for a batch. Holds the records until the counters have answered.
#[derive(Debug)]
pub struct LimitPlan<'a> {
    /// The counts to add to the counters, each address and minute once, in a fixed order.
    pub counts: Vec<AddressCount>,
    /// All records of the batch, in their order.
    pub records: Vec<Tracked<'a, Claimed>>,
    policy: LimitPolicy,
}

/// The result of applying the counters' answers.
#[derive(Debug)]
pub struct LimitVerdicts<'a> {
    /// The records; those over a limit or on the block list are closed as `blocked`.
    pub records: Vec<Tracked<'a, Admitted>>,
    /// Addresses to put on the block list, each once.
    pub blocks: Vec<Block>,
}

impl<'a> LimitPlan<'a> {
    /// Closes records whose address is on the block list, and groups the others for counting. Duplicates and events
    /// without an address are left as they are. A blocked event does not count towards the limit.
    pub fn new(mut records: Vec<Tracked<'a, Claimed>>, blocks: &Blocks, policy: LimitPolicy) -> Self {
        let mut counts: BTreeMap<(AddressKey, i64), u32> = BTreeMap::new();
        for record in &mut records {
            let Some((event, claimed)) = record.open() else { continue };
            let Some(address) = address_of(event) else { continue };
            match blocks.about(address, event.received_at, claimed.redelivered) {
                Listed::Allowed => {}
                Listed::Blocked(block) => record.close(Outcome::Blocked, blocked_by(block)),
                Listed::Nothing => {
                    if let Some(counted) = counted_under(event, *claimed).filter(|_| policy.per_minute.is_some()) {
                        let count = counts.entry(counted).or_default();
                        *count = count.saturating_add(1);
                    }
                }
            }
        }
        let count = |((address, minute), count)| AddressCount { address, minute, count };
        LimitPlan { counts: counts.into_iter().map(count).collect(), records, policy }
    }

    /// Turns the new totals of [`LimitPlan::counts`] into a decision on every record.
    ///
    /// If an address is over its limit, its events received last in this batch are over. All later events of the
    /// address in this batch are blocked too, as they will be in other batches once the block is on the list.
    ///
    /// # Errors
    /// If the number of totals differs from the number of counts.
    pub fn resolve(self, totals: &[u64]) -> Result<LimitVerdicts<'a>, WrongNumberOfAnswers> {
        let LimitPlan { counts, mut records, policy } = self;
        WrongNumberOfAnswers::check(counts.len(), totals.len())?;
        let blocks = match policy.per_minute {
            Some(limit) => close_over(&mut records, limit, policy.block_for, &counts, totals),
            None => BTreeMap::new(),
        };
        for record in &mut records {
            let Some((event, claimed)) = record.open() else { continue };
            let Some(block) = address_of(event).and_then(|address| blocks.get(&address)) else { continue };
            if event.received_at > block.from && block_covers(block, event.received_at, claimed.redelivered) {
                record.close(Outcome::Blocked, blocked_by(block));
            }
        }
        let records = records.into_iter().map(|record| record.advance(|_, Claimed { .. }| Admitted)).collect();
        Ok(LimitVerdicts { records, blocks: blocks.into_values().collect() })
    }
}

/// Closes the events over the limit, and returns the new blocks.
fn close_over(
    records: &mut [Tracked<'_, Claimed>],
    limit: NonZeroU32,
    block_for: Duration,
    counts: &[AddressCount],
    totals: &[u64],
) -> BTreeMap<AddressKey, Block> {
    // How many more events the limit allows in this batch, for each address and minute.
    let left = |(count, total): (&AddressCount, &u64)| {
        let before = total.saturating_sub(u64::from(count.count));
        ((count.address, count.minute), u64::from(limit.get()).saturating_sub(before))
    };
    let mut left: BTreeMap<(AddressKey, i64), u64> = counts.iter().zip(totals).map(left).collect();
    // A stable sort: records of one millisecond keep the order of the batch. The block starts at the earliest event
    // over.
    let mut by_time: Vec<&mut Tracked<'_, Claimed>> = records.iter_mut().collect();
    by_time.sort_by_key(|record| record.received_at());
    let mut blocks = BTreeMap::new();
    for record in by_time {
        let Some((event, claimed)) = record.open() else { continue };
        let Some(counted) = counted_under(event, *claimed) else { continue };
        match left.get_mut(&counted) {
            Some(left) if *left > 0 => *left -= 1,
            Some(_) => {
                let (address, from) = (counted.0, event.received_at);
                blocks.entry(address).or_insert_with(|| Block {
                    address: address.into(),
                    allows: false,
                    from,
                    until: Some(from.plus(block_for)),
                    reason: format!("more than {limit} events in a minute"),
                });
                let detail = format!("{address} is past {limit} events a minute");
                record.close(Outcome::Blocked, Reason::new(ReasonTag::AddressRate, detail));
            }
            None => {}
        }
    }
    blocks
}

fn address_of(event: &Event<'_>) -> Option<AddressKey> {
    event.ip.map(AddressKey::of)
}

/// The counter to which an event is added; `None` if it was counted before or has no address.
fn counted_under(event: &Event<'_>, claimed: Claimed) -> Option<(AddressKey, i64)> {
    if claimed.redelivered { None } else { Some((address_of(event)?, event.received_at.minute())) }
}

fn blocked_by(block: &Block) -> Reason {
    Reason::new(ReasonTag::AddressBlocked, format!("{}: {}", block.address, block.reason))
}

#[cfg(test)]
mod tests {
    use super::super::samples::read;
    use super::*;
    use crate::tracked::{Read, State};

    const MINUTE: i64 = 60_000;

    fn policy(limit: u32) -> LimitPolicy {
        LimitPolicy { per_minute: NonZeroU32::new(limit), block_for: Duration::from_secs(900) }
    }

    /// First claims from `(received_at in ms, address)`; an empty string means no address.
    fn batch(events: &[(i64, &str)]) -> Vec<Tracked<'static, Claimed>> {
        let one = |((at, ip), index): (&(i64, &str), i64)| {
            let mut record = read(&format!("t/0/{index}"), &format!("e-{index}"), "x");
            if let State::Open { event, .. } = &mut record.state {
                event.received_at = Timestamp::from_millis(*at);
                event.ip = ip.parse().ok();
            }
            record.advance(|_, Read| Claimed { redelivered: false })
        };
        events.iter().zip(0..).map(one).collect()
    }

    /// The same records in a later delivery.
    fn again(records: &[Tracked<'static, Claimed>]) -> Vec<Tracked<'static, Claimed>> {
        records.iter().cloned().map(|record| record.advance(|_, _| Claimed { redelivered: true })).collect()
    }

    fn reasons<'r>(records: &'r [Tracked<'_, Admitted>]) -> Vec<&'r str> {
        let reason = |record: &'r Tracked<'_, Admitted>| match &record.state {
            State::Open { .. } => "",
            State::Closed { outcome: Outcome::Blocked | Outcome::Duplicate, reason, .. } => reason.as_str(),
            State::Closed { outcome, .. } => panic!("{outcome}"),
        };
        records.iter().map(reason).collect()
    }

    fn address(text: &str) -> AddressRange {
        text.parse().unwrap()
    }

    fn block(address_text: &str, from: i64, until: Option<i64>) -> Block {
        Block {
            address: address(address_text),
            allows: false,
            from: Timestamp::from_millis(from),
            until: until.map(Timestamp::from_millis),
            reason: "test".to_owned(),
        }
    }

    /// The tags of the verdicts (empty: accepted) and the new blocks, if the counters held `before`.
    fn run(
        records: &[Tracked<'static, Claimed>],
        list: Vec<Block>,
        limit: u32,
        before: u64,
    ) -> (Vec<String>, Vec<Block>) {
        let plan = LimitPlan::new(records.to_vec(), &Blocks::new(list), policy(limit));
        let totals: Vec<u64> = plan.counts.iter().map(|count| before + u64::from(count.count)).collect();
        let verdicts = plan.resolve(&totals).unwrap();
        let tag = |reason: &str| reason.split(':').next().unwrap_or_default().to_owned();
        (reasons(&verdicts.records).into_iter().map(tag).collect(), verdicts.blocks)
    }

    #[test]
    fn counts_first_claims_once_for_each_address_and_minute() {
        let mut candidates = batch(&[
            (1, "192.0.2.1"),
            (2, "192.0.2.1"),
            (MINUTE, "192.0.2.1"),
            (3, "2001:db8::1"),
            (4, "2001:db8::2"),
            (5, ""),
            (6, "192.0.2.9"),
            (7, "192.0.2.9"),
        ]);
        candidates[6] = again(&candidates).swap_remove(6);
        candidates[7].close(Outcome::Duplicate, ReasonTag::CopyInBatch);
        let plan = LimitPlan::new(candidates, &Blocks::default(), policy(100));
        let counts: Vec<_> =
            plan.counts.iter().map(|count| (count.address.to_string(), count.minute, count.count)).collect();
        assert_eq!(
            counts,
            [("192.0.2.1".to_owned(), 0, 2), ("192.0.2.1".to_owned(), 1, 1), ("2001:db8::/64".to_owned(), 0, 2)]
        );
    }

    #[test]
    fn the_limit_itself_is_let_in_and_the_next_one_is_not() {
        let candidates = batch(&[(1, "192.0.2.1"), (2, "192.0.2.1"), (3, "192.0.2.1")]);
        assert_eq!(run(&candidates, vec![], 3, 0), (vec![String::new(); 3], vec![]));
        let (tags, blocks) = run(&candidates, vec![], 3, 1);
        assert_eq!(tags, ["", "", "address-rate"]);
        assert_eq!(blocks.len(), 1);
        assert_eq!(blocks[0].address, address("192.0.2.1"));
        assert_eq!(blocks[0].from, Timestamp::from_millis(3));
        assert_eq!(blocks[0].until, Some(Timestamp::from_millis(900_003)));
        assert_eq!(run(&candidates, vec![], 3, 50).0, ["address-rate"; 3]);
    }

    #[test]
    fn without_a_limit_nothing_is_counted_but_the_list_holds() {
        let candidates = batch(&[(1, "192.0.2.1"), (2, "192.0.2.2")]);
        let list = Blocks::new(vec![block("192.0.2.2", 0, None)]);
        let plan = LimitPlan::new(candidates, &list, policy(0));
        assert!(plan.counts.is_empty());
        let verdicts = plan.resolve(&[]).unwrap();
        assert_eq!(reasons(&verdicts.records), ["", "address-blocked: 192.0.2.2: test"]);
    }

    #[test]
    fn the_last_received_are_over_whatever_their_partition() {
        // Partition 0 holds an event that was received after those of partition 1.
        let candidates = batch(&[(9, "192.0.2.1"), (1, "192.0.2.1"), (2, "192.0.2.1")]);
        let (tags, blocks) = run(&candidates, vec![], 2, 0);
        assert_eq!(tags, ["address-rate", "", ""]);
        assert_eq!(blocks[0].from, Timestamp::from_millis(9));
    }

    #[test]
    fn events_of_one_instant_are_over_in_the_order_of_the_batch() {
        let candidates = batch(&[(5, "192.0.2.1"), (5, "192.0.2.1"), (5, "192.0.2.1")]);
        assert_eq!(run(&candidates, vec![], 1, 0).0, ["", "address-rate", "address-rate"]);
    }

    #[test]
    fn what_follows_a_breach_in_the_batch_is_blocked_with_it() {
        let candidates = batch(&[
            (1, "192.0.2.1"),
            (2, "192.0.2.1"),
            (MINUTE, "192.0.2.1"),
            (3, "192.0.2.2"),
            (901_000, "192.0.2.1"),
        ]);
        let (tags, blocks) = run(&candidates, vec![], 1, 0);
        assert_eq!(tags, ["", "address-rate", "address-blocked", "", ""]);
        assert_eq!(blocks.len(), 1);
    }

    #[test]
    fn two_breaches_of_an_address_make_one_block_from_the_first() {
        let candidates = batch(&[(MINUTE, "192.0.2.1"), (MINUTE + 1, "192.0.2.1"), (1, "192.0.2.1"), (2, "192.0.2.1")]);
        let (tags, blocks) = run(&candidates, vec![], 1, 0);
        assert_eq!(tags, ["address-blocked", "address-rate", "", "address-rate"]);
        assert_eq!(blocks.len(), 1);
        assert_eq!(blocks[0].from, Timestamp::from_millis(2));
    }

    #[test]
    fn a_listed_address_is_blocked_within_its_time_and_not_counted() {
        let list = vec![block("192.0.2.1", 10, Some(20))];
        let candidates = batch(&[(9, "192.0.2.1"), (10, "192.0.2.1"), (19, "192.0.2.1"), (20, "192.0.2.1")]);
        let plan = LimitPlan::new(candidates.clone(), &Blocks::new(list.clone()), policy(100));
        assert_eq!(plan.counts[0].count, 2);
        assert_eq!(run(&candidates, list, 100, 0).0, ["", "address-blocked", "address-blocked", ""]);
    }

    #[test]
    fn the_smallest_range_with_an_address_decides_and_what_is_allowed_is_not_counted() {
        let allow = |range: &str| Block { allows: true, ..block(range, 0, None) };
        let list = vec![
            block("192.0.2.0/24", 0, None),
            allow("192.0.2.128/25"),
            block("192.0.2.200", 0, Some(1_000)),
            block("2001:db8::/32", 0, None),
            allow("2001:db8:1::/48"),
            allow("198.51.100.7"),
        ];
        let candidates = batch(&[
            (1, "192.0.2.1"),
            (1, "192.0.2.130"),
            (1, "192.0.2.200"),
            (1_000, "192.0.2.200"),
            (1, "2001:db8:2::1"),
            (1, "2001:db8:1::1"),
            (1, "203.0.113.7"),
            (1, "198.51.100.7"),
            (2, "198.51.100.7"),
            (3, "198.51.100.7"),
        ]);
        let plan = LimitPlan::new(candidates.clone(), &Blocks::new(list.clone()), policy(1));
        let counted: Vec<String> = plan.counts.iter().map(|count| count.address.to_string()).collect();
        assert_eq!(counted, ["203.0.113.7"]);
        let (tags, blocks) = run(&candidates, list, 1, 0);
        let blocked = "address-blocked";
        assert_eq!(tags, [blocked, "", blocked, "", blocked, "", "", "", "", ""]);
        assert!(blocks.is_empty());
    }

    #[test]
    fn after_a_crash_the_block_list_repeats_the_decision() {
        // First delivery: one event a millisecond, limit 2; the block goes on the list, then the crash.
        let candidates = batch(&[(1, "192.0.2.1"), (2, "192.0.2.1"), (3, "192.0.2.1"), (4, "192.0.2.1")]);
        let (first, blocks) = run(&candidates, vec![], 2, 0);
        assert_eq!(first, ["", "", "address-rate", "address-rate"]);
        // Second delivery: the records own their claims, so nothing is counted. Only the millisecond of the breach is
        // accepted.
        let redelivered = again(&candidates);
        assert!(LimitPlan::new(redelivered.clone(), &Blocks::default(), policy(2)).counts.is_empty());
        let (tags, new) = run(&redelivered, blocks, 2, 0);
        assert_eq!(tags, ["", "", "", "address-blocked"]);
        assert!(new.is_empty());
    }

    #[test]
    fn a_crash_never_turns_away_what_was_within_the_limit() {
        let candidates = batch(&[(5, "192.0.2.1"), (5, "192.0.2.1"), (5, "192.0.2.1")]);
        let (_, blocks) = run(&candidates, vec![], 2, 0);
        assert_eq!(run(&again(&candidates), blocks, 2, 0).0, ["", "", ""]);
    }

    #[test]
    fn a_count_without_a_total_is_an_error() {
        let plan = LimitPlan::new(batch(&[(1, "192.0.2.1")]), &Blocks::default(), policy(1));
        assert_eq!(plan.resolve(&[]).unwrap_err().asked, 1);
    }
}
