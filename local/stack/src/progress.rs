//! How far the processor's consumer group is, compared with what the ledger has.
//!
//! The group commits after the ledger has recorded. So a committed offset behind the checkpoint is normal (what is between is
//! delivered again), and one beyond it is not: the group never delivers those records again.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use archive::OffsetRanges;
use event::Timestamp;
use kafka::{KafkaClient, PartitionWatermarks};
use pipeline::clock::{Clock as _, SystemClock};
use pipeline::group::PROCESSOR;
use pipeline::topic::RAW_EVENTS;
use postgres::Database;

use crate::listed::list;
use crate::log_content::{Offsets, records_at};

/// From this age on, a record that the group has not finished is overdue: some calls may have failed and been repeated by
/// then.
pub const OVERDUE: Duration = Duration::from_secs(60);
/// How long the committed offset is watched of a partition with overdue records.
const WATCH: Duration = Duration::from_secs(3);

/// The processor's group in every partition of `raw-events`.
#[derive(Debug)]
pub struct GroupProgress {
    lines: Vec<PartitionProgress>,
}

/// One partition.
#[derive(Debug)]
struct PartitionProgress {
    partition: i32,
    /// `None` if the group has never committed here.
    committed: Option<i64>,
    /// `None` if the ledger has nothing of it.
    checkpoint: Option<i64>,
    end: i64,
    /// Records from the checkpoint to the committed offset.
    skipped: OffsetRanges,
    /// Number of overdue records.
    overdue: u64,
    /// Whether the group has committed another offset while it was watched.
    moves: bool,
}

/// What one partition looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Good,
    /// Records are overdue, and the group works on them.
    Behind,
    /// Records are overdue, and the group does not move.
    Stuck,
    /// The group has left out records.
    Skips,
    /// The group waits at an offset that the log does not have.
    BeyondEnd,
}

impl Standing {
    const fn as_str(self) -> &'static str {
        match self {
            Standing::Good => "good",
            Standing::Behind => "behind",
            Standing::Stuck => "STUCK",
            Standing::Skips => "SKIPS",
            Standing::BeyondEnd => "BEYOND THE END",
        }
    }
}

impl PartitionProgress {
    fn standing(&self) -> Standing {
        if self.committed > Some(self.end) {
            Standing::BeyondEnd
        } else if !self.skipped.is_empty() {
            Standing::Skips
        } else if self.overdue == 0 {
            Standing::Good
        } else if self.moves {
            Standing::Behind
        } else {
            Standing::Stuck
        }
    }
}

impl GroupProgress {
    /// Reads the committed offsets first and the checkpoints after them, so that what is committed in between does not look
    /// skipped. Records older than `overdue` should be finished.
    ///
    /// # Errors
    /// If Postgres or Kafka cannot be read.
    pub async fn gather(database: &Database, kafka: &KafkaClient, overdue: Duration) -> anyhow::Result<Self> {
        let topics = kafka.topics();
        let committed = committed(kafka).await?;
        let checkpoints = postgres::ledger::checkpoints(database).await?;
        let checkpoints = checkpoints.into_iter().filter(|checkpoint| checkpoint.topic == RAW_EVENTS);
        let checkpoints = checkpoints.map(|checkpoint| (checkpoint.partition, checkpoint.next_offset)).collect();
        let watermarks = topics.watermarks(RAW_EVENTS).await?;
        let since = Timestamp::from_millis(SystemClock.now().as_millis() - millis(overdue));
        let old = topics.offsets_since(RAW_EVENTS, &[since]).await?.into_iter().flatten().collect();
        let found = Found { committed, checkpoints, old };
        let asked = watermarks.iter().map(|marks| (marks.partition, found.asked(marks))).collect();
        let records = records_at(kafka, RAW_EVENTS, &asked).await?;
        let mut progress = Self::compare(&watermarks, &found, &records);
        if progress.lines.iter().any(|line| line.overdue > 0) {
            tokio::time::sleep(WATCH).await;
            let later = self::committed(kafka).await?;
            for line in &mut progress.lines {
                line.moves = later.get(&line.partition).copied() != line.committed;
            }
        }
        Ok(progress)
    }

    /// `records` are those in Kafka of the offsets that are [`Found::asked`] for.
    fn compare(watermarks: &[PartitionWatermarks], found: &Found, records: &Offsets) -> Self {
        let none = OffsetRanges::default();
        let lines = watermarks.iter().map(|marks| {
            let records = records.get(&marks.partition).unwrap_or(&none);
            PartitionProgress {
                partition: marks.partition,
                committed: found.committed.get(&marks.partition).copied(),
                checkpoint: found.checkpoints.get(&marks.partition).copied(),
                end: marks.latest,
                skipped: records.within(found.skipped(marks)),
                overdue: records.within(found.overdue(marks)).len(),
                moves: false,
            }
        });
        GroupProgress { lines: lines.collect() }
    }

    /// Number of records that the group has committed and the ledger does not have, beyond its checkpoints.
    pub fn skipped(&self) -> u64 {
        self.lines.iter().map(|line| line.skipped.len()).sum()
    }

    /// Whether the group will still deliver every record that the ledger does not have.
    pub fn skips_nothing(&self) -> bool {
        self.lines.iter().all(|line| line.standing() != Standing::Skips)
    }
}

/// By partition.
type Places = BTreeMap<i32, i64>;

struct Found {
    committed: Places,
    checkpoints: Places,
    /// The first offset that is not overdue.
    old: Places,
}

impl Found {
    fn of(places: &Places, marks: &PartitionWatermarks) -> i64 {
        places.get(&marks.partition).copied().unwrap_or(marks.earliest).max(marks.earliest)
    }

    fn skipped(&self, marks: &PartitionWatermarks) -> RangeInclusive<i64> {
        Self::of(&self.checkpoints, marks)..=Self::of(&self.committed, marks).min(marks.latest) - 1
    }

    fn overdue(&self, marks: &PartitionWatermarks) -> RangeInclusive<i64> {
        Self::of(&self.committed, marks)..=Self::of(&self.old, marks) - 1
    }

    /// The offsets of which it matters whether they hold a record.
    fn asked(&self, marks: &PartitionWatermarks) -> OffsetRanges {
        OffsetRanges::union_of([self.skipped(marks), self.overdue(marks)])
    }
}

async fn committed(kafka: &KafkaClient) -> anyhow::Result<Places> {
    let committed = kafka.topics().committed(PROCESSOR).await?.into_iter();
    let committed = committed.filter(|position| *position.topic == *RAW_EVENTS);
    Ok(committed.map(|position| (position.partition, position.offset)).collect())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl fmt::Display for GroupProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = format!("group {PROCESSOR}");
        writeln!(
            f,
            "{title:>16} {:>9} {:>10} {:>10} {:>10} {:>10}  standing",
            "partition", "committed", "checkpoint", "end", "overdue"
        )?;
        let shown = |offset: Option<i64>| offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
        for line in &self.lines {
            let PartitionProgress { partition, end, overdue, .. } = line;
            let (committed, checkpoint) = (shown(line.committed), shown(line.checkpoint));
            let standing = line.standing().as_str();
            writeln!(
                f,
                "{:>16} {partition:>9} {committed:>10} {checkpoint:>10} {end:>10} {overdue:>10}  {standing}",
                ""
            )?;
        }
        for line in self.lines.iter().filter(|line| line.standing() == Standing::Skips) {
            let what = "are committed and have no outcome: the group will not deliver them again";
            list(f, line.partition, &line.skipped, what)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a partition with the offsets 0 to 9, of which those below `old` are overdue and all but `empty` hold a record.
    fn standing(committed: Option<i64>, checkpoint: Option<i64>, old: i64, empty: &[i64]) -> Standing {
        let marks = PartitionWatermarks { partition: 0, earliest: 0, latest: 10 };
        let places = |offset: Option<i64>| offset.map(|offset| (0, offset)).into_iter().collect::<Places>();
        let found = Found { committed: places(committed), checkpoints: places(checkpoint), old: places(Some(old)) };
        let asked = found.asked(&marks);
        let held = (0..10).filter(|offset| asked.contains(*offset) && !empty.contains(offset));
        let records = Offsets::from([(0, OffsetRanges::union_of(held.map(|offset| offset..=offset)))]);
        GroupProgress::compare(&[marks], &found, &records).lines[0].standing()
    }

    #[test]
    fn a_group_at_the_end_or_with_young_records_is_good() {
        assert_eq!(standing(Some(10), Some(10), 10, &[]), Standing::Good);
        assert_eq!(standing(Some(4), Some(4), 4, &[]), Standing::Good);
        assert_eq!(standing(Some(8), Some(8), 10, &[8, 9]), Standing::Good, "only a transaction's markers are left");
        assert_eq!(standing(None, None, 0, &[]), Standing::Good, "nothing is overdue yet");
    }

    #[test]
    fn overdue_records_are_stuck_unless_the_group_moves() {
        assert_eq!(standing(Some(4), Some(4), 5, &[]), Standing::Stuck);
        assert_eq!(standing(Some(4), Some(10), 10, &[]), Standing::Stuck, "recorded, and not finished");
        assert_eq!(standing(None, None, 10, &[]), Standing::Stuck, "never processed");
        let marks = PartitionWatermarks { partition: 0, earliest: 0, latest: 10 };
        let line = PartitionProgress {
            partition: 0,
            committed: Some(4),
            checkpoint: Some(4),
            end: marks.latest,
            skipped: OffsetRanges::default(),
            overdue: 1,
            moves: true,
        };
        assert_eq!(line.standing(), Standing::Behind);
    }

    #[test]
    fn committed_records_that_the_ledger_lacks_are_skipped() {
        assert_eq!(standing(Some(6), Some(4), 0, &[]), Standing::Skips);
        assert_eq!(standing(Some(6), None, 0, &[]), Standing::Skips, "the ledger is empty");
        assert_eq!(standing(Some(6), Some(4), 0, &[4, 5]), Standing::Good, "they never were records");
    }

    #[test]
    fn a_group_that_waits_beyond_the_end_is_told() {
        assert_eq!(standing(Some(11), Some(11), 10, &[]), Standing::BeyondEnd);
    }
}
