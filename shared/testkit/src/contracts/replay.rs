//! The contracts of every [`ReplayRuns`] and every [`ReprocessedOutcomes`].
#![expect(clippy::panic, clippy::expect_used, reason = "a contract suite fails by panicking")]

use std::collections::BTreeMap;

use async_trait::async_trait;
use event::{EventId, EventKey, RecordDigest, TenantId, Timestamp};
use pipeline::ports::{EventStore, LedgerEntry, ReplayProgress, ReplayRuns, ReprocessedOutcomes, RiskScore, TakeOver};
use pipeline::tracked::{Known, Read, State, Tracked};
use pipeline::{DependencyError, Outcome, Position, TraceId};

use super::unique;
use crate::events::{DIGEST, closed};

/// A view of the stored outcomes, which the port does not offer.
#[async_trait]
pub trait ReprocessedView: Send + Sync {
    /// Every outcome of a version, by position.
    async fn outcomes(&self, version: &str) -> Vec<LedgerEntry>;
}

fn ok<T>(result: Result<T, DependencyError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}: {}", error.source),
    }
}

const NOW: Timestamp = Timestamp::from_millis(1_763_661_600_123);

/// Runs the suite. Names are new in every run.
pub async fn replay_runs_contract(runs: &dyn ReplayRuns) {
    a_run_goes_on_where_it_was(runs).await;
    a_run_keeps_its_request(runs).await;
    who_was_replaced_saves_nothing(runs).await;
}

async fn a_run_goes_on_where_it_was(runs: &dyn ReplayRuns) {
    let run = unique("on");
    let take_over = async |holder: &str| ok(runs.take_over(&run, "{}", holder, NOW).await);
    assert_eq!(take_over("a").await, TakeOver::Ours(ReplayProgress::default()), "a new run has no progress");
    let first = ReplayProgress { next: BTreeMap::from([(0, 5)]), counts: r#"{"records":5}"#.to_owned() };
    assert!(ok(runs.save(&run, "a", &first, NOW).await));
    let second = ReplayProgress { next: BTreeMap::from([(0, 9), (7, i64::MAX)]), counts: "\"ü\"".to_owned() };
    assert!(ok(runs.save(&run, "a", &second, NOW).await));
    assert!(ok(runs.save(&run, "a", &second, NOW).await), "saving may be repeated");
    assert_eq!(take_over("b").await, TakeOver::Ours(second.clone()));
    assert_eq!(take_over("b").await, TakeOver::Ours(second), "taking over may be repeated");
    let other = ok(runs.take_over(&unique("on"), "{}", "a", NOW).await);
    assert_eq!(other, TakeOver::Ours(ReplayProgress::default()), "runs do not share progress");
}

async fn a_run_keeps_its_request(runs: &dyn ReplayRuns) {
    let run = unique("request");
    ok(runs.take_over(&run, "first", "a", NOW).await);
    let other = ok(runs.take_over(&run, "second", "b", NOW).await);
    assert_eq!(other, TakeOver::Other { request: "first".to_owned() });
    let progress = ReplayProgress { next: BTreeMap::from([(1, 1)]), counts: String::new() };
    assert!(
        ok(runs.save(&run, "a", &progress, NOW).await),
        "an invocation with another request does not take over the run"
    );
}

async fn who_was_replaced_saves_nothing(runs: &dyn ReplayRuns) {
    let run = unique("replaced");
    let at = |offset| ReplayProgress { next: BTreeMap::from([(0, offset)]), counts: String::new() };
    assert!(!ok(runs.save(&run, "a", &at(1), NOW).await), "a run that does not exist cannot be saved");
    ok(runs.take_over(&run, "{}", "a", NOW).await);
    ok(runs.take_over(&run, "{}", "b", NOW).await);
    assert!(ok(runs.save(&run, "b", &at(7), NOW).await));
    assert!(!ok(runs.save(&run, "a", &at(3), NOW).await));
    assert_eq!(ok(runs.take_over(&run, "{}", "c", NOW).await), TakeOver::Ours(at(7)));
}

/// Runs the suite with the ledger of `store`. Topics and versions are new in every run.
pub async fn reprocessed_outcomes_contract(
    reprocessed: &dyn ReprocessedOutcomes,
    store: &dyn EventStore,
    view: &dyn ReprocessedView,
) {
    let topic = unique("topic");
    let position = |offset| Position::new(topic.as_str(), 0, offset);
    let tenant = TenantId::new("acme").expect("a tenant");
    let key = EventKey { tenant, id: EventId::new("a").expect("an id") };
    let close = |offset, reason: &str| Tracked {
        origin: Position::new(topic.as_str(), 9, 9).as_origin(Some(DIGEST)),
        ..closed(position(offset), Some(key.clone()), Outcome::Blocked, reason)
    };
    let firsts = ok(store.record(&[close(3, "address-rate"), close(1, "address-blocked")], NOW).await);

    let asked = [1, 2, 3, 1].map(|offset| read(position(offset)));
    let found = ok(reprocessed.first_outcomes(&asked).await);
    let expected = [Some(&firsts[1]), None, Some(&firsts[0]), Some(&firsts[1])].map(Option::<&LedgerEntry>::cloned);
    assert_eq!(found, expected, "first outcomes are in the order of the positions");
    assert!(ok(reprocessed.first_outcomes(&[]).await).is_empty());
    let other = Tracked { digest: Some(RecordDigest([8; RecordDigest::BYTES])), ..read(position(1)) };
    assert_eq!(ok(reprocessed.first_outcomes(&[other]).await), [None], "another record at a known position");

    let risk = RiskScore { score: 90, reasons: vec!["a".into(), "b".into()], rules_version: "2".into() };
    let entry = |offset, outcome, risk| LedgerEntry {
        position: position(offset),
        digest: Some(DIGEST),
        origin: position(offset).as_origin(Some(DIGEST)),
        trace_id: TraceId::from_bytes([3; TraceId::BYTES]),
        key: Some(key.clone()),
        outcome,
        reason: String::new(),
        risk,
        recorded_at: NOW,
    };
    let no_event = LedgerEntry { key: None, reason: "tombstone".into(), ..entry(2, Outcome::DeadLettered, None) };
    let entries = [entry(1, Outcome::Fraud, Some(risk)), no_event, entry(3, Outcome::Valid, None)];
    let (version, other) = (unique("v"), unique("w"));
    assert_eq!(ok(reprocessed.add(&version, &entries[..2]).await), 2);
    assert_eq!(ok(reprocessed.add(&version, &entries).await), 1, "existing entries are not added again");
    let changed = [entry(1, Outcome::Valid, None)];
    assert_eq!(ok(reprocessed.add(&version, &changed).await), 0);
    assert_eq!(view.outcomes(&version).await, entries, "the first entry stays");
    assert_eq!(ok(reprocessed.add(&other, &changed).await), 1, "versions are independent");
    assert_eq!(view.outcomes(&other).await, changed);
    assert_eq!(ok(reprocessed.add(&other, &[]).await), 0);
    assert_eq!(ok(reprocessed.first_outcomes(&asked).await), expected, "the ledger is not changed");
}

/// A record as it is read again.
fn read(position: Position) -> Tracked<'static, Read> {
    let state = State::Closed { outcome: Outcome::DeadLettered, reason: "tombstone".to_owned(), known: Known::NOTHING };
    let origin = position.as_origin(Some(DIGEST));
    Tracked { position, digest: Some(DIGEST), incarnation: None, origin, trace_id: None, state }
}
