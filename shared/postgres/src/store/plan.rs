//! What a batch comes to, given what is stored already. Pure.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use event::{EventKey, Origin, PayloadHash, Timestamp};
use pipeline::ports::{EventRow, LedgerEntry, RiskScore, Verdict, VerdictKind};
use pipeline::{Outcome, Position, Reason};
use time::Date;

use crate::error::PostgresError;
use crate::text::{indexed, storable, storable_list};

/// An event that has a row already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredCopy {
    pub payload_hash: PayloadHash,
    pub origin: Origin,
}

/// A row to insert.
#[derive(Debug)]
pub(super) struct NewEvent<'a> {
    pub key: &'a EventKey,
    pub day: Date,
    pub origin: &'a Origin,
    pub outcome: Outcome,
    pub row: &'a EventRow,
}

#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// The answer: one entry per verdict, in their order.
    pub entries: Vec<LedgerEntry>,
    /// Indices of the entries that are not in the ledger yet.
    pub new_entries: Vec<usize>,
    pub new_events: Vec<NewEvent<'a>>,
}

/// The verdict with everything Postgres cannot hold replaced, so that no single record fails its batch. Done before
/// anything else: what the first delivery returns must equal what a redelivery reads back.
pub(super) fn storable_verdict(mut verdict: Verdict) -> Verdict {
    fn mend(text: &mut String) {
        if let std::borrow::Cow::Owned(mended) = storable(text) {
            *text = mended;
        }
    }
    fn mend_risk(risk: &mut RiskScore) {
        risk.reasons = storable_list(std::mem::take(&mut risk.reasons));
        mend(&mut risk.rules_version);
    }
    if let std::borrow::Cow::Owned(topic) = storable(&verdict.origin.topic) {
        verdict.origin.topic = topic.into();
    }
    match &mut verdict.kind {
        VerdictKind::Store { row, .. } => {
            let event_type = indexed(&row.event_type);
            if event_type != row.event_type {
                row.event_type = event_type.into_owned();
            }
            mend(&mut row.payload);
            row.user_agent.iter_mut().for_each(mend);
            row.user_id.iter_mut().for_each(mend);
            row.risk.iter_mut().for_each(mend_risk);
        }
        VerdictKind::Close { reason, .. } => mend(reason),
    }
    verdict
}

/// An event that this batch stores.
struct Accepted<'a> {
    received_at: Timestamp,
    day: Date,
    payload_hash: PayloadHash,
    origin: &'a Origin,
}

/// Decides what to write. `known` holds the ledger's entries and `copies` the stored copies, by index of the verdict.
///
/// # Errors
/// If a verdict stores an event that has no key.
pub(super) fn plan<'a>(
    verdicts: &'a [Verdict],
    mut known: HashMap<usize, LedgerEntry>,
    copies: &HashMap<usize, StoredCopy>,
    window: Duration,
    now: Timestamp,
) -> Result<Plan<'a>, PostgresError> {
    let mut entries: Vec<LedgerEntry> = Vec::with_capacity(verdicts.len());
    let mut new_entries = Vec::new();
    let mut new_events = Vec::new();
    let mut accepted = HashMap::<&EventKey, Vec<Accepted<'a>>>::new();
    let mut places = HashMap::<&Position, usize>::with_capacity(verdicts.len());
    for (index, verdict) in verdicts.iter().enumerate() {
        if let Some(entry) = known.remove(&index) {
            entries.push(entry);
            continue;
        }
        // A record that comes twice in one batch ends as it did the first time.
        match places.entry(&verdict.position) {
            Entry::Occupied(first) => {
                if let Some(entry) = entries.get(*first.get()).cloned() {
                    entries.push(entry);
                    continue;
                }
            }
            Entry::Vacant(place) => _ = place.insert(index),
        }
        let (outcome, reason, risk) = match &verdict.kind {
            VerdictKind::Close { outcome, reason } => (*outcome, reason.clone(), None),
            VerdictKind::Store { outcome, row } => {
                let key = verdict.key.as_ref().ok_or(PostgresError::NoKey)?;
                let day = row.received_at.to_utc().date();
                let in_batch = accepted.entry(key).or_default();
                let copy = copies.get(&index).map(|copy| (copy.payload_hash, &copy.origin)).or_else(|| {
                    let is_copy = |other: &&Accepted<'_>| {
                        other.day == day
                            || other.received_at.since(row.received_at).max(row.received_at.since(other.received_at))
                                < window
                    };
                    in_batch.iter().find(is_copy).map(|copy| (copy.payload_hash, copy.origin))
                });
                match copy {
                    Some((payload_hash, owner)) => {
                        let tag = if payload_hash == row.payload_hash { "already-stored" } else { "payload-differs" };
                        (Outcome::Duplicate, Reason::new(tag, owner.to_string()).to_string(), None)
                    }
                    None => {
                        let origin = &verdict.origin;
                        in_batch.push(Accepted {
                            received_at: row.received_at,
                            day,
                            payload_hash: row.payload_hash,
                            origin,
                        });
                        new_events.push(NewEvent { key, day, origin, outcome: *outcome, row });
                        (*outcome, String::new(), row.risk.clone())
                    }
                }
            }
        };
        new_entries.push(index);
        entries.push(LedgerEntry {
            position: verdict.position.clone(),
            origin: verdict.origin.clone(),
            key: verdict.key.clone(),
            outcome,
            reason,
            risk,
            recorded_at: now,
        });
    }
    Ok(Plan { entries, new_entries, new_events })
}

#[cfg(test)]
mod tests {
    use event::{EventId, TenantId};

    use super::*;

    const WINDOW: Duration = Duration::from_secs(3600);

    fn verdict(offset: i64, id: &str, received_at: i64, payload: &str) -> Verdict {
        let position = Position::new("raw-events", 0, offset);
        let row = EventRow {
            event_type: "click".into(),
            schema_version: 1,
            received_at: Timestamp::from_millis(received_at),
            occurred_at: None,
            ip: None,
            user_agent: None,
            user_id: None,
            payload_hash: PayloadHash::of(payload.as_bytes()),
            payload: payload.into(),
            risk: None,
        };
        let key = EventKey { tenant: TenantId::new("acme").unwrap(), id: EventId::new(id).unwrap() };
        let kind = VerdictKind::Store { outcome: Outcome::Valid, row: Box::new(row) };
        Verdict { origin: position.as_origin(), position, key: Some(key), kind }
    }

    fn planned(
        verdicts: &[Verdict],
        known: HashMap<usize, LedgerEntry>,
        copies: HashMap<usize, StoredCopy>,
    ) -> Plan<'_> {
        plan(verdicts, known, &copies, WINDOW, Timestamp::EPOCH).unwrap()
    }

    fn reasons(plan: &Plan<'_>) -> Vec<String> {
        plan.entries.iter().map(|entry| format!("{}|{}", entry.outcome, entry.reason)).collect()
    }

    #[test]
    fn a_stored_copy_makes_a_duplicate_that_names_its_owner() {
        let verdicts = [verdict(5, "a", 0, "x"), verdict(6, "b", 0, "x")];
        let copy = |payload: &str| StoredCopy {
            payload_hash: PayloadHash::of(payload.as_bytes()),
            origin: Origin::new("raw-events", 1, 2),
        };
        let plan = planned(&verdicts, HashMap::new(), HashMap::from([(0, copy("x")), (1, copy("y"))]));
        let expected = ["duplicate|already-stored: raw-events/1/2", "duplicate|payload-differs: raw-events/1/2"];
        assert_eq!(reasons(&plan), expected);
        assert!(plan.new_events.is_empty());
        assert_eq!(plan.new_entries, [0, 1]);
    }

    #[test]
    fn a_known_record_is_answered_and_stores_nothing_so_the_next_copy_does() {
        let verdicts = [verdict(5, "a", 0, "x"), verdict(6, "a", 0, "x")];
        let blocked = LedgerEntry {
            position: verdicts[0].position.clone(),
            origin: verdicts[0].origin.clone(),
            key: verdicts[0].key.clone(),
            outcome: Outcome::Blocked,
            reason: "block-list".into(),
            risk: None,
            recorded_at: Timestamp::EPOCH,
        };
        let plan = planned(&verdicts, HashMap::from([(0, blocked.clone())]), HashMap::new());
        assert_eq!(plan.entries[0], blocked);
        assert_eq!((plan.new_entries, plan.new_events.len()), (vec![1], 1));
    }

    #[test]
    fn copies_in_a_batch_are_of_the_same_day_or_within_the_window() {
        const DAY_MS: i64 = 86_400_000;
        let verdicts = [
            verdict(0, "a", 0, "x"),
            verdict(1, "a", DAY_MS / 2, "x"),
            verdict(2, "a", DAY_MS + 3_599_999, "x"),
            verdict(3, "b", DAY_MS - 1, "x"),
            verdict(4, "b", DAY_MS + 3_599_998, "x"),
            verdict(5, "b", DAY_MS * 3, "x"),
        ];
        let plan = planned(&verdicts, HashMap::new(), HashMap::new());
        let stored: Vec<i64> = plan.new_events.iter().map(|event| event.origin.offset).collect();
        assert_eq!(stored, [0, 2, 3, 5]);
    }

    #[test]
    fn a_record_that_comes_twice_in_one_batch_has_one_entry() {
        let verdicts = [verdict(0, "a", 0, "x"), verdict(0, "a", 0, "x")];
        let plan = planned(&verdicts, HashMap::new(), HashMap::new());
        assert_eq!(plan.entries[0], plan.entries[1]);
        assert_eq!((plan.new_entries, plan.new_events.len()), (vec![0], 1));
    }

    #[test]
    fn an_event_without_a_key_is_refused() {
        let verdict = Verdict { key: None, ..verdict(0, "a", 0, "x") };
        let result = plan(std::slice::from_ref(&verdict), HashMap::new(), &HashMap::new(), WINDOW, Timestamp::EPOCH);
        assert!(matches!(result.unwrap_err(), PostgresError::NoKey));
    }
}
