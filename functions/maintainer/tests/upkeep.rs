//! Tests of the function on the embedded broker and a throw-away PostgreSQL.
#![expect(clippy::unwrap_used, reason = "test helpers fail by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka::{KafkaClient, KafkaConfig, PublisherOptions};
use lambda::invocation::Invocation;
use maintainer::{App, Config, handle};
use pipeline::clock::SystemClock;
use pipeline::ports::{NewRecord, RecordPublisher as _};
use pipeline::topic::{DEAD_LETTER_EVENTS, RAW_EVENTS};
use serde_json::Value;
use serde_json::value::RawValue;
use services::kafka::EmbeddedKafka;
use services::postgres::ThrowAwayPostgres;
use testkit::fakes::address_counters::FakeAddressCounters;
use testkit::fakes::api_keys::FakeApiKeys;
use testkit::fakes::audit::FakeAuditTrail;
use testkit::fakes::block_list::FakeBlockList;
use testkit::samples::sample;
use tokio_postgres::NoTls;

fn app(brokers: &str, database_url: &str) -> App {
    let variables = BTreeMap::from([
        ("KAFKA_BROKERS", brokers),
        ("DATABASE_URL", database_url),
        ("TOPIC_PARTITIONS", "2"),
        ("TOPIC_REPLICATION_FACTOR", "1"),
        ("PARTITIONS_AHEAD_DAYS", "2"),
        ("DEDUP_STORE", "postgres"),
    ]);
    let (keys, blocks) = (Arc::new(FakeApiKeys::default()), Arc::new(FakeBlockList::default()));
    App::new(
        Config::from_variables(&variables).unwrap(),
        keys,
        blocks,
        Arc::new(FakeAddressCounters::default()),
        Arc::new(FakeAuditTrail::default()),
        Arc::new(SystemClock),
    )
}

async fn ask(app: &App, case: &str) -> Result<Value, String> {
    ask_within(app, case, Duration::from_secs(60)).await
}

async fn ask_within(app: &App, case: &str, left: Duration) -> Result<Value, String> {
    let event = RawValue::from_string(sample("maintainer", case)).unwrap();
    let invocation = Invocation { request_id: "test".to_owned(), deadline: Instant::now() + left };
    match handle(&event, &invocation, app).await {
        Ok(answer) => Ok(serde_json::from_str(answer.get()).unwrap()),
        Err(error) => Err(format!("{}: {}", error.error_type, error.message)),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_made_once_and_a_second_run_changes_nothing() {
    let kafka = EmbeddedKafka::start().await.unwrap();
    let postgres = ThrowAwayPostgres::start(None, None).await.unwrap();
    let (one, two) = (app(&kafka.brokers(), &postgres.url()), app(&kafka.brokers(), &postgres.url()));

    let (first, second) = tokio::join!(ask(&one, "maintain"), ask(&two, "schedule"));
    let (first, second) = (first.unwrap(), second.unwrap());
    let made = |report: &Value| report["partitions"]["created"].as_array().unwrap().len();
    assert_eq!(
        made(&first) + made(&second),
        3,
        "partitions for today and two days ahead, each created by one of the two runs"
    );
    let applied = |report: &Value| report["migrations"].as_array().unwrap().len();
    let mut migrations = [&first, &second].map(|report| report["migrations"].as_array().unwrap().as_slice()).concat();
    migrations.sort_by_key(ToString::to_string);
    migrations.dedup();
    assert_eq!(
        applied(&first) + applied(&second),
        migrations.len(),
        "each migration is applied by one of the two runs"
    );
    assert!(!migrations.is_empty());

    let again = ask(&one, "maintain").await.unwrap();
    for topic in pipeline::topic::ALL {
        assert_eq!(again["topics"][topic], "unchanged", "{again}");
    }
    assert_eq!((made(&again), applied(&again)), (0, 0));
    let account = ask(&one, "reconcile").await.unwrap();
    assert_eq!(account["unaccounted"], 0);
}

/// Writes so many records to one partition of `raw-events`.
async fn publish(kafka: &EmbeddedKafka, records: usize) {
    publish_to(kafka, RAW_EVENTS, records).await;
}

async fn publish_to(kafka: &EmbeddedKafka, topic: &'static str, records: usize) {
    let client = KafkaClient::connect(&KafkaConfig::plaintext(kafka.brokers()), "test").await.unwrap();
    let publisher = client.publisher(PublisherOptions::default()).await.unwrap();
    let record = || NewRecord { topic, key: Some(Bytes::from_static(b"a")), value: None, headers: Vec::new() };
    let answers = publisher.publish(vec![record(); records], Duration::from_secs(10)).await;
    assert!(answers.iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_is_found_by_upkeep_until_it_has_an_outcome_and_what_is_verified_is_not_read_again() {
    let kafka = EmbeddedKafka::start().await.unwrap();
    let postgres = ThrowAwayPostgres::start(None, None).await.unwrap();
    let app = app(&kafka.brokers(), &postgres.url());
    let unaccounted = async || ask(&app, "maintain").await.unwrap()["unaccounted"].as_u64().unwrap();
    assert_eq!(unaccounted().await, 0);
    publish(&kafka, 6).await;
    let watermarks = KafkaClient::connect(&KafkaConfig::plaintext(kafka.brokers()), "test").await.unwrap();
    let watermarks = watermarks.topics().watermarks(RAW_EVENTS).await.unwrap();
    // All have one key, so they are in one partition.
    let partition = watermarks.iter().find(|of| of.latest == 6).unwrap().partition;
    let (client, connection) = tokio_postgres::connect(&postgres.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let run = async |sql: String| client.batch_execute(&sql).await.unwrap();
    let row = |offset: i64| {
        format!(
            "INSERT INTO record_outcomes (topic, partition, record_offset, origin_topic, origin_partition, origin_offset,
                                          outcome, reason, recorded_at)
             VALUES ('raw-events', {partition}, {offset}, 'raw-events', {partition}, {offset}, 'dead_lettered',
                     'tombstone', now());"
        )
    };
    run(format!(
        "INSERT INTO checkpoints (topic, partition, floor_offset, next_offset, updated_at)
         VALUES ('raw-events', {partition}, 0, 5, now());"
    ))
    .await;
    run([0, 1, 2, 4].map(row).concat()).await;
    assert_eq!(unaccounted().await, 1, "3 has a record and no outcome");
    assert_eq!(unaccounted().await, 1, "a loss is found by every run");
    run(format!(
        "DELETE FROM record_outcomes WHERE record_offset = 2; UPDATE checkpoints SET next_offset = 6; {}",
        row(5)
    ))
    .await;
    assert_eq!(unaccounted().await, 1, "what lies below the loss was verified, and is not read again");
    run(row(3)).await;
    assert_eq!(unaccounted().await, 0);
    let verified = client.query_one("SELECT verified_offset FROM verified_offsets", &[]).await.unwrap();
    assert_eq!(verified.get::<_, i64>(0), 6);
}

#[tokio::test]
async fn an_address_can_be_blocked_while_kafka_and_postgres_are_down() {
    let app = app("127.0.0.1:1", "postgres://u@127.0.0.1:1/d");
    let blocked = ask(&app, "block").await.unwrap();
    assert_eq!(blocked["blocked"]["address"], "203.0.113.7");
    assert_eq!(ask(&app, "list-blocks").await.unwrap()["blocks"][0]["reason"], "scraping");
    assert_eq!(ask(&app, "unblock").await.unwrap()["was_listed"], true);
    assert!(ask(&app, "create-key").await.unwrap()["key"].as_str().unwrap().starts_with("fb_"));
    let refused = ask(&app, "reconcile").await.unwrap_err();
    assert!(refused.starts_with("postgres: connecting to the database failed"), "{refused}");
    let late = ask_within(&app, "block", Duration::ZERO).await.unwrap_err();
    assert!(late.starts_with("out-of-time: "), "{late}");
    assert_eq!(
        ask(&app, "list-blocks").await.unwrap()["blocks"].as_array().unwrap().len(),
        0,
        "the request was not begun"
    );
    assert!(ask(&app, "unknown-action").await.unwrap_err().starts_with("bad-request: "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_and_groups_are_told_as_kafka_has_them() {
    let kafka = EmbeddedKafka::start().await.unwrap();
    let postgres = ThrowAwayPostgres::start(None, None).await.unwrap();
    let app = app(&kafka.brokers(), &postgres.url());
    ask(&app, "maintain").await.unwrap();
    let topics = ask(&app, "list-topics").await.unwrap();
    let names: Vec<&str> =
        topics["topics"].as_array().unwrap().iter().map(|of| of["topic"].as_str().unwrap()).collect();
    assert_eq!(names, pipeline::topic::ALL);
    assert_eq!(topics["topics"][0]["partitions"].as_array().unwrap().len(), 2);
    let lag = ask(&app, "lag").await.unwrap();
    let groups: Vec<&str> = lag["groups"].as_array().unwrap().iter().map(|of| of["group"].as_str().unwrap()).collect();
    assert_eq!(groups, pipeline::group::ALL.map(|(group, _)| group));
    assert_eq!(lag["groups"][0]["lag"], Value::Null, "nothing has read yet");
    publish_to(&kafka, DEAD_LETTER_EVENTS, 7).await;
    let tail = ask(&app, "tail-topic").await.unwrap();
    let offsets: Vec<i64> =
        tail["records"].as_array().unwrap().iter().map(|of| of["offset"].as_i64().unwrap()).collect();
    assert_eq!((&tail["complete"], offsets), (&Value::Bool(true), vec![2, 3, 4, 5, 6]), "{tail}");
    assert_eq!((&tail["records"][0]["key"], &tail["records"][0]["bytes"]), (&Value::from("a"), &Value::Null), "{tail}");
    let dedup = ask(&app, "show-dedup").await.unwrap();
    assert_eq!((&dedup["event_id"], &dedup["claim"]), (&Value::from("order-1001"), &Value::Null));
    let why = ask(&app, "find-block").await.unwrap();
    assert_eq!((&why["blocked"], &why["address"]), (&Value::Bool(false), &Value::from("203.0.113.7")));
}
