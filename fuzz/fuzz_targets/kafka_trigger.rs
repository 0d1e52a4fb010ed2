//! The event of a Kafka trigger, and everything the processor and the archiver decide about its records.
//!
//! Beyond not panicking: each record of the event ends in one ledger entry and one outcome, a redelivery publishes the
//! same bytes, and the archive gives back the very records.

#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use archive::{ArchiveReader, Filter, writer};
use event::schema::Registry;
use event::{Origin, TenantId, Timestamp};
use lambda::kafka_trigger::read;
use libfuzzer_sys::fuzz_target;
use pipeline::dead_letter::{DeadLetter, dead_letter};
use pipeline::decisions::dedup::ClaimPlan;
use pipeline::decisions::intake::Reader;
use pipeline::decisions::limits::{Blocks, LimitPlan, LimitPolicy};
use pipeline::decisions::publication;
use pipeline::decisions::verdicts::decide;
use pipeline::ports::{ClaimStore as _, EventStore as _, LedgerEntry, NewRecord, ObjectStore};
use pipeline::{Delivery, Record, RecordHeaders};
use serde_json::Value;
use testkit::fakes::claims::FakeClaims;
use testkit::fakes::objects::FakeObjects;
use testkit::fakes::store::FakeStore;

const DAY: Duration = Duration::from_secs(86_400);
const NOW: Timestamp = Timestamp::from_millis(1_795_197_720_000);

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| Registry::embedded().unwrap());

fuzz_target!(|data: &str| {
    let Ok(Delivery::Records(delivered)) = read(data) else { return };
    let records: Vec<&Record> = delivered.iter().collect();
    assert!(records.is_sorted_by_key(|record| &record.position));
    // A trigger sends a record once in an event; what a fuzzer makes of that is answered, but has no one right answer.
    if records.windows(2).any(|pair| pair[0].position == pair[1].position) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        process(&delivered).await;
        archive(&records).await;
    });
});

async fn process(delivered: &[Record]) {
    let (claims, store) = (FakeClaims::new(DAY), FakeStore::new(DAY));
    let first = process_once(delivered, &claims, &store).await;
    let again = process_once(delivered, &claims, &store).await;
    assert_eq!(first, again, "a redelivery publishes the same bytes");
    assert_eq!(store.ledger().len(), delivered.len());
}

async fn process_once(delivered: &[Record], claims: &FakeClaims, store: &FakeStore) -> Vec<NewRecord> {
    let foreign_tenant = TenantId::new("kafka").unwrap();
    let reader = Reader { registry: &REGISTRY, foreign_tenant: &foreign_tenant, now: Timestamp::EPOCH };
    let plan = ClaimPlan::new(reader.read_all(delivered), NOW, DAY);
    let answers = claims.claim(&plan.claims, NOW).await.unwrap();
    let claimed = plan.resolve(answers).unwrap();
    let policy = LimitPolicy { per_minute: None, block_for: DAY };
    let limits = LimitPlan::new(claimed, &Blocks::default(), policy).resolve(&[]).unwrap();
    let decided = decide(limits.records, None, 80).unwrap();
    let ledger: Vec<LedgerEntry> = store.record(&decided, NOW).await.unwrap();

    let mut published = Vec::new();
    for ((record, tracked), entry) in delivered.iter().zip(&decided).zip(&ledger) {
        let outcome = publication::OutcomeWriter::new(&[]).outcome(tracked, entry, None).unwrap();
        let value: Value = serde_json::from_slice(outcome.value.as_deref().unwrap()).unwrap();
        assert_eq!(value["outcome_id"], entry.position.to_string());
        published.push(outcome);
        if let Some(letter) = dead_letter(record, entry) {
            assert_eq!((&letter.key, &letter.value), (&record.key, &record.value));
            assert!(letter.headers.starts_with(&record.headers.0), "the record's own headers come first");
            // Kafka itself has no topic, partition or offset that is no origin.
            if entry.origin.to_string().parse::<Origin>().is_ok() {
                can_be_redriven(record, &letter, entry);
            }
            published.push(letter);
        }
    }
    published
}

/// What the processor writes, the redriver reads, and its copy names the first one.
fn can_be_redriven(record: &Record, letter: &NewRecord, entry: &LedgerEntry) {
    let as_record = |new: &NewRecord| Record {
        key: new.key.clone(),
        value: new.value.clone(),
        headers: RecordHeaders(new.headers.clone()),
        ..record.clone()
    };
    let copy = as_record(&DeadLetter::read(as_record(letter)).unwrap().redriven());
    assert_eq!((&copy.key, &copy.value), (&record.key, &record.value));
    assert_eq!(
        (copy.origin(copy.digest()), copy.attempt()),
        (entry.origin.clone(), record.attempt().saturating_add(1))
    );
    assert_eq!(copy.origin_timestamp(), Some(record.origin_timestamp().unwrap_or(entry.recorded_at)));
}

async fn archive(records: &[&Record]) {
    // Kafka itself has no such topics, and no such partitions or offsets.
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let possible = |record: &&&Record| {
        let position = &record.position;
        let topic = &*position.topic;
        !topic.is_empty() && topic.bytes().all(legal) && position.partition >= 0 && position.offset >= 0
    };
    let records: Vec<&Record> = records.iter().filter(possible).copied().collect();
    let objects = Arc::new(FakeObjects::default());
    for object in writer::pack(records.iter().copied()).unwrap() {
        writer::store(&*objects, &object).await.unwrap();
    }
    let topics: std::collections::BTreeSet<&Arc<str>> = records.iter().map(|record| &record.position.topic).collect();
    for topic in topics {
        let store = Arc::clone(&objects) as Arc<dyn ObjectStore>;
        let mut read = ArchiveReader::new(store).records(&Filter::topic(Arc::clone(topic))).await.unwrap();
        for expected in records.iter().filter(|record| record.position.topic == *topic) {
            assert_eq!(read.next().await.unwrap().as_ref(), Some(*expected));
        }
        assert_eq!(read.next().await.unwrap(), None);
        assert_eq!(read.tally().reused_offsets, 0);
    }
}
