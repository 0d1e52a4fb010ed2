//! Checks that the archive holds every record that it should.
//!
//! Kafka says what should be there: the offsets that it still has, up to the committed offset of the archiver's group.
//! Later records are on their way. The archive may also hold older records, which Kafka has deleted.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use archive::{ArchiveReader, Coverage, Filter, OffsetRanges, PartitionCoverage};
use kafka::{KafkaClient, PartitionWatermarks};
use pipeline::Position;

use crate::log_content::{Offsets, records_at};
use crate::mappings::ARCHIVERS;

/// Compares the archive with what Kafka has and the archiver has committed.
#[derive(Debug, Default)]
pub struct ArchiveProof {
    lines: Vec<ArchivedPartition>,
}

/// One partition.
#[derive(Debug)]
struct ArchivedPartition {
    topic: &'static str,
    /// The offsets that Kafka has.
    marks: PartitionWatermarks,
    /// The committed offset: the archiver's group has finished everything below it.
    committed: i64,
    /// How many of the offsets in Kafka are in the archive.
    covered: u64,
    /// Committed offsets that hold a record and are not in the archive.
    missing: OffsetRanges,
    /// How many records are neither committed nor in the archive yet.
    waiting: u64,
    /// How many lines in the archive repeat an offset.
    overlaps: u64,
}

impl ArchiveProof {
    /// Reads the committed offsets first and the archive last, so that records archived in between are not missed.
    ///
    /// # Errors
    /// If Kafka or the archive cannot be read.
    pub async fn gather(kafka: &KafkaClient, archive: &ArchiveReader) -> anyhow::Result<Self> {
        let topics = kafka.topics();
        let mut proof = ArchiveProof::default();
        for (topic, group) in ARCHIVERS {
            let committed = topics.committed(group).await?;
            let watermarks = topics.watermarks(topic).await?;
            let coverage = archive.coverage(&Filter::topic(topic)).await?;
            let records = records_at(kafka, topic, &not_archived(&watermarks, &coverage)).await?;
            proof.compare(topic, &committed, &watermarks, &coverage, &records);
        }
        Ok(proof)
    }

    /// `records` are those of the offsets that are [`not_archived`].
    fn compare(
        &mut self,
        topic: &'static str,
        committed: &[Position],
        watermarks: &[PartitionWatermarks],
        coverage: &Coverage,
        records: &Offsets,
    ) {
        let committed: BTreeMap<i32, i64> = committed
            .iter()
            .filter(|position| *position.topic == *topic)
            .map(|position| (position.partition, position.offset))
            .collect();
        let (nothing, none) = (PartitionCoverage::default(), OffsetRanges::default());
        for marks in watermarks {
            let PartitionWatermarks { partition, earliest, latest } = *marks;
            let archived = coverage.partitions.get(&partition).unwrap_or(&nothing);
            let committed = committed.get(&partition).copied().unwrap_or(earliest).clamp(earliest, latest);
            let records = records.get(&partition).unwrap_or(&none);
            let missing = records.within(below(earliest, committed));
            let waiting = records.within(below(committed, latest)).len();
            self.lines.push(ArchivedPartition {
                topic,
                marks: *marks,
                committed,
                covered: archived.held.within(below(earliest, latest)).len(),
                missing,
                waiting,
                overlaps: archived.overlaps(),
            });
        }
    }

    /// Number of records that the archiver's groups have committed and the archive does not hold.
    pub fn missing(&self) -> u64 {
        self.lines.iter().map(|line| line.missing.len()).sum()
    }

    /// Number of records that are still on their way to the archive.
    pub fn waiting(&self) -> u64 {
        self.lines.iter().map(|line| line.waiting).sum()
    }
}

/// The offsets in Kafka that are not in the archive. Whether they hold records must be looked up.
fn not_archived(watermarks: &[PartitionWatermarks], coverage: &Coverage) -> Offsets {
    let nothing = PartitionCoverage::default();
    let gaps = watermarks.iter().map(|PartitionWatermarks { partition, earliest, latest }| {
        let archived = coverage.partitions.get(partition).unwrap_or(&nothing);
        (*partition, archived.gaps(below(*earliest, *latest)))
    });
    gaps.collect()
}

/// From the first offset up to but not including the second.
fn below(from: i64, end: i64) -> RangeInclusive<i64> {
    from..=end - 1
}

impl fmt::Display for ArchiveProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>16} {:>9} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
            "archive of", "partition", "from", "committed", "end", "covered", "missing", "waiting", "overlaps"
        )?;
        for ArchivedPartition { topic, marks, committed, covered, missing, waiting, overlaps } in &self.lines {
            let PartitionWatermarks { partition, earliest, latest } = marks;
            let missing = missing.len();
            writeln!(
                f,
                "{topic:>16} {partition:>9} {earliest:>10} {committed:>10} {latest:>10} {covered:>10} {missing:>10} \
                 {waiting:>10} {overlaps:>10}"
            )?;
        }
        for ArchivedPartition { topic, marks, missing, .. } in &self.lines {
            for range in missing.ranges() {
                let (first, last) = (range.start(), range.end());
                writeln!(f, "{topic} partition {}: offsets {first} to {last} are not in the archive", marks.partition)?;
            }
        }
        writeln!(f, "missing in the archive: {}; waiting: {}", self.missing(), self.waiting())
    }
}

#[cfg(test)]
mod tests {
    use pipeline::topic::{PROCESSED_EVENTS, RAW_EVENTS};

    use super::*;

    /// An archive of one partition, of objects with these ranges.
    fn archive(objects: &[RangeInclusive<i64>]) -> Coverage {
        let held = OffsetRanges::union_of(objects.iter().cloned());
        let copies = objects.iter().map(|object| object.end().abs_diff(*object.start()) + 1).sum();
        let partition = PartitionCoverage { held, copies, objects: objects.len() as u64, bytes: 0 };
        Coverage { partitions: BTreeMap::from([(0, partition)]) }
    }

    /// With a record at every offset.
    fn proof(earliest: i64, committed: Option<i64>, latest: i64, archive: &Coverage) -> ArchiveProof {
        proof_without(&[], earliest, committed, latest, archive)
    }

    fn proof_without(
        empty: &[i64],
        earliest: i64,
        committed: Option<i64>,
        latest: i64,
        archive: &Coverage,
    ) -> ArchiveProof {
        let mut proof = ArchiveProof::default();
        let other = Position::new(PROCESSED_EVENTS, 0, 99);
        let committed: Vec<Position> =
            committed.map(|offset| Position::new(RAW_EVENTS, 0, offset)).into_iter().chain([other]).collect();
        let marks = [PartitionWatermarks { partition: 0, earliest, latest }];
        let asked = not_archived(&marks, archive).remove(&0).unwrap();
        let records = (earliest..latest).filter(|offset| asked.contains(*offset) && !empty.contains(offset));
        let records = Offsets::from([(0, OffsetRanges::union_of(records.map(|offset| offset..=offset)))]);
        proof.compare(RAW_EVENTS, &committed, &marks, archive, &records);
        proof
    }

    fn sums(proof: &ArchiveProof) -> (u64, u64, u64, u64) {
        let line = &proof.lines[0];
        (line.covered, proof.missing(), proof.waiting(), line.overlaps)
    }

    #[test]
    fn objects_that_overlap_cover_each_offset_once() {
        assert_eq!(sums(&proof(0, Some(10), 10, &archive(&[0..=6, 4..=9]))), (10, 0, 0, 3));
    }

    #[test]
    fn committed_records_that_the_archive_lacks_are_missing_and_named() {
        let proof = proof(0, Some(10), 10, &archive(&[0..=2, 5..=6, 8..=9]));
        assert_eq!(sums(&proof), (7, 3, 0, 0));
        let text = proof.to_string();
        assert!(text.contains("raw-events partition 0: offsets 3 to 4 are not in the archive"), "{text}");
        assert!(text.contains("raw-events partition 0: offsets 7 to 7 are not in the archive"), "{text}");
        assert!(text.contains("missing in the archive: 3; waiting: 0"), "{text}");
    }

    #[test]
    fn an_offset_that_never_was_a_record_is_neither_missing_nor_waiting() {
        assert_eq!(sums(&proof_without(&[3, 4, 9], 0, Some(8), 10, &archive(&[0..=2, 5..=8]))), (7, 0, 0, 0));
    }

    #[test]
    fn records_that_are_not_committed_wait_unless_they_are_archived_already() {
        assert_eq!(sums(&proof(0, Some(5), 10, &archive(&[0..=4]))), (5, 0, 5, 0));
        assert_eq!(sums(&proof(0, Some(5), 10, &archive(&[0..=7]))), (8, 0, 2, 0));
        assert_eq!(sums(&proof(0, None, 10, &Coverage::default())), (0, 0, 10, 0), "the archiver has never run");
    }

    #[test]
    fn records_that_kafka_has_deleted_are_not_required_and_may_be_archived() {
        assert_eq!(sums(&proof(8, Some(10), 10, &archive(&[0..=9]))), (2, 0, 0, 0));
        assert_eq!(sums(&proof(8, Some(10), 10, &archive(&[8..=9]))), (2, 0, 0, 0));
        assert_eq!(
            sums(&proof(8, Some(4), 10, &archive(&[0..=3]))),
            (0, 0, 2, 0),
            "Kafka deleted the records before the archiver read them"
        );
        assert_eq!(sums(&proof(0, Some(0), 0, &Coverage::default())), (0, 0, 0, 0), "an empty partition");
    }
}
