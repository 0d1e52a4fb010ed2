//! The contract of every [`EventHistory`].
#![expect(clippy::panic, clippy::expect_used, reason = "a contract suite fails by panicking")]

use std::time::Duration;

use event::{EventId, EventKey, TenantId, Timestamp};
use pipeline::ports::{EventHistory, EventStore, History, LedgerEntry, MAX_HISTORY, RiskScore};
use pipeline::tracked::{Decided, Event, Tracked};
use pipeline::{Outcome, Position};

use super::unique;
use crate::events::{DIGEST, closed, event, stored, valid};

/// Runs the suite on a history of the records in `store`. Tenants and topics are new in every run.
pub async fn history_contract(history: &dyn EventHistory, store: &dyn EventStore) {
    Case::new(history, store, "unknown").an_unknown_event_has_no_history().await;
    Case::new(history, store, "reached").positions_are_reached_when_they_are_recorded().await;
    Case::new(history, store, "stored").a_row_and_its_record_are_found_whole().await;
    Case::new(history, store, "unscored").an_event_without_a_score_has_no_time_of_scoring().await;
    Case::new(history, store, "others").every_record_of_the_key_is_found_and_no_other().await;
    Case::new(history, store, "redriven").a_redriven_copy_is_found_if_asked_for().await;
    Case::new(history, store, "forged").a_forged_origin_shows_nobody_elses_record().await;
    Case::new(history, store, "odd").ids_are_data().await;
    Case::new(history, store, "many").a_long_history_is_cut().await;
}

struct Case<'a> {
    history: &'a dyn EventHistory,
    store: &'a dyn EventStore,
    topic: String,
    tenant: TenantId,
    received_at: Timestamp,
}

impl<'a> Case<'a> {
    fn new(history: &'a dyn EventHistory, store: &'a dyn EventStore, name: &str) -> Self {
        let unique = unique(name);
        let received_at = Timestamp::parse("2026-11-20T12:00:00Z").expect("an instant");
        Case { history, store, tenant: TenantId::new(&unique).expect("a tenant"), topic: unique, received_at }
    }

    fn position(&self, offset: i64) -> Position {
        Position::new(self.topic.as_str(), 0, offset)
    }

    fn key(&self, id: &str) -> EventKey {
        EventKey { tenant: self.tenant.clone(), id: EventId::new(id).expect("an id") }
    }

    fn event(&self, id: &str) -> Event<'static> {
        let sample = event(&self.tenant, id, "{}", self.received_at);
        Event { occurred_at: Some(Timestamp::from_millis(5)), ..sample }
    }

    fn risk(&self) -> RiskScore {
        RiskScore { score: 90, reasons: vec!["private".into()], rules_version: "1".into() }
    }

    fn stores(&self, offset: i64, id: &str) -> Tracked<'static, Decided> {
        let decided = Decided { outcome: Outcome::Fraud, risk: Some(self.risk()) };
        stored(self.position(offset), self.event(id), decided)
    }

    fn closes(&self, offset: i64, id: &str, outcome: Outcome) -> Tracked<'static, Decided> {
        closed(self.position(offset), Some(self.key(id)), outcome, "because: of this")
    }

    /// Records at that many milliseconds after the event was received.
    async fn record(&self, after: u64, records: Vec<Tracked<'static, Decided>>) -> Vec<LedgerEntry> {
        match self.store.record(&records, self.received_at.plus(Duration::from_millis(after))).await {
            Ok(entries) => entries,
            Err(error) => panic!("the store failed: {error}: {}", error.source),
        }
    }

    async fn look_up(&self, id: &str, positions: &[Position]) -> History {
        match self.history.look_up(&self.key(id), positions).await {
            Ok(history) => history,
            Err(error) => panic!("the look-up failed: {error}: {}", error.source),
        }
    }

    async fn an_unknown_event_has_no_history(self) {
        self.record(0, vec![self.stores(0, "a")]).await;
        assert_eq!(self.look_up("b", &[]).await, History::default());
        let elsewhere = EventKey { tenant: TenantId::new("somebody-else").expect("a tenant"), ..self.key("a") };
        let history = self.history.look_up(&elsewhere, &[self.position(0)]).await.expect("an answer");
        assert!(history.is_unknown(), "ids belong to tenants");
    }

    async fn positions_are_reached_when_they_are_recorded(self) {
        let positions = [self.position(7), self.position(5)];
        assert_eq!(self.look_up("a", &positions).await.not_reached, positions, "nothing of the partition is recorded");
        self.record(0, vec![self.stores(5, "a")]).await;
        assert_eq!(self.look_up("z", &positions).await.not_reached, [self.position(7)]);
        self.record(1, vec![self.stores(6, "b"), self.stores(7, "c")]).await;
        assert!(self.look_up("z", &positions).await.not_reached.is_empty());
        let other = Position::new(self.topic.as_str(), 1, 0);
        assert_eq!(
            self.look_up("a", std::slice::from_ref(&other)).await.not_reached,
            [other],
            "each position is compared with its own partition"
        );
    }

    async fn a_row_and_its_record_are_found_whole(self) {
        let entries = self.record(3, vec![self.stores(0, "a")]).await;
        let history = self.look_up("a", &[]).await;
        assert_eq!(history.records, entries);
        let [stored] = &history.stored[..] else { panic!("one row, not {:?}", history.stored) };
        let event = self.event("a");
        assert_eq!((stored.outcome, stored.event_type.as_str()), (Outcome::Fraud, &*event.event_type));
        assert_eq!((&stored.origin, stored.received_at), (&entries[0].origin, event.received_at));
        assert_eq!((stored.occurred_at, &stored.risk), (event.occurred_at, &Some(self.risk())));
        assert_eq!((stored.stored_at, stored.scored_at), (entries[0].recorded_at, Some(entries[0].recorded_at)));
        assert!(!history.is_cut && history.not_reached.is_empty());
    }

    async fn an_event_without_a_score_has_no_time_of_scoring(self) {
        self.record(0, vec![stored(self.position(0), self.event("a"), valid(None))]).await;
        let history = self.look_up("a", &[]).await;
        assert_eq!((&history.stored[0].risk, history.stored[0].scored_at), (&None, None));
    }

    async fn every_record_of_the_key_is_found_and_no_other(self) {
        let first = self
            .record(1, vec![self.closes(0, "a", Outcome::DeadLettered), self.closes(1, "b", Outcome::Blocked)])
            .await;
        let second =
            self.record(2, vec![self.closes(2, "a", Outcome::Blocked), self.stores(3, "a"), self.stores(4, "a")]).await;
        let history = self.look_up("a", &[self.position(1)]).await;
        let mut expected = vec![first[0].clone()];
        expected.extend(second);
        assert_eq!(
            history.records, expected,
            "records are ordered by time and position, without the record of another key"
        );
        assert_eq!(expected[3].outcome, Outcome::Duplicate);
        assert_eq!(history.stored.len(), 1);
    }

    async fn a_redriven_copy_is_found_if_asked_for(self) {
        let letter = self.record(1, vec![self.closes(0, "a", Outcome::DeadLettered)]).await;
        let mut copy = self.stores(9, "a");
        copy.origin = letter[0].origin.clone();
        let stored = self.record(2, vec![copy]).await;
        let blind = self.look_up("a", &[]).await;
        assert_eq!((&blind.records, blind.stored.len()), (&letter, 1));
        assert_eq!(blind.stored[0].origin, letter[0].origin);
        let seeing = self.look_up("a", &[self.position(9), self.position(9)]).await;
        assert_eq!(seeing.records, [letter[0].clone(), stored[0].clone()]);
    }

    async fn a_forged_origin_shows_nobody_elses_record(self) {
        self.record(1, vec![self.stores(0, "victim")]).await;
        let mut forged = self.stores(1, "a");
        forged.origin = self.position(0).as_origin(Some(DIGEST));
        self.record(2, vec![forged]).await;
        let history = self.look_up("a", &[self.position(0)]).await;
        assert_eq!((history.stored.len(), history.records.len()), (1, 0));
    }

    async fn ids_are_data(self) {
        let id = "' OR 1=1; -- \\ \" % _ é";
        self.record(1, vec![self.stores(0, "a"), self.stores(1, id)]).await;
        assert_eq!(self.look_up(id, &[]).await.records[0].position, self.position(1));
        assert!(self.look_up("' OR '1'='1", &[]).await.is_unknown());
        assert!(self.look_up("%", &[]).await.is_unknown());
    }

    async fn a_long_history_is_cut(self) {
        let last = i64::try_from(MAX_HISTORY).expect("a small number");
        let copies = (0..last).map(|offset| self.closes(offset, "a", Outcome::Blocked)).collect();
        self.record(1, copies).await;
        let whole = self.look_up("a", &[]).await;
        assert_eq!((whole.records.len(), whole.is_cut), (MAX_HISTORY, false));
        self.record(2, vec![self.closes(last, "a", Outcome::Blocked)]).await;
        let cut = self.look_up("a", &[]).await;
        assert_eq!((cut.records, cut.is_cut), (whole.records, true), "the first ones are returned");
    }
}
