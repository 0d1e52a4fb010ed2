//! The limit of new events per address and minute, and the block list.
//!
//! Only first claims are counted, so a redelivery never uses up somebody's limit twice. The price is that a crash
//! after counting and before the ledger is written leaves no memory of who was over: the redelivered records are
//! decided anew, by the block list alone. An address's own records are ordered by `received_at`, and its block starts
//! at the first one over the limit, so the block list gives the same answer again, but for records received in that
//! very millisecond; those are let in. The other way round, a crash could turn away an event that was within the
//! limit, and losing an event is worse than storing one too many.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::time::Duration;

use event::{AddressKey, Timestamp};

use super::dedup::Standing;
use super::intake::Candidate;
use super::reason;
use crate::Reason;
use crate::ports::{AddressCount, Block};

/// How much an address may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitPolicy {
    /// New events per address and minute; `None` is no limit.
    pub per_minute: Option<NonZeroU32>,
    /// How long an address past the limit is blocked, from the first event over.
    pub block_for: Duration,
}

/// The block list, ready to be asked.
#[derive(Debug, Default)]
pub struct Blocks(HashMap<AddressKey, Block>);

impl Blocks {
    pub fn new(list: Vec<Block>) -> Self {
        Blocks(list.into_iter().map(|block| (block.address, block)).collect())
    }

    /// The entry that turns the event away. For a redelivered record the first millisecond of a block does not
    /// count; see the module's comment.
    fn covering(&self, address: AddressKey, received_at: Timestamp, redelivered: bool) -> Option<&Block> {
        self.0.get(&address).filter(|block| block_covers(block, received_at, redelivered))
    }
}

fn block_covers(block: &Block, received_at: Timestamp, redelivered: bool) -> bool {
    block.covers(received_at) && !(redelivered && received_at == block.from)
}

/// What to count for a batch, and who is turned away whatever the counts.
#[derive(Debug)]
pub struct LimitPlan {
    /// To be added to the counters, each address and minute once, in a fixed order.
    pub counts: Vec<AddressCount>,
    /// For each count, the candidates counted, in the order in which they use up the limit.
    counted: Vec<Vec<usize>>,
    /// For each candidate, why it is turned away.
    blocked: Vec<Option<Reason>>,
    /// Each address's candidates that are not turned away yet and carry an address.
    open: Vec<(usize, AddressKey, bool)>,
    policy: LimitPolicy,
}

/// What the counters' answer means.
#[derive(Debug, PartialEq, Eq)]
pub struct LimitVerdicts {
    /// For each candidate, why it is turned away; `None` if it is not.
    pub blocked: Vec<Option<Reason>>,
    /// Addresses to put on the block list, each once.
    pub blocks: Vec<Block>,
}

impl LimitPlan {
    /// Consults the block list and groups what is to be counted. Duplicates and events without an address take no
    /// part; nor does an event that is blocked already count towards the limit.
    pub fn new(candidates: &[Candidate<'_>], standings: &[Standing], blocks: &Blocks, policy: LimitPolicy) -> Self {
        let mut blocked = vec![None; candidates.len()];
        let mut open = Vec::new();
        let mut groups: BTreeMap<(AddressKey, i64), Vec<usize>> = BTreeMap::new();
        for (index, (candidate, standing)) in candidates.iter().zip(standings).enumerate() {
            let redelivered = match standing {
                Standing::First => false,
                Standing::Redelivered => true,
                Standing::Duplicate(_) => continue,
            };
            let Some(address) = candidate.ip.map(AddressKey::of) else { continue };
            if let Some(block) = blocks.covering(address, candidate.received_at, redelivered) {
                blocked[index] = Some(blocked_by(block));
                continue;
            }
            open.push((index, address, redelivered));
            if !redelivered && policy.per_minute.is_some() {
                groups.entry((address, candidate.received_at.minute())).or_default().push(index);
            }
        }
        let mut plan = LimitPlan {
            counts: Vec::with_capacity(groups.len()),
            counted: Vec::with_capacity(groups.len()),
            blocked,
            open,
            policy,
        };
        for ((address, minute), mut members) in groups {
            // A stable sort: records of one millisecond keep the order of the batch.
            members.sort_by_key(|&index| candidates[index].received_at);
            let count = u32::try_from(members.len()).unwrap_or(u32::MAX);
            plan.counts.push(AddressCount { address, minute, count });
            plan.counted.push(members);
        }
        plan
    }

    /// Turns the new totals of [`LimitPlan::counts`] into a decision on every candidate.
    ///
    /// Of an address's events in this batch, those that were received last are over the limit. Whatever this batch
    /// holds of the address from after its first event over is turned away with it, as it will be in other batches
    /// once the block is on the list.
    pub fn resolve(self, candidates: &[Candidate<'_>], totals: &[u64]) -> LimitVerdicts {
        let LimitPlan { counts, counted, mut blocked, open, policy } = self;
        debug_assert_eq!(counts.len(), totals.len());
        let Some(limit) = policy.per_minute else { return LimitVerdicts { blocked, blocks: Vec::new() } };
        let mut new_blocks: BTreeMap<AddressKey, Block> = BTreeMap::new();
        for ((count, members), &total) in counts.iter().zip(&counted).zip(totals) {
            let before = total.saturating_sub(u64::from(count.count));
            let left = u64::from(limit.get()).saturating_sub(before);
            let within = usize::try_from(left).map_or(members.len(), |left| left.min(members.len()));
            let over = &members[within..];
            let Some(&first) = over.first() else { continue };
            let why = Reason::new(reason::ADDRESS_RATE, format!("{} is past {limit} events a minute", count.address));
            for &index in over {
                blocked[index] = Some(why.clone());
            }
            let from = candidates[first].received_at;
            let block = Block {
                address: count.address,
                from,
                until: Some(from.plus(policy.block_for)),
                reason: format!("more than {limit} events in a minute"),
            };
            // Of two minutes in one batch, the earlier breach starts the block: `counts` is in that order.
            new_blocks.entry(count.address).or_insert(block);
        }
        if !new_blocks.is_empty() {
            for (index, address, redelivered) in open {
                let received_at = candidates[index].received_at;
                let Some(block) = new_blocks.get(&address) else { continue };
                let after = block_covers(block, received_at, redelivered) && received_at > block.from;
                if after && blocked[index].is_none() {
                    blocked[index] = Some(blocked_by(block));
                }
            }
        }
        LimitVerdicts { blocked, blocks: new_blocks.into_values().collect() }
    }
}

fn blocked_by(block: &Block) -> Reason {
    Reason::new(reason::ADDRESS_BLOCKED, format!("{}: {}", block.address, block.reason))
}

#[cfg(test)]
mod tests {
    use super::super::samples::candidate;
    use super::*;

    const MINUTE: i64 = 60_000;

    fn policy(limit: u32) -> LimitPolicy {
        LimitPolicy { per_minute: NonZeroU32::new(limit), block_for: Duration::from_secs(900) }
    }

    /// Candidates from `(received_at in ms, address)`; an empty address is none.
    fn batch(events: &[(i64, &str)]) -> Vec<Candidate<'static>> {
        let one = |(index, (at, ip)): (usize, &(i64, &str))| {
            let mut candidate = candidate(index, &format!("t/0/{index}"), &format!("e-{index}"), "x");
            candidate.received_at = Timestamp::from_millis(*at);
            candidate.ip = ip.parse().ok();
            candidate
        };
        events.iter().enumerate().map(one).collect()
    }

    fn address(text: &str) -> AddressKey {
        text.parse().unwrap()
    }

    fn block(address_text: &str, from: i64, until: Option<i64>) -> Block {
        Block {
            address: address(address_text),
            from: Timestamp::from_millis(from),
            until: until.map(Timestamp::from_millis),
            reason: "test".to_owned(),
        }
    }

    /// The tags of the verdicts (empty: let in), and the new blocks, with counters that held `before`.
    fn run(
        candidates: &[Candidate<'_>],
        standings: &[Standing],
        list: Vec<Block>,
        limit: u32,
        before: u64,
    ) -> (Vec<&'static str>, Vec<Block>) {
        let plan = LimitPlan::new(candidates, standings, &Blocks::new(list), policy(limit));
        let totals: Vec<u64> = plan.counts.iter().map(|count| before + u64::from(count.count)).collect();
        let verdicts = plan.resolve(candidates, &totals);
        let tags = verdicts.blocked.iter().map(|reason| reason.as_ref().map_or("", |reason| reason.tag)).collect();
        (tags, verdicts.blocks)
    }

    #[test]
    fn counts_first_claims_once_for_each_address_and_minute() {
        let candidates = batch(&[
            (1, "192.0.2.1"),
            (2, "192.0.2.1"),
            (MINUTE, "192.0.2.1"),
            (3, "2001:db8::1"),
            (4, "2001:db8::2"),
            (5, ""),
            (6, "192.0.2.9"),
            (7, "192.0.2.9"),
        ]);
        let mut standings = vec![Standing::First; candidates.len()];
        standings[6] = Standing::Redelivered;
        standings[7] = Standing::Duplicate(Reason::new(reason::COPY_IN_BATCH, ""));
        let plan = LimitPlan::new(&candidates, &standings, &Blocks::default(), policy(100));
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
        let standings = vec![Standing::First; 3];
        assert_eq!(run(&candidates, &standings, vec![], 3, 0), (vec!["", "", ""], vec![]));
        let (tags, blocks) = run(&candidates, &standings, vec![], 3, 1);
        assert_eq!(tags, ["", "", "address-rate"]);
        assert_eq!(blocks.len(), 1);
        assert_eq!(blocks[0].address, address("192.0.2.1"));
        assert_eq!(blocks[0].from, Timestamp::from_millis(3));
        assert_eq!(blocks[0].until, Some(Timestamp::from_millis(900_003)));
        assert_eq!(run(&candidates, &standings, vec![], 3, 50).0, ["address-rate"; 3]);
    }

    #[test]
    fn without_a_limit_nothing_is_counted_but_the_list_holds() {
        let candidates = batch(&[(1, "192.0.2.1"), (2, "192.0.2.2")]);
        let standings = vec![Standing::First; 2];
        let list = Blocks::new(vec![block("192.0.2.2", 0, None)]);
        let plan = LimitPlan::new(&candidates, &standings, &list, policy(0));
        assert!(plan.counts.is_empty());
        let verdicts = plan.resolve(&candidates, &[]);
        assert_eq!(verdicts.blocked[0], None);
        assert_eq!(verdicts.blocked[1].as_ref().unwrap().to_string(), "address-blocked: 192.0.2.2: test");
    }

    #[test]
    fn the_last_received_are_over_whatever_their_partition() {
        // Partition 0 holds an event that was received after those of partition 1.
        let candidates = batch(&[(9, "192.0.2.1"), (1, "192.0.2.1"), (2, "192.0.2.1")]);
        let (tags, blocks) = run(&candidates, &vec![Standing::First; 3], vec![], 2, 0);
        assert_eq!(tags, ["address-rate", "", ""]);
        assert_eq!(blocks[0].from, Timestamp::from_millis(9));
    }

    #[test]
    fn events_of_one_instant_are_over_in_the_order_of_the_batch() {
        let candidates = batch(&[(5, "192.0.2.1"), (5, "192.0.2.1"), (5, "192.0.2.1")]);
        assert_eq!(run(&candidates, &vec![Standing::First; 3], vec![], 1, 0).0, ["", "address-rate", "address-rate"]);
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
        let (tags, blocks) = run(&candidates, &vec![Standing::First; 5], vec![], 1, 0);
        assert_eq!(tags, ["", "address-rate", "address-blocked", "", ""]);
        assert_eq!(blocks.len(), 1);
    }

    #[test]
    fn two_breaches_of_an_address_make_one_block_from_the_first() {
        let candidates = batch(&[(MINUTE, "192.0.2.1"), (MINUTE + 1, "192.0.2.1"), (1, "192.0.2.1"), (2, "192.0.2.1")]);
        let (tags, blocks) = run(&candidates, &vec![Standing::First; 4], vec![], 1, 0);
        assert_eq!(tags, ["address-blocked", "address-rate", "", "address-rate"]);
        assert_eq!(blocks.len(), 1);
        assert_eq!(blocks[0].from, Timestamp::from_millis(2));
    }

    #[test]
    fn a_listed_address_is_blocked_within_its_time_and_not_counted() {
        let list = vec![block("192.0.2.1", 10, Some(20))];
        let candidates = batch(&[(9, "192.0.2.1"), (10, "192.0.2.1"), (19, "192.0.2.1"), (20, "192.0.2.1")]);
        let standings = vec![Standing::First; 4];
        let plan = LimitPlan::new(&candidates, &standings, &Blocks::new(list.clone()), policy(100));
        assert_eq!(plan.counts[0].count, 2);
        assert_eq!(run(&candidates, &standings, list, 100, 0).0, ["", "address-blocked", "address-blocked", ""]);
    }

    #[test]
    fn after_a_crash_the_block_list_repeats_the_decision() {
        // First delivery: one event a millisecond, limit 2; the block goes on the list, then the crash.
        let candidates = batch(&[(1, "192.0.2.1"), (2, "192.0.2.1"), (3, "192.0.2.1"), (4, "192.0.2.1")]);
        let (first, blocks) = run(&candidates, &vec![Standing::First; 4], vec![], 2, 0);
        assert_eq!(first, ["", "", "address-rate", "address-rate"]);
        // Second delivery: the claims are our own, nothing is counted. Only the very millisecond of the breach is let in.
        let standings = vec![Standing::Redelivered; 4];
        assert!(LimitPlan::new(&candidates, &standings, &Blocks::default(), policy(2)).counts.is_empty());
        let (again, new) = run(&candidates, &standings, blocks, 2, 0);
        assert_eq!(again, ["", "", "", "address-blocked"]);
        assert!(new.is_empty());
    }

    #[test]
    fn a_crash_never_turns_away_what_was_within_the_limit() {
        let candidates = batch(&[(5, "192.0.2.1"), (5, "192.0.2.1"), (5, "192.0.2.1")]);
        let (_, blocks) = run(&candidates, &vec![Standing::First; 3], vec![], 2, 0);
        assert_eq!(run(&candidates, &vec![Standing::Redelivered; 3], blocks, 2, 0).0, ["", "", ""]);
    }
}
