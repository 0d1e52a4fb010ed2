//! Reading back what the writer stored, and reading damaged or unknown objects.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use archive::writer::{pack, store};
use archive::{ArchiveError, ArchiveReader, Filter, Records};
use bytes::Bytes;
use event::Timestamp;
use pipeline::ports::ObjectStore;
use pipeline::{ErrorClass, Position, Record, RecordHeaders};
use testkit::fakes::objects::FakeObjects;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

fn record(partition: i32, offset: i64, ms: i64) -> Record {
    Record {
        position: Position::new("raw-events", partition, offset),
        timestamp: Timestamp::from_millis(ms),
        key: Some(Bytes::from_static(b"key")),
        value: Some(Bytes::from(format!(r#"{{"at":{ms}}}"#))),
        headers: RecordHeaders::default(),
        undecodable: None,
    }
}

async fn archive(objects: &FakeObjects, records: &[Record]) -> Vec<String> {
    let mut names = Vec::new();
    for object in pack(records).unwrap() {
        store(objects, &object).await.unwrap();
        names.push(object.key.to_string());
    }
    names
}

fn reader(objects: &Arc<FakeObjects>) -> ArchiveReader {
    ArchiveReader::new(Arc::clone(objects) as Arc<dyn ObjectStore>)
}

fn all() -> Filter {
    Filter::topic("raw-events")
}

async fn drain(records: &mut Records) -> Vec<(i32, i64)> {
    let mut read = Vec::new();
    while let Some(record) = records.next().await.unwrap() {
        read.push((record.position.partition, record.position.offset));
    }
    read
}

#[tokio::test]
async fn overlapping_objects_give_each_record_once() {
    let objects = Arc::new(FakeObjects::default());
    let records: Vec<Record> = (5..=12).map(|offset| record(0, offset, 0)).collect();
    for cut in [&records[0..5], &records[0..3], &records[3..8]] {
        archive(&objects, cut).await;
    }
    let mut read = reader(&objects).records(&all()).await.unwrap();
    assert_eq!(drain(&mut read).await, (5..=12).map(|offset| (0, offset)).collect::<Vec<_>>());
    let tally = read.tally();
    assert_eq!((tally.objects, tally.records, tally.overlaps, tally.reused_offsets), (3, 8, 5, 0));
}

#[tokio::test]
async fn partitions_come_one_after_the_other_in_the_order_of_offsets() {
    let objects = Arc::new(FakeObjects::default());
    // Offset 3 is an hour early, 4 and 5 are a day late, so their objects are listed in another order.
    let records = [(1, 0, DAY), (1, 1, DAY), (0, 3, 0), (0, 4, DAY + HOUR), (0, 5, HOUR), (0, 6, 0), (10, 0, 0)]
        .map(|(partition, offset, ms)| record(partition, offset, ms));
    archive(&objects, &records).await;
    let read = drain(&mut reader(&objects).records(&all()).await.unwrap()).await;
    assert_eq!(read, [(0, 3), (0, 4), (0, 5), (0, 6), (1, 0), (1, 1), (10, 0)]);
}

#[tokio::test]
async fn filters_by_partition_and_time() {
    let objects = Arc::new(FakeObjects::default());
    let records: Vec<Record> = (0..72).map(|hour| record((hour % 2) as i32, hour, hour * HOUR + 5)).collect();
    archive(&objects, &records).await;
    let offsets = async |filter: Filter| {
        let read = drain(&mut reader(&objects).records(&filter).await.unwrap()).await;
        read.into_iter().map(|(_, offset)| offset).collect::<Vec<_>>()
    };
    let at = |ms| Timestamp::from_millis(ms);
    assert_eq!(offsets(all().partition(1).until(at(4 * HOUR))).await, [1, 3]);
    assert_eq!(offsets(all().from(at(70 * HOUR + 5))).await, [70, 71]);
    assert_eq!(offsets(all().from(at(70 * HOUR + 6))).await, [71]);
    assert_eq!(offsets(all().from(at(23 * HOUR)).until(at(25 * HOUR + 5))).await, [24, 23]);
    assert_eq!(offsets(all().from(at(23 * HOUR)).until(at(25 * HOUR + 6))).await, [24, 23, 25]);
    assert_eq!(offsets(all().from(at(5 * HOUR)).until(at(5 * HOUR))).await, Vec::<i64>::new());
    assert_eq!(offsets(all().from(at(5 * HOUR)).until(at(HOUR))).await, Vec::<i64>::new());
    // A range too long to be listed day by day.
    assert_eq!(offsets(all().from(at(71 * HOUR)).until(at(1_000 * DAY))).await, [71]);
    assert_eq!(offsets(Filter::topic("raw")).await, Vec::<i64>::new(), "a prefix is not a topic");
}

#[tokio::test]
async fn goes_on_from_an_offset_and_leaves_objects_before_it() {
    let objects = Arc::new(FakeObjects::default());
    for partition in 0..3 {
        for first in [0, 10] {
            let records: Vec<Record> = (first..first + 10).map(|offset| record(partition, offset, 0)).collect();
            archive(&objects, &records).await;
        }
    }
    let filter = all().partitions([0, 1]).starting_at([(0, 15), (1, 20), (2, 3)].into());
    let mut records = reader(&objects).records(&filter).await.unwrap();
    assert_eq!(drain(&mut records).await, (15..20).map(|offset| (0, offset)).collect::<Vec<_>>());
    assert_eq!(objects.gets(), 1);
}

#[tokio::test]
async fn coverage_names_every_gap_and_overlap() {
    let objects = Arc::new(FakeObjects::default());
    let records: Vec<Record> =
        (0..30).map(|offset| record(0, offset, if offset % 3 == 0 { HOUR } else { 0 })).collect();
    archive(&objects, &records[2..10]).await;
    archive(&objects, &records[8..12]).await;
    archive(&objects, &records[20..21]).await;
    let coverage = reader(&objects).coverage(&all()).await.unwrap();
    let partition = &coverage.partitions[&0];
    assert_eq!(partition.held.ranges(), [2..=11, 20..=20]);
    assert_eq!(partition.gaps(0..=24).ranges(), [0..=1, 12..=19, 21..=24]);
    assert_eq!((partition.copies, partition.overlaps(), partition.objects), (13, 2, 5));
    assert!(partition.bytes > 0);

    // The range in the object's name still covers the offsets of the lost hour. They must not count as held.
    let lost = objects.keys().into_iter().find(|key| key.contains("hour=01") && key.contains("3-0")).unwrap();
    objects.expire(&lost);
    let coverage = reader(&objects).coverage(&all()).await.unwrap();
    assert_eq!(coverage.partitions[&0].gaps(2..=9).ranges(), [3..=3, 6..=6]);
}

#[tokio::test]
async fn coverage_of_dense_objects_needs_no_body() {
    let objects = Arc::new(FakeObjects::default());
    let records: Vec<Record> = (0..10).map(|offset| record(0, offset, 0)).collect();
    archive(&objects, &records[..6]).await;
    archive(&objects, &records[4..]).await;
    let coverage = reader(&objects).coverage(&all()).await.unwrap();
    assert_eq!(coverage.partitions[&0].held.ranges(), [0..=9]);
    assert_eq!(objects.gets(), 0);
}

#[tokio::test]
async fn both_records_of_an_offset_that_came_back_are_read_once() {
    let objects = Arc::new(FakeObjects::default());
    archive(&objects, &[record(0, 0, 1), record(0, 1, 1)]).await;
    archive(&objects, &[record(0, 0, 1), record(0, 1, 2)]).await;
    archive(&objects, &[record(0, 1, 2), record(0, 2, 2)]).await;
    archive(&objects, &[record(0, 1, 3)]).await;
    let mut read = reader(&objects).records(&all()).await.unwrap();
    assert_eq!(drain(&mut read).await, [(0, 0), (0, 1), (0, 1), (0, 1), (0, 2)]);
    let tally = read.tally();
    assert_eq!((tally.records, tally.overlaps, tally.reused_offsets), (5, 2, 2));
}

#[tokio::test]
async fn strange_objects_are_left_out() {
    let objects = Arc::new(FakeObjects::default());
    let names = archive(&objects, &[record(0, 0, 0)]).await;
    objects.overwrite("raw/topic=raw-events/notes.txt", "not ours");
    objects.overwrite(&names[0].replace(".ndjson", ".backup.ndjson"), "not ours");
    assert_eq!(drain(&mut reader(&objects).records(&all()).await.unwrap()).await, [(0, 0)]);
}

/// Damages the second of three objects and continues to read after the error.
async fn read_past_damage(damage: impl Fn(Bytes) -> Vec<u8>) -> (Vec<i64>, ArchiveError) {
    let objects = Arc::new(FakeObjects::default());
    let mut middle = String::new();
    for first in [0, 10, 20] {
        let records: Vec<Record> = (first..first + 10).map(|offset| record(0, offset, 0)).collect();
        let name = archive(&objects, &records).await.remove(0);
        if first == 10 {
            middle = name;
        }
    }
    let body = objects.get(&middle).await.unwrap();
    objects.overwrite(&middle, damage(body));
    let mut records = reader(&objects).records(&all()).await.unwrap();
    let (mut read, mut errors) = (Vec::new(), Vec::new());
    loop {
        match records.next().await {
            Ok(Some(record)) => read.push(record.position.offset),
            Ok(None) => break,
            Err(error) => errors.push(error),
        }
    }
    assert_eq!(errors.len(), 1, "{errors:?}");
    let error = errors.remove(0);
    assert_eq!(error.class(), ErrorClass::Permanent);
    (read, error)
}

fn compress(text: &str) -> Vec<u8> {
    zstd::encode_all(text.as_bytes(), 3).unwrap()
}

#[tokio::test]
async fn a_damaged_object_is_named_and_costs_no_other_record() {
    let others = |read: &[i64]| read.iter().filter(|offset| !(10..20).contains(*offset)).count();
    let text = |body: &Bytes| String::from_utf8(zstd::decode_all(&body[..]).unwrap()).unwrap();

    let (read, error) = read_past_damage(|_| b"not zstd".to_vec()).await;
    assert_eq!((others(&read), error.tag()), (20, "decompress"));
    let (read, error) = read_past_damage(|body| body[..body.len() / 2].to_vec()).await;
    assert_eq!((others(&read), error.tag()), (20, "decompress"));
    let (read, error) = read_past_damage(|body| {
        let mut damaged = body.to_vec();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        damaged
    })
    .await;
    assert_eq!((others(&read), error.tag()), (20, "decompress"), "the checksum");
    let (read, error) = read_past_damage(|body| compress(&text(&body).replace("\"offset\":13", "\"offset\":x"))).await;
    assert_eq!((read.len(), error.tag()), (23, "line"));
    for (from, to) in [
        ("\"offset\":13", "\"offset\":12"),
        ("\"offset\":13", "\"offset\":23"),
        ("\"partition\":0", "\"partition\":1"),
        ("raw-events", "other-events"),
    ] {
        let (read, error) = read_past_damage(|body| compress(&text(&body).replace(from, to))).await;
        assert_eq!((others(&read), error.tag()), (20, "contents"), "{to}");
    }
    let (read, error) = read_past_damage(|_| compress("")).await;
    assert_eq!((others(&read), error.tag()), (20, "contents"));
    let (read, error) = read_past_damage(|body| compress(text(&body).trim_end())).await;
    assert_eq!((others(&read), error.tag()), (20, "contents"));
}

#[tokio::test]
async fn a_short_outage_does_not_stop_a_reader() {
    let objects = Arc::new(FakeObjects::default());
    archive(&objects, &[record(0, 0, 0)]).await;
    objects.faults.fail(2, ErrorClass::Transient);
    let mut records = reader(&objects).records(&all()).await.unwrap();
    objects.faults.fail(2, ErrorClass::Overload);
    assert_eq!(drain(&mut records).await, [(0, 0)]);
}

#[tokio::test]
async fn an_object_that_expires_meanwhile_is_an_error() {
    let objects = Arc::new(FakeObjects::default());
    let names = archive(&objects, &[record(0, 0, 0)]).await;
    let mut records = reader(&objects).records(&all()).await.unwrap();
    objects.expire(&names[0]);
    assert_eq!(records.next().await.unwrap_err().tag(), "absent");
    assert!(records.next().await.unwrap().is_none());
}
