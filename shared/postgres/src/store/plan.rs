//! Decides what to write for a batch, given what is stored already. Pure.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::iter::successors;
use std::sync::Arc;
use std::time::Duration;

use event::{EventKey, Origin, Timestamp};
use pipeline::decisions::recording::{Logs, Standing, StoredCopy, are_copies};
use pipeline::ports::{LedgerEntry, RiskScore};
use pipeline::tracked::{Decided, Event, State, Tracked};
use pipeline::{Outcome, Position, TraceId};

use crate::text::{indexed, is_storable_list, storable, storable_list, storable_shared};

/// What is stored already for a record.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Every entry at its position, in the order of their incarnations.
    pub entries: Vec<LedgerEntry>,
    /// A row of the same event.
    pub copy: Option<StoredCopy>,
}

/// A row to insert.
#[derive(Debug)]
pub(super) struct NewEvent<'r, 'a> {
    pub event: &'r Event<'a>,
    pub decided: &'r Decided,
    pub origin: &'r Origin,
    pub trace_id: Option<&'r TraceId>,
}

impl NewEvent<'_, '_> {
    /// The row as the other copies of its event will find it.
    fn as_copy(&self) -> StoredCopy {
        StoredCopy { payload_hash: self.event.payload_hash, origin: self.origin.clone() }
    }
}

/// The offsets that the ledger accounts for: `floor` to `next`, the latter excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub floor: i64,
    pub next: i64,
}

impl Span {
    pub(super) fn of(offset: i64) -> Self {
        Span { floor: offset, next: offset.saturating_add(1) }
    }

    pub(super) fn and(self, other: Span) -> Self {
        Span { floor: self.floor.min(other.floor), next: self.next.max(other.next) }
    }
}

/// The account of a partition's log, as its lock found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogAccount {
    pub incarnation: i32,
    /// Before this batch; `None` if this is the partition's first.
    pub before: Option<Span>,
    /// With every record of this batch, as if all were of this incarnation and new.
    pub locked: Span,
}

/// A topic and a partition of it.
pub(super) type LogKey = (Arc<str>, i32);

/// The span of one incarnation, to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IncarnationSpan {
    pub log: LogKey,
    pub incarnation: i32,
    pub span: Span,
}

/// What the lock of the partitions could not write, because it did not know yet which records are new and of which
/// incarnation: normally nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Corrections {
    pub present: Vec<IncarnationSpan>,
    pub ended: Vec<IncarnationSpan>,
}

impl Corrections {
    pub(super) fn is_empty(&self) -> bool {
        self.present.is_empty() && self.ended.is_empty()
    }

    fn of(accounts: &BTreeMap<LogKey, LogAccount>, logs: &Logs, mut new: BTreeMap<(LogKey, i32), Span>) -> Self {
        let mut corrections = Corrections::default();
        for (log, account) in accounts {
            let present = logs.present(&log.0, log.1);
            if let Some(before) = account.before {
                new.entry((log.clone(), account.incarnation))
                    .and_modify(|span| *span = span.and(before))
                    .or_insert(before);
            }
            if let Some(span) = new.remove(&(log.clone(), present))
                && (present != account.incarnation || span != account.locked)
            {
                corrections.present.push(IncarnationSpan { log: log.clone(), incarnation: present, span });
            }
        }
        let ended = new.into_iter().map(|((log, incarnation), span)| IncarnationSpan { log, incarnation, span });
        corrections.ended.extend(ended);
        corrections
    }
}

/// The answer about one record.
#[derive(Debug)]
pub(super) struct Planned<'r, 'a> {
    pub entry: LedgerEntry,
    /// The record, if it must have a ledger row and has none yet.
    pub new: Option<&'r Tracked<'a, Decided>>,
}

impl Planned<'_, '_> {
    /// Whether it is about a record that was delivered with that position.
    fn is_at(&self, position: &Position) -> bool {
        let Position { topic, partition, offset, incarnation: _ } = &self.entry.position;
        (*offset, *partition, topic) == (position.offset, position.partition, &position.topic)
    }
}

#[derive(Debug)]
pub(super) struct Plan<'r, 'a> {
    /// One for each record, in their order.
    pub entries: Vec<Planned<'r, 'a>>,
    pub new_events: Vec<NewEvent<'r, 'a>>,
    /// Events that the ledger has as stored and of which there is no row: expired, or lost.
    pub absent: Vec<NewEvent<'r, 'a>>,
    pub corrections: Corrections,
    /// The logs of which another incarnation began in this batch.
    pub begun: Vec<LogKey>,
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

/// Decides what to write for each record, given what was found for it and for its log.
pub(super) fn plan<'r, 'a>(
    records: impl ExactSizeIterator<Item = (&'r Tracked<'a, Decided>, Found)>,
    accounts: &BTreeMap<LogKey, LogAccount>,
    window: Duration,
    now: Timestamp,
) -> Plan<'r, 'a>
where
    'a: 'r,
{
    let count = records.len();
    let mut entries = Vec::<Planned<'r, 'a>>::with_capacity(count);
    let mut new_events = Vec::<NewEvent<'r, 'a>>::with_capacity(count);
    // The last new event of each key, and for each new event the one of the same key before it.
    let mut last_of_key = HashMap::<&EventKey, usize>::with_capacity(count);
    let mut before = Vec::<Option<usize>>::with_capacity(count);
    let mut positions = HashSet::<&Position>::with_capacity(count);
    let mut logs = Logs::new(accounts.iter().map(|(log, account)| (log.clone(), account.incarnation)));
    let mut new_spans = NewSpans::default();
    let mut absent = Vec::new();
    for (record, mut found) in records {
        let is_first = positions.insert(&record.position);
        if !is_first {
            // A record that comes twice in one batch gets the same outcome both times.
            let earlier = entries.iter().filter(|planned| planned.new.is_some() && planned.is_at(&record.position));
            found.entries.extend(earlier.map(|planned| planned.entry.clone()));
        }
        let incarnation = match logs.place(record, found.entries) {
            Standing::Recorded(entry) => {
                if is_first && found.copy.is_none() {
                    absent.extend(stored_event(record, &entry));
                }
                entries.push(Planned { entry: *entry, new: None });
                continue;
            }
            Standing::New { incarnation } => incarnation,
        };
        let position = record.position.clone().in_incarnation(incarnation);
        new_spans.add(&position);
        let (outcome, reason, risk) = match &record.state {
            State::Closed { outcome, reason, .. } => (*outcome, reason.clone(), None),
            State::Open { event, found: decided } => {
                let last = last_of_key.get(&event.key).copied();
                let copy = found.copy.or_else(|| {
                    let of_key = successors(last, |at| before.get(*at).copied().flatten());
                    let in_batch = of_key.filter_map(|at| new_events.get(at));
                    let copies = in_batch.filter(|new| are_copies(new.event.received_at, event.received_at, window));
                    copies.last().map(NewEvent::as_copy)
                });
                match copy {
                    Some(copy) => (Outcome::Duplicate, copy.duplicate(event.payload_hash).to_string(), None),
                    None => {
                        last_of_key.insert(&event.key, new_events.len());
                        before.push(last);
                        new_events.push(NewEvent {
                            event,
                            decided,
                            origin: &record.origin,
                            trace_id: record.trace_id.as_ref(),
                        });
                        (decided.outcome, String::new(), decided.risk.clone())
                    }
                }
            }
        };
        let entry = LedgerEntry {
            position,
            digest: record.digest,
            origin: record.origin.clone(),
            trace_id: record.trace_id,
            key: record.key().cloned(),
            outcome,
            reason,
            risk,
            recorded_at: now,
        };
        entries.push(Planned { entry, new: Some(record) });
    }
    let begun = accounts.iter().filter(|(log, account)| logs.present(&log.0, log.1) != account.incarnation);
    let begun = begun.map(|(log, _)| log.clone()).collect();
    let corrections = Corrections::of(accounts, &logs, new_spans.spans);
    Plan { entries, new_events, absent, corrections, begun }
}

/// The row that the record was stored as; `None` if the ledger says that it was not, or that it was stored otherwise.
fn stored_event<'r, 'a>(record: &'r Tracked<'a, Decided>, entry: &LedgerEntry) -> Option<NewEvent<'r, 'a>> {
    let State::Open { event, found: decided } = &record.state else { return None };
    let is_same = decided.outcome == entry.outcome && decided.risk == entry.risk;
    is_same.then_some(NewEvent { event, decided, origin: &record.origin, trace_id: record.trace_id.as_ref() })
}

/// The spans of the new records of a batch, by incarnation.
#[derive(Default)]
struct NewSpans {
    spans: BTreeMap<(LogKey, i32), Span>,
}

impl NewSpans {
    fn add(&mut self, position: &Position) {
        let log = (Arc::clone(&position.topic), position.partition);
        let span = Span::of(position.offset);
        let spans = self.spans.entry((log, position.incarnation));
        spans.and_modify(|known| *known = known.and(span)).or_insert(span);
    }
}

#[cfg(test)]
mod tests {
    use event::{EventId, Facts, IdSource, PayloadHash, RecordDigest, TenantId};
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
            undated: false,
            occurred_at: None,
            ip: None,
            user_agent: None,
            user_id: None,
            facts: Facts::default(),
            payload_hash: PayloadHash::of(payload.as_bytes()),
            payload: Payload(Cow::Owned(serde_json::value::to_raw_value(payload).unwrap())),
        };
        let found = Decided { outcome: Outcome::Valid, risk: None };
        let digest = Some(RecordDigest([1; RecordDigest::BYTES]));
        let origin = position.as_origin(digest);
        Tracked { position, digest, incarnation: None, origin, trace_id: None, state: State::Open { event, found } }
    }

    /// The plan for records, the first of which have what `found` says.
    fn planned<'r>(records: &'r [Tracked<'static, Decided>], mut found: Vec<Found>) -> Plan<'r, 'static> {
        found.resize_with(records.len(), Found::default);
        plan(records.iter().zip(found), &BTreeMap::new(), WINDOW, Timestamp::EPOCH)
    }

    fn account(incarnation: i32, before: Option<(i64, i64)>, locked: (i64, i64)) -> BTreeMap<LogKey, LogAccount> {
        let span = |(floor, next)| Span { floor, next };
        let account = LogAccount { incarnation, before: before.map(span), locked: span(locked) };
        BTreeMap::from([((Arc::from("raw-events"), 0), account)])
    }

    fn spans(spans: &[IncarnationSpan]) -> Vec<(i32, i64, i64)> {
        spans.iter().map(|of| (of.incarnation, of.span.floor, of.span.next)).collect()
    }

    /// The entry of another record at the position of `record`.
    fn another(record: &Tracked<'_, Decided>) -> LedgerEntry {
        let digest = Some(RecordDigest([2; RecordDigest::BYTES]));
        let other = Tracked { digest, ..record.clone() };
        planned_entry(&other)
    }

    fn planned_entry(record: &Tracked<'_, Decided>) -> LedgerEntry {
        let accounts = BTreeMap::new();
        plan([(record, Found::default())].into_iter(), &accounts, WINDOW, Timestamp::EPOCH).entries.remove(0).entry
    }

    #[test]
    fn what_the_lock_wrote_is_corrected_only_if_it_is_wrong() {
        let records = [open(5, "a", 0, "x"), open(6, "b", 0, "x")];
        let found = || records.iter().map(|_| Found::default());
        let of = |found: Vec<Found>, accounts| plan(records.iter().zip(found), &accounts, WINDOW, Timestamp::EPOCH);

        let next = of(found().collect(), account(0, Some((2, 5)), (2, 7)));
        assert!(next.corrections.is_empty() && next.begun.is_empty());
        let first = of(found().collect(), account(0, None, (5, 7)));
        assert!(first.corrections.is_empty());

        // The log was made again: the account of the first one ends as it was before.
        let others = records.iter().map(|record| Found { entries: vec![another(record)], copy: None }).collect();
        let again = of(others, account(0, Some((2, 9)), (2, 9)));
        assert_eq!(again.begun, [(Arc::from("raw-events"), 0)]);
        assert_eq!(spans(&again.corrections.present), [(1, 5, 7)]);
        assert_eq!(spans(&again.corrections.ended), [(0, 2, 9)]);

        // It begins inside the batch: the record before belongs to the first.
        let inside = of(
            vec![Found::default(), Found { entries: vec![another(&records[1])], copy: None }],
            account(0, Some((6, 9)), (5, 9)),
        );
        assert_eq!(spans(&inside.corrections.present), [(1, 6, 7)]);
        assert_eq!(spans(&inside.corrections.ended), [(0, 5, 9)]);

        // A redelivery from an ended log moves nothing.
        let known = records.iter().map(|record| Found { entries: vec![planned_entry(record)], copy: None }).collect();
        let redelivered = of(known, account(1, Some((0, 3)), (0, 7)));
        assert_eq!(spans(&redelivered.corrections.present), [(1, 0, 3)]);
        assert!(redelivered.corrections.ended.is_empty());
    }

    fn reasons(plan: &Plan<'_, '_>) -> Vec<String> {
        plan.entries.iter().map(|planned| format!("{}|{}", planned.entry.outcome, planned.entry.reason)).collect()
    }

    fn new_offsets(plan: &Plan<'_, '_>) -> Vec<i64> {
        plan.entries
            .iter()
            .filter(|planned| planned.new.is_some())
            .map(|planned| planned.entry.position.offset)
            .collect()
    }

    #[test]
    fn a_stored_copy_makes_a_duplicate_that_names_its_owner() {
        let records = [open(5, "a", 0, "x"), open(6, "b", 0, "x")];
        let copy = |payload: &str| StoredCopy {
            payload_hash: PayloadHash::of(payload.as_bytes()),
            origin: Origin::new("raw-events", 1, 2),
        };
        let found = |payload| Found { entries: vec![], copy: Some(copy(payload)) };
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
            digest: records[0].digest,
            origin: records[0].origin.clone(),
            trace_id: None,
            key: records[0].key().cloned(),
            outcome: Outcome::Blocked,
            reason: "block-list".into(),
            risk: None,
            recorded_at: Timestamp::EPOCH,
        };
        let plan = planned(&records, vec![Found { entries: vec![blocked.clone()], copy: None }]);
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
