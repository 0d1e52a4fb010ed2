//! Tests of the whole handler on fakes: samples, redelivery, crashes between any two steps, and failing dependencies.
#![expect(clippy::unwrap_used, reason = "test helpers: a missing value fails the test")]

mod policy;
mod published;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64_simd::STANDARD;
use event::schema::Registry;
use event::{AddressRange, Origin, Timestamp};
use lambda::invocation::{Invocation, InvocationError};
use pipeline::breaker::{FAILURES_TO_OPEN, OPEN_FOR};
use pipeline::clock::Clock;
use pipeline::ports::{AuditTrail as _, Block, BlockList as _, EventStore, LedgerEntry, ObjectStore as _};
use pipeline::tracked::{Decided, Tracked};
use pipeline::{Dependency, DependencyError, ErrorClass, Header, Outcome, Record, header, topic};
use processor::{App, Policy, Ports, UnknownTypes, handle};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use settings::shared::StateStore;
use telemetry::emf::{EmfRecorder, Zeros};
use testkit::fakes::address_counters::FakeAddressCounters;
use testkit::fakes::audit::FakeAuditTrail;
use testkit::fakes::block_list::FakeBlockList;
use testkit::fakes::claims::FakeClaims;
use testkit::fakes::objects::FakeObjects;
use testkit::fakes::publisher::FakePublisher;
use testkit::fakes::scorer::FakeScorer;
use testkit::fakes::store::FakeStore;
use testkit::samples::sample;

use crate::policy::policy;

const DAY: Duration = Duration::from_secs(86_400);

/// A clock that stands still unless a test makes it jump. In milliseconds.
struct TestClock(AtomicI64);

impl TestClock {
    fn new() -> Self {
        TestClock(AtomicI64::new(Timestamp::parse("2026-11-20T18:02:01.000Z").unwrap().as_millis()))
    }

    fn jump(&self, millis: i64) {
        self.0.fetch_add(millis, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// The services around the processor. They outlive the apps, as services outlive the instances of a function.
struct World {
    claims: Arc<FakeClaims>,
    counters: Arc<FakeAddressCounters>,
    block_list: Arc<FakeBlockList>,
    audit: Arc<FakeAuditTrail>,
    scorer: Arc<FakeScorer>,
    store: Arc<FakeStore>,
    publisher: Arc<FakePublisher>,
    objects: Arc<FakeObjects>,
    clock: Arc<TestClock>,
}

impl World {
    fn new() -> Self {
        World {
            claims: Arc::new(FakeClaims::new(DAY)),
            counters: Arc::default(),
            block_list: Arc::default(),
            audit: Arc::default(),
            scorer: Arc::default(),
            store: Arc::new(FakeStore::new(DAY)),
            publisher: Arc::new(FakePublisher::new(1)),
            objects: Arc::default(),
            clock: Arc::new(TestClock::new()),
        }
    }

    fn app(&self) -> App {
        self.app_with(policy(), self.store.clone())
    }

    fn app_with(&self, policy: Policy, store: Arc<dyn EventStore>) -> App {
        let ports = Ports {
            claims: self.claims.clone(),
            counters: self.counters.clone(),
            block_list: self.block_list.clone(),
            audit: self.audit.clone(),
            scorer: self.scorer.clone(),
            store,
            publisher: self.publisher.clone(),
            objects: self.objects.clone(),
            clock: self.clock.clone(),
        };
        App::new(policy, Registry::embedded().unwrap(), ports)
    }

    /// Each record's outcome and the tag of its reason, by position.
    fn outcomes(&self) -> Vec<(String, Outcome, String)> {
        let entry = |entry: LedgerEntry| {
            let tag = entry.reason.split(": ").next().unwrap_or_default().to_owned();
            (entry.position.to_string(), entry.outcome, tag)
        };
        self.store.ledger().into_iter().map(entry).collect()
    }

    /// The records published on a topic, by the member `name` of the value, or by the position of their origin if `name` is
    /// empty. Copies
    /// must be byte-equal.
    fn published(&self, topic: &str, name: &str) -> BTreeMap<String, Record> {
        let mut by_name: BTreeMap<String, Record> = BTreeMap::new();
        for record in self.publisher.records(topic) {
            let id = if name.is_empty() {
                position_of_origin(&record)
            } else {
                serde_json::from_slice::<Value>(record.value.as_ref().unwrap()).unwrap()[name]
                    .as_str()
                    .unwrap()
                    .to_owned()
            };
            if let Some(earlier) = by_name.get(&id) {
                assert_eq!(
                    (&earlier.key, &earlier.value, &earlier.headers),
                    (&record.key, &record.value, &record.headers)
                );
            }
            by_name.insert(id, record);
        }
        by_name
    }
}

fn position_of_origin(record: &Record) -> String {
    record.headers.parse::<Origin>(header::ORIGIN).unwrap().with_digest(None).to_string()
}

async fn invoke(app: &App, event: &str) -> Result<String, InvocationError> {
    invoke_within(app, event, Duration::from_secs(60)).await
}

async fn invoke_within(app: &App, event: &str, left: Duration) -> Result<String, InvocationError> {
    let event = RawValue::from_string(event.to_owned()).unwrap();
    let invocation = Invocation { request_id: "test".to_owned(), deadline: Instant::now() + left };
    handle(&event, &invocation, app).await.map(|answer| answer.get().to_owned())
}

const DONE: &str = r#"{"batchItemFailures":[]}"#;

/// A trigger event with one bare event for each `(partition, offset, id, address)`, received one per millisecond.
fn batch(records: &[(i32, i64, &str, &str)]) -> String {
    let mut map: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (partition, offset, id, ip) in records {
        let value = json!({"type": "sensor", "id": id, "device_id": "d", "reading": 1, "unit": "m", "client_ip": ip});
        let record = delivered(*partition, *offset, None, Some(value.to_string().as_bytes()), &[]);
        map.entry(format!("raw-events-{partition}")).or_default().push(record);
    }
    trigger_event(json!(map))
}

/// `records` by topic and partition.
fn trigger_event(records: Value) -> String {
    json!({"eventSource": "aws:kafka", "records": records}).to_string()
}

/// A record of a trigger event, written that many milliseconds after the first one.
fn delivered(partition: i32, offset: i64, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header]) -> Value {
    let base64 = |bytes: &[u8]| STANDARD.encode_to_string(bytes);
    let header = |header: &Header| json!({&*header.name: header.value.as_deref()});
    json!({
        "topic": "raw-events", "partition": partition, "offset": offset, "timestamp": 1_795_197_720_000_i64 + offset,
        "timestampType": "CREATE_TIME", "key": key.map(base64), "value": value.map(base64),
        "headers": headers.iter().map(header).collect::<Vec<_>>(),
    })
}

fn tags(outcomes: &[(String, Outcome, String)]) -> Vec<(&str, &str, &str)> {
    outcomes.iter().map(|(position, outcome, tag)| (position.as_str(), outcome.as_str(), tag.as_str())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_valid_batch_is_stored_scored_and_published() {
    let world = World::new();
    assert_eq!(invoke(&world.app(), &sample("processor", "valid-batch")).await.unwrap(), DONE);
    assert_eq!(
        tags(&world.outcomes()),
        [
            ("sample-events/0/100", "valid", ""),
            ("sample-events/0/101", "fraud", ""),
            ("sample-events/1/7", "valid", ""),
            ("sample-events/1/8", "valid", ""),
            ("sample-events/2/0", "valid", ""),
        ]
    );
    let keys: Vec<String> = world.store.events().iter().map(|row| row.event.key.to_string()).collect();
    assert_eq!(keys, ["sample/order-1", "sample/order-2", "sample/reading-1", "sample/click-1", "kafka/partner-1"]);
    assert_eq!(world.store.events()[1].risk.as_ref().unwrap().score, 100);
    assert_eq!(world.published(topic::PROCESSED_EVENTS, "outcome_id").len(), 5);
    assert!(world.publisher.records(topic::DEAD_LETTER_EVENTS).is_empty());
}

/// The values that the metric has got since the last call.
fn counted(recorder: &EmfRecorder, metric: &str) -> Vec<f64> {
    let mut found = Vec::new();
    for line in recorder.lines(0) {
        let values = telemetry::emf::read(&line).unwrap().unwrap().values;
        found.extend(values.into_iter().filter(|(name, _, _)| name == metric).flat_map(|(_, _, values)| values));
    }
    found
}

#[tokio::test(start_paused = true)]
async fn an_outcome_is_counted_once_however_often_its_batch_comes() {
    let recorder = EmfRecorder::new("processor", "test", Zeros::Never);
    let _guard = metrics::set_default_local_recorder(&recorder);
    let world = World::new();
    let app = world.app();
    let sum = |metric: &str| counted(&recorder, metric).iter().sum::<f64>();
    // It is stored, and its outcomes are not published.
    world.publisher.faults.fail(3, ErrorClass::Transient);
    invoke(&app, &sample("processor", "valid-batch")).await.unwrap_err();
    assert_eq!(sum("events_processed_total"), 5.0);
    world.clock.jump(1000);
    invoke(&app, &sample("processor", "valid-batch")).await.unwrap();
    assert_eq!(sum("events_processed_total"), 0.0, "the ledger had them");
    world.clock.jump(1000);
    invoke(&app, &sample("processor", "valid-batch")).await.unwrap();
    assert_eq!(sum("records_redelivered_total"), 5.0);
    invoke(&app, &sample("processor", "bad-records")).await.unwrap();
    let dead = world.outcomes().iter().filter(|(_, outcome, _)| *outcome == Outcome::DeadLettered).count();
    assert_eq!((dead > 0, sum("dead_letters_total")), (true, dead as f64));
}

#[tokio::test(start_paused = true)]
async fn duplicates_are_recorded_with_their_reason() {
    let world = World::new();
    let app = world.app();
    invoke(&app, &sample("processor", "valid-batch")).await.unwrap();
    assert_eq!(invoke(&app, &sample("processor", "duplicates")).await.unwrap(), DONE);
    assert_eq!(
        tags(&world.outcomes())[2..],
        [
            ("sample-events/0/200", "duplicate", "already-claimed"),
            ("sample-events/0/201", "duplicate", "already-claimed"),
            ("sample-events/0/202", "duplicate", "payload-differs"),
            ("sample-events/0/203", "valid", ""),
            ("sample-events/1/7", "valid", ""),
            ("sample-events/1/8", "valid", ""),
            ("sample-events/1/300", "valid", ""),
            ("sample-events/1/301", "duplicate", "copy-in-batch"),
            ("sample-events/2/0", "valid", ""),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn bad_records_become_dead_letters_and_spoil_no_other() {
    let world = World::new();
    assert_eq!(invoke(&world.app(), &sample("processor", "bad-records")).await.unwrap(), DONE);
    assert_eq!(
        tags(&world.outcomes()),
        [
            ("sample-events/0/400", "dead_lettered", "undecodable"),
            ("sample-events/0/401", "dead_lettered", "malformed-json"),
            ("sample-events/0/402", "dead_lettered", "empty-value"),
            ("sample-events/0/403", "dead_lettered", "tombstone"),
            ("sample-events/0/404", "dead_lettered", "unknown-envelope-version"),
            ("sample-events/0/405", "dead_lettered", "unknown-type"),
            ("sample-events/0/406", "dead_lettered", "schema-violation"),
            ("sample-events/0/407", "valid", ""),
        ]
    );
    let letters = world.published(topic::DEAD_LETTER_EVENTS, "");
    assert_eq!(letters.len(), 7);
    assert_eq!(letters["sample-events/0/401"].value.as_deref(), Some(&b"not json"[..]));
    assert_eq!(letters["sample-events/0/403"].value, None);
    assert_eq!(letters["sample-events/0/403"].headers.0[0].name, "deleted");
    // A malformed origin header from the client is ignored, and its bytes are kept before our headers.
    assert_eq!(letters["sample-events/0/406"].headers.0[0].value.as_deref(), Some(&b"not/an/origin"[..]));
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_types_that_this_build_lacks_waits_for_another_build() {
    let envelope = r#"{"envelope":1,"id":"a","id_source":"client","type":"refund","schema":1,"tenant":"acme","received_at":"2026-11-20T18:02:00.000Z","data":{"type":"refund","id":"a"}}"#;
    let headers = [Header::new(header::EVENT_ID, "a"), Header::new(header::EVENT_TYPE, "refund")];
    let record = |offset| delivered(0, offset, Some(b"acme/a"), Some(envelope.as_bytes()), &headers);
    let records: Vec<Value> = (0..20).map(record).collect();
    let batch = trigger_event(json!({"raw-events-0": records}));
    let world = World::new();
    let error = invoke(&world.app(), &batch).await.unwrap_err();
    assert_eq!(error.error_type, "unknown-types");
    assert!(error.message.contains("20 of 20 records"), "{}", error.message);
    assert!(world.store.ledger().is_empty() && world.publisher.records(topic::DEAD_LETTER_EVENTS).is_empty());
    let removed = Policy { unknown_types: UnknownTypes::DeadLetter, ..policy() };
    assert_eq!(invoke(&world.app_with(removed, world.store.clone()), &batch).await.unwrap(), DONE);
    assert_eq!(world.publisher.records(topic::DEAD_LETTER_EVENTS).len(), 20);
}

/// Kafka's -1. It fell into 1969, and the next maintenance deleted the event.
#[tokio::test(start_paused = true)]
async fn a_record_without_a_time_was_received_when_the_ledger_first_saw_it() {
    let values = [r#"{"type":"sensor","id":"a","device_id":"d","reading":1,"unit":"m"}"#, "not json"];
    let mut records: Vec<Value> =
        values.iter().zip(0..).map(|(value, offset)| delivered(0, offset, None, Some(value.as_bytes()), &[])).collect();
    for record in &mut records {
        record["timestamp"] = json!(-1);
    }
    // A copy, which is a duplicate.
    records.push(delivered(0, 2, None, Some(values[0].as_bytes()), &[]));
    records[2]["timestamp"] = json!(-1);
    let batch = trigger_event(json!({"raw-events-0": records}));
    let world = World::new();
    let first_seen = world.clock.now();
    for _ in ["first", "two days later"] {
        assert_eq!(invoke(&world.app(), &batch).await.unwrap(), DONE);
        world.clock.jump(2 * 86_400_000);
    }
    let rows = world.store.events();
    assert_eq!((rows.len(), rows[0].event.received_at), (1, first_seen));
    // `published` compares the copies byte by byte.
    let outcomes = world.published(topic::PROCESSED_EVENTS, "outcome_id");
    for position in ["raw-events/0/0", "raw-events/0/2"] {
        let outcome: Value = serde_json::from_slice(outcomes[position].value.as_ref().unwrap()).unwrap();
        assert_eq!(outcome["received_at"], json!(first_seen), "{outcome}");
    }
    let letter = &world.published(topic::DEAD_LETTER_EVENTS, "")["raw-events/0/1"];
    assert_eq!(letter.headers.parse(header::ORIGIN_TIMESTAMP), Some(first_seen.as_millis()));
}

/// What broker and topic accept only because it was compressed: without the check, the ledger would have these records and
/// no batch with them could ever be published.
#[tokio::test(start_paused = true)]
async fn a_record_too_large_to_publish_is_kept_in_the_archive_and_spoils_no_other() {
    let event = |id: &str, user_id: &str, note: String| {
        let sensor = json!({"type": "sensor", "id": id, "device_id": "d", "reading": 1, "unit": "m", "user_id": user_id, "note": note});
        sensor.to_string()
    };
    let key = vec![b'k'; 2_000_000];
    let values = [
        event("a", "u", "m".into()),
        event("b", "u", "m".repeat(3_000_000)),
        "[".repeat(2_000_000),
        event("c", &"u".repeat(700_000), "m".into()),
        event("d", "u", "m".into()),
        event("e", "u", "m".into()),
    ];
    let keys = [None, None, None, None, Some(&*key), None];
    let records: Vec<Value> = values
        .iter()
        .zip(keys)
        .zip(0..)
        .map(|((value, key), offset)| delivered(0, offset, key, Some(value.as_bytes()), &[]))
        .collect();
    let batch = trigger_event(json!({"raw-events-0": records}));

    let world = World::new();
    world.objects.refuse("quarantine/");
    invoke(&world.app(), &batch).await.unwrap_err();
    assert!(world.store.ledger().is_empty(), "the ledger promises bytes that nobody keeps");
    world.objects.accept_all();
    for _ in ["first", "again"] {
        assert_eq!(invoke(&world.app(), &batch).await.unwrap(), DONE);
        assert_eq!(
            tags(&world.outcomes()),
            [
                ("raw-events/0/0", "valid", ""),
                ("raw-events/0/1", "dead_lettered", "too-large"),
                ("raw-events/0/2", "dead_lettered", "too-large"),
                ("raw-events/0/3", "dead_lettered", "too-large"),
                ("raw-events/0/4", "dead_lettered", "too-large"),
                ("raw-events/0/5", "valid", ""),
            ]
        );
        assert_eq!(world.published(topic::PROCESSED_EVENTS, "outcome_id").len(), 6);
    }
    let letters = world.published(topic::DEAD_LETTER_EVENTS, "");
    assert_eq!((letters.len(), world.objects.keys().len()), (4, 4));
    for (position, letter) in &letters {
        assert_eq!(letter.value, None);
        let object = world.objects.get(&letter.headers.parse::<String>(header::QUARANTINE).unwrap()).await.unwrap();
        let kept = archive::single::unpack(&object, topic::RAW_EVENTS).unwrap();
        let offset = usize::try_from(kept.position.offset).unwrap();
        assert_eq!(kept.position.to_string(), *position);
        assert_eq!((kept.key.as_deref(), kept.value.as_deref()), (keys[offset], Some(values[offset].as_bytes())));
    }
}

#[tokio::test(start_paused = true)]
async fn a_redelivered_batch_changes_nothing() {
    let world = World::new();
    for case in ["valid-batch", "duplicates", "bad-records"] {
        invoke(&world.app(), &sample("processor", case)).await.unwrap();
    }
    let (outcomes, events) = (world.outcomes(), world.store.events());
    for case in ["bad-records", "duplicates", "valid-batch"] {
        invoke(&world.app(), &sample("processor", case)).await.unwrap();
    }
    assert_eq!(world.outcomes(), outcomes);
    assert_eq!(world.store.events(), events);
    // `published` also compares the copies byte by byte.
    assert_eq!(world.published(topic::PROCESSED_EVENTS, "outcome_id").len(), outcomes.len());
}

/// Makes the next invocation fail in a step, before or after its effect.
fn crash(world: &World, point: usize) -> &'static str {
    let (all_attempts, class) = (3, ErrorClass::Transient);
    match point {
        0 => world.claims.faults.fail(all_attempts, class),
        1 => world.claims.faults.lose_answer(all_attempts, class),
        2 => world.counters.faults.fail(all_attempts, class),
        3 => world.store.faults.fail(all_attempts, class),
        4 => world.store.faults.lose_answer(all_attempts, class),
        5 => world.publisher.faults.fail(all_attempts, class),
        _ => world.publisher.faults.lose_answer(all_attempts, class),
    }
    ["claim", "claimed", "limit", "store", "stored", "publish", "published"][point]
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_any_two_steps_is_repaired_by_redelivery() {
    let cases = ["valid-batch", "duplicates", "bad-records"];
    let undisturbed = World::new();
    for case in cases {
        invoke(&undisturbed.app(), &sample("processor", case)).await.unwrap();
    }
    for point in 0..7 {
        let world = World::new();
        for case in cases {
            let name = crash(&world, point);
            invoke(&world.app(), &sample("processor", case)).await.expect_err(name);
            // A new instance gets the same records.
            assert_eq!(invoke(&world.app(), &sample("processor", case)).await.unwrap(), DONE, "{name}");
        }
        assert_eq!(world.store.ledger(), undisturbed.store.ledger(), "crash point {point}");
        assert_eq!(world.store.events(), undisturbed.store.events(), "crash point {point}");
        let outcomes = |world: &World| {
            let records = world.published(topic::PROCESSED_EVENTS, "outcome_id");
            records.into_iter().map(|(id, record)| (id, record.value)).collect::<Vec<_>>()
        };
        assert_eq!(outcomes(&world), outcomes(&undisturbed), "crash point {point}");
        assert_eq!(world.published(topic::DEAD_LETTER_EVENTS, "").len(), 7);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_batches_may_be_cut_anew() {
    // The first delivery holds only partition 1, and the crash comes right after claiming. The next delivery also has a
    // copy of the event in partition 0, which comes first.
    let world = World::new();
    world.claims.faults.lose_answer(3, ErrorClass::Transient);
    invoke(&world.app(), &batch(&[(1, 7, "a", "192.0.2.1")])).await.unwrap_err();
    invoke(&world.app(), &batch(&[(0, 3, "a", "192.0.2.1"), (1, 7, "a", "192.0.2.1")])).await.unwrap();
    assert_eq!(
        tags(&world.outcomes()),
        [("raw-events/0/3", "duplicate", "copy-in-batch"), ("raw-events/1/7", "valid", "")]
    );
    assert_eq!(world.store.events().len(), 1);

    // One record at a time, with the copy first: the copy is not stored, but the owner of the claim is, so the event is
    // not lost.
    let world = World::new();
    world.claims.faults.lose_answer(3, ErrorClass::Transient);
    invoke(&world.app(), &batch(&[(1, 7, "a", "192.0.2.1")])).await.unwrap_err();
    invoke(&world.app(), &batch(&[(0, 3, "a", "192.0.2.1")])).await.unwrap();
    assert!(world.store.events().is_empty());
    invoke(&world.app(), &batch(&[(1, 7, "a", "192.0.2.1")])).await.unwrap();
    assert_eq!(world.store.events().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_address_past_its_limit_is_blocked_and_listed() {
    let world = World::new();
    let mut policy = policy();
    policy.limits.per_minute = NonZeroU32::new(2);
    let app = world.app_with(policy, world.store.clone());
    let events =
        [(0, 1, "a", "192.0.2.1"), (0, 2, "b", "192.0.2.1"), (0, 3, "c", "192.0.2.1"), (0, 4, "d", "192.0.2.2")];
    invoke(&app, &batch(&events)).await.unwrap();
    let listed = world.block_list.list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].from, Timestamp::from_millis(1_795_197_720_003));
    let trail = world.audit.entries(world.clock.now()).await.unwrap();
    let [entry] = trail.as_slice() else { panic!("one entry for the batch: {trail:?}") };
    assert_eq!((entry.by.as_deref(), entry.action.as_str()), (Some("processor"), "block"));
    assert!(entry.request.contains("192.0.2.1") && !entry.request.contains("192.0.2.2"), "{}", entry.request);
    // This instance applies its own block at once.
    invoke(&app, &batch(&[(0, 5, "e", "192.0.2.1"), (0, 6, "f", "192.0.2.2")])).await.unwrap();
    assert_eq!(
        tags(&world.outcomes()),
        [
            ("raw-events/0/1", "valid", ""),
            ("raw-events/0/2", "valid", ""),
            ("raw-events/0/3", "blocked", "address-rate"),
            ("raw-events/0/4", "valid", ""),
            ("raw-events/0/5", "blocked", "address-blocked"),
            ("raw-events/0/6", "valid", ""),
        ]
    );
    // Scores are asked for while events are counted: also for the one that the limit then refuses, but not for the one
    // whose address is on the block list.
    let asked: Vec<usize> = world.scorer.asked().iter().map(Vec::len).collect();
    assert_eq!(asked, [4, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_block_holds_although_the_audit_trail_cannot_be_written() {
    let world = World::new();
    world.audit.faults.fail(100, ErrorClass::Transient);
    let mut policy = policy();
    policy.limits.per_minute = NonZeroU32::new(1);
    let app = world.app_with(policy, world.store.clone());
    invoke(&app, &batch(&[(0, 1, "a", "192.0.2.1"), (0, 2, "b", "192.0.2.1")])).await.unwrap();
    assert_eq!(world.block_list.list().await.unwrap().len(), 1);
    let outcomes = world.outcomes();
    assert_eq!(tags(&outcomes)[1], ("raw-events/0/2", "blocked", "address-rate"));
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_counting_counts_nobody_twice() {
    let world = World::new();
    let mut policy = policy();
    policy.limits.per_minute = NonZeroU32::new(4);
    let app = world.app_with(policy.clone(), world.store.clone());
    invoke(&app, &batch(&[(0, 1, "a", "192.0.2.1")])).await.unwrap();
    world.store.faults.fail(3, ErrorClass::Transient);
    let two = batch(&[(0, 2, "b", "192.0.2.1"), (0, 3, "c", "192.0.2.1")]);
    invoke(&app, &two).await.unwrap_err();
    invoke(&world.app_with(policy, world.store.clone()), &two).await.unwrap();
    invoke(&app, &batch(&[(0, 4, "d", "192.0.2.1"), (0, 5, "e", "192.0.2.1")])).await.unwrap();
    let outcomes: Vec<_> = world.outcomes().into_iter().map(|(_, outcome, _)| outcome).collect();
    assert_eq!(outcomes, [Outcome::Valid, Outcome::Valid, Outcome::Valid, Outcome::Valid, Outcome::Blocked]);
}

#[tokio::test(start_paused = true)]
async fn an_operators_block_acts_within_the_age_of_the_list() {
    let world = World::new();
    let app = world.app();
    let address: AddressRange = "192.0.2.1".parse().unwrap();
    invoke(&app, &batch(&[(0, 1, "a", "192.0.2.1")])).await.unwrap();
    let block = Block { address, allows: false, from: Timestamp::EPOCH, until: None, reason: "abuse".to_owned() };
    world.block_list.block(std::slice::from_ref(&block)).await.unwrap();
    invoke(&app, &batch(&[(0, 2, "b", "192.0.2.1")])).await.unwrap();
    tokio::time::advance(Duration::from_secs(2)).await;
    invoke(&app, &batch(&[(0, 3, "c", "192.0.2.1")])).await.unwrap();
    world.block_list.unblock(address).await.unwrap();
    tokio::time::advance(Duration::from_secs(2)).await;
    invoke(&app, &batch(&[(0, 4, "d", "192.0.2.1")])).await.unwrap();
    let outcomes: Vec<_> = world.outcomes().into_iter().map(|(_, outcome, _)| outcome).collect();
    assert_eq!(outcomes, [Outcome::Valid, Outcome::Valid, Outcome::Blocked, Outcome::Valid]);
}

#[tokio::test(start_paused = true)]
async fn without_the_scorer_events_are_stored_unscored() {
    let world = World::new();
    let app = world.app();
    world.scorer.faults.fail(5, ErrorClass::Transient);
    for offset in 1..=3 {
        assert_eq!(invoke(&app, &batch(&[(0, offset, &format!("e-{offset}"), "10.0.0.1")])).await.unwrap(), DONE);
    }
    assert!(world.store.events().iter().all(|row| row.risk.is_none() && row.outcome == Outcome::Valid));
    // Three attempts, two more that open the breaker, and none while it is open, although the scorer works again.
    assert_eq!(world.scorer.asked().len(), 5);
    tokio::time::advance(OPEN_FOR).await;
    invoke(&app, &batch(&[(0, 4, "e-4", "10.0.0.1")])).await.unwrap();
    assert_eq!(world.store.events()[3].outcome, Outcome::Fraud);
}

#[tokio::test(start_paused = true)]
async fn a_dependency_that_is_down_fails_the_batch_and_makes_no_dead_letter() {
    for (point, error_type) in
        [(0, "dynamodb-failed"), (2, "dynamodb-failed"), (3, "postgres-failed"), (5, "kafka-failed")]
    {
        let world = World::new();
        crash(&world, point);
        let error = invoke(&world.app(), &sample("processor", "bad-records")).await.unwrap_err();
        assert_eq!(error.error_type, error_type);
        assert!(world.publisher.records(topic::DEAD_LETTER_EVENTS).is_empty());
    }
}

/// The store, and how often it was called.
struct Counted {
    inner: Arc<FakeStore>,
    calls: AtomicU32,
}

#[async_trait]
impl EventStore for Counted {
    async fn record(
        &self,
        records: &[Tracked<'_, Decided>],
        now: Timestamp,
    ) -> Result<Vec<LedgerEntry>, DependencyError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.inner.record(records, now).await
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_many_batches_opens_the_breaker_and_ends_with_the_probe() {
    let world = World::new();
    let store = Arc::new(Counted { inner: world.store.clone(), calls: AtomicU32::new(0) });
    let app = world.app_with(policy(), store.clone());
    let calls = || store.calls.load(Ordering::Relaxed);
    world.store.faults.fail(usize::try_from(FAILURES_TO_OPEN).unwrap() + 1, ErrorClass::Transient);
    for _ in 0..10 {
        let error = invoke(&app, &sample("processor", "bad-records")).await.unwrap_err();
        assert_eq!(error.error_type, "postgres-failed");
    }
    assert_eq!(calls(), FAILURES_TO_OPEN, "no calls are made while the breaker is open");

    // The store is still down at the first probe: no second attempt, and the breaker stays open as long again.
    tokio::time::advance(OPEN_FOR).await;
    for _ in 0..10 {
        invoke(&app, &sample("processor", "bad-records")).await.unwrap_err();
    }
    assert_eq!(calls(), FAILURES_TO_OPEN + 1);
    assert!(world.store.ledger().is_empty());
    assert!(world.publisher.records(topic::DEAD_LETTER_EVENTS).is_empty(), "an outage makes no dead letter");

    tokio::time::advance(OPEN_FOR).await;
    assert_eq!(invoke(&app, &sample("processor", "bad-records")).await.unwrap(), DONE);
    assert_eq!(invoke(&app, &sample("processor", "valid-batch")).await.unwrap(), DONE);
    assert_eq!(calls(), FAILURES_TO_OPEN + 3);
    assert_eq!((world.store.events().len(), world.store.ledger().len()), (6, 13));
    assert_eq!(
        world.published(topic::DEAD_LETTER_EVENTS, "").len(),
        7,
        "one dead letter for each bad record, and none for others"
    );
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_would_end_at_an_open_breaker_is_not_begun() {
    for failing in ["postgres-failed", "kafka-failed"] {
        let world = World::new();
        let app = world.app();
        let faults = if failing == "postgres-failed" { &world.store.faults } else { &world.publisher.faults };
        faults.fail(usize::try_from(FAILURES_TO_OPEN).unwrap(), ErrorClass::Transient);
        for _ in 0..2 {
            assert_eq!(invoke(&app, &sample("processor", "valid-batch")).await.unwrap_err().error_type, failing);
        }
        // A claim made now would hit this fault.
        world.claims.faults.fail(1, ErrorClass::Permanent);
        let error = invoke(&app, &sample("processor", "valid-batch")).await.unwrap_err();
        assert!(error.error_type == failing && error.message.contains("breaker-open"), "{}", error.message);
        assert_eq!(world.claims.faults.left(), 1, "nothing was claimed");
    }
}

#[tokio::test(start_paused = true)]
async fn claims_in_postgres_share_its_breaker() {
    let world = World::new();
    let app = world.app_with(Policy { dedup_store: StateStore::Postgres, ..policy() }, world.store.clone());
    world.claims.faults.fail(usize::try_from(FAILURES_TO_OPEN).unwrap(), ErrorClass::Transient);
    for _ in 0..2 {
        invoke(&app, &sample("processor", "valid-batch")).await.unwrap_err();
    }
    let error = invoke(&app, &sample("processor", "valid-batch")).await.unwrap_err();
    assert_eq!(error.error_type, "postgres-failed");
    assert!(error.message.contains("breaker-open"), "{}", error.message);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_of_one_dependency_leaves_the_others_alone() {
    let world = World::new();
    let app = world.app();
    world.publisher.faults.fail(usize::try_from(FAILURES_TO_OPEN).unwrap(), ErrorClass::Transient);
    for _ in 0..3 {
        assert_eq!(invoke(&app, &sample("processor", "valid-batch")).await.unwrap_err().error_type, "kafka-failed");
    }
    assert_eq!(
        world.store.events().len(),
        5,
        "the events are stored, and their outcomes are published when Kafka works again"
    );
    tokio::time::advance(OPEN_FOR).await;
    assert_eq!(invoke(&app, &sample("processor", "valid-batch")).await.unwrap(), DONE);
    assert_eq!(world.published(topic::PROCESSED_EVENTS, "outcome_id").len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_is_bridged_by_retries() {
    let world = World::new();
    world.claims.faults.fail(2, ErrorClass::Overload);
    world.counters.faults.fail(1, ErrorClass::Transient);
    world.store.faults.lose_answer(2, ErrorClass::Transient);
    world.publisher.faults.lose_answer(2, ErrorClass::Transient);
    assert_eq!(invoke(&world.app(), &sample("processor", "valid-batch")).await.unwrap(), DONE);
    assert_eq!(world.store.events().len(), 5);
    assert_eq!(world.published(topic::PROCESSED_EVENTS, "outcome_id").len(), 5);
}

#[tokio::test(start_paused = true)]
async fn only_records_without_acknowledgement_are_published_again() {
    let world = World::new();
    world.publisher.refuse("acme/order-2", ErrorClass::Transient);
    invoke(&world.app(), &sample("processor", "valid-batch")).await.unwrap();
    assert_eq!(world.publisher.records(topic::PROCESSED_EVENTS).len(), 5);
}

/// A store that refuses one event permanently, as Postgres does with a text that it cannot hold.
struct Picky {
    inner: Arc<FakeStore>,
    refuses: &'static str,
    refuses_everything: bool,
}

#[async_trait]
impl EventStore for Picky {
    async fn record(
        &self,
        records: &[Tracked<'_, Decided>],
        now: Timestamp,
    ) -> Result<Vec<LedgerEntry>, DependencyError> {
        let refused = |record: &Tracked<'_, Decided>| match record.open() {
            Some((event, _)) => event.key.id.as_str() == self.refuses,
            None => false,
        };
        if self.refuses_everything || records.iter().any(refused) {
            return Err(DependencyError {
                dependency: Dependency::Postgres,
                class: ErrorClass::Permanent,
                tag: "data-exception",
                doing: "recording a batch",
                source: "refused by a test".into(),
            });
        }
        self.inner.record(records, now).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_the_store_refuses_is_dead_lettered_alone() {
    let world = World::new();
    let picky = Picky { inner: world.store.clone(), refuses: "order-2", refuses_everything: false };
    let app = world.app_with(policy(), Arc::new(picky));
    assert_eq!(invoke(&app, &sample("processor", "valid-batch")).await.unwrap(), DONE);
    assert_eq!(world.store.events().len(), 4);
    assert_eq!(tags(&world.outcomes())[1], ("sample-events/0/101", "dead_lettered", "store-refused"));
    let letters = world.published(topic::DEAD_LETTER_EVENTS, "");
    assert_eq!(letters.keys().collect::<Vec<_>>(), ["sample-events/0/101"]);
    assert_eq!(letters["sample-events/0/101"].headers.get(header::ERROR_CLASS), Some(&b"store-refused"[..]));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_everything_is_at_fault_itself() {
    let world = World::new();
    let picky = Picky { inner: world.store.clone(), refuses: "", refuses_everything: true };
    let app = world.app_with(policy(), Arc::new(picky));
    let error = invoke(&app, &sample("processor", "valid-batch")).await.unwrap_err();
    assert_eq!(error.error_type, "postgres-failed");
    assert!(world.store.ledger().is_empty() && world.publisher.records(topic::DEAD_LETTER_EVENTS).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_between_deliveries_changes_no_outcome() {
    const HOUR_MS: i64 = 3_600_000;
    let undisturbed = World::new();
    for case in ["valid-batch", "duplicates"] {
        invoke(&undisturbed.app(), &sample("processor", case)).await.unwrap();
    }
    let world = World::new();
    let app = world.app();
    for (jump, case) in [(0, "valid-batch"), (-HOUR_MS, "duplicates"), (2 * HOUR_MS, "valid-batch")] {
        world.clock.jump(jump);
        // The first run loses the store's answer, so that the time also differs between two deliveries of one batch.
        world.store.faults.lose_answer(3, ErrorClass::Transient);
        invoke(&app, &sample("processor", case)).await.unwrap_err();
        world.clock.jump(-HOUR_MS);
        assert_eq!(invoke(&app, &sample("processor", case)).await.unwrap(), DONE);
    }
    // The store may find a duplicate that the claims did not, so reasons may differ.
    let outcomes = |world: &World| -> Vec<(String, Outcome)> {
        world.outcomes().into_iter().map(|(position, outcome, _)| (position, outcome)).collect()
    };
    assert_eq!(outcomes(&world), outcomes(&undisturbed));
    assert_eq!(world.store.events(), undisturbed.store.events());
    assert_eq!(world.published(topic::PROCESSED_EVENTS, "outcome_id").len(), world.outcomes().len());
}

#[tokio::test(start_paused = true)]
async fn without_time_nothing_is_begun() {
    let world = World::new();
    let error = invoke_within(&world.app(), &sample("processor", "valid-batch"), Duration::ZERO).await.unwrap_err();
    assert_eq!(error.error_type, "out-of-time");
    assert!(world.scorer.asked().is_empty() && world.store.ledger().is_empty());
    assert_eq!(invoke(&world.app(), &sample("processor", "valid-batch")).await.unwrap(), DONE);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_kafka_event_fails_and_an_empty_one_is_done() {
    let world = World::new();
    assert_eq!(invoke(&world.app(), "{}").await.unwrap_err().error_type, "not-a-kafka-event");
    assert_eq!(invoke(&world.app(), r#"{"records":{}}"#).await.unwrap(), DONE);
}
