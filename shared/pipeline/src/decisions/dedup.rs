//! Deduplication of a batch: one claim per event id, and what its answer means for every copy.
//!
//! # Why old records are not claimed for
//!
//! A claim expires one window after it was made, and then another copy may take it over. That must not turn the first
//! owner into a duplicate: the new owner may be a redelivered record that was recorded as a duplicate while the first
//! claim was in force. Then all copies would end as duplicates and the event would be lost. Kafka redelivers however
//! long an outage lasts, so this does happen.
//!
//! Hence a record makes a claim only while it is younger than the window. A claim is made after its record was
//! received, so when it expires, its record is too old to claim again and goes on without a claim. The store then
//! decides: it knows every event of the window by the time it was received, not the time it was processed, and has the
//! last word on duplicates.

use std::collections::HashMap;
use std::time::Duration;

use event::{EventKey, Origin, PayloadHash, Timestamp};

use crate::ports::{Claim, ClaimVerdict};
use crate::tracked::{Claimed, Read, Tracked};
use crate::{Outcome, Reason, ReasonTag, WrongNumberOfAnswers};

/// The largest assumed difference between the clocks that `received_at` and `now` come from.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(300);

/// The claims of a batch: one per event id, for the first copy in the batch. Holds the records until the claims are
/// answered.
#[derive(Debug)]
pub struct ClaimPlan<'a> {
    /// To be sent to the claim store, in this order.
    pub claims: Vec<Claim>,
    /// For each claim, the records that hold its event.
    copies: Vec<Copies<'a>>,
    /// Records that make no claim: closed, or too old for one.
    others: Vec<Tracked<'a, Claimed>>,
}

/// The records of a batch that hold one event, in the order of the batch. Nearly always there is one.
#[derive(Debug)]
struct Copies<'a> {
    /// The first one, which makes the claim.
    claimant: Tracked<'a, Read>,
    others: Vec<Tracked<'a, Read>>,
}

impl<'a> ClaimPlan<'a> {
    /// Groups the records by event id. `window` is how long a claim holds.
    pub fn new(records: Vec<Tracked<'a, Read>>, now: Timestamp, window: Duration) -> Self {
        let mut groups: HashMap<EventKey, usize> = HashMap::with_capacity(records.len());
        let mut plan = ClaimPlan {
            claims: Vec::with_capacity(records.len()),
            copies: Vec::with_capacity(records.len()),
            others: Vec::with_capacity(records.len()),
        };
        for record in records {
            let event = match record.open() {
                Some((event, Read)) if may_claim(event.received_at, now, window) => event,
                Some(_) | None => {
                    plan.others.push(record.advance(|_, Read| Claimed { redelivered: true }));
                    continue;
                }
            };
            match groups.get(&event.key).and_then(|group| plan.copies.get_mut(*group)) {
                Some(copies) => copies.others.push(record),
                None => {
                    groups.insert(event.key.clone(), plan.claims.len());
                    plan.claims.push(Claim {
                        key: event.key.clone(),
                        origin: record.origin.clone(),
                        payload_hash: event.payload_hash,
                    });
                    plan.copies.push(Copies { claimant: record, others: Vec::new() });
                }
            }
        }
        plan
    }

    /// Applies the answers to [`ClaimPlan::claims`] to the records, and returns all records, in the order of the batch.
    ///
    /// At most one of the copies of an event goes on: the copy that owns the claim. It need not be the copy that asked,
    /// because batches are cut differently after a failure, and a copy that was not in the failed batch may now come
    /// before the owner. If the owner then counted as a duplicate, the event would be lost.
    ///
    /// # Errors
    /// If the number of answers differs from the number of claims.
    pub fn resolve(self, answers: Vec<ClaimVerdict>) -> Result<Vec<Tracked<'a, Claimed>>, WrongNumberOfAnswers> {
        let ClaimPlan { claims, copies, others: mut records } = self;
        WrongNumberOfAnswers::check(claims.len(), answers.len())?;
        for ((claim, copies), answer) in claims.iter().zip(copies).zip(&answers) {
            judge(claim, copies, answer, &mut records);
        }
        // The copies of one event may be far apart in the batch.
        records.sort_by(|a, b| a.position.cmp(&b.position));
        Ok(records)
    }
}

/// Whether the claim of a record will outlast the record's own right to claim.
///
/// A record with a `received_at` in the future, because a producer's clock is ahead or ours has jumped back, would stay
/// young for longer than its claim holds.
fn may_claim(received_at: Timestamp, now: Timestamp, window: Duration) -> bool {
    let margin = MAX_CLOCK_SKEW.min(window / 2);
    now.since(received_at) < window - margin && received_at.since(now) < margin
}

/// Adds the copies of one event to the judged records.
fn judge<'a>(claim: &Claim, copies: Copies<'a>, answer: &ClaimVerdict, judged: &mut Vec<Tracked<'a, Claimed>>) {
    let Copies { claimant, others } = copies;
    let (owner, redelivered, claimant_is_owners) = match answer {
        ClaimVerdict::New => (&claim.origin, false, true),
        ClaimVerdict::Own => (&claim.origin, true, true),
        ClaimVerdict::Taken { owner, same_payload } => (owner, true, *same_payload),
    };
    // An owner that is not the claimant may be one of the copies behind it. A record that was redriven twice has several
    // copies with one origin: the first one is the owner.
    let place_of_owner = match answer {
        ClaimVerdict::New | ClaimVerdict::Own => Some(0),
        ClaimVerdict::Taken { .. } => others.iter().position(|copy| copy.origin.is_same(owner)).map(|place| place + 1),
    };
    let hash = match place_of_owner {
        Some(0) => payload_hash(&claimant),
        Some(place) => others.get(place - 1).and_then(payload_hash),
        None => None,
    };
    for (mut copy, place) in std::iter::once(claimant).chain(others).zip(0_usize..) {
        if place_of_owner == Some(place) {
            judged.push(copy.advance(|_, Read| Claimed { redelivered }));
            continue;
        }
        let is_claimants = payload_hash(&copy) == Some(claim.payload_hash);
        let reason = match (hash, is_claimants, claimant_is_owners) {
            (Some(hash), _, _) => duplicate_of(ReasonTag::CopyInBatch, owner, payload_hash(&copy) == Some(hash)),
            // The owner is in an earlier batch, and the claim store compared the claimant's payload only.
            (None, true, same) => duplicate_of(ReasonTag::AlreadyClaimed, owner, same),
            (None, false, true) => duplicate_of(ReasonTag::AlreadyClaimed, owner, false),
            // It is unknown whether this payload equals the owner's, but it differs from the claimant's.
            (None, false, false) => duplicate_of(ReasonTag::AlreadyClaimed, &claim.origin, false),
        };
        copy.close(Outcome::Duplicate, reason);
        judged.push(copy.advance(|_, Read| Claimed { redelivered }));
    }
}

fn payload_hash(record: &Tracked<'_, Read>) -> Option<PayloadHash> {
    record.event().map(|event| event.payload_hash)
}

fn duplicate_of(tag: ReasonTag, other: &Origin, same_payload: bool) -> Reason {
    Reason::new(if same_payload { tag } else { ReasonTag::PayloadDiffers }, other.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::samples::{batch, origin, read};
    use super::*;
    use crate::tracked::State;

    const NOW: Timestamp = Timestamp::EPOCH;
    const WINDOW: Duration = Duration::from_secs(86_400);

    /// Applies the answers to one batch of `(origin, id, payload)`, and returns the result for each record as text.
    fn standings(records: &[(&str, &str, &str)], answers: &[ClaimVerdict]) -> Vec<String> {
        let plan = ClaimPlan::new(batch(records), NOW, WINDOW);
        assert_eq!(plan.claims.len(), answers.len());
        plan.resolve(answers.to_vec()).unwrap().iter().map(text).collect()
    }

    fn text(record: &Tracked<'_, Claimed>) -> String {
        match &record.state {
            State::Open { found: Claimed { redelivered: false }, .. } => "first".to_owned(),
            State::Open { found: Claimed { redelivered: true }, .. } => "redelivered".to_owned(),
            State::Closed { outcome: Outcome::Duplicate, reason, .. } => reason.clone(),
            State::Closed { outcome, .. } => panic!("{outcome}"),
        }
    }

    fn taken(owner: &str, same_payload: bool) -> ClaimVerdict {
        ClaimVerdict::Taken { owner: origin(owner), same_payload }
    }

    #[test]
    fn one_claim_for_each_id_by_its_first_copy() {
        let records = batch(&[("t/0/1", "a", "1"), ("t/0/2", "b", "2"), ("t/1/1", "a", "3")]);
        let plan = ClaimPlan::new(records, NOW, WINDOW);
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
        // The crashed batch held only partition 1, and made the claim for t/1/7. In this batch a copy from partition 0
        // comes first. Every copy before and after the owner is its duplicate.
        let batch = [("t/0/1", "a", "x"), ("t/0/9", "a", "y"), ("t/1/7", "a", "x"), ("t/1/8", "a", "x")];
        assert_eq!(
            standings(&batch, &[taken("t/1/7", true)]),
            ["copy-in-batch: t/1/7", "payload-differs: t/1/7", "redelivered", "copy-in-batch: t/1/7"]
        );
        // The same if the claimant has another payload.
        let batch = [("t/0/1", "a", "y"), ("t/1/7", "a", "x")];
        assert_eq!(standings(&batch, &[taken("t/1/7", false)]), ["payload-differs: t/1/7", "redelivered"]);
    }

    #[test]
    fn an_owner_from_before_there_were_digests_goes_on() {
        let digested = "t/1/7/01010101010101010101010101010101";
        let batch = [("t/0/1", "a", "x"), (digested, "a", "x")];
        assert_eq!(standings(&batch, &[taken("t/1/7", true)]), ["copy-in-batch: t/1/7", "redelivered"]);
        let another = taken("t/1/7/02020202020202020202020202020202", true);
        assert!(standings(&batch, &[another]).iter().all(|standing| standing.starts_with("already-claimed: ")));
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
        let at = |origin, received| {
            let mut record = read(origin, "a", "x");
            if let State::Open { event, .. } = &mut record.state {
                event.received_at = minutes(received);
            }
            record
        };
        // Old, young, and from the future.
        let records = || vec![at("t/0/1", 0), at("t/0/2", 1430), at("t/0/3", 1445)];
        for (now, claimants) in [
            (0, vec!["t/0/1"]),
            (1434, vec!["t/0/1"]),
            (1435, vec!["t/0/2"]),
            (1439, vec!["t/0/2"]),
            (1441, vec!["t/0/2"]),
        ] {
            let plan = ClaimPlan::new(records(), minutes(now), WINDOW);
            let origins: Vec<_> = plan.claims.iter().map(|claim| claim.origin.to_string()).collect();
            assert_eq!(origins, claimants, "after {now} minutes");
        }
        // Whoever owns the claim, the store decides about an old record.
        let plan = ClaimPlan::new(records(), minutes(1439), WINDOW);
        let standings: Vec<String> = plan.resolve(vec![taken("t/0/9", true)]).unwrap().iter().map(text).collect();
        assert_eq!(standings, ["redelivered", "already-claimed: t/0/9", "redelivered"]);
    }

    #[test]
    fn a_claim_store_that_calls_a_claim_taken_by_its_own_claimant_is_believed() {
        // Only the claim store knows the owner; the fault suite detects a store that answers wrongly
        // (local/chaos/mutations).
        assert_eq!(standings(&[("t/0/1", "a", "x")], &[taken("t/0/1", true)]), ["already-claimed: t/0/1"]);
    }

    #[test]
    fn a_claim_without_an_answer_is_an_error_and_not_a_first_copy() {
        let plan = || ClaimPlan::new(batch(&[("t/0/1", "a", "x"), ("t/0/2", "b", "x")]), NOW, WINDOW);
        assert_eq!(plan().resolve(vec![ClaimVerdict::New]).unwrap_err().answered, 1);
        assert!(plan().resolve(vec![ClaimVerdict::New; 3]).is_err());
    }

    #[test]
    fn an_empty_batch_claims_nothing() {
        assert!(standings(&[], &[]).is_empty());
    }
}
