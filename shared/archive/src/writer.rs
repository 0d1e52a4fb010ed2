//! From records to objects, each object written once.
//!
//! One call of [`pack`] makes one object per series (topic, or status), partition and hour. Its name says which
//! offsets are in it ([`crate::key`]). [`store`] writes it with `If-None-Match: *`.
//!
//! # Why no record is lost if a name is taken
//!
//! Lambda sends a batch again after a failure, cut as before or differently. A record's series, partition and hour
//! follow from the record alone, and Kafka records do not change. Therefore:
//!
//! - The name of a dense object lists its offsets, so two dense objects with one name hold the same records.
//! - If two batches are contiguous ranges of a partition and give the same name `first-last`, both contain that whole
//!   range, so they hold the same records of that series and hour.
//! - A batch with holes, as after a partial answer, may give a name with gaps whose records differ from those in the
//!   object of that name. The same is true of a topic that was deleted and created again, because its offsets start
//!   again.
//!
//! The last case is rare but could lose records without notice. So when S3 answers that the object exists, the object
//! is read back and compared. If its bytes differ, ours are written to another name that contains their digest. (The
//! bytes also differ after a change of the zstd version. That costs only an object, because readers merge by offset.)

use std::sync::Arc;

use bytes::Bytes;
use pipeline::ports::{ObjectStore, PutResult};
use pipeline::{DependencyError, Position, Record};
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use crate::error::ArchiveError;
use crate::key::{BodyDigest, Hour, ObjectKey, Series, Status};
use crate::line;

/// DESIGN section 9. On batches of events, level 6 saves 3 % more and takes four times as long.
const ZSTD_LEVEL: i32 = 3;

/// An object that is ready to be written.
#[derive(Clone, Debug)]
pub struct PackedObject {
    pub key: ObjectKey,
    /// The compressed lines.
    pub body: Bytes,
    /// Size of the lines before compression, in bytes.
    pub lines_bytes: u64,
    topic: Arc<str>,
    offsets: Vec<i64>,
}

impl PackedObject {
    /// The records in it, in the order of their offsets.
    pub fn positions(&self) -> impl Iterator<Item = Position> + '_ {
        self.offsets.iter().map(|offset| Position::new(Arc::clone(&self.topic), self.key.partition, *offset))
    }
}

/// The sort key of a record: first what decides its object, then its place in the object.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place<'a> {
    topic: &'a str,
    partition: i32,
    /// `None` outside `outcomes/`.
    status: Option<Status>,
    hour: Hour,
    offset: i64,
}

impl<'a> Place<'a> {
    fn of(record: &'a Record) -> Self {
        let Position { topic, partition, offset, .. } = &record.position;
        Place {
            topic,
            partition: *partition,
            status: Status::of(record),
            hour: Hour::of(record.timestamp),
            offset: *offset,
        }
    }

    fn same_object(&self, other: &Place<'_>) -> bool {
        (self.topic, self.partition, self.status, self.hour) == (other.topic, other.partition, other.status, other.hour)
    }
}

/// Packs records, in any order, into objects. A record that comes twice is written once. The same records give the
/// same names and bytes, whatever their order.
///
/// Keeps the uncompressed lines of one object at a time in memory; batches have at most 6 MB, so it need not stream.
///
/// # Errors
/// None is known: everything happens in memory.
pub fn pack<'a>(records: impl IntoIterator<Item = &'a Record>) -> Result<Vec<PackedObject>, ArchiveError> {
    let mut placed: Vec<(Place<'a>, &'a Record)> =
        records.into_iter().map(|record| (Place::of(record), record)).collect();
    placed.sort_by(|(a, _), (b, _)| a.cmp(b));
    placed.dedup_by(|(a, _), (b, _)| a == b);

    // One compression context and one buffer for all objects. Creating them for each of many small objects is slow.
    let mut compressor = compressor().map_err(ArchiveError::Compressor)?;
    let mut lines = Vec::new();
    placed
        .chunk_by(|(a, _), (b, _)| a.same_object(b))
        .filter_map(|chunk| Some((chunk, chunk.first()?.1, chunk.last()?.1)))
        .map(|(chunk, first, last)| {
            lines.clear();
            for (_, record) in chunk {
                line::encode(record, &mut lines)
                    .map_err(|source| ArchiveError::Encode { position: record.position.clone(), source })?;
            }
            let key = ObjectKey {
                series: Series::of(first),
                hour: Hour::of(first.timestamp),
                partition: first.position.partition,
                first: first.position.offset,
                last: last.position.offset,
                records: chunk.len() as u64,
                digest: None,
            };
            let body = compressor
                .compress(&lines)
                .map_err(|source| ArchiveError::Compress { key: key.to_string(), source })?;
            Ok(PackedObject {
                key,
                body: Bytes::from(body),
                lines_bytes: lines.len() as u64,
                topic: Arc::clone(&first.position.topic),
                offsets: chunk.iter().map(|(place, _)| place.offset).collect(),
            })
        })
        .collect()
}

fn compressor() -> std::io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(ZSTD_LEVEL)?;
    // Four bytes per object, with which a reader detects damage.
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    Ok(compressor)
}

/// Writes the object, unless it exists. May be repeated any number of times.
///
/// # Errors
/// Errors of the object store. The object may or may not have been written then.
pub async fn store(objects: &dyn ObjectStore, object: &PackedObject) -> Result<PutResult, DependencyError> {
    let name = object.key.to_string();
    match objects.put_new(&name, object.body.clone()).await? {
        PutResult::Created => return Ok(PutResult::Created),
        PutResult::AlreadyThere => {}
    }
    if objects.get(&name).await? == object.body {
        return Ok(PutResult::AlreadyThere);
    }
    let beside = ObjectKey { digest: Some(BodyDigest::of(&object.body)), ..object.key.clone() };
    tracing::warn!(
        object = %name,
        beside = %beside,
        "an archive object with this name and different bytes exists; writing under another name"
    );
    objects.put_new(&beside.to_string(), object.body.clone()).await
}

#[cfg(test)]
mod tests {
    use event::Timestamp;
    use pipeline::{ErrorClass, Header, Outcome, RecordHeaders, header, topic};
    use testkit::fakes::objects::FakeObjects;

    use super::*;

    const HOUR: i64 = 3_600_000;

    fn record(topic: &str, partition: i32, offset: i64, ms: i64) -> Record {
        Record {
            position: Position::new(topic, partition, offset),
            timestamp: Timestamp::from_millis(ms),
            key: None,
            value: Some(Bytes::from(format!(r#"{{"offset":{offset}}}"#))),
            headers: RecordHeaders::default(),
            undecodable: None,
        }
    }

    fn outcome(offset: i64, outcome: &str) -> Record {
        let headers = RecordHeaders(vec![Header::new(header::OUTCOME, outcome.to_owned())]);
        Record { headers, ..record(topic::PROCESSED_EVENTS, 0, offset, 0) }
    }

    fn names(records: &[Record]) -> Vec<String> {
        pack(records).unwrap().into_iter().map(|object| object.key.to_string()).collect()
    }

    fn body_text(object: &PackedObject) -> String {
        String::from_utf8(zstd::decode_all(&object.body[..]).unwrap()).unwrap()
    }

    #[test]
    fn one_object_per_topic_partition_and_hour() {
        let records = [
            record("raw-events", 1, 7, HOUR - 1),
            record("raw-events", 0, 2, 0),
            record("raw-events", 1, 9, HOUR - 2),
            record("raw-events", 1, 8, HOUR),
            record("other", 0, 2, 0),
        ];
        assert_eq!(
            names(&records),
            [
                "raw/topic=other/dt=1970-01-01/hour=00/partition=0/00000000000000000002-00000000000000000002.ndjson.zst",
                "raw/topic=raw-events/dt=1970-01-01/hour=00/partition=0/00000000000000000002-00000000000000000002.ndjson.zst",
                "raw/topic=raw-events/dt=1970-01-01/hour=00/partition=1/00000000000000000007-00000000000000000009.n2.ndjson.zst",
                "raw/topic=raw-events/dt=1970-01-01/hour=01/partition=1/00000000000000000008-00000000000000000008.ndjson.zst",
            ]
        );
        let positions: Vec<String> =
            pack(&records).unwrap()[2].positions().map(|position| position.to_string()).collect();
        assert_eq!(positions, ["raw-events/1/7", "raw-events/1/9"]);
    }

    #[test]
    fn outcome_records_go_by_their_header_and_none_is_dropped() {
        let mut records: Vec<Record> =
            Outcome::ALL.iter().zip(0..).map(|(status, offset)| outcome(offset, status.as_str())).collect();
        records.extend([outcome(5, "eaten"), record(topic::PROCESSED_EVENTS, 0, 6, 0)]);
        let objects = pack(&records).unwrap();
        let mut statuses: Vec<(String, u64)> =
            objects.iter().map(|object| (object.key.series.to_string(), object.key.records)).collect();
        statuses.sort();
        let expected = ["blocked", "dead_lettered", "duplicate", "fraud", "unknown", "valid"];
        assert_eq!(
            statuses,
            expected.map(|status| (format!("outcomes/status={status}"), if status == "unknown" { 2 } else { 1 }))
        );
    }

    #[test]
    fn the_same_records_give_the_same_object_in_any_order() {
        let mut records: Vec<Record> = (0..50).map(|offset| record("raw-events", 0, offset, 0)).collect();
        let first = &pack(&records).unwrap()[0];
        records.reverse();
        records.extend_from_within(10..20);
        let second = &pack(&records).unwrap()[0];
        assert_eq!((&first.key, &first.body), (&second.key, &second.body));
        let text = body_text(second);
        assert_eq!(text.lines().count(), 50);
        assert_eq!(text.len() as u64, second.lines_bytes);
    }

    #[test]
    fn nothing_gives_nothing() {
        assert_eq!(pack([]).unwrap().len(), 0);
    }

    #[tokio::test]
    async fn a_repeat_finds_the_object_there() {
        let objects = FakeObjects::default();
        let object = pack(&[record("raw-events", 0, 0, 0)]).unwrap().remove(0);
        objects.faults.lose_answer(1, ErrorClass::Transient);
        assert!(store(&objects, &object).await.is_err());
        assert_eq!(store(&objects, &object).await.unwrap(), PutResult::AlreadyThere);
        assert_eq!(objects.keys(), [object.key.to_string()]);
    }

    /// After a partial answer, offsets 2 and 8 are written alone. Later 2, 5 and 8 come in one batch with the same
    /// name.
    #[tokio::test]
    async fn a_name_taken_by_other_records_loses_none() {
        let objects = FakeObjects::default();
        let batch = |offsets: &[i64]| {
            let records: Vec<Record> = offsets.iter().map(|offset| record("raw-events", 0, *offset, 0)).collect();
            pack(&records).unwrap().remove(0)
        };
        // The number of records is the same, too.
        let (earlier, later) = (batch(&[2, 3, 8]), batch(&[2, 5, 8]));
        assert_eq!(earlier.key, later.key);
        assert_eq!(store(&objects, &earlier).await.unwrap(), PutResult::Created);
        assert_eq!(store(&objects, &later).await.unwrap(), PutResult::Created);
        assert_eq!(store(&objects, &later).await.unwrap(), PutResult::AlreadyThere);
        let keys = objects.keys();
        assert_eq!(keys.len(), 2, "{keys:?}");
        assert_eq!(objects.get(&keys[0]).await.unwrap(), earlier.body);
        assert_eq!(objects.get(&keys[1]).await.unwrap(), later.body);
    }
}
