//! Batches through the archiver: samples, failures, and redelivery in different cuts.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use archive::{ArchiveReader, Filter, S3Objects, Status, quarantine};
use archiver::App;
use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use base64_simd::STANDARD;
use bytes::Bytes;
use event::Timestamp;
use lambda::batch_response::BatchResponse;
use lambda::guard::guard;
use lambda::invocation::{Invocation, InvocationError};
use lambda::kafka_trigger::{BatchAnswer, decode, objects_event};
use pipeline::breaker::{FAILURES_TO_OPEN, OPEN_FOR};
use pipeline::ports::{ObjectInfo, ObjectStore, PutResult};
use pipeline::{
    Dependency, DependencyError, ErrorClass, Header, Outcome, Position, Record, RecordHeaders, header, topic,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{FileFailurePersistence, TestRunner};
use serde_json::json;
use serde_json::value::RawValue;
use services::s3::{ACCESS_KEY_ID, EmbeddedS3, SECRET_ACCESS_KEY};
use testkit::fakes::objects::FakeObjects;
use testkit::samples::sample;

/// The topic of the samples: not a real one, so that a sample never meets the archive of real records.
const SAMPLE_TOPIC: &str = "sample-events";
const TURN_OF_THE_HOUR: i64 = 1_763_661_600_000;

fn app(objects: &Arc<FakeObjects>, batch_response: BatchResponse) -> App {
    app_on(Arc::clone(objects) as Arc<dyn ObjectStore>, batch_response)
}

fn app_on(objects: Arc<dyn ObjectStore>, batch_response: BatchResponse) -> App {
    App { objects, s3: guard(Dependency::S3, OPEN_FOR), batch_response }
}

async fn invoke(app: &App, event: &str) -> Result<BatchAnswer, InvocationError> {
    let invocation = Invocation { request_id: "test".into(), deadline: Instant::now() + Duration::from_secs(30) };
    handle(event, &invocation, app).await
}

async fn handle(event: &str, invocation: &Invocation, app: &App) -> Result<BatchAnswer, InvocationError> {
    let event = RawValue::from_string(event.to_owned()).unwrap();
    let answer = archiver::handle(&event, invocation, app).await?;
    Ok(serde_json::from_str(answer.get()).unwrap())
}

async fn read(objects: Arc<dyn ObjectStore>, filter: &Filter) -> Vec<Record> {
    let mut records = ArchiveReader::new(objects).records(filter).await.unwrap();
    let mut read = Vec::new();
    while let Some(record) = records.next().await.unwrap() {
        read.push(record);
    }
    assert_eq!(records.tally().reused_offsets, 0);
    read
}

fn records_of(event: &str) -> Vec<Record> {
    // The archive keeps the text that could not be decoded, but not the fact that it could not be decoded.
    decode(event).unwrap().into_iter().map(|record| Record { undecodable: None, ..record }).collect()
}

/// The event with which Lambda delivers these records.
fn event(records: &[Record]) -> String {
    let base64 = |bytes: &Option<Bytes>| bytes.as_ref().map(|bytes| STANDARD.encode_to_string(bytes));
    let mut partitions: BTreeMap<String, Vec<serde_json::Value>> = BTreeMap::new();
    for record in records {
        let Position { topic, partition, offset, .. } = &record.position;
        let headers: Vec<_> =
            record.headers.0.iter().map(|header| json!({&*header.name: header.value.as_deref()})).collect();
        partitions.entry(format!("{topic}-{partition}")).or_default().push(json!({
            "topic": **topic, "partition": partition, "offset": offset, "timestamp": record.timestamp.as_millis(),
            "key": base64(&record.key), "value": base64(&record.value), "headers": headers,
        }));
    }
    json!({"eventSource": "aws:kafka", "records": partitions}).to_string()
}

#[tokio::test]
async fn a_batch_becomes_one_object_per_partition_and_hour() {
    let objects = Arc::new(FakeObjects::default());
    let event = sample("archiver", "valid-batch");
    assert_eq!(invoke(&app(&objects, BatchResponse::Whole), &event).await.unwrap(), BatchAnswer::done());
    assert_eq!(
        objects.keys(),
        [
            "raw/topic=sample-events/dt=2025-11-20/hour=17/partition=0/00000000000000000041-00000000000000000042.ndjson.zst",
            "raw/topic=sample-events/dt=2025-11-20/hour=17/partition=2/00000000000000000007-00000000000000000007.ndjson.zst",
            "raw/topic=sample-events/dt=2025-11-20/hour=18/partition=0/00000000000000000043-00000000000000000043.ndjson.zst",
        ]
    );
    assert_eq!(read(objects, &Filter::topic(SAMPLE_TOPIC)).await, records_of(&event));
}

#[tokio::test]
async fn outcomes_are_sorted_by_status() {
    let objects = Arc::new(FakeObjects::default());
    let event = sample("archiver", "outcomes-batch");
    invoke(&app(&objects, BatchResponse::Whole), &event).await.unwrap();
    let offsets = async |filter: Filter| {
        let records = read(Arc::clone(&objects) as Arc<dyn ObjectStore>, &filter).await;
        records.iter().map(|record| record.position.offset).collect::<Vec<_>>()
    };
    assert_eq!(offsets(Filter::status(Status::Known(Outcome::Valid))).await, [10, 12]);
    assert_eq!(offsets(Filter::status(Status::Known(Outcome::Duplicate))).await, [11]);
    assert_eq!(offsets(Filter::status(Status::Unknown)).await, [13]);
    assert_eq!(offsets(Filter::topic(topic::PROCESSED_EVENTS)).await, [10, 11, 12, 13]);
}

#[tokio::test]
async fn a_record_in_an_object_is_archived_as_one_in_an_event() {
    let objects = Arc::new(FakeObjects::default());
    let app = app(&objects, BatchResponse::Whole);
    let records = records_of(&sample("archiver", "valid-batch"));
    let mut keys = Vec::new();
    for record in &records {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        keys.push(quarantine::keep(&*objects, &app.s3, record, deadline).await.unwrap());
    }
    let event = |keys: &[String]| String::from_utf8(objects_event(keys).unwrap()).unwrap();
    assert_eq!(invoke(&app, &event(&keys)).await.unwrap(), BatchAnswer::done());
    assert_eq!(read(objects.clone(), &Filter::topic(SAMPLE_TOPIC)).await, records);

    let other = objects.object(&keys[1]).unwrap();
    objects.overwrite(&keys[0], other);
    for bad in [keys[0].clone(), keys[0].replace("quarantine", "parked"), keys[0].replace("partition=0", "partition=9")]
    {
        let error = invoke(&app, &event(std::slice::from_ref(&bad))).await.unwrap_err();
        assert_eq!(error.error_type, "quarantined-object", "{bad}");
    }
}

#[tokio::test]
async fn nothing_is_too_odd_to_archive() {
    let objects = Arc::new(FakeObjects::default());
    let event = sample("archiver", "tombstone-and-binary");
    invoke(&app(&objects, BatchResponse::Whole), &event).await.unwrap();
    let read = read(objects, &Filter::topic(SAMPLE_TOPIC)).await;
    assert_eq!(read, records_of(&event));
    let values: Vec<Option<&[u8]>> = read.iter().map(|record| record.value.as_deref()).collect();
    let expected: [Option<&[u8]>; 6] = [
        None,
        Some(b"\x00\xff\xfe binary"),
        Some(b"{\n  \"pretty\": true\n}\n"),
        Some(b"null"),
        Some(b"not json"),
        Some(b"%% not base64 %%"),
    ];
    assert_eq!(values, expected);
}

#[tokio::test]
async fn what_is_no_kafka_event_fails_the_invocation() {
    let objects = Arc::new(FakeObjects::default());
    let event = sample("archiver", "not-a-kafka-event");
    let error = invoke(&app(&objects, BatchResponse::Partial), &event).await.unwrap_err();
    assert_eq!(error.error_type, "not-a-kafka-event");
    assert_eq!(objects.keys(), Vec::<String>::new());
}

#[tokio::test]
async fn the_records_of_an_unwritten_object_come_again_and_no_others() {
    let objects = Arc::new(FakeObjects::default());
    let event = sample("archiver", "valid-batch");
    objects.refuse("hour=17/partition=0/");
    let answer = invoke(&app(&objects, BatchResponse::Partial), &event).await.unwrap();
    let again = [41, 42].map(|offset| Position::new(SAMPLE_TOPIC, 0, offset));
    assert_eq!(answer, BatchAnswer::retry(again));
    assert_eq!(objects.keys().len(), 2, "the other objects are written");
    assert_eq!(objects.puts(), 5, "three attempts at the refused one");

    let error = invoke(&app(&objects, BatchResponse::Whole), &event).await.unwrap_err();
    assert_eq!(error.error_type, "refused");
    assert!(error.message.contains("1 objects with 2 records"), "{}", error.message);

    objects.accept_all();
    for batch_response in [BatchResponse::Whole, BatchResponse::Partial] {
        assert_eq!(invoke(&app(&objects, batch_response), &event).await.unwrap(), BatchAnswer::done());
    }
    assert_eq!(read(objects, &Filter::topic("sample-events")).await, records_of(&event));
}

#[tokio::test]
async fn a_short_outage_and_lost_answers_are_ridden_out() {
    let objects = Arc::new(FakeObjects::default());
    let event = sample("archiver", "valid-batch");
    objects.faults.fail(1, ErrorClass::Overload);
    objects.faults.lose_answer(2, ErrorClass::Transient);
    assert_eq!(invoke(&app(&objects, BatchResponse::Whole), &event).await.unwrap(), BatchAnswer::done());
    assert_eq!(read(objects, &Filter::topic("sample-events")).await, records_of(&event));
}

#[tokio::test(start_paused = true)]
async fn while_s3_is_down_it_is_left_alone_and_afterwards_nothing_is_missing() {
    let objects = Arc::new(FakeObjects::default());
    let event = sample("archiver", "valid-batch");
    let app = app(&objects, BatchResponse::Partial);
    // Three objects are written at a time, so two calls may be open when the fifth failure opens the breaker.
    let (opens, under_way) = (FAILURES_TO_OPEN as usize, 2);
    objects.faults.fail(opens + under_way, ErrorClass::Transient);
    for _ in 0..5 {
        // Not a partial answer with every record: Lambda counts that as a success.
        invoke(&app, &event).await.unwrap_err();
    }
    assert!((opens..=opens + under_way).contains(&objects.puts()), "{} puts", objects.puts());
    objects.faults.clear();
    tokio::time::advance(OPEN_FOR).await;
    // Writes during the probe are refused, so their records are delivered once more.
    let rest = invoke(&app, &event).await.unwrap();
    assert_ne!(rest, BatchAnswer::done());
    assert_eq!(invoke(&app, &event).await.unwrap(), BatchAnswer::done());
    assert_eq!(read(objects, &Filter::topic("sample-events")).await, records_of(&event));
}

#[tokio::test]
async fn without_time_nothing_is_written_and_everything_comes_again() {
    let objects = Arc::new(FakeObjects::default());
    let event = sample("archiver", "valid-batch");
    let past = Instant::now();
    let invocation = Invocation { request_id: "late".into(), deadline: past };
    for batch_response in [BatchResponse::Partial, BatchResponse::Whole] {
        let error = handle(&event, &invocation, &app(&objects, batch_response)).await.unwrap_err();
        assert_eq!(error.error_type, "out-of-time");
        assert_eq!(objects.puts(), 0);
    }
}

/// Puts into partition 2 are never answered.
#[derive(Default)]
struct Hanging(FakeObjects);

#[async_trait]
impl ObjectStore for Hanging {
    async fn put_new(&self, key: &str, body: Bytes) -> Result<PutResult, DependencyError> {
        if key.contains("/partition=2/") {
            std::future::pending::<()>().await;
        }
        self.0.put_new(key, body).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, DependencyError> {
        self.0.list(prefix).await
    }

    async fn get(&self, key: &str) -> Result<Bytes, DependencyError> {
        self.0.get(key).await
    }
}

#[tokio::test]
async fn what_takes_too_long_comes_again_and_the_answer_is_in_time() {
    let event = sample("archiver", "valid-batch");
    for batch_response in [BatchResponse::Partial, BatchResponse::Whole] {
        let app = app_on(Arc::new(Hanging::default()), batch_response);
        let deadline = Instant::now() + Duration::from_millis(700);
        let answer = handle(&event, &Invocation { request_id: "late".into(), deadline }, &app).await;
        assert!(Instant::now() < deadline);
        match batch_response {
            BatchResponse::Partial => {
                assert_eq!(answer.unwrap(), BatchAnswer::retry([Position::new(SAMPLE_TOPIC, 2, 7)]));
            }
            BatchResponse::Whole => assert_eq!(answer.unwrap_err().error_type, "out-of-time"),
        }
    }
}

/// Records of two topics and three partitions around the turn of an hour, with timestamps out of order.
fn many_records(random: &mut fastrand::Rng) -> Vec<Record> {
    let mut records = Vec::new();
    for (topic, partition) in [(topic::RAW_EVENTS, 0), (topic::RAW_EVENTS, 1), (topic::PROCESSED_EVENTS, 0)] {
        for offset in 0..150 {
            let outcome = Outcome::ALL[random.usize(0..Outcome::ALL.len())];
            records.push(Record {
                position: Position::new(topic, partition, offset),
                timestamp: Timestamp::from_millis(TURN_OF_THE_HOUR + (offset - 75) * 20 + random.i64(-400..400)),
                key: random.bool().then(|| Bytes::from(format!("acme/{offset}"))),
                value: (random.u8(..) > 8)
                    .then(|| Bytes::from((0..random.usize(0..40)).map(|_| random.u8(..)).collect::<Vec<u8>>())),
                headers: RecordHeaders(vec![Header::new(header::OUTCOME, outcome.as_str())]),
                undecodable: None,
            });
        }
    }
    records
}

/// Delivers each partition three times from the start, cut at random, as after failures and rebalances.
async fn deliver_in_random_cuts(random: &mut fastrand::Rng, records: &[Record], app: &App) {
    for _ in 0..3 {
        let mut partitions: Vec<&[Record]> = records
            .chunk_by(|a, b| (&a.position.topic, a.position.partition) == (&b.position.topic, b.position.partition))
            .collect();
        while partitions.iter().any(|rest| !rest.is_empty()) {
            let mut batch = Vec::new();
            for rest in &mut partitions {
                let (now, later) = rest.split_at(random.usize(0..=rest.len().min(60)));
                batch.extend_from_slice(now);
                *rest = later;
            }
            random.shuffle(&mut batch);
            assert_eq!(invoke(app, &event(&batch)).await.unwrap(), BatchAnswer::done());
        }
    }
}

async fn holds_each_record_once(objects: &Arc<dyn ObjectStore>, records: &[Record]) {
    for topic in [topic::RAW_EVENTS, topic::PROCESSED_EVENTS] {
        let expected: Vec<&Record> = records.iter().filter(|record| &*record.position.topic == topic).collect();
        let read = read(Arc::clone(objects), &Filter::topic(topic)).await;
        assert_eq!(read.iter().collect::<Vec<_>>(), expected);

        let coverage = ArchiveReader::new(Arc::clone(objects)).coverage(&Filter::topic(topic)).await.unwrap();
        for partition in coverage.partitions.values() {
            assert_eq!(partition.held.ranges(), [0..=149]);
            assert!(partition.gaps(0..=149).is_empty());
            assert!(partition.overlaps() > 0, "cuts that differ overlap");
        }
        assert_eq!(coverage.partitions.len() * 150, expected.len());
    }
}

/// One batch: ranges of the partitions, as Kafka sends them, or any records, as after partial answers.
#[derive(Clone, Debug)]
struct Delivery {
    batch: Batch,
    batch_response: bool,
    /// Calls of the object store that fail before they have an effect, and calls whose answer is lost.
    faults: (usize, usize),
}

#[derive(Clone, Debug)]
enum Batch {
    Stretch { from: Index, take: usize },
    Any(Vec<Index>),
}

/// The content of a partition: offsets with holes, times out of order around the turn of an hour, any bytes.
fn partition(topic: &'static str, partition: i32) -> impl Strategy<Value = Vec<Record>> {
    let value = prop_oneof![
        1 => Just(None),
        3 => vec(any::<u8>(), 0..12).prop_map(Some),
        3 => "[ -~]{0,12}".prop_map(|text| Some(text.into_bytes())),
        3 => prop_oneof![Just("null"), Just("{\"a\":1}"), Just(" {} "), Just("{\n}"), Just("\"\u{2028}\"")]
            .prop_map(|text| Some(text.as_bytes().to_vec())),
    ];
    let key = proptest::option::of(vec(any::<u8>(), 0..4));
    let outcome = proptest::option::of(0..Outcome::ALL.len());
    let record = (1..3_i64, -3_000..3_000_i64, key, value, outcome).prop_map(move |(step, ms, key, value, outcome)| {
        let outcome = outcome.map(|outcome| Header::new(header::OUTCOME, Outcome::ALL[outcome].as_str()));
        let record = Record {
            position: Position::new(topic, partition, 0),
            timestamp: Timestamp::from_millis(TURN_OF_THE_HOUR + ms),
            key: key.map(Bytes::from),
            value: value.map(Bytes::from),
            headers: RecordHeaders(outcome.into_iter().collect()),
            undecodable: None,
        };
        (step, record)
    });
    vec(record, 0..12).prop_map(|records| {
        let mut last = -1;
        let place = |(step, mut record): (i64, Record)| {
            last += step;
            record.position.offset = last;
            record
        };
        records.into_iter().map(place).collect()
    })
}

fn delivery() -> impl Strategy<Value = Delivery> {
    let batch = prop_oneof![
        3 => (any::<Index>(), 1..8_usize).prop_map(|(from, take)| Batch::Stretch { from, take }),
        1 => vec(any::<Index>(), 1..8).prop_map(Batch::Any),
    ];
    (batch, any::<bool>(), (0..4_usize, 0..3_usize)).prop_map(|(batch, batch_response, faults)| Delivery {
        batch,
        batch_response,
        faults,
    })
}

impl Delivery {
    /// The records of the batch, each once and in any order; here by position.
    fn records(&self, partitions: &[Vec<Record>]) -> Vec<Record> {
        let mut batch = BTreeMap::new();
        for records in partitions.iter().filter(|records| !records.is_empty()) {
            let chosen: Vec<usize> = match &self.batch {
                Batch::Stretch { from, take } => {
                    let from = from.index(records.len());
                    (from..records.len().min(from + take)).collect()
                }
                Batch::Any(indices) => indices.iter().map(|index| index.index(records.len())).collect(),
            };
            batch.extend(chosen.into_iter().map(|index| (records[index].position.clone(), records[index].clone())));
        }
        batch.into_values().collect()
    }
}

async fn archive_holds_each_record_once(
    partitions: Vec<Vec<Record>>,
    deliveries: Vec<Delivery>,
    last_cut: usize,
) -> Result<(), TestCaseError> {
    let objects = Arc::new(FakeObjects::default());
    for delivery in deliveries {
        objects.faults.fail(delivery.faults.0, ErrorClass::Transient);
        objects.faults.lose_answer(delivery.faults.1, ErrorClass::Transient);
        let batch_response = if delivery.batch_response { BatchResponse::Partial } else { BatchResponse::Whole };
        // Ignores the result, because everything comes again.
        let _ = invoke(&app(&objects, batch_response), &event(&delivery.records(&partitions))).await;
    }
    objects.faults.clear();
    for batch in partitions.iter().flat_map(|records| records.chunks(last_cut)) {
        prop_assert_eq!(
            invoke(&app(&objects, BatchResponse::Whole), &event(batch)).await.unwrap(),
            BatchAnswer::done()
        );
    }
    let store: Arc<dyn ObjectStore> = objects;
    for topic in [topic::RAW_EVENTS, topic::PROCESSED_EVENTS] {
        let expected: Vec<&Record> =
            partitions.iter().flatten().filter(|record| &*record.position.topic == topic).collect();
        let records = read(Arc::clone(&store), &Filter::topic(topic)).await;
        prop_assert_eq!(records.iter().collect::<Vec<_>>(), expected.clone());
        let coverage = ArchiveReader::new(Arc::clone(&store)).coverage(&Filter::topic(topic)).await.unwrap();
        let held: u64 = coverage.partitions.values().map(|partition| partition.held.len()).sum();
        prop_assert_eq!(held, expected.len() as u64);
        for record in expected {
            let offset = record.position.offset;
            let missing = coverage.partitions[&record.position.partition].held.missing(offset..=offset);
            prop_assert!(missing.is_empty(), "{} is not covered", record.position);
        }
    }
    Ok(())
}

/// However batches are cut, redelivered, reduced by partial answers, and separated from the object store.
#[test]
fn any_cut_of_the_batches_gives_each_record_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let config = ProptestConfig {
        cases: 2_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("proptest-regressions/batches.txt"))),
        ..ProptestConfig::default()
    };
    let partitions =
        (partition(topic::RAW_EVENTS, 0), partition(topic::RAW_EVENTS, 1), partition(topic::PROCESSED_EVENTS, 0));
    let story = (partitions, vec(delivery(), 0..6), 1..8_usize);
    let result = TestRunner::new(config).run(&story, |((a, b, c), deliveries, last_cut)| {
        // The random number generator for the waits between retries.
        fastrand::seed(0);
        runtime.block_on(archive_holds_each_record_once(vec![a, b, c], deliveries, last_cut))
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_cut_of_the_batches_gives_each_record_once_in_s3() {
    let folder = tempfile::tempdir().unwrap();
    let s3 = EmbeddedS3::start(None, folder.path(), "archiver-tests").await.unwrap();
    let credentials = Credentials::new(ACCESS_KEY_ID, SECRET_ACCESS_KEY, None, None, "test");
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("eu-west-1"))
        .endpoint_url(s3.endpoint())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    let objects: Arc<dyn ObjectStore> = Arc::new(S3Objects::connect(&config, "archiver-tests"));
    let mut random = fastrand::Rng::with_seed(99);
    let records = many_records(&mut random);
    let app = app_on(Arc::clone(&objects), BatchResponse::Partial);
    deliver_in_random_cuts(&mut random, &records, &app).await;
    holds_each_record_once(&objects, &records).await;
}
