//! Dead letters and back through the real binaries: ingest, processor, redriver, query.
//!
//! Events fail because of a constraint that the test adds to the table of events and drops when the cause is "fixed":
//! such a record is the only kind that the store refuses permanently and may accept later.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests: a failure is a failed test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use archive::ArchiveReader;
use kafka::PublisherOptions;
use pipeline::ports::{KeyKind, NewRecord, RecordPublisher as _};
use pipeline::topic::{DEAD_LETTER_EVENTS, RAW_EVENTS};
use serde_json::{Value, json};
use stack::archived::ArchiveProof;
use stack::client::HttpAnswer;
use stack::functions::beside_this_program;
use stack::options::Options;
use stack::stack::Stack;
use tokio_postgres::NoTls;

const PATIENCE: Duration = Duration::from_secs(120);
const BAD: [&str; 3] = ["bad-1", "bad-2", "bad-3"];

struct World {
    stack: Stack,
    database: tokio_postgres::Client,
    key: String,
}

impl World {
    /// With that store of redrive marks.
    async fn start(store: &str) -> Self {
        let options = Options::for_one_run(&settings::ProcessEnvironment, beside_this_program().unwrap()).unwrap();
        let options = options.with_setting("IP_RATE_LIMIT_PER_MIN", "0").with_setting("ACCESS_STORE", store);
        let stack = Stack::start(options).await.unwrap();
        let (database, connection) = tokio_postgres::connect(stack.database_url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        let key = stack.create_key("acme", "redrive", KeyKind::Server, 100_000).await.unwrap();
        World { stack, database, key }
    }

    async fn sql(&self, statement: &str) {
        self.database.batch_execute(statement).await.unwrap();
    }

    /// Posts an event; returns its receipt.
    async fn post(&self, id: &str) -> Value {
        let event = json!({"type": "click", "id": id, "user_id": "u", "campaign_id": "c"}).to_string();
        let answer =
            self.stack.client.post(&self.stack.ingest_url(), &[("x-api-key", &self.key)], event).await.unwrap();
        assert_eq!(answer.status, 202, "{:?}", answer.json());
        answer.json()
    }

    /// A record of another producer, which does not go through ingest.
    async fn write_raw(&self, values: Vec<String>) {
        let options = PublisherOptions { max_record_bytes: 16_000_000, ..PublisherOptions::default() };
        let publisher = self.stack.kafka.publisher(options).await.unwrap();
        // With one key, they are in one partition.
        let record = |value: String| {
            let (key, value) = (Some("a test".into()), Some(value.into()));
            NewRecord { topic: RAW_EVENTS, key, value, headers: Vec::new() }
        };
        for answer in publisher.publish(values.into_iter().map(record).collect(), PATIENCE).await {
            answer.unwrap();
        }
        publisher.close(PATIENCE).await.unwrap();
    }

    async fn query(&self, path: &str) -> HttpAnswer {
        let url = format!("{}/{path}", self.stack.query_url());
        self.stack.client.get(&url, &[("x-api-key", &self.key)]).await.unwrap()
    }

    /// Sends a request to the redriver about the letters that the store refused.
    async fn ask(&self, mut request: Value) -> Value {
        request["filters"] = json!({"reason": "store-refused"});
        request["by"] = json!("a test");
        self.stack.invoke("redriver", request).await.unwrap()
    }

    async fn letters(&self) -> i64 {
        let marks = self.stack.kafka.topics().watermarks(DEAD_LETTER_EVENTS).await.unwrap();
        marks.iter().map(|of| of.latest - of.earliest).sum()
    }

    /// Where each partition of the dead letters ends now.
    async fn ends_of_letters(&self) -> BTreeMap<String, i64> {
        let marks = self.stack.kafka.topics().watermarks(DEAD_LETTER_EVENTS).await.unwrap();
        marks.iter().map(|of| (of.partition.to_string(), of.latest)).collect()
    }
}

fn counts<const N: usize>(answer: &Value, names: [&str; N]) -> [u64; N] {
    names.map(|name| answer[name].as_u64().unwrap_or_else(|| panic!("no {name} in {answer}")))
}

/// The timeline in short form: `<step> <what>`.
fn steps(timeline: &Value) -> Vec<String> {
    let steps = timeline["timeline"].as_array().unwrap().iter();
    steps
        .map(|step| {
            let name = step["step"].as_str().unwrap();
            match name {
                "recorded" | "scored" => format!("{name} {}", step["outcome"].as_str().unwrap()),
                "redrive" => format!("{name} {} {}", step["action"].as_str().unwrap(), step["attempt"]),
                _ => name.to_owned(),
            }
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_redriven_once_parked_after_three_failures_and_released() {
    redrive_park_and_release("dynamodb").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_marks_in_postgres_letters_are_redriven_once_too() {
    redrive_park_and_release("postgres").await;
}

async fn redrive_park_and_release(store: &str) {
    let world = World::start(store).await;
    // Only a fault of the data is the record's; a check of the table would be a fault of the store.
    world
        .sql(
            "CREATE FUNCTION a_test() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF NEW.event_id LIKE 'bad-%' THEN
                     RAISE EXCEPTION 'refused' USING ERRCODE = 'numeric_value_out_of_range';
                 END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER a_test BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION a_test()",
        )
        .await;
    let mut receipts = Vec::new();
    for id in BAD {
        receipts.push(world.post(id).await);
    }
    world.post("good").await;
    world.write_raw(vec!["not json".to_owned()]).await;
    world.stack.wait_until_idle(PATIENCE).await.unwrap();
    assert_eq!(world.letters().await, 4);

    let list = world.stack.invoke("redriver", json!({"action": "list"})).await.unwrap();
    assert_eq!(counts(&list, ["read", "matched", "copies"]), [4, 4, 0]);
    assert_eq!(counts(&list["reasons"]["store-refused"], ["letters", "open", "redriven"]), [3, 3, 0]);
    assert_eq!(counts(&list["reasons"]["malformed-json"], ["letters", "open"]), [1, 1]);
    let dry = world.ask(json!({"action": "redrive", "dry_run": true})).await;
    assert_eq!(counts(&dry, ["sent", "parked", "already"]), [3, 0, 0]);
    assert_eq!(world.letters().await, 4, "a dry run does nothing");

    for round in 0..3_u64 {
        // What fails again while the other still reads is a letter of the next round.
        let until = world.ends_of_letters().await;
        let redrive = || world.ask(json!({"action": "redrive", "max_per_sec": 1000, "until_offsets": until}));
        let (one, two) = tokio::join!(redrive(), redrive());
        let sent: u64 = [&one, &two].iter().map(|answer| counts(answer, ["sent"])[0]).sum();
        assert_eq!(sent, 3, "each letter once, by either: {one} {two}");
        world.stack.wait_until_idle(PATIENCE).await.unwrap();
        assert_eq!(world.letters().await, 7 + 3 * i64::try_from(round).unwrap(), "they fail again");
    }
    let parking = world.ask(json!({"action": "redrive"})).await;
    assert_eq!(counts(&parking, ["sent", "parked", "already"]), [0, 3, 9]);
    let parked = world.ask(json!({"action": "parked"})).await;
    let letters = parked["letters"].as_array().unwrap();
    assert_eq!(letters.len(), 3);
    assert!(letters.iter().all(|letter| letter["released"] == false), "{parked}");
    let pending = world.query("bad-1").await.json();
    assert_eq!(pending["status"], "dead_lettered");

    world.sql("DROP TRIGGER a_test ON events").await;
    let release = world.ask(json!({"action": "release"})).await;
    assert_eq!(counts(&release, ["sent", "already"]), [3, 0]);
    world.stack.wait_until_idle(PATIENCE).await.unwrap();
    assert_eq!(counts(&world.ask(json!({"action": "release"})).await, ["sent", "already"]), [0, 3]);
    world.stack.wait_until_idle(PATIENCE).await.unwrap();
    assert_eq!(world.letters().await, 13, "nothing fails any more");

    for (id, receipt) in BAD.iter().zip(&receipts) {
        let path = format!("{id}?partition={}&offset={}", receipt["partition"], receipt["offset"]);
        let answer = world.query(&path).await;
        assert_eq!(answer.status, 200);
        let timeline = answer.json();
        assert_eq!((&timeline["status"], &timeline["receipt"]["processed"]), (&json!("valid"), &json!(true)));
        let expected = [
            "accepted",
            "recorded dead_lettered",
            "redrive send 0",
            "recorded dead_lettered",
            "redrive send 1",
            "recorded dead_lettered",
            "redrive send 2",
            "recorded dead_lettered",
            "redrive park 3",
            "redrive send 3",
            "recorded valid",
            "stored",
            "scored valid",
        ];
        // A mark is written after the copy is in Kafka, which may be after the copy's outcome, so the order of the two
        // is not defined.
        let (mut described, mut expected) = (steps(&timeline), expected.map(str::to_owned));
        assert_eq!(described[0], "accepted");
        described.sort();
        expected.sort();
        assert_eq!(described, expected, "{timeline}");
    }
    assert_eq!(world.query("good").await.json()["status"], "valid");
    let unknown = world.query("never-sent").await;
    assert_eq!((unknown.status.as_u16(), &unknown.json()["type"]), (404, &json!("urn:forebay:problem:unknown_event")));

    let trail = world.stack.invoke("redriver", json!({"action": "audit"})).await.unwrap();
    let entries = trail["entries"].as_array().unwrap();
    let finished =
        |action: &str| entries.iter().filter(|entry| entry["action"] == action && entry["state"] == "finished").count();
    assert_eq!((finished("list"), finished("redrive"), finished("parked"), finished("release")), (1, 8, 1, 2));

    // No record is missing in the ledger or in the archive.
    assert_eq!(world.stack.unaccounted().await.unwrap(), 0);
    let archive = ArchiveReader::new(Arc::new(world.stack.archive().await));
    let proof = ArchiveProof::gather(&world.stack.kafka, &archive).await.unwrap();
    assert_eq!((proof.missing(), proof.waiting()), (0, 0), "{proof}");
    world.stack.stop().await.unwrap();
}

/// An event that compresses well.
fn sensor(id: usize, bytes: usize) -> String {
    let note = "n".repeat(bytes);
    json!({"type": "sensor", "id": format!("s-{id}"), "device_id": "d", "reading": 1, "unit": "m", "note": note})
        .to_string()
}

/// The broker takes records of 3 MB, because it counts compressed bytes. Without the check of the size, the partition of
/// such a record would wait for ever.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_to_publish_waits_in_the_archive_and_holds_no_partition() {
    let world = World::start("dynamodb").await;
    let sizes = [1, 3_000_000, 1, 2_000_000, 1_000, 1];
    world.write_raw(sizes.into_iter().enumerate().map(|(id, bytes)| sensor(id, bytes)).collect()).await;
    world.stack.wait_until_idle(PATIENCE).await.unwrap();
    let outcomes = async || {
        let statement = "SELECT outcome, count(*) FROM record_outcomes GROUP BY 1 ORDER BY 1";
        let rows = world.database.query(statement, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect::<Vec<(String, i64)>>()
    };
    let expected = |dead_lettered| [("dead_lettered".to_owned(), dead_lettered), ("valid".to_owned(), 4)];
    assert_eq!(outcomes().await, expected(2));
    assert_eq!(world.letters().await, 2);

    let redrive = json!({"action": "redrive", "filters": {"reason": "too-large"}, "by": "a test"});
    let answer = world.stack.invoke("redriver", redrive).await.unwrap();
    assert_eq!(counts(&answer, ["sent", "refused"]), [2, 0], "{answer}");
    world.stack.wait_until_idle(PATIENCE).await.unwrap();
    assert_eq!(outcomes().await, expected(4), "the limit is the same, so they fail again");
    assert_eq!(world.stack.unaccounted().await.unwrap(), 0);
    world.stack.stop().await.unwrap();
}

/// Lambda never delivers a record above 6 MB: it writes it to the on-failure destination and goes on.
#[tokio::test(flavor = "multi_thread")]
async fn what_fits_in_no_event_is_named_as_missing_until_the_redriver_delivers_it() {
    let world = World::start("dynamodb").await;
    world.write_raw(vec![sensor(0, 1), sensor(1, 5_000_000), sensor(2, 1)]).await;
    world.stack.wait_until_idle(PATIENCE).await.unwrap();
    assert_eq!(world.stack.unaccounted().await.unwrap(), 1);
    let archive = ArchiveReader::new(Arc::new(world.stack.archive().await));
    let proof = ArchiveProof::gather(&world.stack.kafka, &archive).await.unwrap();
    assert_eq!((proof.missing(), proof.waiting()), (1, 0), "{proof}");

    let listed = world.stack.invoke("redriver", json!({"action": "undelivered"})).await.unwrap();
    let mut functions: Vec<&str> =
        listed["batches"].as_array().unwrap().iter().map(|batch| batch["function"].as_str().unwrap()).collect();
    functions.sort_unstable();
    assert_eq!(functions, ["archiver", "processor"], "{listed}");
    let deliver = json!({"action": "deliver", "by": "a test"});
    let answer = world.stack.invoke("redriver", deliver.clone()).await.unwrap();
    assert_eq!(counts(&answer, ["delivered", "already", "failed"]), [2, 0, 0], "{answer}");
    let again = world.stack.invoke("redriver", deliver).await.unwrap();
    assert_eq!(counts(&again, ["delivered", "already", "failed"]), [0, 2, 0], "{again}");

    world.stack.wait_until_idle(PATIENCE).await.unwrap();
    assert_eq!(world.letters().await, 1);
    assert_eq!(world.stack.unaccounted().await.unwrap(), 0);
    let proof = ArchiveProof::gather(&world.stack.kafka, &archive).await.unwrap();
    assert_eq!((proof.missing(), proof.waiting()), (0, 0), "{proof}");
    world.stack.stop().await.unwrap();
}
