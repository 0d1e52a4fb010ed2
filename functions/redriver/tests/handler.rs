//! Tests of the whole loop in one process: processor and redriver on the same fakes, with outages, killed runs and
//! concurrent runs.
#![expect(clippy::unwrap_used, clippy::panic, reason = "test helpers: a missing value fails the test")]

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use event::schema::Registry;
use event::{TenantId, Timestamp};
use lambda::invocation::{Invocation, InvocationError};
use pipeline::breaker::{FAILURES_TO_OPEN, OPEN_FOR};
use pipeline::clock::Clock;
use pipeline::dead_letter::DeadLetter;
use pipeline::decisions::limits::LimitPolicy;
use pipeline::ports::{
    EventStore, FunctionCaller, LedgerEntry, NewRecord, ObjectStore as _, RecordPublisher, RedriveMarks as _,
};
use pipeline::quota::MAX_PAYLOAD_BYTES;
use pipeline::tracked::{Decided, Tracked};
use pipeline::{Dependency, DependencyError, ErrorClass, Header, Outcome, Position, Record, RecordHeaders, topic};
use processor::{Policy, Ports, UnknownTypes};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use settings::shared::StateStore;
use testkit::fakes::address_counters::FakeAddressCounters;
use testkit::fakes::audit::FakeAuditTrail;
use testkit::fakes::block_list::FakeBlockList;
use testkit::fakes::claims::FakeClaims;
use testkit::fakes::objects::FakeObjects;
use testkit::fakes::publisher::FakePublisher;
use testkit::fakes::redrive::{FakeRedriveMarks, FakeTopics};
use testkit::fakes::scorer::FakeScorer;
use testkit::fakes::store::FakeStore;
use testkit::samples::sample;

const DAY: Duration = Duration::from_secs(86_400);
const MINUTE: Duration = Duration::from_secs(60);

/// A clock that only advances when a test says so.
struct TestClock(Mutex<Timestamp>);

impl TestClock {
    fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap();
        *now = now.plus(by);
    }

    fn set_back(&self, by: Duration) {
        let mut now = self.0.lock().unwrap();
        *now = Timestamp::from_millis(now.as_millis() - i64::try_from(by.as_millis()).unwrap());
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// A store that permanently refuses events until a test repairs the cause, as a database does with a text that it
/// cannot hold.
struct Picky {
    inner: FakeStore,
    broken: AtomicBool,
}

#[async_trait]
impl EventStore for Picky {
    async fn record(
        &self,
        records: &[Tracked<'_, Decided>],
        now: Timestamp,
    ) -> Result<Vec<LedgerEntry>, DependencyError> {
        let is_event = |record: &Tracked<'_, Decided>| record.open().is_some();
        if self.broken.load(Ordering::Relaxed) && records.iter().any(is_event) {
            return Err(DependencyError {
                dependency: Dependency::Postgres,
                class: ErrorClass::Permanent,
                tag: "refused",
                doing: "recording a batch",
                source: "refused by a test".into(),
            });
        }
        self.inner.record(records, now).await
    }
}

/// A publisher that hangs after a number of calls, as in a run that is killed.
struct Stalling {
    inner: Arc<FakePublisher>,
    calls_left: AtomicUsize,
    /// Whether the call that hangs takes effect.
    after: bool,
}

#[async_trait]
impl RecordPublisher for Stalling {
    async fn publish(&self, records: Vec<NewRecord>, timeout: Duration) -> Vec<Result<Position, DependencyError>> {
        let left = self.calls_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left.is_ok() {
            return self.inner.publish(records, timeout).await;
        }
        if self.after {
            self.inner.publish(records, timeout).await;
        }
        std::future::pending().await
    }

    async fn close(&self, _: Duration) -> Result<(), DependencyError> {
        Ok(())
    }
}

/// A slow publisher, which fails if it needs longer than the timeout.
struct Slow {
    inner: Arc<FakePublisher>,
    takes: Duration,
}

#[async_trait]
impl RecordPublisher for Slow {
    async fn publish(&self, records: Vec<NewRecord>, timeout: Duration) -> Vec<Result<Position, DependencyError>> {
        tokio::time::sleep(self.takes.min(timeout)).await;
        if self.takes <= timeout {
            return self.inner.publish(records, timeout).await;
        }
        let late = || DependencyError {
            dependency: Dependency::Kafka,
            class: ErrorClass::Transient,
            tag: "timeout",
            doing: "publishing",
            source: "timed out by a test".into(),
        };
        records.iter().map(|_| Err(late())).collect()
    }

    async fn close(&self, _: Duration) -> Result<(), DependencyError> {
        Ok(())
    }
}

/// Lambda with one function, which has an instance of its own.
struct Hosted {
    processor: processor::App,
    calls: Mutex<Vec<String>>,
    failing: AtomicBool,
}

#[async_trait]
impl FunctionCaller for Hosted {
    async fn call(&self, function: &str, event: Bytes) -> Result<Bytes, DependencyError> {
        self.calls.lock().unwrap().push(function.to_owned());
        let failed = |class, tag: &'static str| DependencyError {
            dependency: Dependency::Function,
            class,
            tag,
            doing: "calling a function",
            source: tag.into(),
        };
        if event.len() > MAX_PAYLOAD_BYTES || !function.ends_with(":function:processor") {
            return Err(failed(ErrorClass::Transient, "unavailable"));
        }
        if self.failing.load(Ordering::Relaxed) {
            return Err(failed(ErrorClass::Permanent, "function-error"));
        }
        let event = RawValue::from_string(String::from_utf8(event.into()).unwrap()).unwrap();
        let answer = processor::handle(&event, &invocation(MINUTE), &self.processor).await;
        Ok(answer.map_err(|_| failed(ErrorClass::Permanent, "function-error"))?.get().to_owned().into())
    }
}

struct World {
    clock: Arc<TestClock>,
    broker: Arc<FakePublisher>,
    store: Arc<Picky>,
    marks: Arc<FakeRedriveMarks>,
    audit: Arc<FakeAuditTrail>,
    objects: Arc<FakeObjects>,
    claims: Arc<FakeClaims>,
    processor: processor::App,
    /// The functions that the redriver calls.
    hosted: Arc<Hosted>,
    /// How many records of `raw-events` the processor has read, by partition.
    consumed: Mutex<HashMap<i32, i64>>,
}

impl World {
    fn new() -> Self {
        let now = Timestamp::parse("2026-11-20T18:02:00.000Z").unwrap();
        let clock = Arc::new(TestClock(Mutex::new(now)));
        let broker = Arc::new(FakePublisher::new(3));
        let store = Arc::new(Picky { inner: FakeStore::new(DAY), broken: AtomicBool::new(true) });
        let (claims, objects) = (Arc::new(FakeClaims::new(DAY)), Arc::<FakeObjects>::default());
        World {
            hosted: Arc::new(Hosted {
                processor: processor(1_500_000, &claims, &store, &broker, &objects, &clock),
                calls: Mutex::default(),
                failing: AtomicBool::new(false),
            }),
            processor: processor(1_500_000, &claims, &store, &broker, &objects, &clock),
            clock,
            broker,
            store,
            marks: Arc::default(),
            audit: Arc::default(),
            objects,
            claims,
            consumed: Mutex::default(),
        }
    }

    /// From now on the processor publishes records up to that size, in bytes.
    fn allow(&mut self, max_record_bytes: usize) {
        let World { claims, store, broker, objects, clock, .. } = self;
        self.processor = processor(max_record_bytes, claims, store, broker, objects, clock);
    }

    /// A world with that many failed events.
    async fn with_letters(count: usize) -> Self {
        let world = World::new();
        world.produce(count).await;
        world.process().await;
        assert_eq!(world.letters().len(), count);
        world
    }

    async fn produce(&self, count: usize) {
        let records = (0..count).map(|number| {
            let id = format!("e-{number}");
            let value = json!({"type": "click", "id": id, "user_id": "u-1", "campaign_id": "c"});
            NewRecord {
                topic: topic::RAW_EVENTS,
                key: Some(format!("kafka/{id}").into()),
                value: Some(value.to_string().into()),
                headers: Vec::new(),
            }
        });
        self.publish(records.collect()).await;
    }

    async fn produce_malformed(&self, count: usize) {
        let value = Some("not json".into());
        let record = NewRecord { topic: topic::RAW_EVENTS, key: None, value, headers: Vec::new() };
        self.publish(vec![record; count]).await;
    }

    async fn publish(&self, records: Vec<NewRecord>) {
        for answer in self.broker.publish(records, MINUTE).await {
            answer.unwrap();
        }
    }

    fn new_records(&self) -> Vec<Record> {
        let mut consumed = self.consumed.lock().unwrap();
        let mut is_new = |record: &Record| {
            let next = consumed.entry(record.position.partition).or_default();
            let is_new = record.position.offset >= *next;
            *next = (record.position.offset + 1).max(*next);
            is_new
        };
        self.broker.records(topic::RAW_EVENTS).into_iter().filter(|record| is_new(record)).collect()
    }

    /// Lets the processor process the new records on `raw-events`.
    async fn process(&self) {
        let new = self.new_records();
        self.deliver(&new).await;
    }

    async fn deliver(&self, records: &[Record]) {
        let event = RawValue::from_string(trigger_event(records)).unwrap();
        processor::handle(&event, &invocation(MINUTE), &self.processor).await.unwrap();
    }

    /// The same, one record at a time, because copies in one batch would become `copy-in-batch` duplicates.
    async fn process_singly(&self) {
        for record in self.new_records() {
            self.deliver(&[record]).await;
        }
    }

    fn letters(&self) -> Vec<Record> {
        self.broker.records(topic::DEAD_LETTER_EVENTS)
    }

    /// The trigger gives up these records in one batch; returns the object's key.
    fn give_up(&self, name: &str, records: &[Record]) -> String {
        let (of, offset) = (&records[0].position, records[0].position.offset);
        let document = json!({
            "requestContext": {
                "requestId": "r", "functionArn": "arn:aws:lambda:eu-west-1:123456789012:function:processor",
                "condition": "RetryAttemptsExhausted", "approximateInvokeCount": 3,
            },
            "responseContext": null, "version": "1.0", "timestamp": "2026-11-20T18:00:00.000Z",
            "KafkaBatchInfo": {"batchSize": records.len(), "recordsInfo": {
                format!("{}-{}", of.topic, of.partition): {"firstRecordOffset": offset, "lastRecordOffset": offset},
            }},
            "payload": trigger_event(records),
        });
        let key = format!("aws/lambda/mapping/raw-events-0/2026/11/20/{name}");
        self.objects.overwrite(&key, document.to_string());
        key
    }

    fn repair(&self) {
        self.store.broken.store(false, Ordering::Relaxed);
    }

    fn app(&self) -> redriver::App {
        self.app_with(self.broker.clone())
    }

    fn app_with(&self, publisher: Arc<dyn RecordPublisher>) -> redriver::App {
        let ports = redriver::Ports {
            topics: Arc::new(FakeTopics::new(self.broker.clone())),
            publisher,
            marks: self.marks.clone(),
            audit: self.audit.clone(),
            objects: self.objects.clone(),
            functions: self.hosted.clone(),
            clock: self.clock.clone(),
        };
        redriver::App::new(ports, Dependency::Dynamodb, OPEN_FOR)
    }

    async fn ask(&self, request: Value) -> Value {
        ask(&self.app(), request, MINUTE).await.unwrap()
    }

    /// Checks that every event is stored once, and that each record of `raw-events` is in the ledger once.
    fn assert_one_effect_each(&self, events: usize) {
        let stored = self.store.inner.events();
        let ids: BTreeMap<String, usize> = stored.iter().fold(BTreeMap::new(), |mut ids, row| {
            *ids.entry(row.event.key.to_string()).or_default() += 1;
            ids
        });
        assert_eq!((stored.len(), ids.len()), (events, events), "{ids:?}");
        let ledger = self.store.inner.ledger();
        assert_eq!(ledger.len(), self.broker.records(topic::RAW_EVENTS).len());
        let valid = ledger.iter().filter(|entry| entry.outcome == Outcome::Valid).count();
        assert_eq!(valid, events);
    }
}

/// A processor on these services. Its other services are its own.
fn processor(
    max_record_bytes: usize,
    claims: &Arc<FakeClaims>,
    store: &Arc<Picky>,
    broker: &Arc<FakePublisher>,
    objects: &Arc<FakeObjects>,
    clock: &Arc<TestClock>,
) -> processor::App {
    let policy = Policy {
        limits: LimitPolicy { per_minute: NonZeroU32::new(0), block_for: MINUTE },
        block_list_age: Duration::from_secs(2),
        fraud_threshold: 80,
        scorer_timeout: Duration::from_secs(2),
        publish_timeout: Duration::from_secs(10),
        max_record_bytes,
        unknown_types: UnknownTypes::Wait,
        foreign_tenant: TenantId::new("kafka").unwrap(),
        dedup_store: StateStore::Dynamodb,
        access_store: StateStore::Dynamodb,
        breaker_open: OPEN_FOR,
        dedup_window: DAY,
    };
    let ports = Ports {
        claims: claims.clone(),
        counters: Arc::new(FakeAddressCounters::default()),
        block_list: Arc::new(FakeBlockList::default()),
        audit: Arc::new(FakeAuditTrail::default()),
        scorer: Arc::new(FakeScorer::default()),
        store: store.clone(),
        publisher: broker.clone(),
        objects: objects.clone(),
        clock: clock.clone(),
    };
    processor::App::new(policy, Registry::embedded().unwrap(), ports)
}

fn invocation(left: Duration) -> Invocation {
    Invocation { request_id: "test".to_owned(), deadline: Instant::now() + left }
}

async fn ask(app: &redriver::App, request: Value, left: Duration) -> Result<Value, InvocationError> {
    let event = RawValue::from_string(request.to_string()).unwrap();
    let answer = redriver::handle(&event, &invocation(left), app).await?;
    Ok(serde_json::from_str(answer.get()).unwrap())
}

fn trigger_event(records: &[Record]) -> String {
    let base64 = |bytes: &[u8]| base64_simd::STANDARD.encode_to_string(bytes);
    let mut map: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for Record { position, timestamp, key, value, headers, .. } in records {
        let headers: Vec<Value> = headers
            .0
            .iter()
            .map(|header| json!({ &*header.name: header.value.as_ref().map(|value| value.to_vec()) }))
            .collect();
        map.entry(format!("{}-{}", position.topic, position.partition)).or_default().push(json!({
            "topic": &*position.topic, "partition": position.partition, "offset": position.offset,
            "timestamp": timestamp.as_millis(), "timestampType": "CREATE_TIME",
            "key": key.as_deref().map(base64), "value": value.as_deref().map(base64), "headers": headers,
        }));
    }
    json!({"eventSource": "aws:kafka", "records": map}).to_string()
}

fn counts(answer: &Value, names: &[&str]) -> Vec<u64> {
    names.iter().map(|name| answer[name].as_u64().unwrap_or_else(|| panic!("no {name} in {answer}"))).collect()
}

#[tokio::test(start_paused = true)]
async fn letters_are_listed_by_reason_and_a_dry_run_counts_what_a_redrive_does() {
    let world = World::with_letters(30).await;
    world.produce_malformed(1).await;
    world.process().await;

    let list = world.ask(serde_json::from_str(&sample("redriver", "list")).unwrap()).await;
    assert_eq!(counts(&list, &["read", "matched", "unreadable", "copies"]), [31, 31, 0, 0]);
    let (refused, malformed) = (&list["reasons"]["store-refused"], &list["reasons"]["malformed-json"]);
    assert_eq!(counts(refused, &["letters", "open", "redriven", "parked"]), [30, 30, 0, 0]);
    assert_eq!(counts(malformed, &["letters", "open"]), [1, 1]);
    assert_eq!(refused["examples"].as_array().unwrap().len(), 3);
    assert_eq!(refused["examples"][0]["type"], "click");
    assert!(list.get("next").is_none(), "{list}");
    assert!(!list.to_string().contains("campaign_id"), "no payloads");

    let dry = json!({"action": "redrive", "filters": {"reason": "store-refused"}, "dry_run": true});
    let promised = world.ask(dry).await;
    assert_eq!(counts(&promised, &["matched", "sent", "parked"]), [30, 30, 0]);
    assert_eq!(world.broker.records(topic::RAW_EVENTS).len(), 31, "a dry run sends nothing");
    assert!(world.marks.all().is_empty(), "and marks nothing");

    world.repair();
    let redrive = json!({"action": "redrive", "filters": {"reason": "store-refused"}, "by": "ada"});
    let done = world.ask(redrive.clone()).await;
    assert_eq!(done["by_reason"], promised["by_reason"]);
    assert_eq!(counts(&done, &["sent", "already"]), [30, 0]);
    world.process().await;
    world.assert_one_effect_each(30);

    let again = world.ask(redrive).await;
    assert_eq!(counts(&again, &["sent", "already"]), [0, 30]);
    let list = world.ask(json!({"action": "list"})).await;
    assert_eq!(counts(&list["reasons"]["store-refused"], &["open", "redriven"]), [0, 30]);

    let trail = world.ask(json!({"action": "audit"})).await;
    let entries = trail["entries"].as_array().unwrap();
    let mut actions: Vec<&str> = entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    actions.sort_unstable();
    assert_eq!(actions, ["audit", "list", "list", "redrive", "redrive", "redrive"]);
    assert_eq!(entries.iter().filter(|entry| entry["by"] == "ada").count(), 2);
    let own = entries.iter().find(|entry| entry["run"] == done["run"]).unwrap();
    assert_eq!((own["state"].as_str(), own["by"].as_str()), (Some("finished"), Some("ada")));
    assert!(own["result"].as_str().unwrap().contains(r#""sent":30"#), "{own}");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_was_too_large_is_sent_with_its_bytes_from_the_archive() {
    let mut world = World::new();
    world.repair();
    world.allow(100_000);
    let event = |id: &str, bytes: usize| NewRecord {
        topic: topic::RAW_EVENTS,
        key: Some(format!("kafka/{id}").into()),
        value: Some(
            json!({"type": "click", "id": id, "user_id": "u", "campaign_id": "c", "note": "n".repeat(bytes)})
                .to_string()
                .into(),
        ),
        headers: vec![Header { name: "none".into(), value: None }],
    };
    let large = event("large", 200_000);
    // Within the limit of `raw-events`, but not with three more headers.
    let vast = event("vast", 999_850);
    world.publish(vec![event("small", 1), large.clone(), vast, event("lost", 200_000)]).await;
    world.process().await;
    assert_eq!((world.letters().len(), world.objects.keys().len()), (3, 3));
    let list = world.ask(json!({"action": "list"})).await;
    assert_eq!(list["reasons"]["too-large"]["open"], 3);
    for key in world.objects.keys() {
        let object = world.objects.get(&key).await.unwrap();
        let record = archive::single::unpack(&object, topic::RAW_EVENTS).unwrap();
        if record.key.as_deref() == Some(b"kafka/lost") {
            world.objects.expire(&key);
        }
    }

    world.allow(1_500_000);
    let answer = world.ask(json!({"action": "redrive"})).await;
    assert_eq!(counts(&answer, &["sent", "refused"]), [1, 2]);
    let copy = world.new_records().remove(0);
    assert_eq!((&copy.key, &copy.value, &copy.headers.0[0]), (&large.key, &large.value, &large.headers[0]));
    world.deliver(&[copy]).await;
    let stored = world.store.inner.events();
    let ids: Vec<&str> = stored.iter().map(|row| row.event.key.id.as_str()).collect();
    assert_eq!(ids, ["small", "large"]);
    world.clock.advance(20 * MINUTE);
    assert_eq!(counts(&world.ask(json!({"action": "redrive"})).await, &["sent", "already", "refused"]), [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn what_a_trigger_gave_up_is_listed_and_delivered_and_a_second_time_changes_nothing() {
    let world = World::new();
    world.repair();
    world.produce(30).await;
    let key = world.give_up("a", &world.new_records());
    world.objects.overwrite("aws/lambda/mapping/raw-events-0/2026/11/20/b", "not JSON");

    let listed = world.ask(json!({"action": "undelivered"})).await;
    assert_eq!(counts(&listed, &["read", "unreadable"]), [2, 1]);
    let [batch] = listed["batches"].as_array().unwrap().as_slice() else { panic!("{listed}") };
    assert_eq!((batch["key"].as_str(), batch["function"].as_str()), (Some(&*key), Some("processor")));
    assert_eq!((&batch["delivered"], &batch["condition"]), (&json!(false), &json!("RetryAttemptsExhausted")));
    let archiver_only = world.ask(json!({"action": "undelivered", "function": "archiver"})).await;
    assert_eq!(archiver_only["batches"], json!([]));

    let names = ["delivered", "already", "failed", "unreadable"];
    let planned = world.ask(json!({"action": "deliver", "dry_run": true})).await;
    assert_eq!(counts(&planned, &names), [1, 0, 0, 1]);
    assert_eq!(world.hosted.calls.lock().unwrap().len(), 0);

    world.hosted.failing.store(true, Ordering::Relaxed);
    let failed = world.ask(json!({"action": "deliver"})).await;
    assert_eq!(counts(&failed, &names), [0, 0, 1, 1]);
    assert_eq!(failed["failures"][0]["key"], json!(key), "{failed}");
    world.hosted.failing.store(false, Ordering::Relaxed);
    assert_eq!(counts(&world.ask(json!({"action": "deliver"})).await, &names), [1, 0, 0, 1]);
    world.assert_one_effect_each(30);
    assert_eq!(counts(&world.ask(json!({"action": "deliver"})).await, &names), [0, 1, 0, 1]);
    // A run may be killed before its note, and then the batch is delivered again.
    world.objects.expire(&format!("delivered/{key}"));
    assert_eq!(counts(&world.ask(json!({"action": "deliver"})).await, &names), [1, 0, 0, 1]);
    world.assert_one_effect_each(30);
    assert_eq!(world.hosted.calls.lock().unwrap().len(), 3, "one call for each attempt");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_fits_in_no_event_gets_its_outcome_and_its_letter() {
    let world = World::new();
    world.repair();
    let value =
        json!({"type": "click", "id": "e", "user_id": "u", "campaign_id": "c", "padding": "x".repeat(5_000_000)});
    let original = Record {
        position: Position::new(topic::RAW_EVENTS, 0, 5),
        timestamp: world.clock.now(),
        key: Some("kafka/e".into()),
        value: Some(value.to_string().into()),
        headers: RecordHeaders::default(),
        undecodable: None,
    };
    world.give_up("a", std::slice::from_ref(&original));

    for (delivered, already) in [(1, 0), (0, 1)] {
        let answer = world.ask(json!({"action": "deliver"})).await;
        assert_eq!(counts(&answer, &["delivered", "already", "failed"]), [delivered, already, 0], "{answer}");
        let ledger = world.store.inner.ledger();
        let [entry] = ledger.as_slice() else { panic!("{ledger:?}") };
        assert_eq!((entry.outcome, entry.digest), (Outcome::DeadLettered, original.digest()));
        assert!(entry.reason.starts_with("too-large"), "{}", entry.reason);
        let [letter] = &world.letters()[..] else { panic!("one letter") };
        let letter = DeadLetter::read(letter.clone()).unwrap();
        let object = world.objects.object(letter.quarantined().unwrap()).unwrap();
        assert_eq!(archive::single::unpack(&object, topic::RAW_EVENTS).unwrap(), original);
    }
}

#[tokio::test(start_paused = true)]
async fn filters_choose_letters() {
    let world = World::with_letters(5).await;
    let matched = async |filters: Value| {
        let answer = world.ask(json!({"action": "redrive", "dry_run": true, "filters": filters})).await;
        answer["matched"].as_u64().unwrap()
    };
    let origin = String::from_utf8(world.letters()[0].headers.get("origin").unwrap().to_vec()).unwrap();
    assert_eq!(matched(json!({})).await, 5);
    assert_eq!(matched(json!({"event_id": "e-3"})).await, 1);
    assert_eq!(matched(json!({"reason": "store-refused"})).await, 5);
    assert_eq!(matched(json!({"reason": "malformed-json"})).await, 0);
    assert_eq!(matched(json!({"type": "click", "tenant": "kafka"})).await, 5);
    assert_eq!(matched(json!({"type": "sensor"})).await, 0);
    assert_eq!(matched(json!({"tenant": "acme"})).await, 0);
    assert_eq!(matched(json!({"origin": origin})).await, 1);
    let (position, _digest) = origin.rsplit_once('/').unwrap();
    assert_eq!(matched(json!({"origin": position})).await, 1, "without the digest");
    let another = format!("{position}/00000000000000000000000000000000");
    assert_eq!(matched(json!({"origin": another})).await, 0);
    assert_eq!(matched(json!({"from": "2026-11-20T18:02:00Z"})).await, 5);
    assert_eq!(matched(json!({"until": "2026-11-20T18:02:00Z"})).await, 0);
    world.produce_malformed(1).await;
    world.process().await;
    for spelling in ["malformed-json", "malformed_json"] {
        assert_eq!(matched(json!({"reason": spelling})).await, 1, "{spelling}");
    }
}

#[tokio::test(start_paused = true)]
async fn three_redrivers_at_once_send_each_letter_once() {
    let world = World::with_letters(200).await;
    world.repair();
    let apps = [world.app(), world.app(), world.app()];
    let redrive = || json!({"action": "redrive", "max_per_sec": 10_000});
    let (a, b, c) = tokio::join!(
        ask(&apps[0], redrive(), MINUTE),
        ask(&apps[1], redrive(), MINUTE),
        ask(&apps[2], redrive(), MINUTE)
    );
    let sent: u64 = [a, b, c].iter().map(|answer| answer.as_ref().unwrap()["sent"].as_u64().unwrap()).sum();
    assert_eq!(sent, 200);
    world.process().await;
    world.assert_one_effect_each(200);
    assert_eq!(world.broker.records(topic::RAW_EVENTS).len(), 400);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_killed_loses_nothing_and_has_no_second_effect() {
    // The run is killed before or after its second chunk reaches Kafka, in both cases before it can mark the letters as
    // done.
    for after in [false, true] {
        let world = World::with_letters(50).await;
        world.repair();
        let stalling = Stalling { inner: world.broker.clone(), calls_left: AtomicUsize::new(1), after };
        let killed = world.app_with(Arc::new(stalling));
        let run = ask(&killed, json!({"action": "redrive", "max_per_sec": 100}), MINUTE);
        tokio::time::timeout(MINUTE, run).await.unwrap_err();

        // The next run skips letters that may still be under way, and answers where and when to continue.
        let second = world.ask(json!({"action": "redrive", "max_per_sec": 100})).await;
        assert_eq!(counts(&second, &["sent", "already", "under_way"]), [30, 10, 10]);
        let (next, at) = (second["next"].clone(), second["next_at"].as_str().unwrap().to_owned());
        let until = Timestamp::parse(&at).unwrap();
        let left = until.since(world.clock.now());
        assert!(
            left > Duration::from_secs(89) && left <= Duration::from_secs(90),
            "{left:?}: the run's minute and the grace period"
        );
        world.clock.advance(left);
        let third = world.ask(json!({"action": "redrive", "from_offsets": next})).await;
        assert_eq!(counts(&third, &["sent", "under_way"]), [10, 0]);
        assert!(third.get("next").is_none(), "{third}");
        let copies = world.broker.records(topic::RAW_EVENTS).len() - 50;
        assert_eq!(copies, if after { 60 } else { 50 }, "only what was under way may be sent twice");
        world.process().await;
        world.assert_one_effect_each(50);

        let entries = world.ask(json!({"action": "audit"})).await;
        let states = entries["entries"].as_array().unwrap().iter();
        let started = states.filter(|entry| entry["state"] == "started" && entry["action"] == "redrive").count();
        assert_eq!(started, 1, "the trail shows the run that was killed");
    }
}

#[tokio::test(start_paused = true)]
async fn copies_that_fail_again_are_one_letter_of_the_next_attempt() {
    let world = World::with_letters(20).await;
    // Kafka has the copies, but their marks are not written: everything is sent again.
    world.marks.finish_faults.fail(3, ErrorClass::Transient);
    let error = ask(&world.app(), json!({"action": "redrive", "max_per_sec": 1000}), MINUTE).await.unwrap_err();
    assert_eq!(error.error_type, "dynamodb-failed");
    world.clock.advance(2 * MINUTE);
    world.ask(json!({"action": "redrive"})).await;
    world.process_singly().await;
    // Twenty original letters, and forty letters of the first attempt: two copies of each.
    assert_eq!(world.letters().len(), 60);
    let dry = world.ask(json!({"action": "redrive", "dry_run": true})).await;
    assert_eq!(counts(&dry, &["sent", "already", "copies"]), [20, 20, 20]);
    world.repair();
    assert_eq!(counts(&world.ask(json!({"action": "redrive"})).await, &["sent", "copies"]), [20, 20]);
    world.process().await;
    world.assert_one_effect_each(20);
}

#[tokio::test(start_paused = true)]
async fn three_failed_redrives_park_a_letter_which_can_be_released() {
    let world = World::with_letters(4).await;
    for _ in 0..3 {
        assert_eq!(counts(&world.ask(json!({"action": "redrive"})).await, &["sent", "parked"]), [4, 0]);
        world.process().await;
    }
    let dry = world.ask(json!({"action": "redrive", "dry_run": true})).await;
    assert_eq!(counts(&dry, &["sent", "parked", "already"]), [0, 4, 12]);
    assert!(world.objects.keys().is_empty());
    // Two concurrent runs, and S3 loses an answer: each letter is parked once.
    world.objects.faults.lose_answer(1, ErrorClass::Transient);
    let (one, two) = (world.app(), world.app());
    let redrive = || json!({"action": "redrive"});
    let (a, b) = tokio::join!(ask(&one, redrive(), MINUTE), ask(&two, redrive(), MINUTE));
    let parked: u64 = [a, b].iter().map(|answer| answer.as_ref().unwrap()["parked"].as_u64().unwrap()).sum();
    assert_eq!(parked, 4);
    let keys = world.objects.keys();
    assert_eq!(keys.len(), 4);
    assert!(keys.iter().all(|key| key.starts_with("parked/topic=raw-events/partition=") && key.contains(".a3.")));
    let raw_before = world.broker.records(topic::RAW_EVENTS).len();
    assert_eq!(counts(&world.ask(redrive()).await, &["sent", "parked", "already"]), [0, 0, 16]);
    assert_eq!(world.broker.records(topic::RAW_EVENTS).len(), raw_before);

    let list = world.ask(json!({"action": "parked", "limit": 3})).await;
    assert_eq!(list["letters"].as_array().unwrap().len(), 3);
    let rest = world.ask(json!({"action": "parked", "from_key": list["next_key"]})).await;
    assert_eq!(rest["letters"].as_array().unwrap().len(), 1);
    assert_eq!((&rest["letters"][0]["released"], &rest["letters"][0]["attempt"]), (&json!(false), &json!(3)));

    world.repair();
    let dry = world.ask(json!({"action": "release", "dry_run": true})).await;
    assert_eq!((counts(&dry, &["sent"]), world.broker.records(topic::RAW_EVENTS).len()), (vec![4], raw_before));
    let first = json!({"action": "release", "filters": {"event_id": rest["letters"][0]["event_id"]}});
    assert_eq!(counts(&world.ask(first).await, &["sent", "already"]), [1, 0]);
    let (a, b) = (world.app(), world.app());
    let release = || json!({"action": "release"});
    let (a, b) = tokio::join!(ask(&a, release(), MINUTE), ask(&b, release(), MINUTE));
    let sent: u64 = [a, b].iter().map(|answer| answer.as_ref().unwrap()["sent"].as_u64().unwrap()).sum();
    assert_eq!(sent, 3);
    world.process().await;
    world.assert_one_effect_each(4);
    assert_eq!(counts(&world.ask(release()).await, &["sent", "already"]), [0, 4]);
    let released = world.ask(json!({"action": "parked"})).await;
    assert!(released["letters"].as_array().unwrap().iter().all(|letter| letter["released"] == true));
    let origin = DeadLetter::read(world.letters()[0].clone()).unwrap().id.origin;
    assert_eq!(world.marks.of_origin(&origin).await.unwrap().len(), 5, "the marks of all its attempts are found");
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_kept_and_a_run_stops_in_time_and_says_where_to_go_on() {
    let world = World::with_letters(100).await;
    world.repair();
    let started = tokio::time::Instant::now();
    let mut next = json!({});
    let mut runs = 0;
    loop {
        // The run has eight seconds for letters at 5 a second.
        let request = json!({"action": "redrive", "max_per_sec": 5, "from_offsets": next});
        let answer = ask(&world.app(), request, Duration::from_secs(10)).await.unwrap();
        assert!(answer["sent"].as_u64().unwrap() <= 41, "{answer}");
        runs += 1;
        match answer.get("next") {
            Some(offsets) => next = offsets.clone(),
            None => break,
        }
        assert!(runs < 10, "{answer}");
    }
    assert_eq!(runs, 3);
    assert!(started.elapsed() >= Duration::from_secs(19), "{:?}", started.elapsed());
    world.process().await;
    world.assert_one_effect_each(100);
    assert_eq!(world.broker.records(topic::RAW_EVENTS).len(), 200, "no letter is sent twice");

    let none = ask(&world.app(), json!({"action": "list"}), Duration::from_secs(1)).await.unwrap();
    assert_eq!(none["read"], 0);
    assert!(none["next"].is_object(), "without time for a step, everything is left");
}

#[tokio::test(start_paused = true)]
async fn what_was_begun_in_time_is_finished_after_the_deadline_for_beginning() {
    let world = World::with_letters(40).await;
    world.repair();
    let slow = Slow { inner: world.broker.clone(), takes: Duration::from_secs(3) };
    // No step is begun after 8 of the 10 seconds, and the third chunk of ten letters takes from the 6th to the 9th
    // second.
    let request = json!({"action": "redrive", "max_per_sec": 100});
    let answer = ask(&world.app_with(Arc::new(slow)), request, Duration::from_secs(10)).await.unwrap();
    assert_eq!(counts(&answer, &["sent"]), [30]);
    assert!(answer["next"].is_object(), "{answer}");
    assert_eq!(counts(&world.ask(json!({"action": "redrive"})).await, &["sent", "already"]), [10, 30]);
    world.process().await;
    world.assert_one_effect_each(40);
}

#[tokio::test(start_paused = true)]
async fn marks_are_looked_up_no_faster_than_their_table_bears() {
    let world = World::new();
    world.produce_malformed(4_500).await;
    world.process().await;
    let started = tokio::time::Instant::now();
    let list = world.ask(json!({"action": "list"})).await;
    assert_eq!(counts(&list, &["matched"]), [4_500]);
    // Marks are looked up for 2,000 letters a second, without a wait after the last batch.
    assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());

    let some = ask(&world.app(), json!({"action": "list"}), Duration::from_secs(3)).await.unwrap();
    let read = counts(&some, &["read"])[0];
    assert!((1..4_500).contains(&read), "{read}");
    let rest = world.ask(json!({"action": "list", "from_offsets": some["next"]})).await;
    assert_eq!(counts(&rest, &["read"]), [4_500 - read]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_waits_for_seconds_only_gets_what_was_done_in_them() {
    let world = World::new();
    world.produce_malformed(4_500).await;
    world.process().await;
    let started = tokio::time::Instant::now();
    let some = world.ask(json!({"action": "list", "within_sec": 1})).await;
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    let read = counts(&some, &["read"])[0];
    assert!((1..4_500).contains(&read), "{read}");
    let rest = world.ask(json!({"action": "list", "from_offsets": some["next"]})).await;
    assert_eq!(counts(&rest, &["read"]), [4_500 - read]);

    let world = World::with_letters(40).await;
    world.repair();
    let answer = world.ask(json!({"action": "redrive", "max_per_sec": 10, "within_sec": 2})).await;
    let sent = counts(&answer, &["sent"])[0];
    assert!((10..40).contains(&sent) && answer["next"].is_object(), "{answer}");
    assert_eq!(counts(&world.ask(json!({"action": "redrive"})).await, &["sent", "already"]), [40 - sent, sent]);
}

#[tokio::test(start_paused = true)]
async fn going_on_leaves_what_failed_again_to_another_redrive() {
    // The cause is not repaired: every letter that is sent becomes a letter again at once.
    let world = World::with_letters(40).await;
    let (mut next, mut until, mut sent) = (json!({}), json!({}), 0);
    loop {
        let request = json!({"action": "redrive", "max_per_sec": 5, "from_offsets": next, "until_offsets": until});
        let answer = ask(&world.app(), request, Duration::from_secs(6)).await.unwrap();
        sent += answer["sent"].as_u64().unwrap();
        world.process().await;
        match answer.get("next") {
            Some(offsets) => (next, until) = (offsets.clone(), answer["until"].clone()),
            None => break,
        }
    }
    assert_eq!(sent, 40);
    assert_eq!(counts(&world.ask(json!({"action": "redrive", "dry_run": true})).await, &["sent", "already"]), [40, 40]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_sent_or_read_stands_in_nobodys_way() {
    let world = World::with_letters(10).await;
    world.repair();
    let stranger =
        NewRecord { topic: topic::DEAD_LETTER_EVENTS, key: Some("kafka/e-0".into()), value: None, headers: Vec::new() };
    world.broker.publish(vec![stranger], MINUTE).await.remove(0).unwrap();
    world.broker.refuse("kafka/e-4", ErrorClass::Permanent);
    world.broker.refuse("kafka/e-5", ErrorClass::Transient);
    let answer = world.ask(json!({"action": "redrive"})).await;
    assert_eq!(counts(&answer, &["read", "unreadable", "sent", "refused"]), [11, 1, 9, 1]);
    assert!(answer.get("next").is_none(), "{answer}");
    world.objects.overwrite("parked/notes.txt", "hands off");
    let parked = world.ask(json!({"action": "parked"})).await;
    assert_eq!(counts(&parked, &["read", "unreadable"]), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_done_without_the_audit_trail_or_a_good_request() {
    let world = World::with_letters(1).await;
    world.audit.faults.fail(3, ErrorClass::Transient);
    let error = ask(&world.app(), json!({"action": "redrive"}), MINUTE).await.unwrap_err();
    assert_eq!(error.error_type, "dynamodb-failed");
    let bad = serde_json::from_str(&sample("redriver", "bad")).unwrap();
    assert_eq!(ask(&world.app(), bad, MINUTE).await.unwrap_err().error_type, "bad-request");
    assert!(world.marks.all().is_empty());

    world.broker.faults.fail(3, ErrorClass::Transient);
    let error = ask(&world.app(), json!({"action": "redrive"}), MINUTE).await.unwrap_err();
    assert_eq!(error.error_type, "kafka-failed");
    let trail = world.ask(json!({"action": "audit"})).await;
    let entries = trail["entries"].as_array().unwrap();
    let redrives: Vec<&Value> = entries.iter().filter(|entry| entry["action"] == "redrive").collect();
    assert_eq!(redrives.len(), 1, "{trail}");
    assert_eq!(redrives[0]["state"], "failed");
    assert!(redrives[0]["result"].as_str().unwrap().contains("sending letters failed"), "{trail}");
}

#[tokio::test(start_paused = true)]
async fn a_dependency_that_keeps_failing_is_left_alone_and_the_run_after_the_probe_does_the_rest() {
    let world = World::with_letters(20).await;
    world.repair();
    let app = world.app();
    let redrive = || json!({"action": "redrive", "max_per_sec": 1000});
    let failures = usize::try_from(FAILURES_TO_OPEN).unwrap();
    world.audit.faults.fail(failures, ErrorClass::Transient);
    for _ in 0..4 {
        assert_eq!(ask(&app, redrive(), MINUTE).await.unwrap_err().error_type, "dynamodb-failed");
    }
    assert_eq!(world.audit.faults.left(), 0, "the first two runs used them up");
    tokio::time::advance(OPEN_FOR).await;
    assert_eq!(counts(&ask(&app, redrive(), MINUTE).await.unwrap(), &["sent"]), [20]);
    world.process().await;
    world.assert_one_effect_each(20);

    world.objects.faults.fail(failures, ErrorClass::Overload);
    for _ in 0..4 {
        assert_eq!(ask(&app, json!({"action": "parked"}), MINUTE).await.unwrap_err().error_type, "s3-failed");
    }
    assert_eq!(
        counts(&ask(&app, redrive(), MINUTE).await.unwrap(), &["already"]),
        [20],
        "a redrive without parking needs no S3"
    );
    tokio::time::advance(OPEN_FOR).await;
    assert_eq!(counts(&ask(&app, json!({"action": "parked"}), MINUTE).await.unwrap(), &["read"]), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_sends_nothing_with_a_second_effect_and_loses_nothing() {
    let world = World::with_letters(6).await;
    world.repair();
    let redrive = || json!({"action": "redrive"});
    // The letters are marked as begun and sent, but not marked as done.
    world.marks.finish_faults.fail(3, ErrorClass::Transient);
    ask(&world.app(), redrive(), MINUTE).await.unwrap_err();
    world.clock.set_back(60 * MINUTE);
    let waiting = world.ask(redrive()).await;
    assert_eq!(counts(&waiting, &["sent", "under_way"]), [0, 6], "the letters count as another run's");
    assert!(waiting["next"].is_object() && waiting["next_at"].is_string());
    world.clock.advance(120 * MINUTE);
    assert_eq!(counts(&world.ask(redrive()).await, &["sent"]), [6]);
    world.clock.set_back(120 * MINUTE);
    assert_eq!(counts(&world.ask(redrive()).await, &["already"]), [6]);
    world.process().await;
    let stored = world.store.inner.events();
    assert_eq!(stored.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn without_time_nothing_is_begun() {
    let world = World::with_letters(1).await;
    let error = ask(&world.app(), json!({"action": "redrive"}), Duration::ZERO).await.unwrap_err();
    assert_eq!(error.error_type, "out-of-time");
    assert!(world.marks.all().is_empty());
    let trail = world.ask(json!({"action": "audit"})).await;
    assert_eq!(trail["entries"].as_array().unwrap().len(), 1, "the audit itself: {trail}");
}
