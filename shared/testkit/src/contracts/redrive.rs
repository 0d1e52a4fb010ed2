//! The contracts of [`RedriveMarks`] and [`TopicSource`].
#![expect(clippy::panic, clippy::unwrap_used, clippy::expect_used, reason = "a contract suite fails by panicking")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use event::{Origin, Timestamp};
use futures::future::join_all;
use pipeline::ports::{
    BeginVerdict, LetterId, LetterStep, MarkKey, MarkState, NewRecord, RedriveMarks, TopicReader, TopicSource,
};
use pipeline::{DependencyError, Header, Position, Record};

use super::publisher::Broker;

/// Ample for a healthy broker on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

const NOW: Timestamp = Timestamp::from_millis(1_795_197_720_000);
const LATER: Timestamp = Timestamp::from_millis(1_795_197_780_000);

/// Runs the suite on a store that holds no marks of the topic `contract`.
pub async fn redrive_marks_contract(marks: &dyn RedriveMarks) {
    a_step_is_begun_by_one_run_and_finished_once(marks).await;
    a_run_that_is_taken_for_dead_is_taken_over(marks).await;
    steps_and_attempts_are_apart(marks).await;
    one_of_many_concurrent_runs_begins_a_step(marks).await;
    many_marks_are_answered_in_order(marks).await;
    the_history_of_an_origin_is_in_order(marks).await;
}

fn key(offset: i64, attempt: u32, step: LetterStep) -> MarkKey {
    MarkKey { letter: LetterId { origin: Origin::new("contract", 0, offset), attempt }, step }
}

fn send(offset: i64) -> MarkKey {
    key(offset, 0, LetterStep::Send)
}

fn ok<T>(answer: Result<T, DependencyError>) -> T {
    answer.unwrap_or_else(|error| panic!("the store failed: {error}: {}", error.source))
}

async fn begin(marks: &dyn RedriveMarks, key: &MarkKey, run: &str, now: Timestamp, until: Timestamp) -> BeginVerdict {
    let verdicts = ok(marks.begin(std::slice::from_ref(key), run, now, until).await);
    assert_eq!(verdicts.len(), 1, "one verdict for each key");
    verdicts.into_iter().next().unwrap()
}

async fn a_step_is_begun_by_one_run_and_finished_once(marks: &dyn RedriveMarks) {
    let key = send(1);
    assert_eq!(ok(marks.find(std::slice::from_ref(&key)).await), [None]);
    assert_eq!(begin(marks, &key, "a", NOW, LATER).await, BeginVerdict::Ours);
    assert_eq!(
        begin(marks, &key, "a", NOW, LATER).await,
        BeginVerdict::Ours,
        "a run can begin its own step again, as after a lost answer"
    );
    assert_eq!(begin(marks, &key, "b", NOW, LATER).await, BeginVerdict::UnderWay { until: LATER });
    let found = ok(marks.find(std::slice::from_ref(&key)).await).remove(0).expect("a mark");
    assert_eq!((found.run.as_str(), found.at, &found.state), ("a", NOW, &MarkState::UnderWay { until: LATER }));

    let position = Position::new("raw-events", 3, 7);
    ok(marks.finish(&[(key.clone(), Some(position.clone()))], "a", LATER).await);
    assert_eq!(
        begin(marks, &key, "a", LATER, LATER).await,
        BeginVerdict::Done,
        "the step is also done for the run that did it"
    );
    assert_eq!(
        begin(marks, &key, "b", LATER.plus(PATIENCE), LATER).await,
        BeginVerdict::Done,
        "a done step stays done"
    );
    let found = ok(marks.find(std::slice::from_ref(&key)).await).remove(0).expect("a mark");
    assert_eq!((found.at, &found.state), (LATER, &MarkState::Done { position: Some(position) }));
    assert_eq!(found.key, key);
}

async fn a_run_that_is_taken_for_dead_is_taken_over(marks: &dyn RedriveMarks) {
    let key = send(2);
    begin(marks, &key, "a", NOW, LATER).await;
    let before = Timestamp::from_millis(LATER.as_millis() - 1);
    assert_eq!(begin(marks, &key, "b", before, LATER).await, BeginVerdict::UnderWay { until: LATER });
    let much_later = LATER.plus(PATIENCE);
    assert_eq!(begin(marks, &key, "b", LATER, much_later).await, BeginVerdict::Ours, "an expired mark blocks no run");
    let held = BeginVerdict::UnderWay { until: much_later };
    assert_eq!(begin(marks, &key, "a", LATER, much_later).await, held, "the step was taken over");
    // The run that counted as dead comes back and finishes: the step is done.
    ok(marks.finish(&[(key.clone(), None)], "a", LATER).await);
    assert_eq!(begin(marks, &key, "b", LATER, much_later).await, BeginVerdict::Done);
}

async fn steps_and_attempts_are_apart(marks: &dyn RedriveMarks) {
    ok(marks.finish(&[(key(3, 3, LetterStep::Park), None)], "a", NOW).await);
    for other in [key(3, 3, LetterStep::Send), key(3, 2, LetterStep::Park), key(4, 3, LetterStep::Park)] {
        assert_eq!(begin(marks, &other, "a", NOW, LATER).await, BeginVerdict::Ours, "{other:?}");
    }
}

async fn one_of_many_concurrent_runs_begins_a_step(marks: &dyn RedriveMarks) {
    for round in 0..8 {
        let key = send(100 + round);
        let runs: Vec<String> = (0..12).map(|run| format!("run-{run}")).collect();
        let verdicts = join_all(runs.iter().map(|run| begin(marks, &key, run, NOW, LATER))).await;
        let winners = verdicts.iter().filter(|verdict| **verdict == BeginVerdict::Ours).count();
        assert_eq!(winners, 1, "exactly one run begins a step: {verdicts:?}");
        let others = verdicts.iter().filter(|verdict| **verdict == BeginVerdict::UnderWay { until: LATER }).count();
        assert_eq!(others, 11);
    }
}

async fn many_marks_are_answered_in_order(marks: &dyn RedriveMarks) {
    let keys: Vec<MarkKey> = (1_000..1_250).map(send).collect();
    let done: Vec<(MarkKey, Option<Position>)> = keys.iter().step_by(2).map(|key| (key.clone(), None)).collect();
    ok(marks.finish(&done, "a", NOW).await);
    let found = ok(marks.find(&keys).await);
    assert_eq!(found.len(), keys.len());
    for (index, (key, mark)) in keys.iter().zip(&found).enumerate() {
        assert_eq!(mark.as_ref().map(|mark| &mark.key), (index % 2 == 0).then_some(key));
    }
    let twice = [keys[0].clone(), keys[1].clone(), keys[0].clone()];
    let found: Vec<bool> = ok(marks.find(&twice).await).iter().map(Option::is_some).collect();
    assert_eq!(found, [true, false, true], "a key may be looked up twice in one call");
    let verdicts = ok(marks.begin(&keys, "a", NOW, LATER).await);
    for (index, verdict) in verdicts.iter().enumerate() {
        assert_eq!(*verdict, if index % 2 == 0 { BeginVerdict::Done } else { BeginVerdict::Ours });
    }
    assert!(ok(marks.find(&[]).await).is_empty());
    assert!(ok(marks.begin(&[], "a", NOW, LATER).await).is_empty());
}

async fn the_history_of_an_origin_is_in_order(marks: &dyn RedriveMarks) {
    let keys: Vec<MarkKey> = [0, 1, 2, 10]
        .map(|attempt| key(5_000, attempt, LetterStep::Send))
        .into_iter()
        .chain([key(5_000, 3, LetterStep::Park), key(50_001, 0, LetterStep::Send)])
        .collect();
    let done: Vec<(MarkKey, Option<Position>)> = keys.iter().map(|key| (key.clone(), None)).collect();
    ok(marks.finish(&done, "a", NOW).await);
    let history = ok(marks.of_origin(&Origin::new("contract", 0, 5_000)).await);
    let attempts: Vec<(u32, LetterStep)> =
        history.iter().map(|mark| (mark.key.letter.attempt, mark.key.step)).collect();
    let sent = |attempt| (attempt, LetterStep::Send);
    assert_eq!(attempts, [sent(0), sent(1), sent(2), (3, LetterStep::Park), sent(10)]);
}

/// Runs the suite on a source that reads the records of `broker`.
pub async fn topic_source_contract(broker: &dyn Broker, source: &dyn TopicSource) {
    let topic = broker.new_topic(3).await;
    publish(broker, topic, 0..200).await;
    let before = broker.records(topic).await;

    let mut reader = ok(source.open(topic, &BTreeMap::new()).await);
    publish(broker, topic, 200..260).await;
    assert_eq!(
        read_to_end(&mut *reader).await,
        before,
        "the reader returns the records that existed when it was opened, byte for byte"
    );
    assert!(reader.spans().values().all(|span| span.is_finished()));
    assert!(ok(reader.read(Duration::from_millis(10)).await).is_empty(), "a reader at its end returns nothing");

    // A reader that starts where another ended returns the rest.
    let next: BTreeMap<i32, i64> = reader.spans().iter().map(|(partition, span)| (*partition, span.next)).collect();
    let mut reader = ok(source.open(topic, &next).await);
    let rest = read_to_end(&mut *reader).await;
    assert_eq!([before, rest.clone()].concat().len(), 260);
    assert!(rest.iter().all(|record| record.position.offset >= next[&record.position.partition]));

    // One partition is read from its middle, the others from their start; there is nothing after the end.
    let from = BTreeMap::from([(0, 10), (1, 1_000_000)]);
    let mut reader = ok(source.open(topic, &from).await);
    let all = broker.records(topic).await;
    let expected: Vec<Record> = all
        .into_iter()
        .filter(|record| match record.position.partition {
            0 => record.position.offset >= 10,
            partition => partition == 2,
        })
        .collect();
    assert_eq!(read_to_end(&mut *reader).await, expected);
}

async fn publish(broker: &dyn Broker, topic: &'static str, numbers: std::ops::Range<u32>) {
    let records = numbers.map(|number| NewRecord {
        topic,
        key: Some(Bytes::from(format!("key-{number}"))),
        value: if number % 10 == 0 { None } else { Some(Bytes::from(vec![0xff; 1_000])) },
        headers: vec![Header::new("number", number.to_string()), Header { name: "none".into(), value: None }],
    });
    for answer in broker.publisher().publish(records.collect(), PATIENCE).await {
        ok(answer);
    }
}

/// All records, ordered by partition and offset.
async fn read_to_end(reader: &mut dyn TopicReader) -> Vec<Record> {
    let started = Instant::now();
    let mut records: Vec<Record> = Vec::new();
    while !reader.spans().values().all(|span| span.is_finished()) {
        assert!(started.elapsed() < PATIENCE, "{} records, then nothing: {:?}", records.len(), reader.spans());
        let read = ok(reader.read(Duration::from_millis(200)).await);
        for record in &read {
            assert!(
                record.position.offset < reader.spans()[&record.position.partition].next,
                "the span starts after the records that were read"
            );
        }
        records.extend(read);
    }
    records.sort_by(|a, b| a.position.cmp(&b.position));
    records
}
