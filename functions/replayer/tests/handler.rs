//! Tests of restoring and reprocessing on fakes: copies, killed runs, concurrent runs, deadlines, damaged objects and
//! outages.
#![expect(clippy::unwrap_used, reason = "test helpers: a missing value fails the test")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use archive::writer::{pack, store as store_object};
use async_trait::async_trait;
use event::schema::Registry;
use event::{TenantId, Timestamp};
use lambda::invocation::{Invocation, InvocationError};
use pipeline::clock::Clock;
use pipeline::decisions::intake::Reader;
use pipeline::decisions::publication;
use pipeline::ports::{EventStore, LedgerEntry, RiskScore, Scorer};
use pipeline::tracked::{Decided, Read, Tracked};
use pipeline::{DependencyError, ErrorClass, Outcome, Position, Reason, ReasonTag, Record, RecordHeaders, topic};
use replayer::{App, Policy, Ports, Scorers};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use testkit::contracts::store::{DEDUP_WINDOW, StoredRow};
use testkit::fakes::objects::FakeObjects;
use testkit::fakes::replay::FakeReplay;
use testkit::fakes::scorer::FakeScorer;
use testkit::fakes::store::FakeStore;
use testkit::fakes::unscored::FakeUnscoredEvents;

const MINUTE: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 3;

struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp::parse("2026-11-21T09:00:00Z").unwrap()
    }
}

/// A store that hangs after a number of calls, as in a run that is killed.
struct Stalling {
    inner: Arc<FakeStore>,
    calls_left: AtomicUsize,
    /// Whether the call that hangs takes effect.
    after: bool,
}

#[async_trait]
impl EventStore for Stalling {
    async fn record(
        &self,
        records: &[Tracked<'_, Decided>],
        now: Timestamp,
    ) -> Result<Vec<LedgerEntry>, DependencyError> {
        let left = self.calls_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left.is_ok() {
            return self.inner.record(records, now).await;
        }
        if self.after {
            self.inner.record(records, now).await?;
        }
        std::future::pending().await
    }
}

/// Returns the same scorer for every name, and remembers the names.
#[derive(Default)]
struct NamedScorers {
    scorer: Arc<FakeScorer>,
    asked_for: Mutex<Vec<String>>,
}

impl Scorers for NamedScorers {
    fn scorer(&self, function: &str) -> Arc<dyn Scorer> {
        self.asked_for.lock().unwrap().push(function.to_owned());
        self.scorer.clone()
    }
}

/// The archive, which outlives the database, and the database.
struct World {
    objects: Arc<FakeObjects>,
    store: Arc<FakeStore>,
    replay: Arc<FakeReplay>,
    scorers: Arc<NamedScorers>,
}

impl World {
    fn with(objects: Arc<FakeObjects>) -> Self {
        let store = Arc::new(FakeStore::new(DEDUP_WINDOW));
        let replay = Arc::new(FakeReplay::new(Arc::clone(&store)));
        World { objects, store, replay, scorers: Arc::default() }
    }

    /// A pipeline that has processed that many records, in batches of seven, one second apart. Some of their outcomes
    /// were published twice.
    async fn after(records: i64) -> Self {
        let world = World::with(Arc::default());
        let raw: Vec<Record> = (0..records).map(raw_record).collect();
        let mut outcomes = Vec::new();
        for (batch, records) in raw.chunks(7).enumerate() {
            let now = Timestamp::from_millis(1_795_200_000_000 + 1_000 * i64::try_from(batch).unwrap());
            let published = process(&world.store, records, now).await;
            let copies = if batch % 3 == 0 { published.clone() } else { Vec::new() };
            for (record, value) in published.into_iter().chain(copies) {
                let offset =
                    outcomes.iter().filter(|other: &&Record| other.position.partition == record.position.partition);
                let offset = i64::try_from(offset.count()).unwrap();
                let position = Position::new(topic::PROCESSED_EVENTS, record.position.partition, offset);
                outcomes.push(Record { position, timestamp: now, ..value });
            }
        }
        world.archive(&raw).await;
        for outcomes in outcomes.chunks(20) {
            world.archive(outcomes).await;
        }
        world
    }

    async fn archive(&self, records: &[Record]) {
        for object in pack(records).unwrap() {
            store_object(&*self.objects, &object).await.unwrap();
        }
    }

    /// The same archive with an empty database.
    fn emptied(&self) -> World {
        World::with(Arc::clone(&self.objects))
    }

    fn app(&self) -> App {
        self.app_with(self.store.clone())
    }

    fn app_with(&self, store: Arc<dyn EventStore>) -> App {
        let policy = Policy {
            scorer_function: "scorer".into(),
            scorer_timeout: Duration::from_secs(2),
            fraud_threshold: 80,
            foreign_tenant: TenantId::new("kafka").unwrap(),
            breaker_open: Duration::from_secs(60),
        };
        let ports = Ports {
            objects: self.objects.clone(),
            store,
            unscored: Arc::new(FakeUnscoredEvents::new(self.store.clone())),
            runs: self.replay.clone(),
            reprocessed: self.replay.clone(),
            scorers: self.scorers.clone(),
            clock: Arc::new(FixedClock),
        };
        App::new(policy, Registry::embedded().unwrap(), ports)
    }

    async fn ask(&self, request: Value) -> Value {
        ask(&self.app(), request, MINUTE).await.unwrap()
    }

    fn rows(&self) -> (BTreeMap<String, StoredRow>, Vec<LedgerEntry>) {
        let events = self.store.events().into_iter().map(|row| (row.origin.to_string(), row));
        (events.collect(), self.store.ledger())
    }

    fn assert_same_rows(&self, other: &World) {
        let ((events, ledger), (other_events, other_ledger)) = (self.rows(), other.rows());
        assert_eq!(ledger, other_ledger);
        assert_eq!(events, other_events);
    }
}

/// Of every ten records one is not an event, one is a duplicate and one is blocked. The events belong to two tenants.
fn raw_record(number: i64) -> Record {
    let id = format!("e-{number}");
    let kind = if number % 2 == 0 { "click" } else { "impression" };
    let tenant = if number % 5 == 0 { "acme" } else { "other" };
    let data = json!({"type": kind, "id": id, "user_id": "u", "campaign_id": "c", "geo_country": "DE", "device_type": "mobile"});
    let envelope = json!({
        "envelope": 1, "id": id, "id_source": "client", "type": kind, "schema": 1, "tenant": tenant,
        "received_at": "2026-11-20T18:02:00.000Z", "ip": if number % 4 == 0 { "10.0.0.1" } else { "203.0.113.7" },
        "data": data,
    });
    let value = if number % 10 == 3 { "no event".to_owned() } else { envelope.to_string() };
    Record {
        position: Position::new(
            topic::RAW_EVENTS,
            i32::try_from(number).unwrap() % PARTITIONS,
            number / i64::from(PARTITIONS),
        ),
        timestamp: Timestamp::from_millis(1_795_200_000_000),
        key: Some(format!("{tenant}/{id}").into()),
        value: Some(value.into()),
        headers: RecordHeaders::default(),
        undecodable: None,
    }
}

/// The processor's decision about a record, by its number.
fn decide(mut tracked: Tracked<'_, Read>) -> Tracked<'_, Decided> {
    let number = tracked.position.offset * i64::from(PARTITIONS) + i64::from(tracked.position.partition);
    match number % 10 {
        6 => tracked.close(Outcome::Duplicate, Reason::new(ReasonTag::AlreadyClaimed, "raw-events/0/0")),
        7 => tracked.close(Outcome::Blocked, Reason::new(ReasonTag::AddressRate, "")),
        _ => {}
    }
    let risk = RiskScore { score: 7, reasons: vec!["first".into()], rules_version: "1".into() };
    tracked.advance(|_, Read| Decided { outcome: Outcome::Valid, risk: (number % 10 != 8).then_some(risk) })
}

/// Processes a batch as the processor does, and returns each record with its published outcome.
async fn process(store: &FakeStore, records: &[Record], now: Timestamp) -> Vec<(Record, Record)> {
    let registry = Registry::embedded().unwrap();
    let foreign_tenant = TenantId::new("kafka").unwrap();
    let reader = Reader { registry: &registry, foreign_tenant: &foreign_tenant, now: Timestamp::EPOCH };
    let decided: Vec<_> = reader.read_all(records).into_iter().map(decide).collect();
    let entries = store.record(&decided, now).await.unwrap();
    let published = records.iter().zip(&decided).zip(&entries).map(|((raw, tracked), entry)| {
        let outcome = publication::OutcomeWriter::new(&[]).outcome(tracked, entry, None).unwrap();
        let record = Record {
            position: entry.position.clone(),
            timestamp: now,
            key: outcome.key,
            value: outcome.value,
            headers: RecordHeaders(outcome.headers),
            undecodable: None,
        };
        (raw.clone(), record)
    });
    published.collect()
}

async fn ask(app: &App, request: Value, left: Duration) -> Result<Value, InvocationError> {
    let event = RawValue::from_string(request.to_string()).unwrap();
    let invocation = Invocation { request_id: "test".to_owned(), deadline: Instant::now() + left };
    let answer = replayer::handle(&event, &invocation, app).await?;
    Ok(serde_json::from_str(answer.get()).unwrap())
}

fn restore(run: &str) -> Value {
    json!({"action": "restore", "run": run, "max_per_sec": 50_000})
}

/// The counts without those that depend on how often objects were fetched.
fn counts(answer: &Value) -> Value {
    let mut counts = answer["counts"].clone();
    for fetched in ["objects", "object_bytes"] {
        counts.as_object_mut().unwrap().remove(fetched);
    }
    counts
}

#[tokio::test]
async fn restoring_gives_the_same_rows_however_often() {
    let before = World::after(100).await;
    let after = before.emptied();
    let answer = after.ask(restore("a")).await;
    after.assert_same_rows(&before);
    assert_eq!(answer["complete"], true);
    assert_eq!(answer["counts"]["restored"]["differing"], 0);
    assert_eq!(answer["counts"]["outcomes"]["dead_lettered"], 14, "ten records, four of which have a second copy");

    let again = after.ask(restore("b")).await;
    assert_eq!(again["counts"], answer["counts"]);
    after.assert_same_rows(&before);
    let continued = after.ask(restore("a")).await;
    assert_eq!(counts(&continued), counts(&answer), "a complete run has nothing left to do");
    before.ask(restore("a")).await;
    before.assert_same_rows(&after);
}

#[tokio::test]
async fn a_processor_beside_it_changes_nothing() {
    let before = World::after(100).await;
    let after = before.emptied();
    let raw: Vec<Record> = (100..130).map(raw_record).collect();
    process(&after.store, &raw, Timestamp::from_millis(1_795_300_000_000)).await;
    after.ask(restore("a")).await;
    process(&before.store, &raw, Timestamp::from_millis(1_795_300_000_000)).await;
    after.assert_same_rows(&before);
}

#[tokio::test]
async fn what_was_recorded_first_stays_and_is_counted() {
    let before = World::after(40).await;
    let after = before.emptied();
    let redelivered = [raw_record(1), raw_record(2)];
    process(&after.store, &redelivered, Timestamp::from_millis(5)).await;
    let answer = after.ask(restore("a")).await;
    // Both records were in a batch whose outcomes were published twice.
    assert_eq!(answer["counts"]["restored"]["differing"], 4);
    let (_, ledger) = after.rows();
    assert_eq!(ledger.len(), 40);
    assert_eq!(ledger.iter().filter(|entry| entry.recorded_at == Timestamp::from_millis(5)).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_run_killed_anywhere_goes_on_and_counts_once() {
    let before = World::after(100).await;
    // A rate that makes batches of 20.
    let request = json!({"action": "restore", "run": "a", "max_per_sec": 200});
    let whole = before.emptied().ask(request.clone()).await;
    for calls in 0.. {
        let after = before.emptied();
        let store = Stalling { inner: after.store.clone(), calls_left: AtomicUsize::new(calls), after: calls % 2 == 0 };
        let app = after.app_with(Arc::new(store));
        let killed = tokio::time::timeout(MINUTE / 2, ask(&app, request.clone(), MINUTE)).await.is_err();
        if !killed {
            assert!(calls > 10, "only {calls} calls: too few for the test to prove anything");
            break;
        }
        let answer = after.ask(request.clone()).await;
        assert_eq!(counts(&answer), counts(&whole), "killed in call {calls}");
        after.assert_same_rows(&before);
    }
}

#[tokio::test(start_paused = true)]
async fn a_later_invocation_takes_the_run_over() {
    let before = World::after(100).await;
    let after = before.emptied();
    let (first, second) = (after.app(), after.app());
    let slow = json!({"action": "restore", "run": "a", "max_per_sec": 100});
    let first = ask(&first, slow, MINUTE);
    let second = async {
        tokio::time::sleep(Duration::from_millis(250)).await;
        ask(&second, restore("a"), MINUTE).await
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first.unwrap_err().error_type, "taken-over");
    assert_eq!(second.unwrap()["complete"], true);
    after.assert_same_rows(&before);
}

#[tokio::test]
async fn a_name_belongs_to_one_request() {
    let world = World::after(10).await;
    world.ask(restore("a")).await;
    let other = json!({"action": "restore", "run": "a", "tenant": "acme"});
    let error = ask(&world.app(), other, MINUTE).await.unwrap_err();
    assert_eq!(error.error_type, "bad-request");
    assert!(error.message.contains("choose another name"), "{}", error.message);
}

#[tokio::test(start_paused = true)]
async fn a_run_keeps_its_rate_and_stops_in_time() {
    let before = World::after(400).await;
    let after = before.emptied();
    let request = json!({"action": "restore", "run": "a", "max_per_sec": 100});
    // Two of the five seconds are reserved.
    let answer = ask(&after.app(), request.clone(), Duration::from_secs(5)).await.unwrap();
    assert_eq!(answer["complete"], false);
    let records = answer["counts"]["records"].as_u64().unwrap();
    assert!((290..=310).contains(&records), "{records}");
    let next: BTreeMap<i32, i64> = serde_json::from_value(answer["next"].clone()).unwrap();
    assert_eq!(after.replay.progress("a").unwrap().next, next);
    let mut last = answer;
    while last["complete"] == false {
        last = ask(&after.app(), request.clone(), Duration::from_secs(5)).await.unwrap();
    }
    after.assert_same_rows(&before);
    assert_eq!(counts(&last), counts(&before.emptied().ask(restore("b")).await));
    let out_of_time = ask(&after.app(), restore("c"), Duration::ZERO).await.unwrap();
    assert_eq!((&out_of_time["complete"], &out_of_time["counts"]["records"]), (&json!(false), &json!(0)));
}

#[tokio::test(start_paused = true)]
async fn what_filters_leave_out_does_not_slow_a_run() {
    let after = World::after(100).await.emptied();
    let started = tokio::time::Instant::now();
    let answer = after.ask(json!({"action": "restore", "run": "a", "tenant": "nobody", "max_per_sec": 10})).await;
    assert_eq!((&answer["complete"], &answer["counts"]["records"]), (&json!(true), &json!(0)));
    assert!(answer["counts"]["left_out"].as_u64().unwrap() >= 100);
    // Reading them at the rate would take ten seconds.
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_dry_run_counts_the_same_and_writes_nothing() {
    let before = World::after(100).await;
    let after = before.emptied();
    let dry = after.ask(json!({"action": "restore", "run": "a", "dry_run": true})).await;
    assert_eq!(after.replay.progress("a"), None);
    assert!(after.rows().1.is_empty());
    let run = after.ask(restore("a")).await;
    for field in ["records", "value_bytes", "outcomes", "types", "objects", "object_bytes"] {
        assert_eq!(dry["counts"][field], run["counts"][field], "{field}");
    }
    assert!(dry["counts"]["object_bytes"].as_u64().unwrap() > 0);
    let start = json!({"0": 1_000, "1": 1_000});
    let rest = after.ask(json!({"action": "restore", "dry_run": true, "from_offsets": start})).await;
    let of_one = after.ask(json!({"action": "restore", "dry_run": true, "partitions": [2]})).await;
    assert_eq!(rest["counts"], of_one["counts"]);
}

#[tokio::test]
async fn filters_restore_a_part() {
    let before = World::after(100).await;
    let after = before.emptied();
    let request = json!({"action": "restore", "run": "a", "tenant": "acme", "type": "click", "partitions": [0, 1]});
    let answer = after.ask(request).await;
    assert!(answer["counts"]["left_out"].as_u64().unwrap() > 0);
    let (events, ledger) = after.rows();
    assert!(!events.is_empty());
    let is_meant = |entry: &LedgerEntry| {
        let number = entry.position.offset * i64::from(PARTITIONS) + i64::from(entry.position.partition);
        number % 10 == 0 && entry.position.partition != 2
    };
    let meant: Vec<LedgerEntry> = before.rows().1.into_iter().filter(is_meant).collect();
    assert_eq!(ledger, meant);
    let late = json!({"action": "restore", "run": "b", "from": "2026-12-31T00:00:00Z"});
    assert_eq!(after.ask(late).await["counts"]["records"], 0);
}

#[tokio::test]
async fn a_late_score_comes_back() {
    use pipeline::ports::UnscoredEvents as _;
    let before = World::after(20).await;
    let unscored = FakeUnscoredEvents::new(before.store.clone());
    let events = unscored.find(None, 10).await.unwrap();
    assert_eq!(events.len(), 2, "records 8 and 18");
    let risk = RiskScore { score: 99, reasons: vec!["late".into()], rules_version: "3".into() };
    let score = |event| pipeline::ports::LateScore { event, risk: risk.clone(), outcome: Outcome::Fraud };
    let at = Timestamp::from_millis(1_795_300_000_000);
    unscored.settle(events.into_iter().map(score).collect(), at).await.unwrap();
    let late = unscored.unpublished(None, 10).await.unwrap();
    let outcomes = late.iter().zip(0..).map(|(late, offset)| {
        let outcome = publication::late_outcome(late).unwrap();
        Record {
            position: Position::new(topic::PROCESSED_EVENTS, late.position.partition, 1_000 + offset),
            timestamp: at,
            key: outcome.key,
            value: outcome.value,
            headers: RecordHeaders(outcome.headers),
            undecodable: None,
        }
    });
    let outcomes: Vec<Record> = outcomes.collect();
    before.archive(&outcomes).await;

    let after = before.emptied();
    let answer = after.ask(restore("a")).await;
    after.assert_same_rows(&before);
    let restored = &answer["counts"]["restored"];
    assert_eq!(
        (&restored["late_scores"], &restored["scored"], &restored["differing"]),
        (&json!(2), &json!(2), &json!(0))
    );
    let again = after.ask(restore("b")).await;
    assert_eq!(again["counts"]["restored"]["scored"], 0);
    let unscored = FakeUnscoredEvents::new(after.store.clone());
    assert!(
        unscored.unpublished(None, 10).await.unwrap().is_empty(),
        "outcomes that were published are not published again"
    );
}

#[tokio::test]
async fn damage_is_counted_and_costs_nothing_else() {
    let before = World::after(100).await;
    let outcomes: Vec<String> =
        before.objects.keys().into_iter().filter(|key| key.starts_with("outcomes/status=blocked")).collect();
    // The last object holds no copies of records in other objects.
    before.objects.overwrite(outcomes.last().unwrap(), "damaged");
    let odd =
        Record { position: Position::new(topic::PROCESSED_EVENTS, 0, 900), value: Some("{}".into()), ..raw_record(0) };
    before.archive(&[odd]).await;
    let after = before.emptied();
    let answer = after.ask(restore("a")).await;
    assert_eq!(answer["complete"], true);
    assert_eq!(answer["counts"]["damaged_objects"], 1);
    assert_eq!(answer["counts"]["unreadable_at"], json!(["processed-events/0/900"]));
    let blocked = |world: &World| world.rows().1.iter().filter(|entry| entry.outcome == Outcome::Blocked).count();
    let (all, restored) = (before.rows().1.len(), after.rows().1.len());
    assert_eq!(all - restored, blocked(&before) - blocked(&after));
    assert!(blocked(&after) < blocked(&before));
}

#[tokio::test(start_paused = true)]
async fn an_outage_stops_the_run_and_it_goes_on() {
    let before = World::after(100).await;
    let after = before.emptied();
    after.store.faults.fail(3, ErrorClass::Transient);
    let error = ask(&after.app(), restore("a"), MINUTE).await.unwrap_err();
    assert_eq!(error.error_type, "postgres-failed");
    after.store.faults.lose_answer(2, ErrorClass::Transient);
    after.replay.faults.lose_answer(2, ErrorClass::Transient);
    let answer = after.ask(restore("a")).await;
    assert_eq!((&answer["complete"], &answer["counts"]["restored"]["differing"]), (&json!(true), &json!(0)));
    after.assert_same_rows(&before);
}

#[tokio::test]
async fn reprocessing_adds_a_version_and_touches_nothing_else() {
    let world = World::after(100).await;
    let before = world.rows();
    let request = |version: &str| json!({"action": "reprocess", "run": version, "version": version, "scorer": "scorer:2", "max_per_sec": 50_000});

    let mut dry = request("2");
    dry["dry_run"] = json!(true);
    let dry = world.ask(dry).await;
    assert!(world.replay.outcomes("2").is_empty());

    let answer = world.ask(request("2")).await;
    assert_eq!(dry["counts"]["reprocessed"]["changes"], answer["counts"]["reprocessed"]["changes"]);
    // This scorer treats addresses in 10.0.0.0/8 as fraud: every fourth stored record has one.
    let expected = json!({
        "valid -> valid": 50, "valid -> fraud": 20, "duplicate -> duplicate": 10, "blocked -> blocked": 10,
        "dead_lettered -> dead_lettered": 10,
    });
    assert_eq!(answer["counts"]["reprocessed"]["changes"], expected);
    assert_eq!(answer["counts"]["reprocessed"]["added"], 100);
    assert_eq!(world.replay.outcomes("2").len(), 100);
    assert_eq!(*world.scorers.asked_for.lock().unwrap(), ["scorer:2", "scorer:2"]);

    let first = world.replay.outcomes("2");
    world.ask(request("3")).await;
    let again = world.ask(json!({"action": "reprocess", "run": "again", "version": "2"})).await;
    assert_eq!(again["counts"]["reprocessed"]["already"], 100);
    assert_eq!(world.replay.outcomes("2"), first);
    assert_eq!(world.replay.outcomes("3").len(), 100);
    assert_eq!(world.rows(), before);
}

#[tokio::test]
async fn a_record_that_was_never_seen_is_told_as_such() {
    let world = World::after(10).await.emptied();
    let answer = world.ask(json!({"action": "reprocess", "run": "a", "version": "2", "tenant": "acme"})).await;
    assert_eq!(answer["counts"]["reprocessed"]["changes"], json!({"unseen -> fraud": 1, "unseen -> valid": 1}));
    assert!(world.rows().1.is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_scores_nothing_is_added_and_the_run_goes_on() {
    let world = World::after(30).await;
    let request = json!({"action": "reprocess", "run": "a", "version": "2"});
    world.scorers.scorer.faults.fail(3, ErrorClass::Transient);
    let error = ask(&world.app(), request.clone(), MINUTE).await.unwrap_err();
    assert_eq!(error.error_type, "scorer-failed");
    assert!(world.replay.outcomes("2").is_empty());
    assert_eq!(world.ask(request).await["counts"]["reprocessed"]["added"], 30);
}
