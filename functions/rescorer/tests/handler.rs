//! Tests of the whole handler on fakes: each event is scored once, crashes between any two steps, failing dependencies.
#![expect(clippy::unwrap_used, reason = "test helpers: a missing value fails the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use event::{TenantId, Timestamp};
use lambda::guard::guard;
use lambda::invocation::Invocation;
use pipeline::breaker::OPEN_FOR;
use pipeline::clock::Clock;
use pipeline::guard::Guard;
use pipeline::ports::{
    EventPlace, EventStore as _, LateOutcome, LateScore, Score, ScoreRequest, Scorer, UnscoredEvent, UnscoredEvents,
};
use pipeline::tracked::Event;
use pipeline::{Dependency, DependencyError, ErrorClass, Outcome, Position, topic};
use rescorer::{App, Policy, handle};
use scoring::Scoring;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use testkit::contracts::store::{DEDUP_WINDOW, StoreView as _};
use testkit::events::{event, stored, valid};
use testkit::fakes::publisher::FakePublisher;
use testkit::fakes::scorer::FakeScorer;
use testkit::fakes::store::FakeStore;
use testkit::fakes::unscored::FakeUnscoredEvents;
use testkit::samples::sample;

struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp::parse("2026-11-20T19:00:00.000Z").unwrap()
    }
}

/// Fails every call that includes an event of user `poison`.
#[derive(Default)]
struct PoisonedScorer(FakeScorer);

#[async_trait]
impl Scorer for PoisonedScorer {
    async fn score(&self, requests: &[ScoreRequest]) -> Result<Vec<Score>, DependencyError> {
        if requests.iter().any(|request| request.user_id.as_deref() == Some("poison")) {
            return Err(DependencyError {
                dependency: Dependency::Scorer,
                class: ErrorClass::Transient,
                tag: "function-error",
                doing: "scoring poison",
                source: "a rule panicked".into(),
            });
        }
        self.0.score(requests).await
    }
}

/// Events whose next removal from the outbox can be made to fail, as in a crash.
struct Forgetful {
    events: FakeUnscoredEvents,
    forgets: AtomicBool,
}

#[async_trait]
impl UnscoredEvents for Forgetful {
    async fn find(&self, after: Option<&EventPlace>, limit: usize) -> Result<Vec<UnscoredEvent>, DependencyError> {
        self.events.find(after, limit).await
    }

    async fn count(&self) -> Result<u64, DependencyError> {
        self.events.count().await
    }

    async fn settle(&self, scores: Vec<LateScore>, now: Timestamp) -> Result<Vec<LateScore>, DependencyError> {
        self.events.settle(scores, now).await
    }

    async fn unpublished(&self, after: Option<&EventPlace>, limit: usize) -> Result<Vec<LateOutcome>, DependencyError> {
        self.events.unpublished(after, limit).await
    }

    async fn mark_published(&self, places: &[EventPlace]) -> Result<(), DependencyError> {
        if self.forgets.load(Ordering::Relaxed) {
            self.events.faults.fail(1, ErrorClass::Transient);
        }
        self.events.mark_published(places).await
    }
}

struct World {
    store: Arc<FakeStore>,
    events: Arc<Forgetful>,
    scorer: Arc<PoisonedScorer>,
    publisher: Arc<FakePublisher>,
}

impl World {
    fn new() -> Self {
        let store = Arc::new(FakeStore::new(DEDUP_WINDOW));
        let events = FakeUnscoredEvents::new(Arc::clone(&store));
        World {
            store,
            events: Arc::new(Forgetful { events, forgets: AtomicBool::new(false) }),
            scorer: Arc::default(),
            publisher: Arc::new(FakePublisher::new(1)),
        }
    }

    /// A new instance, with its own breaker.
    fn app(&self) -> App {
        let policy = Policy {
            fraud_threshold: 80,
            scorer_timeout: Duration::from_secs(2),
            publish_timeout: Duration::from_secs(10),
        };
        App {
            events: self.events.clone(),
            scoring: Scoring::new(
                self.scorer.clone(),
                Guard::unobserved(Dependency::Scorer, OPEN_FOR),
                policy.scorer_timeout,
            ),
            publisher: self.publisher.clone(),
            postgres: guard(Dependency::Postgres, OPEN_FOR),
            kafka: guard(Dependency::Kafka, OPEN_FOR),
            clock: Arc::new(FixedClock),
            policy,
        }
    }

    /// Stores events without scores. Those at offsets divisible by 10 come from a private address; those in `poison`
    /// cannot be scored.
    async fn stores(&self, events: i64, poison: &[i64]) {
        let received_at = Timestamp::parse("2026-11-20T18:02:00.000Z").unwrap();
        let tenant = TenantId::new("acme").unwrap();
        let record = |offset: i64| {
            let user = if poison.contains(&offset) { "poison" } else { "u-1" };
            let received_at = received_at.plus(Duration::from_millis(offset.unsigned_abs()));
            let event = Event {
                ip: Some(if offset % 10 == 0 { [10, 0, 0, 1] } else { [203, 0, 113, 7] }.into()),
                user_id: Some(user.into()),
                ..event(&tenant, &format!("e-{offset}"), "{}", received_at)
            };
            stored(Position::new("raw-events", 0, offset), event, valid(None))
        };
        let records: Vec<_> = (0..events).map(record).collect();
        self.store.record(&records, Timestamp::EPOCH).await.unwrap();
    }

    async fn counted(&self, outcome: Outcome) -> u64 {
        self.store.counted(&TenantId::new("acme").unwrap(), outcome).await
    }

    /// The late outcomes on `processed-events`, by id; copies must be byte-equal.
    fn published(&self) -> Vec<(String, String)> {
        let mut records = self.publisher.records(topic::PROCESSED_EVENTS);
        let parts = |record: &pipeline::Record| {
            let value: Value = serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
            assert_eq!(value["reason"], "scored-later");
            assert_eq!(value["recorded_at"], "2026-11-20T19:00:00.000Z");
            let text = |name: &str| value[name].as_str().unwrap().to_owned();
            (text("outcome_id"), text("outcome"))
        };
        records.sort_by_key(parts);
        for pair in records.windows(2) {
            if parts(&pair[0]).0 == parts(&pair[1]).0 {
                assert_eq!((&pair[0].key, &pair[0].value), (&pair[1].key, &pair[1].value));
                assert_eq!(pair[0].headers, pair[1].headers);
            }
        }
        records.iter().map(parts).collect()
    }
}

async fn ask_with(app: &App, event: &str, time: Duration) -> Result<Value, String> {
    let event = RawValue::from_string(event.to_owned()).unwrap();
    let invocation = Invocation { request_id: "test".into(), deadline: Instant::now() + time };
    match handle(&event, &invocation, app).await {
        Ok(answer) => Ok(serde_json::from_str(answer.get()).unwrap()),
        Err(error) => Err(format!("{}: {}", error.error_type, error.message)),
    }
}

async fn ask(app: &App) -> Result<Value, String> {
    ask_with(app, &sample("rescorer", "schedule"), Duration::from_secs(60)).await
}

fn report(found: u32, scored: u32, fraud: u32, published: u32, left: u32, ended: &str) -> Value {
    json!({
        "found": found, "scored": scored, "fraud": fraud, "published": published, "unscorable": 0, "undeliverable": 0,
        "left": left, "ended": ended,
    })
}

#[tokio::test]
async fn what_waits_is_scored_and_published_once() {
    let world = World::new();
    world.stores(1_200, &[]).await;
    let app = world.app();
    assert_eq!(ask(&app).await, Ok(report(1_200, 1_200, 120, 1_200, 0, "done")));
    assert_eq!((world.counted(Outcome::Valid).await, world.counted(Outcome::Fraud).await), (1_080, 120));
    let published = world.published();
    assert_eq!(published.len(), 1_200);
    assert!(published.contains(&("raw-events/0/10#scored".to_owned(), "fraud".to_owned())));
    assert!(published.contains(&("raw-events/0/11#scored".to_owned(), "valid".to_owned())));
    assert!(world.scorer.0.asked().iter().all(|asked| asked.len() <= 500));

    assert_eq!(ask(&app).await, Ok(report(0, 0, 0, 0, 0, "done")));
    assert_eq!(world.published().len(), 1_200);
    assert_eq!((world.counted(Outcome::Valid).await, world.counted(Outcome::Fraud).await), (1_080, 120));
}

#[tokio::test(start_paused = true)]
async fn while_the_scorer_is_down_everything_stays_as_it_was() {
    let world = World::new();
    world.stores(5, &[]).await;
    let before = world.store.events();
    world.scorer.0.faults.fail(100, ErrorClass::Transient);
    let app = world.app();
    assert_eq!(ask(&app).await, Ok(report(5, 0, 0, 0, 5, "scorer-down")));
    assert!(world.scorer.0.asked().len() <= 5, "the open breaker must stop further calls");
    assert_eq!(world.store.events(), before);
    assert_eq!(world.published(), []);

    world.scorer.0.faults.clear();
    assert_eq!(ask(&world.app()).await, Ok(report(5, 5, 1, 5, 0, "done")));
}

#[tokio::test(start_paused = true)]
async fn events_that_cannot_be_scored_hold_nobody_up() {
    let world = World::new();
    // The first event, two neighbours, both ends of a batch, and the last event.
    world.stores(1_100, &[0, 7, 8, 499, 500, 1_099]).await;
    let answer = ask(&world.app()).await.unwrap();
    assert_eq!((&answer["scored"], &answer["unscorable"], &answer["left"]), (&json!(1_094), &json!(6), &json!(6)));
    assert_eq!((&answer["published"], &answer["ended"]), (&json!(1_094), &json!("done")));
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_publishing_is_made_good_by_the_next_run() {
    let world = World::new();
    world.stores(3, &[]).await;
    world.publisher.faults.fail(1, ErrorClass::Transient);
    let error = ask(&world.app()).await.unwrap_err();
    assert!(error.starts_with("kafka-failed: kafka: publishing late outcomes failed"), "{error}");
    assert_eq!(world.published(), []);
    // The outbox is published even while the scorer is down again.
    world.scorer.0.faults.fail(100, ErrorClass::Transient);
    assert_eq!(ask(&world.app()).await, Ok(report(0, 0, 0, 3, 0, "done")));
    assert_eq!(world.published().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_publishing_publishes_the_same_bytes_again() {
    let world = World::new();
    world.stores(3, &[]).await;
    world.events.forgets.store(true, Ordering::Relaxed);
    let error = ask(&world.app()).await.unwrap_err();
    assert!(error.starts_with("postgres-failed: postgres: clearing the outbox failed"), "{error}");
    world.events.forgets.store(false, Ordering::Relaxed);
    assert_eq!(ask(&world.app()).await, Ok(report(0, 0, 0, 3, 0, "done")));
    assert_eq!(world.published().len(), 6, "each outcome is published twice, with equal bytes");
    assert_eq!(ask(&world.app()).await, Ok(report(0, 0, 0, 0, 0, "done")));
}

#[tokio::test]
async fn a_lost_answer_of_the_store_settles_nothing_twice() {
    let world = World::new();
    world.stores(10, &[]).await;
    let events = &world.events.events;
    let late: Vec<UnscoredEvent> = events.find(None, 10).await.unwrap();
    events.faults.lose_answer(1, ErrorClass::Transient);
    let risk = pipeline::ports::RiskScore { score: 100, reasons: Vec::new(), rules_version: "1".into() };
    let late = late.into_iter().map(|event| LateScore { event, risk: risk.clone(), outcome: Outcome::Fraud });
    events.settle(late.collect(), FixedClock.now()).await.unwrap_err();
    assert_eq!(ask(&world.app()).await, Ok(report(0, 0, 0, 10, 0, "done")));
    assert_eq!((world.counted(Outcome::Valid).await, world.counted(Outcome::Fraud).await), (0, 10));
}

#[tokio::test]
async fn an_outcome_that_kafka_refuses_for_good_stays_and_holds_nobody_up() {
    let world = World::new();
    world.stores(3, &[]).await;
    world.publisher.refuse("acme/e-1", ErrorClass::Permanent);
    let app = world.app();
    let answer = ask_with(&app, r#"{"action":"rescore"}"#, Duration::from_secs(60)).await.unwrap();
    assert_eq!((&answer["scored"], &answer["published"], &answer["undeliverable"]), (&json!(3), &json!(2), &json!(1)));
    assert_eq!(ask(&app).await, Ok(report(0, 0, 0, 1, 0, "done")));
    assert_eq!(world.published().len(), 3);
}

#[tokio::test]
async fn a_limit_and_the_end_of_the_time_end_a_run() {
    let world = World::new();
    world.stores(1_001, &[]).await;
    let app = world.app();
    assert_eq!(
        ask_with(&app, &sample("rescorer", "limited"), Duration::from_secs(60)).await,
        Ok(report(1_000, 1_000, 100, 1_000, 1, "limit"))
    );
    for time in [Duration::ZERO, Duration::from_secs(5)] {
        let answer = ask_with(&app, r#"{"action":"rescore"}"#, time).await;
        assert_eq!(answer, Ok(report(0, 0, 0, 0, 1, "out-of-time")));
    }
    let refused = ask_with(&app, &sample("rescorer", "bad"), Duration::from_secs(60)).await.unwrap_err();
    assert!(refused.starts_with("bad-request: "), "{refused}");
}
