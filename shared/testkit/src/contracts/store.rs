//! The contract of every [`EventStore`].
#![expect(clippy::panic, clippy::expect_used, reason = "a contract suite fails by panicking")]

use std::time::Duration;

use async_trait::async_trait;
use event::{EventId, EventKey, Origin, RecordDigest, TenantId, Timestamp};
use futures::future::join_all;
use pipeline::ports::{EventStore, LedgerEntry, RiskScore};
use pipeline::tracked::{Decided, Event};
use pipeline::{Outcome, Position, TraceId};

use super::unique;
use crate::events::{closed, event, payload, stored, valid};

/// A record that a store can record.
type Decision = pipeline::tracked::Tracked<'static, Decided>;

/// The deduplication window that the store under test must have.
pub const DEDUP_WINDOW: Duration = Duration::from_secs(24 * 3600);

const HOUR: Duration = Duration::from_secs(3600);

/// A row of `events`, for tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRow {
    pub event: Event<'static>,
    pub origin: Origin,
    pub trace_id: Option<TraceId>,
    pub outcome: Outcome,
    pub risk: Option<RiskScore>,
}

/// The offsets of a partition that the store accounts for: `floor` to `next`, the latter excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub floor: i64,
    pub next: i64,
}

/// A view of a store's content, which the port does not offer.
#[async_trait]
pub trait StoreView: Send + Sync {
    /// The tenant's events, in any order.
    async fn events(&self, tenant: &TenantId) -> Vec<StoredRow>;
    /// The sum of the tenant's hourly counts with that outcome.
    async fn counted(&self, tenant: &TenantId, outcome: Outcome) -> u64;
    async fn span(&self, topic: &str, partition: i32) -> Option<Span>;
}

/// Runs the suite. Tenants and topics are new in every run, so the store need not be empty.
pub async fn store_contract(store: &dyn EventStore, view: &dyn StoreView) {
    Case::new(store, view, "empty").an_empty_batch_is_answered().await;
    Case::new(store, view, "all").every_outcome_is_recorded_and_only_stored_ones_are_events().await;
    Case::new(store, view, "again").a_redelivery_gets_the_same_entries_however_it_is_cut().await;
    Case::new(store, view, "second").another_decision_for_a_recorded_position_changes_nothing().await;
    Case::new(store, view, "again-made").a_log_that_was_made_again_is_recorded_beside_the_first().await;
    Case::new(store, view, "mixed").a_new_incarnation_may_begin_inside_a_batch().await;
    Case::new(store, view, "copies").copies_are_duplicates_and_say_whether_they_differ().await;
    Case::new(store, view, "batch").copies_within_one_batch_are_found().await;
    Case::new(store, view, "redriven").a_redriven_copy_of_a_stored_event_is_a_duplicate().await;
    Case::new(store, view, "midnight").copies_across_midnight_are_found_and_later_ones_are_new().await;
    Case::new(store, view, "odd").odd_contents_fail_nobody().await;
    Case::new(store, view, "spans").spans_grow_both_ways_per_partition().await;
    Case::new(store, view, "zombies").concurrent_recorders_of_one_partition_agree().await;
    Case::new(store, view, "racers").one_of_many_concurrent_copies_is_stored().await;
    Case::new(store, view, "large").a_large_batch_is_recorded_in_order().await;
}

struct Case<'a> {
    store: &'a dyn EventStore,
    view: &'a dyn StoreView,
    topic: String,
    tenant: TenantId,
    /// Noon (UTC) of some day.
    noon: Timestamp,
}

impl<'a> Case<'a> {
    fn new(store: &'a dyn EventStore, view: &'a dyn StoreView, name: &str) -> Self {
        let unique = unique(name);
        let noon = Timestamp::parse("2026-11-20T12:00:00Z").expect("an instant");
        Case { store, view, tenant: TenantId::new(&unique).expect("a tenant"), topic: unique, noon }
    }

    fn position(&self, partition: i32, offset: i64) -> Position {
        Position::new(self.topic.as_str(), partition, offset)
    }

    fn key(&self, id: &str) -> EventKey {
        EventKey { tenant: self.tenant.clone(), id: EventId::new(id).expect("an id") }
    }

    fn event(&self, id: &str, json: &str) -> Event<'static> {
        event(&self.tenant, id, json, self.noon)
    }

    fn risk(&self) -> RiskScore {
        RiskScore { score: 10, reasons: vec!["a".into(), "b".into()], rules_version: "1".into() }
    }

    /// A record of partition 0 whose event is to be stored.
    fn stores(&self, offset: i64, event: Event<'static>) -> Decision {
        stored(self.position(0, offset), event, valid(Some(self.risk())))
    }

    fn closes(&self, offset: i64, outcome: Outcome, reason: &str) -> Decision {
        closed(self.position(0, offset), None, outcome, reason)
    }

    async fn record_at(&self, records: &[Decision], now: Timestamp) -> Vec<LedgerEntry> {
        match self.store.record(records, now).await {
            Ok(entries) => {
                assert_eq!(entries.len(), records.len(), "one entry for each record");
                for (entry, record) in entries.iter().zip(records) {
                    let position = entry.position.clone().in_incarnation(0);
                    assert_eq!(position, record.position, "entries are in the order of the records");
                }
                entries
            }
            Err(error) => panic!("the store failed: {error}: {}", error.source),
        }
    }

    async fn record(&self, records: &[Decision]) -> Vec<LedgerEntry> {
        self.record_at(records, self.noon).await
    }

    /// Checks the ids of the stored events, and that the counts agree.
    async fn assert_stored(&self, mut expected: Vec<&str>) {
        let events = self.view.events(&self.tenant).await;
        let mut ids: Vec<&str> = events.iter().map(|row| row.event.key.id.as_str()).collect();
        ids.sort_unstable();
        expected.sort_unstable();
        assert_eq!(ids, expected, "stored events");
        let mut counted = 0;
        for &outcome in Outcome::ALL {
            counted += self.view.counted(&self.tenant, outcome).await;
        }
        assert_eq!(counted, ids.len() as u64, "the counts are those of the rows that were inserted");
    }

    async fn an_empty_batch_is_answered(self) {
        assert!(self.record(&[]).await.is_empty());
        self.assert_stored(vec![]).await;
    }

    async fn every_outcome_is_recorded_and_only_stored_ones_are_events(self) {
        let is_fraud = Decided { outcome: Outcome::Fraud, risk: Some(self.risk()) };
        let fraud = stored(self.position(0, 1), self.event("b", "{\"b\":2}"), is_fraud);
        let unscored = stored(self.position(0, 2), self.event("c", "{}"), valid(None));
        let blocked = closed(self.position(0, 4), Some(self.key("d")), Outcome::Blocked, "ip-limit: 203.0.113.7");
        let records = [
            self.stores(0, self.event("a", "{\"a\":1}")),
            fraud,
            unscored,
            self.closes(3, Outcome::DeadLettered, "not-json"),
            blocked,
            self.closes(5, Outcome::Duplicate, "claimed: raw-events/0/1"),
        ];
        let entries = self.record(&records).await;
        let expected = [
            (Outcome::Valid, ""),
            (Outcome::Fraud, ""),
            (Outcome::Valid, ""),
            (Outcome::DeadLettered, "not-json"),
            (Outcome::Blocked, "ip-limit: 203.0.113.7"),
            (Outcome::Duplicate, "claimed: raw-events/0/1"),
        ];
        for ((entry, record), (outcome, reason)) in entries.iter().zip(&records).zip(expected) {
            assert_eq!((entry.outcome, entry.reason.as_str()), (outcome, reason));
            assert_eq!((&entry.origin, entry.key.as_ref()), (&record.origin, record.key()));
            assert_eq!(entry.recorded_at, self.noon);
        }
        let risks: Vec<Option<u8>> = entries.iter().map(|entry| entry.risk.as_ref().map(|risk| risk.score)).collect();
        assert_eq!(risks, [Some(10), Some(10), None, None, None, None], "risk of stored events");

        self.assert_stored(vec!["a", "b", "c"]).await;
        assert_eq!(self.view.counted(&self.tenant, Outcome::Fraud).await, 1);
        let events = self.view.events(&self.tenant).await;
        let find = |id: &str| events.iter().find(|row| row.event.key.id.as_str() == id).expect("a stored event");
        assert_eq!(find("a").event, self.event("a", "{\"a\":1}"), "a row is stored whole");
        assert_eq!((&find("a").origin, &find("a").risk), (&records[0].origin, &Some(self.risk())));
        assert_eq!((find("b").outcome, &find("c").risk), (Outcome::Fraud, &None));
    }

    async fn a_redelivery_gets_the_same_entries_however_it_is_cut(self) {
        let records: Vec<Decision> = (0..8)
            .map(|offset| match offset % 4 {
                0 => self.closes(offset, Outcome::DeadLettered, "not-json: line 1"),
                1 => self.stores(offset, self.event("same", "{}")),
                _ => self.stores(offset, self.event(&format!("id-{offset}"), "{}")),
            })
            .collect();
        let first = self.record(&records[..5]).await;
        let later = self.noon.plus(HOUR);
        let recut = self.record_at(&records[2..], later).await;
        assert_eq!(recut[..3], first[2..], "existing entries are returned unchanged");
        let whole = self.record_at(&records, later.plus(HOUR)).await;
        assert_eq!(whole[..5], first[..]);
        assert_eq!(whole[5..], recut[3..]);
        self.assert_stored(vec!["same", "id-2", "id-3", "id-6", "id-7"]).await;
    }

    async fn another_decision_for_a_recorded_position_changes_nothing(self) {
        let first = self.record(&[self.closes(0, Outcome::Blocked, "block-list")]).await;
        let other = [self.stores(0, self.event("a", "{}")), self.stores(1, self.event("a", "{}"))];
        let second = self.record_at(&other, self.noon.plus(HOUR)).await;
        assert_eq!(second[0], first[0], "the first recording counts");
        assert_eq!(second[1].outcome, Outcome::Valid, "the other record was not stored, so this is not a copy");
        self.assert_stored(vec!["a"]).await;
    }

    /// A record of another log than [`Case::stores`], at the same offset.
    fn stores_in_log(&self, log: u8, offset: i64, id: &str) -> Decision {
        let mut record = self.stores(offset, self.event(id, "{}"));
        record.digest = Some(RecordDigest([log; RecordDigest::BYTES]));
        record.origin = record.position.as_origin(record.digest);
        record
    }

    async fn a_log_that_was_made_again_is_recorded_beside_the_first(self) {
        let first: Vec<Decision> =
            (0..6).map(|offset| self.stores(offset, self.event(&format!("a{offset}"), "{}"))).collect();
        let of_first = self.record(&first).await;
        let second: Vec<Decision> = (0..3).map(|offset| self.stores_in_log(1, offset, &format!("b{offset}"))).collect();
        let of_second = self.record(&second).await;
        for (entry, offset) in of_second.iter().zip(0..) {
            assert_eq!((entry.outcome, &entry.position), (Outcome::Valid, &self.position(0, offset).in_incarnation(1)));
        }
        assert_eq!(
            self.view.span(&self.topic, 0).await,
            Some(Span { floor: 0, next: 3 }),
            "the new log has its own span"
        );
        let later = self.noon.plus(HOUR);
        assert_eq!(self.record_at(&second, later).await, of_second);
        assert_eq!(self.record_at(&first, later).await, of_first, "records of the first log are still known");
        assert_eq!(self.view.span(&self.topic, 0).await, Some(Span { floor: 0, next: 3 }), "and move nothing");
        let third = self.record(&[self.stores_in_log(2, 1, "c1")]).await;
        assert_eq!(third[0].position, self.position(0, 1).in_incarnation(2));
        assert_eq!(self.view.span(&self.topic, 0).await, Some(Span { floor: 1, next: 2 }));
        let next = self.record(&[self.stores_in_log(2, 9, "c9")]).await;
        assert_eq!(next[0].position, self.position(0, 9).in_incarnation(2), "a free position continues the last log");
        let ids = ["a0", "a1", "a2", "a3", "a4", "a5", "b0", "b1", "b2", "c1", "c9"];
        self.assert_stored(ids.to_vec()).await;
    }

    /// A record that a person invoked with a position that the real log reaches later, and the same record twice.
    async fn a_new_incarnation_may_begin_inside_a_batch(self) {
        self.record(&[self.stores_in_log(9, 2, "sample")]).await;
        let batch = [
            self.stores(0, self.event("a", "{}")),
            self.stores(1, self.event("b", "{}")),
            self.stores(2, self.event("c", "{}")),
            self.stores(2, self.event("c", "{}")),
            self.stores(3, self.event("d", "{}")),
        ];
        let entries = self.record(&batch).await;
        let incarnations: Vec<i32> = entries.iter().map(|entry| entry.position.incarnation).collect();
        assert_eq!(incarnations, [0, 0, 1, 1, 1]);
        assert_eq!(entries[2], entries[3], "a record that comes twice has one entry");
        assert_eq!(self.view.span(&self.topic, 0).await, Some(Span { floor: 2, next: 4 }));
        assert_eq!(self.record(&batch).await, entries);
        self.assert_stored(vec!["sample", "a", "b", "c", "d"]).await;
    }

    async fn copies_are_duplicates_and_say_whether_they_differ(self) {
        self.record(&[self.stores(0, self.event("a", "{\"n\":1}"))]).await;
        let entries = self
            .record(&[self.stores(1, self.event("a", "{\"n\":1}")), self.stores(2, self.event("a", "{\"n\":2}"))])
            .await;
        assert_duplicate(&entries[0], "already-stored");
        assert_duplicate(&entries[1], "payload-differs");
        self.assert_stored(vec!["a"]).await;
    }

    async fn copies_within_one_batch_are_found(self) {
        let batch = [
            self.stores(0, self.event("a", "{\"n\":1}")),
            self.stores(1, self.event("b", "{}")),
            self.stores(2, self.event("a", "{\"n\":2}")),
            self.stores(3, self.event("a", "{\"n\":1}")),
        ];
        let entries = self.record(&batch).await;
        assert_eq!(entries[0].outcome, Outcome::Valid, "the first of the copies is stored");
        assert_duplicate(&entries[2], "payload-differs");
        assert_duplicate(&entries[3], "already-stored");
        self.assert_stored(vec!["a", "b"]).await;
        assert_eq!(self.record(&batch).await, entries);
    }

    async fn a_redriven_copy_of_a_stored_event_is_a_duplicate(self) {
        let original = self.stores(0, self.event("a", "{}"));
        let mut redriven = self.stores(9, self.event("a", "{}"));
        redriven.origin = original.origin.clone();
        self.record(&[original]).await;
        let entries = self.record(&[redriven.clone()]).await;
        assert_duplicate(&entries[0], "already-stored");
        assert_eq!(entries[0].origin, redriven.origin);
        self.assert_stored(vec!["a"]).await;
    }

    async fn copies_across_midnight_are_found_and_later_ones_are_new(self) {
        let received = |id: &str, hours: u32| event(&self.tenant, id, "{}", self.noon.plus(HOUR * hours));
        // Received at noon; 23 hours later, the next morning; and at the next noon, when the window is over.
        assert_eq!(self.record(&[self.stores(0, received("a", 0))]).await[0].outcome, Outcome::Valid);
        assert_duplicate(&self.record(&[self.stores(1, received("a", 23))]).await[0], "already-stored");
        assert_eq!(self.record(&[self.stores(2, received("a", 24))]).await[0].outcome, Outcome::Valid);
        // A copy of the first event is found to be one, although the second event was stored in between.
        assert_duplicate(&self.record(&[self.stores(3, received("a", 1))]).await[0], "already-stored");
        // All in one batch: the second is a copy of the first, and the third is not.
        let batch =
            [self.stores(4, received("b", 0)), self.stores(5, received("b", 20)), self.stores(6, received("b", 40))];
        let entries = self.record(&batch).await;
        assert_eq!(entries[0].outcome, Outcome::Valid);
        assert_duplicate(&entries[1], "already-stored");
        assert_eq!(entries[2].outcome, Outcome::Valid);
        self.assert_stored(vec!["a", "a", "b", "b"]).await;
    }

    async fn odd_contents_fail_nobody(self) {
        let odd = Event {
            event_type: "t".repeat(5_000).into(),
            schema_version: u32::MAX,
            received_at: Timestamp::from_millis(i64::MIN),
            occurred_at: Some(Timestamp::from_millis(i64::MAX)),
            ip: Some(std::net::IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)),
            user_agent: Some("a\0b\u{1f}\u{fffd}".into()),
            user_id: Some("\0".repeat(3).into()),
            payload: payload(r#"{"lone":"\ud800","nul":"\u0000","n":1e999,"sep":"\u001f"}"#),
            ..self.event("odd", "{}")
        };
        let odd_risk = RiskScore {
            score: u8::MAX,
            reasons: vec!["with, comma {brace} \"quote\" \\".into(), "sep\u{1f}arated".into(), "nul\0".into()],
            rules_version: "\0".into(),
        };
        let far = event(&self.tenant, "far", "{}", Timestamp::from_millis(i64::MAX));
        let long_id = "é".repeat(128);
        let mut foreign = self.closes(4, Outcome::DeadLettered, "header\0\u{1f}: \"{\\");
        foreign.origin = Origin::new("odd\0topic", i32::MAX, i64::MAX);
        let none = RiskScore { score: 0, reasons: vec![], rules_version: "".into() };
        let batch = [
            stored(self.position(0, 0), odd.clone(), valid(Some(odd_risk))),
            self.stores(1, self.event("plain", "{}")),
            self.stores(2, far),
            stored(self.position(0, 3), self.event(&long_id, "{}"), valid(Some(none.clone()))),
            foreign,
        ];
        let entries = self.record(&batch).await;
        assert_eq!(self.record(&batch).await, entries, "the returned entries equal the stored ones");
        assert_eq!(entries[3].risk, Some(none));
        self.assert_stored(vec!["odd", "plain", "far", &long_id]).await;
        let events = self.view.events(&self.tenant).await;
        let stored = events.iter().find(|row| row.event.key.id.as_str() == "odd").map(|row| &row.event.payload);
        assert_eq!(stored, Some(&odd.payload), "the payload has the client's bytes");
    }

    async fn spans_grow_both_ways_per_partition(self) {
        self.record(&[self.closes(10, Outcome::Blocked, "x"), self.closes(11, Outcome::Blocked, "x")]).await;
        self.record(&[self.closes(12, Outcome::Blocked, "x")]).await;
        assert_eq!(self.view.span(&self.topic, 0).await, Some(Span { floor: 10, next: 13 }));
        self.record(&[self.closes(11, Outcome::Blocked, "x")]).await;
        assert_eq!(
            self.view.span(&self.topic, 0).await,
            Some(Span { floor: 10, next: 13 }),
            "a checkpoint never goes back"
        );
        let mut elsewhere = self.closes(0, Outcome::Blocked, "x");
        elsewhere.position = self.position(1, 5);
        self.record(&[elsewhere, self.closes(9, Outcome::Blocked, "x")]).await;
        assert_eq!(self.view.span(&self.topic, 0).await, Some(Span { floor: 9, next: 13 }));
        assert_eq!(self.view.span(&self.topic, 1).await, Some(Span { floor: 5, next: 6 }));
    }

    async fn concurrent_recorders_of_one_partition_agree(self) {
        let batch: Vec<Decision> =
            (0..20).map(|offset| self.stores(offset, self.event(&format!("id-{}", offset % 15), "{}"))).collect();
        let zombies = (0..4_u32).map(|zombie| self.record_at(&batch, self.noon.plus(HOUR * zombie)));
        let answers = join_all(zombies).await;
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "all get the same answer");
        assert_eq!(answers[0].iter().filter(|entry| entry.outcome == Outcome::Valid).count(), 15);
        let ids: Vec<String> = (0..15).map(|id| format!("id-{id}")).collect();
        self.assert_stored(ids.iter().map(String::as_str).collect()).await;
    }

    async fn one_of_many_concurrent_copies_is_stored(self) {
        // Copies in different partitions, so that no lock on a partition separates them; in opposite orders.
        let copies = (0..4_i32).map(|partition| {
            let mut batch: Vec<Decision> = (0..10)
                .map(|n| {
                    let mut record = self.stores(n, self.event(&format!("id-{n}"), "{}"));
                    record.position = self.position(partition, n);
                    record.origin = record.position.as_origin(record.digest);
                    record
                })
                .collect();
            if partition % 2 == 1 {
                batch.reverse();
            }
            batch
        });
        let copies: Vec<Vec<Decision>> = copies.collect();
        let answers = join_all(copies.iter().map(|batch| self.record(batch))).await;
        let stored = answers.iter().flatten().filter(|entry| entry.outcome == Outcome::Valid).count();
        assert_eq!(stored, 10, "each event is stored once");
        let ids: Vec<String> = (0..10).map(|id| format!("id-{id}")).collect();
        self.assert_stored(ids.iter().map(String::as_str).collect()).await;
    }

    async fn a_large_batch_is_recorded_in_order(self) {
        let batch: Vec<Decision> =
            (0..10_000).map(|n| self.stores(n, self.event(&format!("id-{}", n * 7919 % 10_000), "{}"))).collect();
        let entries = self.record(&batch).await;
        assert!(entries.iter().all(|entry| entry.outcome == Outcome::Valid));
        assert_eq!(self.view.counted(&self.tenant, Outcome::Valid).await, 10_000);
        assert_eq!(self.view.span(&self.topic, 0).await, Some(Span { floor: 0, next: 10_000 }));
    }
}

fn assert_duplicate(entry: &LedgerEntry, tag: &str) {
    assert_eq!(entry.outcome, Outcome::Duplicate);
    assert!(entry.reason.starts_with(tag), "{} should start with {tag}", entry.reason);
    assert_eq!(entry.risk, None, "a record that was not stored has no score");
}
