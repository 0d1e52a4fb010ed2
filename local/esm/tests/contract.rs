//! The truth table of mappings, as data: each row of `truth_table/*.md` is a case. `truth_table/README.md` says how to read
//! one. They run on the in-process broker, and with `KAFKA=apache` on Apache Kafka too.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use esm::{
    Destinations, Functions, Invoker, InvokerError, Mapping, MappingConfig, MessageError, MessageSender, MessageTarget,
    Reply, RunningMapping,
};
use kafka::{ConsumerOptions, KafkaClient, KafkaConfig, KafkaPublisher, PublisherOptions, StartingPosition, TopicSpec};
use pipeline::Record;
use pipeline::ports::{NewRecord, ObjectStore, RecordPublisher as _};
use serde_json::{Value, json};
use services::apache_kafka::ApacheKafka;
use services::kafka::EmbeddedKafka;
use settings::{ProcessEnvironment, Variables as _};
use testkit::fakes::objects::FakeObjects;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Rows that run at the same time.
const ROWS_AT_ONCE: usize = 16;
const PATIENCE: Duration = Duration::from_secs(40);
/// Bytes of a record that exceeds the limit of an event in base64.
const BIG: usize = 5_000_000;
const COLUMNS: [&str; 8] = ["Case", "Records", "Mapping", "Function", "Invocations", "Failed", "Committed", "Given up"];

/// A row of the table.
#[derive(Clone, Debug)]
struct Case {
    /// `file:line`.
    at: String,
    /// Begins the names of its topics.
    prefix: String,
    cells: BTreeMap<&'static str, String>,
}

impl Case {
    fn cell(&self, column: &str) -> &str {
        self.cells.get(column).unwrap()
    }

    /// The cell's parts, which have ` / ` between them. A dash stands for none.
    fn parts(&self, column: &str) -> Vec<String> {
        let parts = self.cell(column).split(" / ").filter(|part| *part != "-");
        parts
            .flat_map(|part| match part.split_once("x ") {
                Some((times, part)) if times.parse::<usize>().is_ok() => vec![part.to_owned(); times.parse().unwrap()],
                _ => vec![part.to_owned()],
            })
            .collect()
    }

    /// The error that loading the mapping must have.
    fn refusal(&self) -> Option<&str> {
        self.cell("Invocations").strip_prefix("refused: ")
    }

    fn topic(&self, letter: char) -> String {
        format!("{}-{letter}", self.prefix)
    }

    /// Letters of the topics that have records, each with their values.
    fn records(&self) -> BTreeMap<char, Vec<Option<Vec<u8>>>> {
        let (mut records, mut letter) = (BTreeMap::<char, Vec<_>>::new(), 'a');
        for word in self.cell("Records").split_whitespace() {
            if let [topic, b':'] = word.as_bytes() {
                letter = char::from(*topic);
                continue;
            }
            let topic = records.entry(letter).or_default();
            match (word, word.parse::<usize>()) {
                (_, Ok(count)) => topic.extend(vec![Some(b"x".to_vec()); count]),
                ("@null", _) => topic.push(None),
                ("@bytes", _) => topic.push(Some(vec![0xff, 0xfe])),
                ("@big", _) => topic.push(Some(vec![b'x'; BIG])),
                ("@empty", _) => topic.push(Some(Vec::new())),
                (value, _) => topic.push(Some(value.strip_prefix("text=").unwrap_or(value).as_bytes().to_vec())),
            }
        }
        records
    }

    /// The request that creates the mapping, and what a request cannot say.
    fn config(&self, brokers: &str) -> Result<MappingConfig, String> {
        let topics: Vec<String> = match self.records().into_keys().map(|letter| self.topic(letter)).collect() {
            topics if Vec::is_empty(&topics) => vec![self.topic('a')],
            topics => topics,
        };
        let mut request = json!({
            "FunctionName": "f",
            "Topics": topics,
            "StartingPosition": "TRIM_HORIZON",
            "MaximumBatchingWindowInSeconds": 0,
            "SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": [brokers]}},
            "SelfManagedKafkaEventSourceConfig": {"ConsumerGroupId": self.prefix},
        });
        let destination = |to: &str| json!({ "OnFailure": { "Destination": to } });
        let mut is_old = false;
        let mut filters = Vec::new();
        for setting in self.cell("Mapping").split(", ").filter(|setting| *setting != "-") {
            let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
            match name {
                "provisioned" => request["ProvisionedPollerConfig"] = json!({ "MinimumPollers": 1 }),
                "partial" => request["FunctionResponseTypes"] = json!(["ReportBatchItemFailures"]),
                "bisect" => request["BisectBatchOnFunctionError"] = json!(true),
                "bucket" => request["DestinationConfig"] = destination("arn:aws:s3:::given-up"),
                "queue" => request["DestinationConfig"] = destination("arn:aws:sqs:eu-west-1:123456789012:given-up"),
                "sns" => request["DestinationConfig"] = destination("arn:aws:sns:eu-west-1:123456789012:given-up"),
                "kafka" => request["DestinationConfig"] = destination(&format!("kafka://{}", self.topic('z'))),
                "destination" => request["DestinationConfig"] = destination(&value.replace("@a", &self.topic('a'))),
                "filter" => filters.push(json!({ "Pattern": value })),
                "old" => is_old = true,
                "retries" => request["MaximumRetryAttempts"] = serde_json::from_str(value).unwrap(),
                name => request[name] = serde_json::from_str(value).unwrap(),
            }
        }
        if !filters.is_empty() {
            request["FilterCriteria"] = json!({ "Filters": filters });
        }
        let config = MappingConfig::from_json(&request.to_string(), "").map_err(|error| error.to_string())?;
        let record_age = if is_old { Some(Duration::ZERO) } else { config.record_age };
        Ok(MappingConfig { record_age, ..config })
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/truth_table")
}

/// Every row of every table.
fn cases() -> Vec<Case> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.file_name().unwrap() != "README.md");
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        for (index, line) in std::fs::read_to_string(&file).unwrap().lines().enumerate() {
            let Some(row) = line.strip_prefix('|') else { continue };
            let cells: Vec<String> = row.split('|').map(|cell| cell.trim().replace('`', "")).collect();
            if cells[0] == COLUMNS[0] || cells[0].starts_with("---") {
                continue;
            }
            let at = format!("{name}.md:{}", index + 1);
            assert_eq!(cells.len(), COLUMNS.len() + 1, "{at} has another number of columns");
            let prefix = format!("{name}-{}", index + 1);
            cases.push(Case { at, prefix, cells: COLUMNS.into_iter().zip(cells).collect() });
        }
    }
    cases
}

/// `a0-2 b1`: offsets by the letter of their topic.
fn written(records: impl IntoIterator<Item = (char, i64)>) -> String {
    let mut by_topic = BTreeMap::<char, Vec<i64>>::new();
    for (letter, offset) in records {
        by_topic.entry(letter).or_default().push(offset);
    }
    let topics = by_topic.into_iter().map(|(letter, offsets)| {
        let runs = offsets.chunk_by(|one, next| one + 1 == *next);
        let runs = runs.map(|run| match run {
            [one] => one.to_string(),
            [first, .., last] => format!("{first}-{last}"),
            [] => String::new(),
        });
        format!("{letter}{}", runs.collect::<Vec<_>>().join(","))
    });
    topics.collect::<Vec<_>>().join(" ")
}

fn letter(topic: &str) -> char {
    topic.chars().next_back().unwrap()
}

fn delivered(event: &[u8]) -> Vec<(char, i64)> {
    let records = lambda::kafka_trigger::decode(std::str::from_utf8(event).unwrap()).unwrap();
    records.into_iter().map(|record| (letter(&record.position.topic), record.position.offset)).collect()
}

/// A function that does what the row says.
struct RowFunction {
    case: Case,
    calls: Mutex<Vec<Vec<(char, i64)>>>,
}

impl RowFunction {
    /// What the call does, by its number: the last step is for all further calls.
    fn step(&self, call: usize) -> String {
        let steps: Vec<&str> = self.case.cell("Function").split(", ").collect();
        (*steps.get(call).unwrap_or(steps.last().unwrap())).to_owned()
    }

    fn reply(&self, step: &str, delivery: &[(char, i64)]) -> Result<Reply, InvokerError> {
        let reply = |status, body: &str| {
            Ok(Reply { status, marked_failed: false, body: Bytes::copy_from_slice(body.as_bytes()) })
        };
        let error = || reply(200, r#"{"errorType":"E","errorMessage":"m"}"#);
        let items = |list: &str| list.split('+').map(record).collect::<Vec<_>>();
        match step.split_once(':').unwrap_or((step, "")) {
            ("ok", _) => reply(200, "null"),
            ("error", "") => error(),
            ("error", list) if items(list).iter().any(|item| delivery.contains(item)) => error(),
            ("fails", list) => {
                let failed = items(list).into_iter().filter(|item| delivery.contains(item));
                let failures = failed.map(|(letter, offset)| {
                    let partition = format!("{}-0", self.case.topic(letter));
                    json!({ "itemIdentifier": { "partition": partition, "offset": offset } })
                });
                reply(200, &json!({ "batchItemFailures": failures.collect::<Vec<_>>() }).to_string())
            }
            ("error", _) => reply(200, "null"),
            ("throttle", _) => reply(429, r#"{"Reason":"ConcurrentInvocationLimitExceeded"}"#),
            ("service-error", _) => reply(500, r#"{"Message":"x"}"#),
            ("crash", _) => reply(502, ""),
            ("timeout", _) => reply(200, "Task timed out after 3.00 seconds"),
            ("no-reply", _) => Err(InvokerError { function: "f".into(), source: "refused".into() }),
            _ => match step.strip_prefix("answer=") {
                Some(answer) => reply(200, &answer.replace("@a", &format!("{}-0", self.case.topic('a')))),
                None => panic!("{}: {step:?} is nothing that a function does", self.case.at),
            },
        }
    }
}

/// `a2`.
fn record(text: &str) -> (char, i64) {
    (text.chars().next().unwrap(), text[1..].parse().unwrap())
}

#[async_trait]
impl Invoker for RowFunction {
    async fn invoke(&self, _function: &str, event: Bytes) -> Result<Reply, InvokerError> {
        let delivery = delivered(&event);
        let call = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(delivery.clone());
            calls.len() - 1
        };
        self.reply(&self.step(call), &delivery)
    }
}

/// The bucket, the queue and the topic of SNS of one row.
#[derive(Default)]
struct RowDestinations {
    bucket: Arc<FakeObjects>,
    messages: Arc<Messages>,
}

#[derive(Default)]
struct Messages(Mutex<Vec<String>>);

#[async_trait]
impl MessageSender for Messages {
    async fn send(&self, text: &str) -> Result<(), MessageError> {
        self.0.lock().unwrap().push(text.to_owned());
        Ok(())
    }
}

impl Destinations for RowDestinations {
    fn bucket(&self, _name: &str) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.bucket) as Arc<dyn ObjectStore>
    }

    fn messages(&self, _target: &MessageTarget) -> Arc<dyn MessageSender> {
        Arc::clone(&self.messages) as Arc<dyn MessageSender>
    }
}

/// A document at a destination: condition, failed invocations, records. What it says twice must be the same.
fn letter_of(document: &Value, payload: Option<Bytes>) -> String {
    let info = &document["KafkaBatchInfo"];
    let ranges = info["recordsInfo"].as_object().map(|ranges| {
        let ranges = ranges.iter().map(|(key, range)| {
            let (first, last) = (&range["firstRecordOffset"], &range["lastRecordOffset"]);
            let letter = letter(key.strip_suffix("-0").unwrap());
            if first == last { format!("{letter}{first}") } else { format!("{letter}{first}-{last}") }
        });
        ranges.collect::<Vec<_>>().join(" ")
    });
    let records = payload.as_ref().map(|payload| {
        let records = delivered(payload);
        assert_eq!(info["batchSize"], records.len(), "{document}");
        assert_eq!(info["payloadSize"], payload.len(), "{document}");
        if ranges.is_none() {
            assert_eq!(info["recordInfo"]["offset"], records[0].1, "{document}");
            assert!(info["recordInfo"]["timestamp"].is_string(), "{document}");
        }
        written(records)
    });
    let records = records.or(ranges).unwrap();
    let context = &document["requestContext"];
    assert_eq!(context["functionArn"], "arn:aws:lambda:us-east-1:000000000000:function:f");
    let too_large = context["condition"] == "MaximumPayloadSizeExceeded";
    assert_eq!(document["responseContext"].is_null(), too_large, "{document}");
    assert_eq!((&document["version"], info["eventSourceArn"].is_null()), (&json!("1.0"), true));
    format!("{} {} {records}", context["condition"].as_str().unwrap(), context["approximateInvokeCount"])
}

/// A broker with the topics of every case.
struct Cluster {
    name: &'static str,
    kafka: KafkaClient,
    publisher: KafkaPublisher,
    _embedded: Option<EmbeddedKafka>,
}

impl Cluster {
    async fn at(name: &'static str, brokers: String, embedded: Option<EmbeddedKafka>) -> Self {
        let kafka = KafkaClient::connect(&KafkaConfig::plaintext(brokers), "esm-table").await.unwrap();
        let large = PublisherOptions { max_record_bytes: 16 * 1024 * 1024, ..PublisherOptions::default() };
        let publisher = kafka.publisher(large).await.unwrap();
        let cluster = Cluster { name, kafka, publisher, _embedded: embedded };
        let cases = cases();
        let topics = cases.iter().filter(|case| case.refusal().is_none()).flat_map(|case| {
            let letters = case.records().into_keys().chain(case.cell("Mapping").contains("kafka").then_some('z'));
            letters.map(|letter| TopicSpec::new(case.topic(letter), 1)).collect::<Vec<_>>()
        });
        cluster.kafka.topics().ensure(&topics.collect::<Vec<_>>()).await.unwrap();
        cluster
    }

    async fn write(&self, case: &Case) -> BTreeMap<char, i64> {
        let mut written = BTreeMap::new();
        let mut records = Vec::new();
        for (letter, values) in case.records() {
            written.insert(letter, i64::try_from(values.len()).unwrap());
            let topic: &'static str = case.topic(letter).leak();
            records.extend(values.into_iter().enumerate().map(|(offset, value)| NewRecord {
                topic,
                // Every third one has no key.
                key: (offset % 3 != 2).then(|| format!("{letter}{offset}").into()),
                value: value.map(Bytes::from),
                headers: vec![],
            }));
        }
        for position in self.publisher.publish(records, PATIENCE).await {
            position.unwrap();
        }
        written
    }

    async fn committed(&self, case: &Case) -> String {
        let committed = self.kafka.topics().committed(&case.prefix).await.unwrap();
        // Where a partition begins may be committed, too.
        let offsets = committed.iter().filter(|at| at.offset > 0).map(|at| (letter(&at.topic), at.offset));
        written(offsets.collect::<BTreeMap<_, _>>())
    }

    /// What is in the Kafka topic for what is given up.
    async fn letters(&self, case: &Case) -> Vec<Record> {
        let topic = case.topic('z');
        let count: i64 = self.kafka.topics().watermarks(&topic).await.unwrap().iter().map(|of| of.latest).sum();
        let options = ConsumerOptions::new(topic.clone(), &[&topic], StartingPosition::TrimHorizon);
        let consumer = self.kafka.separate().await.unwrap().consumer(options).await.unwrap();
        let mut letters = Vec::new();
        while i64::try_from(letters.len()).unwrap() < count {
            letters.extend(consumer.poll(Duration::from_millis(200)).await.unwrap());
        }
        letters
    }

    async fn given_up(&self, case: &Case, destinations: &RowDestinations) -> Vec<String> {
        let mut found = Vec::new();
        for key in destinations.bucket.keys() {
            let document: Value = serde_json::from_slice(&destinations.bucket.object(&key).unwrap()).unwrap();
            let payload = Bytes::from(document["payload"].as_str().unwrap().to_owned());
            found.push(letter_of(&document, Some(payload)));
        }
        for text in destinations.messages.0.lock().unwrap().iter() {
            let document: Value = serde_json::from_str(text).unwrap();
            assert!(document.get("payload").is_none(), "{text}");
            found.push(letter_of(&document, None));
        }
        if case.cell("Mapping").contains("kafka") {
            for letter in self.letters(case).await {
                // The payload as it is in the text: an object must not be written anew.
                let text = String::from_utf8(letter.value.unwrap().to_vec()).unwrap();
                let document: Value = serde_json::from_str(&text).unwrap();
                assert!(document["payload"].is_object(), "{text}");
                let payload = text.split_once(r#""payload":"#).unwrap().1.strip_suffix('}').unwrap();
                let original = lambda::kafka_trigger::decode(payload).unwrap();
                assert_eq!(letter.key, original[0].key, "the key is that of the record");
                found.push(letter_of(&document, Some(Bytes::copy_from_slice(payload.as_bytes()))));
            }
        }
        found
    }

    /// Runs a case, and says what is not as its row says.
    async fn run(&self, case: &Case) -> Result<(), String> {
        let written = self.write(case).await;
        let function = Arc::new(RowFunction { case: case.clone(), calls: Mutex::default() });
        let functions = Functions::new(Arc::clone(&function) as Arc<dyn Invoker>);
        let destinations = RowDestinations::default();
        let config = case.config(self.kafka.brokers())?;
        let mapping =
            Mapping::start(config, &self.kafka, &functions, &destinations).await.map_err(|e| e.to_string())?;

        let expected = case.parts("Invocations");
        let ends = written_offsets(&written) == case.cell("Committed");
        let waiting = async {
            loop {
                let is_there = if ends {
                    mapping.lag().await.unwrap() == 0
                } else {
                    function.calls.lock().unwrap().len() >= expected.len()
                        && self.committed(case).await == case.cell("Committed").trim_matches('-')
                };
                if is_there {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, waiting).await.is_ok();
        let mut wrong = String::new();
        if !in_time {
            wrong.push_str("\n    not done in time");
        }
        let mut compare = |what: &str, expected: String, found: String| {
            if expected != found {
                let _ = write!(wrong, "\n    {what}: expected {expected}\n    {what}: found    {found}");
            }
        };
        let mut calls: Vec<String> = function.calls.lock().unwrap().iter().cloned().map(written_sorted).collect();
        if !ends {
            calls.truncate(expected.len());
        }
        compare("invocations", expected.join(" / "), calls.join(" / "));
        let committed = self.committed(case).await;
        compare("committed", case.cell("Committed").trim_matches('-').to_owned(), committed);
        compare("failed", case.cell("Failed").to_owned(), failed(case, &mapping));
        let mut given_up = self.given_up(case, &destinations).await;
        let dropped = mapping.status().records_dropped;
        if dropped > 0 {
            given_up.push(format!("dropped {dropped}"));
        }
        let mut expected = case.parts("Given up");
        expected.sort();
        given_up.sort();
        compare("given up", expected.join(" / "), given_up.join(" / "));
        mapping.stop().await;
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

/// As the cell has it: `2+` is two or more.
fn failed(case: &Case, mapping: &RunningMapping) -> String {
    let found = mapping.status().failed_invocations;
    match case.cell("Failed").strip_suffix('+') {
        Some(at_least) if found >= at_least.parse().unwrap() => format!("{at_least}+"),
        _ => found.to_string(),
    }
}

fn written_sorted(mut delivery: Vec<(char, i64)>) -> String {
    // Which partition comes first in an event is not fixed; the order within each is.
    delivery.sort_by_key(|(letter, _)| *letter);
    written(delivery)
}

fn written_offsets(offsets: &BTreeMap<char, i64>) -> String {
    written(offsets.iter().map(|(letter, offset)| (*letter, *offset)))
}

/// Not captured by the test harness, so that `cargo test` shows the cases.
fn print(line: &str) {
    writeln!(std::io::stdout().lock(), "{line}").unwrap();
}

/// Runs the rows on a broker, several at once, and returns those that failed.
async fn run_all(cluster: Cluster) -> Vec<String> {
    let cluster = Arc::new(cluster);
    let places = Arc::new(Semaphore::new(ROWS_AT_ONCE));
    let mut running = JoinSet::new();
    for case in cases().into_iter().filter(|case| case.refusal().is_none()) {
        let (cluster, places) = (Arc::clone(&cluster), Arc::clone(&places));
        running.spawn(async move {
            let _place = places.acquire_owned().await;
            let row = case.clone();
            let running = Arc::clone(&cluster);
            // Its own task, so that one that panics ends no other row.
            let result = JoinSet::from_iter([async move { running.run(&row).await }]).join_next().await.unwrap();
            let result = result.unwrap_or_else(|error| Err(format!("\n    {error}")));
            print(&format!("{} on {}: {}, {}", mark(result.is_ok()), cluster.name, case.at, case.cell("Case")));
            result.err().map(|wrong| format!("{} ({}) on {}: {wrong}", case.at, case.cell("Case"), cluster.name))
        });
    }
    running.join_all().await.into_iter().flatten().collect()
}

fn mark(is_ok: bool) -> &'static str {
    if is_ok { "ok    " } else { "FAILED" }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_is_as_it_says() {
    let embedded = EmbeddedKafka::start().await.unwrap();
    let mut failed = run_all(Cluster::at("embedded", embedded.brokers(), Some(embedded)).await).await;
    if ProcessEnvironment.get("KAFKA").as_deref() == Some("apache") {
        let apache = ApacheKafka::start(None, None).await.unwrap();
        failed.extend(run_all(Cluster::at("apache", apache.brokers(), None).await).await);
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn every_mapping_that_must_be_refused_is() {
    let mut wrong = Vec::new();
    for case in cases() {
        let Some(expected) = case.refusal() else { continue };
        let found = case.config("b:1").err().unwrap_or_else(|| "not refused".to_owned());
        let is_ok = found.contains(expected);
        print(&format!("{} {}, {}", mark(is_ok), case.at, case.cell("Case")));
        if !is_ok {
            wrong.push(format!("{} ({}): expected {expected}, found {found}", case.at, case.cell("Case")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_has_at_least_eighty_rows_each_with_a_name_of_its_own() {
    let cases = cases();
    assert!(cases.len() >= 80, "{} rows", cases.len());
    let mut names: Vec<&str> = cases.iter().map(|case| case.cell("Case")).collect();
    names.sort_unstable();
    let repeated: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    assert!(repeated.is_empty(), "{repeated:?}");
}
