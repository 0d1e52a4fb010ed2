//! Deduplication of a batch: one claim per event id, and what its answer means for every copy.
//!
//! # Why old records are not claimed for
//!
//! A claim expires, a window after it was made, and then another copy may take it over. That must not turn the record
//! that held it into a duplicate, for the new holder may have been recorded as its duplicate long ago, when the claim
//! was in force, and is only redelivered: then all copies would end as duplicates and the event would be lost. Kafka
//! redelivers however long an outage lasts, so this does happen.
//!
//! Hence a record makes a claim only while it is younger than the window. A claim is made after its record was received,
//! so when it expires its record is too old to ask again, and goes on by itself: to the store, which knows every event
//! of the window by when it was received and not by when it was processed, and has the last word on duplicates.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use event::{EventKey, Origin, Timestamp};

use super::intake::Candidate;
use super::reason;
use crate::Reason;
use crate::ports::{Claim, ClaimVerdict};

/// Most by which the clocks that `received_at` and `now` come from are believed to differ.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(300);

/// What deduplication says of one candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The first to claim its id: it goes on, and counts towards its address's limit.
    First,
    /// It claimed its id in an earlier delivery, which may have ended anywhere after that, or it is too old to claim it:
    /// it goes on, and does not count again.
    Redelivered,
    /// Another record holds the id.
    Duplicate(Reason),
}

/// The claims of a batch: one per event id, for the first copy in the batch.
#[derive(Debug)]
pub struct ClaimPlan {
    /// To be sent to the claim store, in this order.
    pub claims: Vec<Claim>,
    /// For each candidate, the index of its claim; `None` if it is too old for one.
    claim_of: Vec<Option<usize>>,
    /// For each claim, the candidates that hold its event, in the order of the batch; the claim is the first one's.
    copies: Vec<Copies>,
}

#[derive(Debug)]
struct Copies {
    first: usize,
    /// Empty for nearly every event, and an empty vector allocates nothing.
    rest: Vec<usize>,
}

impl ClaimPlan {
    /// Groups the candidates by event id. `window` is how long a claim holds.
    pub fn new(candidates: &[Candidate<'_>], now: Timestamp, window: Duration) -> Self {
        let mut groups: HashMap<&EventKey, usize> = HashMap::with_capacity(candidates.len());
        let mut plan = ClaimPlan {
            claims: Vec::with_capacity(candidates.len()),
            claim_of: Vec::with_capacity(candidates.len()),
            copies: Vec::with_capacity(candidates.len()),
        };
        for (index, candidate) in candidates.iter().enumerate() {
            if !may_claim(candidate.received_at, now, window) {
                plan.claim_of.push(None);
                continue;
            }
            let claim = match groups.entry(&candidate.key) {
                Entry::Occupied(group) => {
                    let claim = *group.get();
                    plan.copies[claim].rest.push(index);
                    claim
                }
                Entry::Vacant(group) => {
                    plan.claims.push(Claim {
                        key: candidate.key.clone(),
                        origin: candidate.origin.clone(),
                        payload_hash: candidate.payload_hash,
                    });
                    plan.copies.push(Copies { first: index, rest: Vec::new() });
                    *group.insert(plan.claims.len() - 1)
                }
            };
            plan.claim_of.push(Some(claim));
        }
        plan
    }

    /// Turns the answers to [`ClaimPlan::claims`] into one standing per candidate. `candidates` are those the plan
    /// was made from, `answers` those of the claim store, in the order of the claims.
    ///
    /// Of the copies of one event at most one goes on. It is the copy that owns the claim, which need not be the one
    /// that asked: batches are cut anew after a failure, so a copy that was not in the failed batch may now stand in
    /// front of the owner. Were the owner then taken for a duplicate, the event would be lost.
    pub fn resolve(&self, candidates: &[Candidate<'_>], answers: &[ClaimVerdict]) -> Vec<Standing> {
        debug_assert_eq!((self.claims.len(), self.claim_of.len()), (answers.len(), candidates.len()));
        let holders: Vec<Holder<'_>> =
            self.copies.iter().zip(answers).map(|(copies, answer)| holder(copies, answer, candidates)).collect();
        let standing = |(index, candidate): (usize, &Candidate<'_>)| {
            let Some(claim) = self.claim_of[index] else { return Standing::Redelivered };
            match &holders[claim] {
                Holder::InBatch { index: holder, standing } if *holder == index => standing.clone(),
                Holder::InBatch { index: holder, .. } => {
                    let holder = &candidates[*holder];
                    let same = holder.payload_hash == candidate.payload_hash;
                    duplicate_of(reason::COPY_IN_BATCH, &holder.origin, same)
                }
                Holder::Elsewhere { owner, same_payload } => {
                    let claimant = &candidates[self.copies[claim].first];
                    match (candidate.payload_hash == claimant.payload_hash, *same_payload) {
                        (true, same) => duplicate_of(reason::ALREADY_CLAIMED, owner, same),
                        (false, true) => duplicate_of(reason::ALREADY_CLAIMED, owner, false),
                        // The claim store compared the claimant's payload only, so how this one relates to the
                        // owner's is not known; that it is not the claimant's is.
                        (false, false) => duplicate_of(reason::ALREADY_CLAIMED, &claimant.origin, false),
                    }
                }
            }
        };
        candidates.iter().enumerate().map(standing).collect()
    }
}

/// Whether the claim of a record will outlast the record's own right to claim.
///
/// A record from the future, by a producer's clock that is ahead or by ours that has jumped back, would stay young for
/// longer than its claim holds.
fn may_claim(received_at: Timestamp, now: Timestamp, window: Duration) -> bool {
    let margin = MAX_CLOCK_SKEW.min(window / 2);
    now.since(received_at) < window - margin && received_at.since(now) < margin
}

/// Where the record that holds an event id is.
enum Holder<'a> {
    /// In this batch, so that it goes on.
    InBatch { index: usize, standing: Standing },
    /// Not in this batch; `same_payload` is about the claimant.
    Elsewhere { owner: &'a Origin, same_payload: bool },
}

fn holder<'a>(copies: &Copies, answer: &'a ClaimVerdict, candidates: &[Candidate<'_>]) -> Holder<'a> {
    match answer {
        ClaimVerdict::New => Holder::InBatch { index: copies.first, standing: Standing::First },
        ClaimVerdict::Own => Holder::InBatch { index: copies.first, standing: Standing::Redelivered },
        ClaimVerdict::Taken { owner, same_payload } => {
            match copies.rest.iter().find(|&&index| candidates[index].origin == *owner) {
                Some(&index) => Holder::InBatch { index, standing: Standing::Redelivered },
                None => Holder::Elsewhere { owner, same_payload: *same_payload },
            }
        }
    }
}

fn duplicate_of(tag: &'static str, other: &Origin, same_payload: bool) -> Standing {
    Standing::Duplicate(Reason::new(if same_payload { tag } else { reason::PAYLOAD_DIFFERS }, other.to_string()))
}

#[cfg(test)]
mod tests {
    use event::PayloadHash;

    use super::super::samples::{candidate, origin};
    use super::*;

    const NOW: Timestamp = Timestamp::EPOCH;
    const WINDOW: Duration = Duration::from_secs(86_400);

    /// Runs one batch of `(origin, id, payload)` against the answers, and writes the standings as text.
    fn standings(batch: &[(&str, &str, &str)], answers: &[ClaimVerdict]) -> Vec<String> {
        let candidates: Vec<_> = batch
            .iter()
            .enumerate()
            .map(|(index, (origin, id, payload))| candidate(index, origin, id, payload))
            .collect();
        let plan = ClaimPlan::new(&candidates, NOW, WINDOW);
        assert_eq!(plan.claims.len(), answers.len());
        let text = |standing: Standing| match standing {
            Standing::First => "first".to_owned(),
            Standing::Redelivered => "redelivered".to_owned(),
            Standing::Duplicate(reason) => reason.to_string(),
        };
        plan.resolve(&candidates, answers).into_iter().map(text).collect()
    }

    fn taken(owner: &str, same_payload: bool) -> ClaimVerdict {
        ClaimVerdict::Taken { owner: origin(owner), same_payload }
    }

    #[test]
    fn one_claim_for_each_id_by_its_first_copy() {
        let candidates =
            [candidate(0, "t/0/1", "a", "1"), candidate(1, "t/0/2", "b", "2"), candidate(2, "t/1/1", "a", "3")];
        let plan = ClaimPlan::new(&candidates, NOW, WINDOW);
        let claims: Vec<_> = plan
            .claims
            .iter()
            .map(|claim| (claim.key.to_string(), claim.origin.to_string(), claim.payload_hash))
            .collect();
        assert_eq!(
            claims,
            [
                ("acme/a".to_owned(), "t/0/1".to_owned(), PayloadHash::of(b"1")),
                ("acme/b".to_owned(), "t/0/2".to_owned(), PayloadHash::of(b"2")),
            ]
        );
    }

    #[test]
    fn copies_in_the_batch_are_duplicates_of_the_first() {
        let batch = [("t/0/1", "a", "x"), ("t/0/2", "a", "x"), ("t/0/3", "a", "y"), ("t/0/4", "b", "x")];
        assert_eq!(
            standings(&batch, &[ClaimVerdict::New, ClaimVerdict::New]),
            ["first", "copy-in-batch: t/0/1", "payload-differs: t/0/1", "first"]
        );
    }

    #[test]
    fn a_redelivered_owner_goes_on_without_counting() {
        let batch = [("t/0/1", "a", "x"), ("t/0/2", "a", "x")];
        assert_eq!(standings(&batch, &[ClaimVerdict::Own]), ["redelivered", "copy-in-batch: t/0/1"]);
    }

    #[test]
    fn in_a_batch_cut_anew_the_owner_goes_on_wherever_it_stands() {
        // The crashed batch held partition 1 only, and claimed for t/1/7. This one has an earlier partition's copy in
        // front. Every copy before and after the owner is its duplicate.
        let batch = [("t/0/1", "a", "x"), ("t/0/9", "a", "y"), ("t/1/7", "a", "x"), ("t/1/8", "a", "x")];
        assert_eq!(
            standings(&batch, &[taken("t/1/7", true)]),
            ["copy-in-batch: t/1/7", "payload-differs: t/1/7", "redelivered", "copy-in-batch: t/1/7"]
        );
        // The same if the claimant's payload is another one.
        let batch = [("t/0/1", "a", "y"), ("t/1/7", "a", "x")];
        assert_eq!(standings(&batch, &[taken("t/1/7", false)]), ["payload-differs: t/1/7", "redelivered"]);
    }

    #[test]
    fn only_an_owner_elsewhere_makes_duplicates_of_all() {
        let batch = [("t/0/5", "a", "x"), ("t/0/6", "a", "x"), ("t/0/7", "a", "y")];
        assert_eq!(
            standings(&batch, &[taken("t/0/1", true)]),
            ["already-claimed: t/0/1", "already-claimed: t/0/1", "payload-differs: t/0/1"]
        );
    }

    #[test]
    fn a_reason_names_only_a_copy_it_is_known_to_differ_from() {
        // Nobody compared the last copy with the owner; it may even be equal.
        let batch = [("t/0/5", "a", "x"), ("t/0/6", "a", "x"), ("t/0/7", "a", "y")];
        assert_eq!(
            standings(&batch, &[taken("t/0/1", false)]),
            ["payload-differs: t/0/1", "payload-differs: t/0/1", "payload-differs: t/0/5"]
        );
    }

    #[test]
    fn a_record_redriven_twice_goes_on_once() {
        // Both copies carry the origin of the original.
        let batch = [("t/0/1", "a", "x"), ("t/0/1", "a", "x")];
        for (answer, standing) in [(ClaimVerdict::New, "first"), (ClaimVerdict::Own, "redelivered")] {
            assert_eq!(standings(&batch, &[answer]), [standing, "copy-in-batch: t/0/1"]);
        }
    }

    #[test]
    fn records_older_than_the_window_go_on_without_a_claim() {
        let minutes = |minutes: u64| Timestamp::EPOCH.plus(Duration::from_secs(60 * minutes));
        let old = |id| candidate(0, "t/0/1", id, "x");
        let young = |id| Candidate { received_at: minutes(1430), ..candidate(1, "t/0/2", id, "x") };
        let from_the_future = |id| Candidate { received_at: minutes(1445), ..candidate(2, "t/0/3", id, "x") };
        let candidates = [old("a"), young("a"), from_the_future("a")];
        for (now, claimants) in [
            (0, vec!["t/0/1"]),
            (1434, vec!["t/0/1"]),
            (1435, vec!["t/0/2"]),
            (1439, vec!["t/0/2"]),
            (1441, vec!["t/0/2"]),
        ] {
            let plan = ClaimPlan::new(&candidates, minutes(now), WINDOW);
            let origins: Vec<_> = plan.claims.iter().map(|claim| claim.origin.to_string()).collect();
            assert_eq!(origins, claimants, "after {now} minutes");
        }
        // Whoever holds the claim, an old record is left to the store.
        let plan = ClaimPlan::new(&candidates, minutes(1439), WINDOW);
        let standings = plan.resolve(&candidates, &[taken("t/0/9", true)]);
        let duplicate = Standing::Duplicate(Reason::new(reason::ALREADY_CLAIMED, "t/0/9"));
        assert_eq!(standings, [Standing::Redelivered, duplicate, Standing::Redelivered]);
    }

    #[test]
    fn an_empty_batch_claims_nothing() {
        assert!(standings(&[], &[]).is_empty());
    }
}
