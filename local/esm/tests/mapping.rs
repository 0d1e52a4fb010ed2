//! Mappings on the in-process broker, with a scripted function.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use esm::{
    Destinations, EsmError, Functions, Invoker, InvokerError, Mapping, MappingConfig, MessageSender, MessageTarget,
    OnFailure, PollerMode, RecordFilters, Reply, RunningMapping, StartingPosition,
};
use kafka::{KafkaClient, KafkaConfig, PublisherOptions, TopicSpec};
use pipeline::Position;
use pipeline::ports::{NewRecord, ObjectStore, RecordPublisher as _};
use serde_json::Value;
use services::kafka::EmbeddedKafka;
use testkit::fakes::objects::FakeObjects;
use tokio::sync::Semaphore;

const TOPIC: &str = "t";
const GROUP: &str = "g";

/// What the function received: partition and offset of each record, in order.
type Delivery = Vec<(i32, i64)>;
type Script = Box<dyn FnMut(&Delivery) -> Result<Reply, InvokerError> + Send>;

/// The calls that a function has at the same time.
#[derive(Default)]
struct Overlap {
    calls: usize,
    most_calls: usize,
    partitions: BTreeSet<i32>,
    /// Partitions that were in two calls at the same time.
    shared: BTreeSet<i32>,
}

impl Overlap {
    fn begin(&mut self, partitions: &BTreeSet<i32>) {
        self.calls += 1;
        self.most_calls = self.most_calls.max(self.calls);
        self.shared.extend(self.partitions.intersection(partitions));
        self.partitions.extend(partitions);
    }

    fn end(&mut self, partitions: &BTreeSet<i32>) {
        self.calls -= 1;
        self.partitions.retain(|partition| !partitions.contains(partition));
    }
}

/// A function that follows a script and remembers what it received.
struct ScriptedFunction {
    script: Mutex<Script>,
    events: Mutex<Vec<Bytes>>,
    overlap: Mutex<Overlap>,
    /// One permit for each call that may end.
    gate: Semaphore,
}

impl ScriptedFunction {
    fn new(script: impl FnMut(&Delivery) -> Result<Reply, InvokerError> + Send + 'static) -> Arc<Self> {
        Self::gated(Semaphore::MAX_PERMITS, script)
    }

    fn gated(calls: usize, script: impl FnMut(&Delivery) -> Result<Reply, InvokerError> + Send + 'static) -> Arc<Self> {
        let (events, overlap, gate) = (Mutex::default(), Mutex::default(), Semaphore::new(calls));
        Arc::new(ScriptedFunction { script: Mutex::new(Box::new(script)), events, overlap, gate })
    }

    fn deliveries(&self) -> Vec<Delivery> {
        self.events.lock().unwrap().iter().map(decode).collect()
    }

    /// Offsets by partition in the order of arrival, including repetitions.
    fn offsets(&self) -> BTreeMap<i32, Vec<i64>> {
        let mut offsets = BTreeMap::<i32, Vec<i64>>::new();
        for (partition, offset) in self.deliveries().into_iter().flatten() {
            offsets.entry(partition).or_default().push(offset);
        }
        offsets
    }

    /// The largest number of calls at the same time; no two of them may have shared a partition.
    fn most_calls(&self) -> usize {
        let overlap = self.overlap.lock().unwrap();
        assert_eq!(overlap.shared, BTreeSet::new(), "partitions in two calls at the same time");
        overlap.most_calls
    }

    /// Waits until this many calls are in flight, and a little longer for one too many.
    async fn holds(&self, calls: usize) {
        eventually("calls in flight", async || self.overlap.lock().unwrap().calls >= calls).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(self.most_calls(), calls);
    }
}

fn decode(event: &Bytes) -> Delivery {
    let delivered = lambda::kafka_trigger::decode(std::str::from_utf8(event).unwrap()).unwrap();
    delivered.into_iter().map(|record| (record.position.partition, record.position.offset)).collect()
}

#[async_trait]
impl Invoker for ScriptedFunction {
    async fn invoke(&self, _function: &str, event: Bytes) -> Result<Reply, InvokerError> {
        self.events.lock().unwrap().push(event.clone());
        let delivery = decode(&event);
        let partitions = delivery.iter().map(|(partition, _)| *partition).collect();
        self.overlap.lock().unwrap().begin(&partitions);
        self.gate.acquire().await.unwrap().forget();
        // So that calls that are made at the same time also work at the same time.
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.overlap.lock().unwrap().end(&partitions);
        (self.script.lock().unwrap())(&delivery)
    }
}

fn reply(status: u16, body: impl Into<Bytes>) -> Result<Reply, InvokerError> {
    Ok(Reply { status, marked_failed: false, body: body.into() })
}

fn done() -> Result<Reply, InvokerError> {
    reply(200, "null")
}

fn function_error() -> Result<Reply, InvokerError> {
    reply(200, r#"{"errorType":"E","errorMessage":"m"}"#)
}

/// The payloads at the destination, by condition, as deliveries.
fn given_up(setup: &Setup) -> Vec<(String, Delivery)> {
    let objects = &setup.buckets.0;
    objects
        .keys()
        .iter()
        .map(|key| {
            assert!(key.starts_with("aws/lambda/") && key.len() < 150, "{key}");
            let document: Value = serde_json::from_slice(&objects.object(key).unwrap()).unwrap();
            let payload = Bytes::from(document["payload"].as_str().unwrap().to_owned());
            let delivery = decode(&payload);
            assert_eq!(document["KafkaBatchInfo"]["batchSize"], delivery.len());
            assert_eq!(document["KafkaBatchInfo"]["payloadSize"], payload.len());
            assert_eq!(document["requestContext"]["functionArn"], "arn:aws:lambda:us-east-1:000000000000:function:f");
            let (partition, offset) = delivery[0];
            let range = &document["KafkaBatchInfo"]["recordsInfo"][format!("{TOPIC}-{partition}")];
            assert_eq!(range["firstRecordOffset"], offset, "{document}");
            let condition = &document["requestContext"]["condition"];
            (condition.as_str().unwrap().to_owned(), delivery)
        })
        .collect()
}

fn failures(items: &[(i32, i64)]) -> Result<Reply, InvokerError> {
    let items: Vec<String> = items
        .iter()
        .map(|(partition, offset)| {
            format!(r#"{{"itemIdentifier":{{"partition":"{TOPIC}-{partition}","offset":{offset}}}}}"#)
        })
        .collect();
    reply(200, format!(r#"{{"batchItemFailures":[{}]}}"#, items.join(",")))
}

/// The buckets of the on-failure destinations: all are the same one.
#[derive(Default)]
struct Buckets(Arc<FakeObjects>);

impl Destinations for Buckets {
    fn bucket(&self, _name: &str) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.0) as Arc<dyn ObjectStore>
    }

    fn messages(&self, target: &MessageTarget) -> Arc<dyn MessageSender> {
        panic!("no test here sends to {}", target.arn)
    }
}

struct Setup {
    kafka: KafkaClient,
    buckets: Arc<Buckets>,
    _broker: EmbeddedKafka,
}

impl Setup {
    async fn with(partitions: i32) -> Self {
        let broker = EmbeddedKafka::start().await.unwrap();
        let kafka = KafkaClient::connect(&KafkaConfig::plaintext(broker.brokers()), "esm-test").await.unwrap();
        kafka.topics().ensure(&[TopicSpec::new(TOPIC, partitions)]).await.unwrap();
        Setup { kafka, buckets: Arc::default(), _broker: broker }
    }

    /// Writes records spread over the partitions; returns how many each partition got.
    async fn write(&self, count: usize, bytes: usize) -> BTreeMap<i32, i64> {
        let publisher = self.kafka.publisher(PublisherOptions::default()).await.unwrap();
        let value = Bytes::from(vec![b'x'; bytes]);
        let records = (0..count)
            .map(|number| NewRecord {
                topic: TOPIC,
                key: Some(format!("key-{number}").into()),
                value: Some(value.clone()),
                headers: vec![],
            })
            .collect();
        let mut written = BTreeMap::new();
        for position in publisher.publish(records, Duration::from_secs(30)).await {
            *written.entry(position.unwrap().partition).or_insert(0) += 1;
        }
        written
    }

    /// Writes these values to one partition.
    async fn write_values(&self, values: impl IntoIterator<Item = String>) {
        let publisher = self.kafka.publisher(PublisherOptions::default()).await.unwrap();
        let record = |value: String| NewRecord {
            topic: TOPIC,
            key: Some("key".into()),
            value: Some(value.into()),
            headers: vec![],
        };
        let records = values.into_iter().map(record).collect();
        for position in publisher.publish(records, Duration::from_secs(30)).await {
            position.unwrap();
        }
    }

    /// Three records, of which the second fits in no event.
    async fn write_with_a_large_one(&self) {
        let large = PublisherOptions { max_record_bytes: 16 * 1024 * 1024, ..PublisherOptions::default() };
        let publisher = self.kafka.publisher(large).await.unwrap();
        let record =
            |bytes| NewRecord { topic: TOPIC, key: None, value: Some(vec![b'x'; bytes].into()), headers: vec![] };
        let records = vec![record(10), record(5_000_000), record(10)];
        for position in publisher.publish(records, Duration::from_secs(30)).await {
            position.unwrap();
        }
    }

    async fn start(&self, config: MappingConfig, function: &Arc<ScriptedFunction>) -> RunningMapping {
        Mapping::start(config, &self.kafka, &functions(function), &*self.buckets).await.unwrap()
    }

    async fn committed(&self) -> Vec<Position> {
        self.kafka.topics().committed(GROUP).await.unwrap()
    }

    async fn committed_by_partition(&self) -> BTreeMap<i32, i64> {
        self.committed().await.into_iter().map(|position| (position.partition, position.offset)).collect()
    }
}

fn functions(function: &Arc<ScriptedFunction>) -> Functions {
    Functions::new(Arc::clone(function) as Arc<dyn Invoker>)
}

fn config() -> MappingConfig {
    MappingConfig { window: Duration::from_millis(20), ..MappingConfig::new("f", TOPIC, GROUP) }
}

fn bucket() -> Option<OnFailure> {
    Some(OnFailure::Bucket("given-up".into()))
}

fn partial() -> MappingConfig {
    MappingConfig { mode: PollerMode::Provisioned, partial_answers: true, ..config() }
}

async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

async fn caught_up(mapping: &RunningMapping) {
    eventually("no lag", async || mapping.lag().await.unwrap() == 0).await;
}

fn every_offset_once(written: &BTreeMap<i32, i64>) -> BTreeMap<i32, Vec<i64>> {
    written.iter().map(|(partition, count)| (*partition, (0..*count).collect())).collect()
}

#[tokio::test]
async fn delivers_everything_once_and_in_order_and_commits_it() {
    let setup = Setup::with(3).await;
    let written = setup.write(1000, 50).await;
    let function = ScriptedFunction::new(|_| done());
    // One poller: when a second one joins, the records in flight are delivered again.
    let mapping = setup.start(config(), &function).await;
    assert!(mapping.lag().await.unwrap() > 0);
    caught_up(&mapping).await;
    assert_eq!(function.offsets(), every_offset_once(&written));
    assert!(function.deliveries().iter().all(|delivery| delivery.len() <= 100));
    assert!(
        function.deliveries().iter().any(|delivery| delivery.iter().any(|(partition, _)| *partition != delivery[0].0))
    );
    let status = mapping.status();
    assert_eq!((status.records_delivered, status.failed_invocations, status.records_dropped), (1000, 0, 0));
    mapping.stop().await;
    assert_eq!(setup.committed_by_partition().await, written);
}

#[tokio::test]
async fn a_failed_batch_is_sent_again_as_it_was_until_it_succeeds() {
    let setup = Setup::with(2).await;
    setup.write(30, 10).await;
    let mut call = 0;
    let function = ScriptedFunction::new(move |_| {
        call += 1;
        match call {
            1 => function_error(),
            2 => reply(429, r#"{"Reason":"ConcurrentInvocationLimitExceeded"}"#),
            3 => reply(500, r#"{"Message":"x"}"#),
            4 => Err(InvokerError { function: "f".into(), source: "refused".into() }),
            _ => done(),
        }
    });
    let window = Duration::from_secs(1);
    let mapping = setup.start(MappingConfig { batch_size: 30, window, ..config() }, &function).await;
    eventually("the third call", async || function.deliveries().len() >= 3).await;
    assert_eq!(setup.committed().await, [], "nothing is committed while the batch fails");
    caught_up(&mapping).await;
    let events = function.events.lock().unwrap().clone();
    assert_eq!(events.len(), 5);
    assert!(events.iter().all(|event| *event == events[0]), "the same event each time");
    let status = mapping.status();
    assert_eq!((status.invocations, status.failed_invocations, status.throttles), (5, 4, 1));
}

#[tokio::test]
async fn a_partial_answer_commits_up_to_the_lowest_failure_and_sends_the_rest_again() {
    let setup = Setup::with(2).await;
    let written = setup.write(60, 10).await;
    let mut refusals = 3;
    let function = ScriptedFunction::new(move |delivery| {
        let bad: Vec<(i32, i64)> =
            delivery.iter().copied().filter(|record| *record == (0, 7) || *record == (0, 9)).collect();
        if !bad.is_empty() && refusals > 0 {
            refusals -= 1;
            return failures(&bad);
        }
        done()
    });
    let mapping = setup.start(partial(), &function).await;
    eventually("the second refusal", async || {
        function.deliveries().iter().filter(|delivery| delivery.contains(&(0, 7))).count() == 2
    })
    .await;
    let committed = setup.committed().await;
    assert!(committed.contains(&Position::new(TOPIC, 0, 7)), "{committed:?}");
    eventually("the other partition goes on", async || {
        setup.committed().await.contains(&Position::new(TOPIC, 1, written[&1]))
    })
    .await;
    caught_up(&mapping).await;
    let offsets = function.offsets();
    assert_eq!(offsets[&1], (0..written[&1]).collect::<Vec<_>>(), "the other partition is sent once");
    let resent = offsets[&0].iter().filter(|offset| **offset == 7).count();
    assert_eq!((resent, offsets[&0].iter().filter(|offset| **offset == 6).count()), (4, 1));
    // Every time from the failed record on, without a gap.
    let sends: Vec<&[i64]> = offsets[&0].chunk_by(|one, next| one + 1 == *next).collect();
    assert!(sends[1..].iter().all(|send| send[0] == 7), "{sends:?}");
    assert_eq!(sends.last().unwrap().last(), Some(&(written[&0] - 1)));
}

#[tokio::test]
async fn an_item_that_was_not_sent_makes_the_whole_batch_fail() {
    let setup = Setup::with(1).await;
    setup.write(5, 10).await;
    let mut first = true;
    let function =
        ScriptedFunction::new(move |_| if std::mem::take(&mut first) { failures(&[(0, 2), (0, 99)]) } else { done() });
    let mapping = setup.start(MappingConfig { batch_size: 5, ..partial() }, &function).await;
    caught_up(&mapping).await;
    assert_eq!(function.offsets()[&0], [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn batches_are_split_at_six_megabytes() {
    let setup = Setup::with(2).await;
    let written = setup.write(20, 700_000).await;
    let function = ScriptedFunction::new(|_| done());
    let mapping = setup.start(MappingConfig { window: Duration::from_secs(2), ..config() }, &function).await;
    caught_up(&mapping).await;
    let sizes: Vec<usize> = function.events.lock().unwrap().iter().map(Bytes::len).collect();
    assert!(sizes.iter().all(|size| *size <= 6 * 1024 * 1024), "{sizes:?}");
    assert!(sizes[0] > 5 * 1024 * 1024, "filled before the window ends: {sizes:?}");
    assert_eq!(function.offsets(), every_offset_once(&written));
}

#[tokio::test]
async fn a_record_above_six_megabytes_goes_to_the_destination_and_waits_until_it_takes_it() {
    let setup = Setup::with(1).await;
    setup.write_with_a_large_one().await;
    setup.buckets.0.refuse("aws/lambda");
    let function = ScriptedFunction::new(|_| done());
    let with_destination = MappingConfig { on_failure: bucket(), ..config() };
    let mapping = setup.start(with_destination, &function).await;
    eventually("the destination is asked", async || setup.buckets.0.puts() > 1).await;
    assert!(setup.committed().await.iter().all(|at| at.offset < 2), "nothing is committed past it");
    setup.buckets.0.accept_all();
    caught_up(&mapping).await;
    assert_eq!(given_up(&setup), [("MaximumPayloadSizeExceeded".to_owned(), vec![(0, 1)])]);
    assert_eq!(function.offsets()[&0], [0, 2]);
    let status = mapping.status();
    assert_eq!((status.records_at_destination, status.records_dropped, status.records_delivered), (1, 0, 2));
}

#[tokio::test]
async fn what_is_at_the_destination_is_not_written_again_while_the_rest_of_its_batch_fails() {
    let setup = Setup::with(1).await;
    setup.write_with_a_large_one().await;
    let mut failures_left = 3;
    let function = ScriptedFunction::new(move |_| {
        if failures_left == 0 {
            return done();
        }
        failures_left -= 1;
        function_error()
    });
    // A window in which all three come into one batch.
    let window = Duration::from_secs(1);
    let mapping = setup.start(MappingConfig { window, on_failure: bucket(), ..config() }, &function).await;
    caught_up(&mapping).await;
    assert_eq!((function.deliveries().len(), setup.buckets.0.puts()), (4, 1));
    assert_eq!(mapping.status().records_at_destination, 1);
}

#[tokio::test]
async fn a_batch_that_failed_as_often_as_it_may_is_given_up_as_it_was() {
    let setup = Setup::with(1).await;
    setup.write(10, 10).await;
    let mut calls = 0;
    let function = ScriptedFunction::new(move |delivery| {
        calls += 1;
        match (delivery.contains(&(0, 3)), calls) {
            // Not counted: the function did not run.
            (true, 1) => reply(429, "{}"),
            (true, 2) => Err(InvokerError { function: "f".into(), source: "refused".into() }),
            (true, _) => function_error(),
            (false, _) => done(),
        }
    });
    let twice = MappingConfig {
        batch_size: 5,
        mode: PollerMode::Provisioned,
        retries: Some(1),
        on_failure: bucket(),
        ..config()
    };
    let mapping = setup.start(twice, &function).await;
    caught_up(&mapping).await;
    let first: Delivery = (0..5).map(|offset| (0, offset)).collect();
    assert_eq!(given_up(&setup), [("RetryAttemptsExhausted".to_owned(), first.clone())]);
    assert_eq!(function.deliveries().iter().filter(|delivery| **delivery == first).count(), 4);
    let status = mapping.status();
    assert_eq!((status.records_at_destination, status.records_delivered), (5, 5));
}

#[tokio::test]
async fn with_partial_answers_only_the_record_that_fails_is_given_up() {
    let setup = Setup::with(1).await;
    setup.write(10, 10).await;
    let function =
        ScriptedFunction::new(|delivery| if delivery.contains(&(0, 3)) { failures(&[(0, 3)]) } else { done() });
    let once = MappingConfig { batch_size: 5, retries: Some(1), on_failure: bucket(), ..partial() };
    let mapping = setup.start(once, &function).await;
    caught_up(&mapping).await;
    assert_eq!(given_up(&setup), [("RetryAttemptsExhausted".to_owned(), vec![(0, 3)])]);
    let calls_with = |offset| function.offsets()[&0].iter().filter(|sent| **sent == offset).count();
    assert_eq!((calls_with(2), calls_with(3), calls_with(4), calls_with(9)), (1, 2, 3, 1));
}

#[tokio::test]
async fn what_the_filters_leave_out_is_committed_and_not_sent() {
    let setup = Setup::with(1).await;
    setup.write_values((0..50).map(|n| format!(r#"{{"n":{}}}"#, n % 10))).await;
    let function = ScriptedFunction::new(|_| done());
    let filters = RecordFilters::parse([r#"{"value":{"n":[{"numeric":[">=",3,"<",5]}]}}"#]).unwrap();
    let mapping = setup.start(MappingConfig { batch_size: 4, filters, ..config() }, &function).await;
    caught_up(&mapping).await;
    assert_eq!(function.offsets()[&0], [3, 4, 13, 14, 23, 24, 33, 34, 43, 44]);
    let status = mapping.status();
    assert_eq!((status.records_delivered, status.records_filtered, status.records_dropped), (10, 40, 0));
    mapping.stop().await;
    assert_eq!(setup.committed_by_partition().await[&0], 50);
}

#[tokio::test]
async fn a_function_is_not_invoked_for_batches_of_which_the_filters_leave_nothing() {
    let setup = Setup::with(1).await;
    setup.write_values((0..20).map(|n| format!("text {n}"))).await;
    let function = ScriptedFunction::new(|_| done());
    let filters = RecordFilters::parse([r#"{"value":["other"]}"#]).unwrap();
    let mapping = setup.start(MappingConfig { batch_size: 5, filters, ..config() }, &function).await;
    caught_up(&mapping).await;
    assert_eq!((mapping.status().invocations, mapping.status().records_filtered), (0, 20));
    setup.write_values(["other".to_owned()]).await;
    caught_up(&mapping).await;
    assert_eq!(function.offsets()[&0], [20]);
}

#[tokio::test]
async fn without_a_destination_what_is_given_up_is_counted_as_dropped() {
    let setup = Setup::with(1).await;
    setup.write(4, 10).await;
    let function = ScriptedFunction::new(|_| function_error());
    let old = MappingConfig { mode: PollerMode::Provisioned, record_age: Some(Duration::ZERO), ..config() };
    let mapping = setup.start(old, &function).await;
    caught_up(&mapping).await;
    let status = mapping.status();
    assert_eq!((status.records_dropped, status.records_at_destination, status.records_delivered), (4, 0, 0));
    assert_eq!(status.invocations, 1, "every record is older than no time at all");
}

#[tokio::test]
async fn a_group_that_starts_at_the_end_misses_nothing_while_it_is_away() {
    let setup = Setup::with(2).await;
    let before = setup.write(10, 10).await;
    let function = ScriptedFunction::new(|_| done());
    let latest = MappingConfig { starting_position: StartingPosition::Latest, ..config() };
    let mapping = setup.start(latest.clone(), &function).await;
    eventually("its start is committed", async || setup.committed_by_partition().await == before).await;
    mapping.stop().await;
    setup.write(6, 10).await;
    let mapping = setup.start(latest, &function).await;
    caught_up(&mapping).await;
    assert_eq!(function.deliveries().into_iter().flatten().count(), 6);
}

#[tokio::test]
async fn reads_ahead_while_the_function_works() {
    let setup = Setup::with(1).await;
    setup.write(20, 10).await;
    let function = ScriptedFunction::gated(0, |_| done());
    let mapping = setup.start(MappingConfig { batch_size: 10, ..config() }, &function).await;
    eventually("the first call", async || function.deliveries().len() == 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(function.deliveries().len(), 1, "one invocation at a time for each partition");
    function.gate.add_permits(2);
    caught_up(&mapping).await;
    assert_eq!(function.offsets()[&0], (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn as_many_batches_are_in_flight_as_there_are_partitions_and_none_shares_one() {
    let setup = Setup::with(4).await;
    let written = setup.write(400, 10).await;
    let function = ScriptedFunction::gated(0, |_| done());
    let mapping = setup.start(MappingConfig { batch_size: 5, ..config() }, &function).await;
    function.holds(4).await;
    function.gate.add_permits(1000);
    caught_up(&mapping).await;
    assert_eq!(function.most_calls(), 4);
    assert_eq!(function.offsets(), every_offset_once(&written));
    mapping.stop().await;
    assert_eq!(setup.committed_by_partition().await, written);
}

#[tokio::test]
async fn a_mapping_may_limit_its_invocations() {
    let setup = Setup::with(4).await;
    let written = setup.write(400, 10).await;
    let function = ScriptedFunction::gated(0, |_| done());
    let two = MappingConfig { batch_size: 5, pollers: 2, concurrency: NonZeroUsize::new(2), ..config() };
    let mapping = setup.start(two, &function).await;
    function.holds(2).await;
    function.gate.add_permits(1000);
    caught_up(&mapping).await;
    assert_eq!(function.most_calls(), 2);
    let delivered = function.offsets().into_iter().map(|(partition, offsets)| {
        // The second poller takes over partitions of the first, so some records may come twice.
        let distinct: BTreeSet<i64> = offsets.into_iter().collect();
        (partition, distinct.into_iter().collect())
    });
    assert_eq!(delivered.collect::<BTreeMap<i32, Vec<i64>>>(), every_offset_once(&written));
}

#[tokio::test]
async fn a_function_that_takes_one_call_gets_one_from_all_mappings() {
    let setup = Setup::with(3).await;
    setup.write(120, 10).await;
    let function = ScriptedFunction::gated(0, |_| done());
    let functions = functions(&function).with_concurrency(NonZeroUsize::MIN);
    let small = MappingConfig { batch_size: 5, ..config() };
    let one = Mapping::start(small.clone(), &setup.kafka, &functions, &*setup.buckets).await.unwrap();
    let other = MappingConfig { group: "other".into(), ..small };
    let two = Mapping::start(other, &setup.kafka, &functions, &*setup.buckets).await.unwrap();
    function.holds(1).await;
    function.gate.add_permits(10);
    eventually("ten calls", async || function.deliveries().len() > 10).await;
    let (first, second) = (one.status().invocations, two.status().invocations);
    assert!(first.abs_diff(second) <= 2, "the mappings take turns: {first} and {second}");
    function.gate.add_permits(1000);
    caught_up(&one).await;
    caught_up(&two).await;
    assert_eq!(function.most_calls(), 1);
}

#[tokio::test]
async fn a_batch_grows_while_it_waits_for_its_turn() {
    let setup = Setup::with(2).await;
    let busy = *setup.write(1, 10).await.keys().next().unwrap();
    let function = ScriptedFunction::gated(0, |_| done());
    let functions = functions(&function).with_concurrency(NonZeroUsize::MIN);
    let mapping = Mapping::start(config(), &setup.kafka, &functions, &*setup.buckets).await.unwrap();
    function.holds(1).await;
    let mut waiting = 0;
    for _ in 0..3 {
        waiting += setup.write(10, 10).await[&(1 - busy)];
        // Longer than the window.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    function.gate.add_permits(1000);
    caught_up(&mapping).await;
    let next = &function.deliveries()[1];
    assert_eq!(next.iter().filter(|(partition, _)| *partition != busy).count(), usize::try_from(waiting).unwrap());
}

#[tokio::test]
async fn a_partition_that_fails_does_not_hold_the_others() {
    let setup = Setup::with(3).await;
    let mut written = setup.write(1, 10).await;
    let bad = *written.keys().next().unwrap();
    let healed = Arc::new(AtomicBool::new(false));
    let function = ScriptedFunction::new({
        let healed = Arc::clone(&healed);
        move |delivery| {
            let fails = !healed.load(Ordering::Relaxed) && delivery.iter().any(|(partition, _)| *partition == bad);
            if fails { function_error() } else { done() }
        }
    });
    let mapping = setup.start(MappingConfig { batch_size: 5, ..config() }, &function).await;
    eventually("a failure", async || mapping.status().failed_invocations > 0).await;
    // Many more than one batch of the bad partition, so that it is paused.
    for (partition, count) in setup.write(200, 10).await {
        *written.entry(partition).or_insert(0) += count;
    }
    let others: BTreeMap<i32, i64> =
        written.iter().map(|(of, count)| (*of, *count)).filter(|(of, _)| *of != bad).collect();
    eventually("the others are done", async || setup.committed_by_partition().await == others).await;
    let failures = mapping.status().failed_invocations;
    eventually("more failures", async || mapping.status().failed_invocations > failures).await;
    assert!(function.offsets()[&bad].iter().all(|offset| *offset == 0), "the same batch each time");
    healed.store(true, Ordering::Relaxed);
    caught_up(&mapping).await;
    function.most_calls();
    assert_eq!(setup.committed_by_partition().await, written);
    let mut offsets = function.offsets();
    offsets.get_mut(&bad).unwrap().dedup();
    assert_eq!(offsets, every_offset_once(&written));
}

#[tokio::test]
async fn whatever_fails_no_commit_skips_a_record() {
    let setup = Setup::with(4).await;
    let written = setup.write(1000, 10).await;
    let succeeded = Arc::new(Mutex::new(BTreeSet::<(i32, i64)>::new()));
    let mut call = 0;
    let function = ScriptedFunction::new({
        let succeeded = Arc::clone(&succeeded);
        move |delivery| {
            call += 1;
            let bad = delivery[call % delivery.len()];
            let is_done = |record: &&(i32, i64)| record.0 != bad.0 || record.1 < bad.1;
            match call % 7 {
                1 => function_error(),
                3 => reply(429, "{}"),
                5 => {
                    succeeded.lock().unwrap().extend(delivery.iter().filter(is_done));
                    failures(&[bad])
                }
                _ => {
                    succeeded.lock().unwrap().extend(delivery);
                    done()
                }
            }
        }
    });
    let mapping = setup.start(MappingConfig { batch_size: 10, window: Duration::ZERO, ..partial() }, &function).await;
    eventually("every commit", async || {
        let committed = setup.committed_by_partition().await;
        let succeeded = succeeded.lock().unwrap();
        for (partition, next) in &committed {
            let skipped: Vec<i64> = (0..*next).filter(|offset| !succeeded.contains(&(*partition, *offset))).collect();
            assert!(skipped.is_empty(), "partition {partition} is committed up to {next} without {skipped:?}");
        }
        committed == written
    })
    .await;
    assert!(function.most_calls() > 1);
    mapping.stop().await;
}

#[tokio::test]
async fn a_group_that_is_rebalanced_under_load_loses_nothing() {
    let setup = Setup::with(4).await;
    let mut written = setup.write(2000, 20).await;
    let function = ScriptedFunction::new(|_| done());
    let small = MappingConfig { batch_size: 20, window: Duration::ZERO, ..config() };
    let one = setup.start(small.clone(), &function).await;
    eventually("the first hundred", async || one.status().records_delivered > 100).await;
    let two = setup.start(MappingConfig { pollers: 2, ..small }, &function).await;
    // Members notice a rebalance with their next heartbeat, so keep records coming until both have work.
    eventually("the second mapping works", async || {
        for (partition, count) in setup.write(100, 20).await {
            *written.entry(partition).or_insert(0) += count;
        }
        two.status().records_delivered > 0
    })
    .await;
    one.stop().await;
    caught_up(&two).await;
    for (partition, count) in written {
        let mut offsets = function.offsets().remove(&partition).unwrap();
        offsets.sort_unstable();
        offsets.dedup();
        assert_eq!(offsets, (0..count).collect::<Vec<_>>(), "partition {partition}");
    }
    two.stop().await;
}

#[tokio::test]
async fn stopping_waits_for_the_call_in_flight_and_commits_it() {
    let setup = Setup::with(1).await;
    setup.write(30, 10).await;
    let function = ScriptedFunction::gated(0, |_| done());
    let ten = MappingConfig { batch_size: 10, ..config() };
    let mapping = setup.start(ten.clone(), &function).await;
    eventually("the first call", async || function.deliveries().len() == 1).await;
    let stopping = tokio::spawn(mapping.stop());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!stopping.is_finished());
    function.gate.add_permits(1);
    stopping.await.unwrap();
    assert_eq!(setup.committed().await, [Position::new(TOPIC, 0, 10)]);
    assert_eq!(function.deliveries().len(), 1, "no call after the stop");

    let next = ScriptedFunction::new(|_| done());
    let mapping = setup.start(ten, &next).await;
    caught_up(&mapping).await;
    assert_eq!(next.offsets()[&0], (10..30).collect::<Vec<_>>(), "continues where the first one stopped");
}

#[tokio::test]
async fn stopping_waits_for_every_call_in_flight_and_starts_none() {
    let setup = Setup::with(4).await;
    setup.write(400, 10).await;
    let function = ScriptedFunction::gated(0, |_| done());
    let three = MappingConfig { batch_size: 5, concurrency: NonZeroUsize::new(3), ..config() };
    let mapping = setup.start(three, &function).await;
    function.holds(3).await;
    let stopping = tokio::spawn(mapping.stop());
    tokio::time::sleep(Duration::from_millis(100)).await;
    for _ in 0..3 {
        assert!(!stopping.is_finished());
        function.gate.add_permits(1);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    function.gate.add_permits(1);
    stopping.await.unwrap();
    assert_eq!(function.deliveries().len(), 3, "a batch that waits for its turn is not sent any more");
    let delivered: BTreeMap<i32, i64> =
        function.deliveries().into_iter().flatten().map(|(partition, offset)| (partition, offset + 1)).collect();
    let mut committed = setup.committed_by_partition().await;
    // Where a partition begins is committed too.
    committed.retain(|_, offset| *offset > 0);
    assert_eq!(committed, delivered);
}

#[tokio::test]
async fn stopping_does_not_wait_for_a_batch_that_keeps_failing() {
    let setup = Setup::with(1).await;
    setup.write(3, 10).await;
    let function = ScriptedFunction::new(|_| function_error());
    let mapping = setup.start(config(), &function).await;
    eventually("some attempts", async || mapping.status().failed_invocations >= 4).await;
    tokio::time::timeout(Duration::from_secs(5), mapping.stop()).await.unwrap();
    assert_eq!(setup.committed().await, []);
}

#[tokio::test]
async fn latest_skips_what_was_there_unless_the_group_has_committed() {
    let setup = Setup::with(1).await;
    setup.write(5, 10).await;
    let latest = MappingConfig { starting_position: StartingPosition::Latest, ..config() };
    let function = ScriptedFunction::new(|_| done());
    let mapping = setup.start(latest.clone(), &function).await;
    // Records written before the group has looked are not "latest", so keep writing until one arrives.
    eventually("a new record", async || {
        setup.write(1, 10).await;
        !function.deliveries().is_empty()
    })
    .await;
    caught_up(&mapping).await;
    mapping.stop().await;
    let seen = function.offsets().remove(&0).unwrap();
    assert!(seen[0] >= 5, "{seen:?}");
    setup.write(2, 10).await;
    let mapping = setup.start(latest, &function).await;
    caught_up(&mapping).await;
    let last = *seen.last().unwrap();
    let all = function.offsets().remove(&0).unwrap();
    assert_eq!(all[seen.len()..], [last + 1, last + 2], "the commit overrides the starting position");
}

#[tokio::test]
async fn a_bad_configuration_is_an_error() {
    let setup = Setup::with(1).await;
    let functions = functions(&ScriptedFunction::new(|_| done()));
    let bad = MappingConfig { batch_size: 0, ..config() };
    let error = Mapping::start(bad, &setup.kafka, &functions, &*setup.buckets).await.unwrap_err();
    assert!(matches!(error, EsmError::Config { .. }), "{error}");
}
