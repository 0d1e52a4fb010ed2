//! The contract of every [`UnscoredEvents`].
#![expect(clippy::panic, clippy::expect_used, reason = "a contract suite fails by panicking")]

use std::time::Duration;

use event::{EventId, EventKey, TenantId, Timestamp};
use futures::future::join_all;
use pipeline::ports::{EventPlace, EventStore, LateOutcome, LateScore, RiskScore, UnscoredEvent, UnscoredEvents};
use pipeline::tracked::{Decided, Event, Tracked};
use pipeline::{DependencyError, Outcome, Position};

use super::store::StoreView;
use crate::events::{DIGEST, closed, event, stored, valid};

/// Runs the suite on the records in `store`. The store must be empty, and nothing else may use it meanwhile.
pub async fn unscored_contract(events: &dyn UnscoredEvents, store: &dyn EventStore, view: &dyn StoreView) {
    let suite = Suite { events, store, view, noon: Timestamp::parse("2026-11-20T12:00:00Z").expect("an instant") };
    suite.nothing_waits_in_an_empty_store().await;
    suite.what_waits_is_found_page_by_page_oldest_first().await;
    suite.the_record_of_a_redriven_copy_is_named().await;
    suite.late_scores_are_stored_and_counted_once().await;
    suite.the_outbox_holds_what_was_settled_until_it_is_marked().await;
    suite.of_two_at_a_time_one_settles().await;
    suite.the_ledger_stays_as_it_was().await;
}

struct Suite<'a> {
    events: &'a dyn UnscoredEvents,
    store: &'a dyn EventStore,
    view: &'a dyn StoreView,
    /// Noon (UTC) of some day.
    noon: Timestamp,
}

fn ok<T>(result: Result<T, DependencyError>) -> T {
    result.unwrap_or_else(|error| panic!("{error}: {}", error.source))
}

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).expect("a tenant")
}

fn ids(events: &[UnscoredEvent]) -> Vec<&str> {
    events.iter().map(|event| event.place.key.id.as_str()).collect()
}

fn late(event: &UnscoredEvent, score: u8) -> LateScore {
    let outcome = if score >= 80 { Outcome::Fraud } else { Outcome::Valid };
    let risk = RiskScore { score, reasons: vec!["a".into(), "b".into()], rules_version: "7".into() };
    LateScore { event: event.clone(), risk, outcome }
}

impl Suite<'_> {
    /// An event of a tenant, received that many minutes after noon.
    fn event(&self, of: &str, id: &str, minutes: u64) -> Event<'static> {
        let received_at = self.noon.plus(Duration::from_secs(60 * minutes));
        let sample = event(&tenant(of), id, "{ }", received_at);
        Event {
            schema_version: 3,
            occurred_at: Some(Timestamp::from_millis(5)),
            ip: Some([10, 0, 0, 7].into()),
            ..sample
        }
    }

    /// A record at an offset of the tenant's own topic, whose event is to be stored.
    fn record(&self, of: &str, id: &str, offset: i64, risk: Option<RiskScore>) -> Tracked<'static, Decided> {
        stored(Position::new(of, 0, offset), self.event(of, id, 0), valid(risk))
    }

    /// Stores an event without a score, received that many minutes after noon.
    async fn waits(&self, of: &str, id: &str, offset: i64, minutes: u64) {
        let record = stored(Position::new(of, 0, offset), self.event(of, id, minutes), valid(None));
        ok(self.store.record(&[record], self.noon).await);
    }

    async fn find(&self, after: Option<&EventPlace>, limit: usize) -> Vec<UnscoredEvent> {
        ok(self.events.find(after, limit).await)
    }

    /// Settles all unscored events, so that the next test starts with none.
    async fn drain(&self) {
        let waiting = self.find(None, 1_000).await;
        ok(self.events.settle(waiting.iter().map(|event| late(event, 0)).collect(), self.noon).await);
        let entries = self.outbox().await;
        ok(self.events.mark_published(&entries.iter().map(LateOutcome::place).collect::<Vec<_>>()).await);
    }

    async fn outbox(&self) -> Vec<LateOutcome> {
        ok(self.events.unpublished(None, 1_000).await)
    }

    async fn nothing_waits_in_an_empty_store(&self) {
        assert_eq!(self.find(None, 10).await, []);
        assert_eq!(ok(self.events.count().await), 0);
        assert_eq!(self.outbox().await, []);
        assert_eq!(ok(self.events.settle(Vec::new(), self.noon).await), []);
        ok(self.events.mark_published(&[]).await);
    }

    async fn what_waits_is_found_page_by_page_oldest_first(&self) {
        // Events on both sides of midnight, and two with the same time.
        for (offset, (id, minutes)) in [("d", 800), ("c", 5), ("b", 5), ("a", 9)].into_iter().enumerate() {
            self.waits("found", id, i64::try_from(offset).expect("small"), minutes).await;
        }
        let scored = RiskScore { score: 0, reasons: Vec::new(), rules_version: "1".into() };
        ok(self.store.record(&[self.record("found", "scored", 9, Some(scored))], self.noon).await);
        let first = self.find(None, 2).await;
        assert_eq!(ids(&first), ["b", "c"]);
        let second = self.find(Some(&first[1].place), 2).await;
        assert_eq!(ids(&second), ["a", "d"]);
        assert_eq!(self.find(Some(&second[1].place), 2).await, []);
        assert_eq!(ok(self.events.count().await), 4);
        let position = Position::new("found", 0, 2);
        let expected = UnscoredEvent {
            place: EventPlace {
                received_at: self.noon.plus(Duration::from_secs(300)),
                key: EventKey { tenant: tenant("found"), id: EventId::new("b").expect("an id") },
            },
            event_type: "click".into(),
            ip: Some([10, 0, 0, 7].into()),
            user_id: Some("u-1".into()),
            origin: position.as_origin(Some(DIGEST)),
            position,
        };
        assert_eq!(first[0], expected);
        self.drain().await;
    }

    async fn the_record_of_a_redriven_copy_is_named(&self) {
        let key = self.event("redriven", "a", 0).key;
        let letter = closed(Position::new("redriven", 0, 0), Some(key), Outcome::DeadLettered, "bad");
        let origin = letter.origin.clone();
        let copy = Tracked { origin: origin.clone(), ..self.record("redriven", "a", 5, None) };
        let again = Tracked { origin: origin.clone(), ..self.record("redriven", "a", 6, None) };
        ok(self.store.record(&[letter, copy, again], self.noon).await);
        let found = self.find(None, 10).await;
        assert_eq!(found.len(), 1);
        assert_eq!((&found[0].origin, &found[0].position), (&origin, &Position::new("redriven", 0, 5)));
        self.drain().await;
    }

    async fn late_scores_are_stored_and_counted_once(&self) {
        for (offset, id) in ["a", "b", "c"].into_iter().enumerate() {
            self.waits("settled", id, i64::try_from(offset).expect("small"), 0).await;
        }
        let found = self.find(None, 10).await;
        let scores = vec![late(&found[0], 100), late(&found[1], 79)];
        let settled = ok(self.events.settle(scores.clone(), self.noon).await);
        assert_eq!(settled, scores);
        assert_eq!(ids(&self.find(None, 10).await), ["c"]);

        let of = tenant("settled");
        let counted =
            async || (self.view.counted(&of, Outcome::Valid).await, self.view.counted(&of, Outcome::Fraud).await);
        assert_eq!(counted().await, (2, 1));
        let mut stored = self.view.events(&of).await;
        stored.sort_by(|a, b| a.event.key.cmp(&b.event.key));
        let stored: Vec<_> = stored.iter().map(|row| (row.outcome, row.risk.clone())).collect();
        let risk = |index: usize| Some(scores[index].risk.clone());
        assert_eq!(stored, [(Outcome::Fraud, risk(0)), (Outcome::Valid, risk(1)), (Outcome::Valid, None)]);

        // Scores for settled events, equal or different, and for an event that does not exist.
        let mut gone = late(&found[2], 100);
        gone.event.place.key.id = EventId::new("gone").expect("an id");
        let again = vec![late(&found[0], 0), late(&found[1], 100), gone];
        assert_eq!(ok(self.events.settle(again, self.noon).await), []);
        assert_eq!(counted().await, (2, 1));
        self.drain().await;
    }

    async fn the_outbox_holds_what_was_settled_until_it_is_marked(&self) {
        let ids = ["a", "b", "c"];
        for (offset, id) in ids.into_iter().enumerate() {
            self.waits("outbox", id, i64::try_from(offset).expect("small"), 0).await;
        }
        let found = self.find(None, 10).await;
        let scored_at = self.noon.plus(Duration::from_secs(7));
        let scores: Vec<LateScore> = found.iter().map(|event| late(event, 90)).collect();
        ok(self.events.settle(scores.clone(), scored_at).await);
        let entries = self.outbox().await;
        let expected: Vec<LateOutcome> = scores
            .iter()
            .map(|score| LateOutcome {
                event: self.event("outbox", score.event.place.key.id.as_str(), 0),
                origin: score.event.origin.clone(),
                position: score.event.position.clone(),
                outcome: Outcome::Fraud,
                risk: score.risk.clone(),
                scored_at,
            })
            .collect();
        assert_eq!(entries, expected);
        assert_eq!(self.outbox().await, entries, "the outbox reads the same again");

        let page = ok(self.events.unpublished(None, 2).await);
        assert_eq!(page, entries[..2]);
        assert_eq!(ok(self.events.unpublished(Some(&page[1].place()), 2).await), entries[2..]);
        let places = [entries[0].place(), entries[2].place()];
        ok(self.events.mark_published(&places).await);
        ok(self.events.mark_published(&places).await);
        assert_eq!(self.outbox().await, entries[1..2]);
        self.drain().await;
        assert_eq!(self.outbox().await, []);
    }

    async fn of_two_at_a_time_one_settles(&self) {
        let of = tenant("racers");
        let records: Vec<_> =
            (0..200).map(|offset| self.record("racers", &format!("e-{offset}"), offset, None)).collect();
        ok(self.store.record(&records, self.noon).await);
        let found = self.find(None, 1_000).await;
        assert_eq!(found.len(), 200);
        let mut settled = 0;
        // A call skips events that another call has locked, so events that all calls skip need another round.
        while settled < 200 {
            // In opposite orders, so that the calls meet in the middle.
            let forth: Vec<LateScore> = found.iter().map(|event| late(event, 100)).collect();
            let back = forth.iter().rev().cloned().collect();
            let calls = [forth.clone(), back, forth].map(|scores| self.events.settle(scores, self.noon));
            let round: usize = join_all(calls).await.into_iter().map(|result| ok(result).len()).sum();
            settled += round;
            assert!(round > 0 || settled == 200, "a round settled no event although some were left");
        }
        assert_eq!(settled, 200);
        assert_eq!(self.view.counted(&of, Outcome::Valid).await, 0);
        assert_eq!(self.view.counted(&of, Outcome::Fraud).await, 200);
        assert_eq!(self.outbox().await.len(), 200);
        self.drain().await;
    }

    async fn the_ledger_stays_as_it_was(&self) {
        let record = [self.record("ledger", "a", 0, None)];
        let before = ok(self.store.record(&record, self.noon).await);
        let found = self.find(None, 10).await;
        ok(self.events.settle(vec![late(&found[0], 100)], self.noon).await);
        let after = ok(self.store.record(&record, self.noon.plus(Duration::from_secs(1))).await);
        assert_eq!(after, before, "a redelivery publishes the first outcome again");
        self.drain().await;
    }
}
