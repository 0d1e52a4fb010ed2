//! Following a topic: reading on and on, without a consumer group.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;

use crate::{DependencyError, Record};
use event::Timestamp;

/// The identity of a topic. One that is made again under its name has another. All zeros if the brokers tell none.
pub type TopicId = [u8; 16];

/// How far a topic has been read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TailPlace {
    pub topic_id: TopicId,
    /// The next offset of every partition.
    pub next: BTreeMap<i32, i64>,
}

/// Where to begin to follow a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TailStart {
    /// The records that are written from now on.
    Latest,
    /// The oldest record left.
    Earliest,
    /// The first record whose timestamp is of that instant or later.
    Since(Timestamp),
    /// Where another reader stopped.
    At(TailPlace),
}

/// Why records cannot be read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossCause {
    /// Retention has deleted them.
    Expired,
    /// The partition is another one, or has lost its end: it is read from its oldest record.
    Remade,
}

/// Records of a partition that cannot be read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostSpan {
    pub partition: i32,
    /// The offset that would have been read next.
    pub from: i64,
    /// The offset that is read next; `None` if there is no such partition any more.
    pub to: Option<i64>,
    pub cause: LossCause,
}

/// What a follower has read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TailRead {
    /// Found missing; it was before the records.
    pub lost: Vec<LostSpan>,
    /// In the order of each partition.
    pub records: Vec<Record>,
}

/// Topics that can be followed.
#[async_trait]
pub trait TopicTail: Send + Sync {
    /// A follower of every partition of the topic. Commits nothing, and does not affect any consumer group. What cannot be
    /// read any more of a place is told by the first read.
    async fn follow(&self, topic: &str, start: &TailStart) -> Result<Box<dyn TopicFollower>, DependencyError>;
}

/// A reader without an end.
#[async_trait]
pub trait TopicFollower: Send {
    /// The records that come next, each once, without those of transactions that were aborted or are still open. Waits at
    /// most `max_wait` for the first. Partitions that are added later are read from their oldest record.
    ///
    /// Calling it again after an error is safe: no record is skipped. Dropping the future is not: records may be lost to
    /// this follower.
    async fn read(&mut self, max_wait: Duration) -> Result<TailRead, DependencyError>;

    /// Behind everything that was read.
    fn place(&self) -> &TailPlace;
}

impl TailPlace {
    /// Moves the place to where a topic of this identity and extent can be read on from it, and returns what is missing in
    /// between. A partition that the place does not know was added since, so all of it is new.
    pub fn settle(&mut self, topic_id: TopicId, extent: &BTreeMap<i32, Range<i64>>) -> Vec<LostSpan> {
        let none = TopicId::default();
        let is_another = self.topic_id != topic_id && self.topic_id != none && topic_id != none;
        let mut lost = Vec::new();
        let mut next = BTreeMap::new();
        for (partition, from) in std::mem::take(&mut self.next) {
            let Some(left) = extent.get(&partition) else {
                lost.push(LostSpan { partition, from, to: None, cause: LossCause::Remade });
                continue;
            };
            let cause = if is_another || from > left.end {
                Some(LossCause::Remade)
            } else if from < left.start {
                Some(LossCause::Expired)
            } else {
                None
            };
            lost.extend(cause.map(|cause| LostSpan { partition, from, to: Some(left.start), cause }));
            next.insert(partition, if cause.is_some() { left.start } else { from });
        }
        for (partition, left) in extent {
            next.entry(*partition).or_insert(left.start);
        }
        *self = TailPlace { topic_id, next };
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: TopicId = [7; 16];

    fn settled(place: &[(i32, i64)], id: TopicId, extent: &[(i32, Range<i64>)]) -> (Vec<(i32, i64)>, Vec<LostSpan>) {
        let mut place = TailPlace { topic_id: ID, next: place.iter().copied().collect() };
        let lost = place.settle(id, &extent.iter().cloned().collect());
        assert_eq!(place.topic_id, id);
        (place.next.into_iter().collect(), lost)
    }

    fn lost(partition: i32, from: i64, to: Option<i64>, cause: LossCause) -> Vec<LostSpan> {
        vec![LostSpan { partition, from, to, cause }]
    }

    #[test]
    fn a_place_within_the_topic_stays() {
        for next in [3, 5, 9] {
            assert_eq!(settled(&[(0, next)], ID, &[(0, 3..9)]), (vec![(0, next)], vec![]));
        }
    }

    #[test]
    fn what_retention_deleted_is_told() {
        let expired = lost(0, 2, Some(3), LossCause::Expired);
        assert_eq!(settled(&[(0, 2), (1, 0)], ID, &[(0, 3..9), (1, 0..0)]), (vec![(0, 3), (1, 0)], expired));
    }

    #[test]
    fn a_place_behind_the_end_means_another_partition() {
        assert_eq!(settled(&[(0, 10)], ID, &[(0, 3..9)]), (vec![(0, 3)], lost(0, 10, Some(3), LossCause::Remade)));
    }

    #[test]
    fn another_topic_is_read_from_its_start_even_if_the_place_would_fit() {
        assert_eq!(settled(&[(0, 5)], [8; 16], &[(0, 0..9)]), (vec![(0, 0)], lost(0, 5, Some(0), LossCause::Remade)));
        // Brokers that tell no identity cannot be asked.
        assert_eq!(settled(&[(0, 5)], [0; 16], &[(0, 0..9)]), (vec![(0, 5)], vec![]));
    }

    #[test]
    fn partitions_come_and_go() {
        assert_eq!(settled(&[(0, 5)], ID, &[(0, 0..9), (1, 4..6)]), (vec![(0, 5), (1, 4)], vec![]));
        assert_eq!(settled(&[(0, 5), (1, 2)], ID, &[(0, 0..9)]).1, lost(1, 2, None, LossCause::Remade));
    }
}
