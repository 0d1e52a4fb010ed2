//! Topics in memory.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use event::Timestamp;
use pipeline::ports::{NewRecord, RecordPublisher, TopicId};
use pipeline::{Dependency, DependencyError, ErrorClass, Position, Record, RecordHeaders, topic};

use super::Faults;

/// Largest record that `raw-events` takes; the default of `kafka::PublisherOptions`.
const MAX_RAW_RECORD_BYTES: usize = 1_000_000;
/// The same for the other topics; the default of `MAX_RECORD_BYTES`.
const MAX_RECORD_BYTES: usize = 1_500_000;

/// Keeps the published records, with the partitions and offsets that Kafka would assign.
///
/// Topics are created with their first record. Records without a key go to partition 0, and every record's timestamp is
/// its offset in milliseconds, so that tests can predict both.
#[derive(Debug)]
pub struct FakePublisher {
    partitions: i32,
    state: Mutex<State>,
    /// Each call takes one fault, which applies to all its records.
    pub faults: Faults,
}

#[derive(Debug, Default)]
struct State {
    /// Per topic, the records of each partition.
    topics: BTreeMap<&'static str, Vec<Vec<Record>>>,
    /// How often a topic was created, and the oldest offset left in its partitions, if retention has deleted any.
    made: BTreeMap<&'static str, (u8, BTreeMap<i32, i64>)>,
    /// Keys whose next record is refused.
    refused: Vec<(Bytes, ErrorClass)>,
}

impl FakePublisher {
    /// A publisher with that many partitions in every topic, at least 1.
    pub fn new(partitions: i32) -> Self {
        FakePublisher { partitions, state: Mutex::default(), faults: Faults::default() }
    }

    /// Creates a topic with its own number of partitions, before its first record. One of that name is deleted.
    pub fn create_topic(&self, topic: &'static str, partitions: i32) {
        let mut state = self.state();
        state.topics.insert(topic, logs(partitions));
        let (times, oldest) = state.made.entry(topic).or_default();
        *times += 1;
        oldest.clear();
    }

    /// Adds partitions to a topic, so that it has that many.
    pub fn add_partitions(&self, topic: &'static str, partitions: i32) {
        let mut state = self.state();
        let logs = state.topics.entry(topic).or_default();
        logs.resize(usize::try_from(partitions).unwrap_or(0).max(logs.len()), Vec::new());
    }

    /// Deletes the records of a partition below an offset, as retention does.
    pub fn expire(&self, topic: &'static str, partition: i32, below: i64) {
        self.state().made.entry(topic).or_default().1.insert(partition, below);
    }

    /// Everything in a topic, ordered by partition and offset.
    pub fn records(&self, topic: &str) -> Vec<Record> {
        let state = self.state();
        let oldest = |partition: i32| state.made.get(topic).and_then(|(_, oldest)| oldest.get(&partition).copied());
        let all = state.topics.get(topic).into_iter().flatten().flatten();
        let left = all.filter(|record| record.position.offset >= oldest(record.position.partition).unwrap_or(0));
        left.cloned().collect()
    }

    /// The identity of a topic, and the offsets that each of its partitions has.
    pub(super) fn extent(&self, topic: &str) -> (TopicId, BTreeMap<i32, Range<i64>>) {
        let state = self.state();
        let (times, oldest) = state.made.get(topic).cloned().unwrap_or_default();
        let partitions = state.topics.get(topic).into_iter().flatten().zip(0..);
        let extent = partitions.map(|(log, partition)| {
            let end = i64::try_from(log.len()).unwrap_or(i64::MAX);
            (partition, oldest.get(&partition).copied().unwrap_or(0)..end)
        });
        ([times + 1; 16], extent.collect())
    }

    /// The next record with that key fails alone, without being kept.
    pub fn refuse(&self, key: impl Into<Bytes>, class: ErrorClass) {
        self.state().refused.push((key.into(), class));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, record: NewRecord) -> Result<Position, DependencyError> {
        let mut state = self.state();
        let refused = state.refused.iter().position(|(key, _)| record.key.as_ref() == Some(key));
        if let Some((_, class)) = refused.map(|index| state.refused.remove(index)) {
            return Err(failure(class, "injected", "refused by a test"));
        }
        let headers: usize =
            record.headers.iter().map(|header| header.name.len() + header.value.as_ref().map_or(0, Bytes::len)).sum();
        let limit = if record.topic == topic::RAW_EVENTS { MAX_RAW_RECORD_BYTES } else { MAX_RECORD_BYTES };
        if record.key.as_ref().map_or(0, Bytes::len) + record.value.as_ref().map_or(0, Bytes::len) + headers > limit {
            return Err(failure(ErrorClass::Permanent, "too-large", "the record is too large"));
        }
        let logs = state.topics.entry(record.topic).or_insert_with(|| logs(self.partitions));
        let partitions = i32::try_from(logs.len()).unwrap_or(i32::MAX);
        let partition = record.key.as_deref().map_or(0, |key| partition_of(key, partitions));
        let log = &mut logs[usize::try_from(partition).unwrap_or(0)];
        let position = Position::new(record.topic, partition, i64::try_from(log.len()).unwrap_or(i64::MAX));
        log.push(Record {
            timestamp: Timestamp::from_millis(position.offset),
            position: position.clone(),
            key: record.key,
            value: record.value,
            headers: RecordHeaders(record.headers),
            undecodable: None,
        });
        Ok(position)
    }
}

#[async_trait]
impl RecordPublisher for FakePublisher {
    async fn publish(&self, records: Vec<NewRecord>, timeout: Duration) -> Vec<Result<Position, DependencyError>> {
        let count = records.len();
        let answers = self.faults.apply(Dependency::Kafka, || {
            records
                .into_iter()
                .map(|record| {
                    if timeout.is_zero() {
                        return Err(failure(ErrorClass::Transient, "timeout", "no time is left"));
                    }
                    self.keep(record)
                })
                .collect()
        });
        match answers {
            Ok(answers) => answers,
            Err(error) => (0..count).map(|_| Err(failure(error.class, error.tag, "injected by a test"))).collect(),
        }
    }

    async fn close(&self, _: Duration) -> Result<(), DependencyError> {
        Ok(())
    }
}

/// The empty partitions of a topic; at least one.
fn logs(partitions: i32) -> Vec<Vec<Record>> {
    vec![Vec::new(); usize::try_from(partitions).unwrap_or(0).max(1)]
}

fn failure(class: ErrorClass, tag: &'static str, why: &'static str) -> DependencyError {
    DependencyError { dependency: Dependency::Kafka, class, tag, doing: "publishing a record", source: why.into() }
}

/// The partition that Kafka's own clients choose for a key: `murmur2(key)` without its sign, modulo the number of
/// partitions.
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    (murmur2(key) & 0x7fff_ffff).cast_signed() % partitions.max(1)
}

/// MurmurHash2 with the seed of Kafka's `Utils.murmur2`.
fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    let mut hash = 0x9747_b28c ^ length;
    let (words, tail) = key.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        let mut word = [0; 4];
        word[..tail.len()].copy_from_slice(tail);
        hash = (hash ^ u32::from_le_bytes(word)).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From `UtilsTest.testMurmur2` of Apache Kafka.
    #[test]
    fn hashes_as_the_java_client_does() {
        let cases: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key).cast_signed(), hash, "{}", String::from_utf8_lossy(key));
        }
    }
}
