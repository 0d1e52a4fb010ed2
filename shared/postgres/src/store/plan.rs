//! Decides what to write for a batch, given what is stored already. Pure.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::iter::successors;
use std::sync::Arc;
use std::time::Duration;

use event::{EventKey, Origin, Timestamp};
use pipeline::decisions::recording::{StoredCopy, are_copies};
use pipeline::ports::{LedgerEntry, RiskScore};
use pipeline::tracked::{Decided, Event, State, Tracked};
use pipeline::{Outcome, Position};

use crate::text::{indexed, is_storable_list, storable, storable_list, storable_shared};

/// What is stored already for a record.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub entry: Option<LedgerEntry>,
    /// A row of the same event.
    pub copy: Option<StoredCopy>,
}

/// A row to insert.
#[derive(Debug)]
pub(super) struct NewEvent<'r, 'a> {
    pub event: &'r Event<'a>,
    pub decided: &'r Decided,
    pub origin: &'r Origin,
}

impl NewEvent<'_, '_> {
    /// The row as the other copies of its event will find it.
    fn as_copy(&self) -> StoredCopy {
        StoredCopy { payload_hash: self.event.payload_hash, origin: self.origin.clone() }
    }
}

/// The answer about one record.
#[derive(Debug)]
pub(super) struct Planned {
    pub entry: LedgerEntry,
    /// Whether the record must have a ledger row and has none yet.
    pub is_new: bool,
}

#[derive(Debug)]
pub(super) struct Plan<'r, 'a> {
    /// One for each record, in their order.
    pub entries: Vec<Planned>,
    pub new_events: Vec<NewEvent<'r, 'a>>,
}

/// The record with every character replaced that Postgres cannot store, so that no record makes its batch fail. This is
/// done first, because the answer to the first delivery must equal what a redelivery reads back. Borrowed unless a
/// character must be replaced. A payload is JSON, which cannot contain U+0000.
pub(super) fn storable_record<'r, 'a>(record: &'r Tracked<'a, Decided>) -> Cow<'r, Tracked<'a, Decided>> {
    if is_storable(record) {
        return Cow::Borrowed(record);
    }
    fn replace(text: &mut String) {
        if let Cow::Owned(replaced) = storable(text) {
            *text = replaced;
        }
    }
    fn replace_cow(text: &mut Cow<'_, str>) {
        if let Cow::Owned(replaced) = storable(text) {
            *text = Cow::Owned(replaced);
        }
    }
    let mut record = record.clone();
    record.origin.topic = storable_shared(record.origin.topic);
    match &mut record.state {
        State::Open { event, found } => {
            event.event_type = Cow::Owned(indexed(&event.event_type).into_owned());
            event.user_agent.iter_mut().for_each(replace_cow);
            event.user_id.iter_mut().for_each(replace_cow);
            if let Some(RiskScore { reasons, rules_version, .. }) = &mut found.risk {
                *reasons = storable_list(std::mem::take(reasons));
                *rules_version = storable_shared(Arc::clone(rules_version));
            }
        }
        State::Closed { reason, .. } => replace(reason),
    }
    Cow::Owned(record)
}

fn is_storable(record: &Tracked<'_, Decided>) -> bool {
    let is_plain = |text: &str| matches!(storable(text), Cow::Borrowed(_));
    let state_is_storable = match &record.state {
        State::Open { event, found } => {
            indexed(&event.event_type) == event.event_type
                && event.user_agent.as_deref().is_none_or(is_plain)
                && event.user_id.as_deref().is_none_or(is_plain)
                && found
                    .risk
                    .as_ref()
                    .is_none_or(|risk| is_plain(&risk.rules_version) && is_storable_list(&risk.reasons))
        }
        State::Closed { reason, .. } => is_plain(reason),
    };
    state_is_storable && is_plain(&record.origin.topic)
}

/// Decides what to write for each record, given what was found for it.
pub(super) fn plan<'r, 'a>(
    records: impl ExactSizeIterator<Item = (&'r Tracked<'a, Decided>, Found)>,
    window: Duration,
    now: Timestamp,
) -> Plan<'r, 'a>
where
    'a: 'r,
{
    let count = records.len();
    let mut plan = Plan { entries: Vec::with_capacity(count), new_events: Vec::with_capacity(count) };
    // The last new event of each key, and for each new event the one of the same key before it.
    let mut last_of_key = HashMap::<&EventKey, usize>::with_capacity(count);
    let mut before = Vec::<Option<usize>>::with_capacity(count);
    let mut places = HashMap::<&Position, usize>::with_capacity(count);
    for (record, found) in records {
        if let Some(entry) = found.entry {
            plan.entries.push(Planned { entry, is_new: false });
            continue;
        }
        // A record that comes twice in one batch gets the same outcome both times.
        match places.entry(&record.position) {
            Entry::Occupied(first) => {
                if let Some(Planned { entry, .. }) = plan.entries.get(*first.get()) {
                    let entry = entry.clone();
                    plan.entries.push(Planned { entry, is_new: false });
                    continue;
                }
            }
            Entry::Vacant(place) => _ = place.insert(plan.entries.len()),
        }
        let (outcome, reason, risk) = match &record.state {
            State::Closed { outcome, reason, .. } => (*outcome, reason.clone(), None),
            State::Open { event, found: decided } => {
                let last = last_of_key.get(&event.key).copied();
                let copy = found.copy.or_else(|| {
                    let of_key = successors(last, |at| before.get(*at).copied().flatten());
                    let in_batch = of_key.filter_map(|at| plan.new_events.get(at));
                    let copies = in_batch.filter(|new| are_copies(new.event.received_at, event.received_at, window));
                    copies.last().map(NewEvent::as_copy)
                });
                match copy {
                    Some(copy) => (Outcome::Duplicate, copy.duplicate(event.payload_hash).to_string(), None),
                    None => {
                        last_of_key.insert(&event.key, plan.new_events.len());
                        before.push(last);
                        plan.new_events.push(NewEvent { event, decided, origin: &record.origin });
                        (decided.outcome, String::new(), decided.risk.clone())
                    }
                }
            }
        };
        let entry = LedgerEntry {
            position: record.position.clone(),
            origin: record.origin.clone(),
            key: record.key().cloned(),
            outcome,
            reason,
            risk,
            recorded_at: now,
        };
        plan.entries.push(Planned { entry, is_new: true });
    }
    plan
}

#[cfg(test)]
mod tests {
    use event::{EventId, IdSource, PayloadHash, TenantId};
    use pipeline::tracked::Payload;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(3600);

    fn open(offset: i64, id: &str, received_at: i64, payload: &str) -> Tracked<'static, Decided> {
        let position = Position::new("raw-events", 0, offset);
        let event = Event {
            key: EventKey { tenant: TenantId::new("acme").unwrap(), id: EventId::new(id).unwrap() },
            id_source: IdSource::Client,
            event_type: "click".into(),
            schema_version: 1,
            received_at: Timestamp::from_millis(received_at),
            occurred_at: None,
            ip: None,
            user_agent: None,
            user_id: None,
            payload_hash: PayloadHash::of(payload.as_bytes()),
            payload: Payload(Cow::Owned(serde_json::value::to_raw_value(payload).unwrap())),
        };
        let found = Decided { outcome: Outcome::Valid, risk: None };
        Tracked { origin: position.as_origin(), position, state: State::Open { event, found } }
    }

    /// The plan for records, the first of which have what `found` says.
    fn planned<'r>(records: &'r [Tracked<'static, Decided>], mut found: Vec<Found>) -> Plan<'r, 'static> {
        found.resize_with(records.len(), Found::default);
        plan(records.iter().zip(found), WINDOW, Timestamp::EPOCH)
    }

    fn reasons(plan: &Plan<'_, '_>) -> Vec<String> {
        plan.entries.iter().map(|planned| format!("{}|{}", planned.entry.outcome, planned.entry.reason)).collect()
    }

    fn new_offsets(plan: &Plan<'_, '_>) -> Vec<i64> {
        plan.entries.iter().filter(|planned| planned.is_new).map(|planned| planned.entry.position.offset).collect()
    }

    #[test]
    fn a_stored_copy_makes_a_duplicate_that_names_its_owner() {
        let records = [open(5, "a", 0, "x"), open(6, "b", 0, "x")];
        let copy = |payload: &str| StoredCopy {
            payload_hash: PayloadHash::of(payload.as_bytes()),
            origin: Origin::new("raw-events", 1, 2),
        };
        let found = |payload| Found { entry: None, copy: Some(copy(payload)) };
        let plan = planned(&records, vec![found("x"), found("y")]);
        let expected = ["duplicate|already-stored: raw-events/1/2", "duplicate|payload-differs: raw-events/1/2"];
        assert_eq!(reasons(&plan), expected);
        assert!(plan.new_events.is_empty());
        assert_eq!(new_offsets(&plan), [5, 6]);
    }

    #[test]
    fn a_known_record_is_answered_and_stores_nothing_so_the_next_copy_does() {
        let records = [open(5, "a", 0, "x"), open(6, "a", 0, "x")];
        let blocked = LedgerEntry {
            position: records[0].position.clone(),
            origin: records[0].origin.clone(),
            key: records[0].key().cloned(),
            outcome: Outcome::Blocked,
            reason: "block-list".into(),
            risk: None,
            recorded_at: Timestamp::EPOCH,
        };
        let plan = planned(&records, vec![Found { entry: Some(blocked.clone()), copy: None }]);
        assert_eq!(plan.entries[0].entry, blocked);
        assert_eq!((new_offsets(&plan), plan.new_events.len()), (vec![6], 1));
    }

    #[test]
    fn copies_in_a_batch_are_of_the_same_day_or_within_the_window() {
        const DAY_MS: i64 = 86_400_000;
        let records = [
            open(0, "a", 0, "x"),
            open(1, "a", DAY_MS / 2, "x"),
            open(2, "a", DAY_MS + 3_599_999, "x"),
            open(3, "b", DAY_MS - 1, "x"),
            open(4, "b", DAY_MS + 3_599_998, "x"),
            open(5, "b", DAY_MS * 3, "x"),
        ];
        let plan = planned(&records, Vec::new());
        let stored: Vec<i64> = plan.new_events.iter().map(|event| event.origin.offset).collect();
        assert_eq!(stored, [0, 2, 3, 5]);
    }

    #[test]
    fn a_record_that_comes_twice_in_one_batch_has_one_entry() {
        let records = [open(0, "a", 0, "x"), open(0, "a", 0, "x")];
        let plan = planned(&records, Vec::new());
        assert_eq!(plan.entries[0].entry, plan.entries[1].entry);
        assert_eq!((new_offsets(&plan), plan.new_events.len()), (vec![0], 1));
    }

    #[test]
    fn only_what_postgres_cannot_hold_is_replaced_and_copied() {
        let mut plain = open(0, "a", 0, "x");
        assert!(matches!(storable_record(&plain), Cow::Borrowed(_)));
        let State::Open { event, found } = &mut plain.state else { panic!("it is open") };
        event.user_agent = Some("a\0b".into());
        found.risk = Some(RiskScore { score: 1, reasons: vec!["r\u{1f}".into()], rules_version: "7".into() });
        let replaced = storable_record(&plain);
        let (event, found) = replaced.open().unwrap();
        assert_eq!(event.user_agent.as_deref(), Some("a\u{fffd}b"));
        assert_eq!(found.risk.as_ref().unwrap().reasons, ["r\u{fffd}"]);
        let mut closed = open(0, "a", 0, "x");
        closed.close(Outcome::Blocked, "no\0w");
        assert!(matches!(&storable_record(&closed).state, State::Closed { reason, .. } if reason == "no\u{fffd}w"));
    }
}
