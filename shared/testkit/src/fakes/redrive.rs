//! Redrive marks and bounded readers in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use event::{Origin, Timestamp};
use pipeline::ports::{BeginVerdict, Mark, MarkKey, MarkState, PartitionSpan, RedriveMarks, TopicReader, TopicSource};
use pipeline::{Dependency, DependencyError, Position, Record};

use super::Faults;
use super::publisher::FakePublisher;

/// [`RedriveMarks`] in memory.
#[derive(Debug, Default)]
pub struct FakeRedriveMarks {
    /// The faults of `begin`, `find` and `of_origin`.
    pub faults: Faults,
    /// The faults of `finish`.
    pub finish_faults: Faults,
    marks: Mutex<BTreeMap<MarkKey, Mark>>,
}

impl FakeRedriveMarks {
    fn marks(&self) -> MutexGuard<'_, BTreeMap<MarkKey, Mark>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every mark, by letter and step.
    pub fn all(&self) -> Vec<Mark> {
        self.marks().values().cloned().collect()
    }

    fn begin_one(&self, key: &MarkKey, run: &str, now: Timestamp, until: Timestamp) -> BeginVerdict {
        let mut marks = self.marks();
        match marks.get(key).map(|mark| (&mark.state, mark.run == run)) {
            Some((MarkState::Done { .. }, _)) => return BeginVerdict::Done,
            Some((MarkState::UnderWay { until }, false)) if now < *until => {
                return BeginVerdict::UnderWay { until: *until };
            }
            Some((MarkState::UnderWay { .. }, _)) | None => {}
        }
        let mark = Mark { key: key.clone(), run: run.to_owned(), at: now, state: MarkState::UnderWay { until } };
        marks.insert(key.clone(), mark);
        BeginVerdict::Ours
    }
}

#[async_trait]
impl RedriveMarks for FakeRedriveMarks {
    async fn begin(
        &self,
        keys: &[MarkKey],
        run: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<BeginVerdict>, DependencyError> {
        // Other tasks get a turn, as they do during a real call.
        tokio::task::yield_now().await;
        self.faults
            .apply(Dependency::Dynamodb, || keys.iter().map(|key| self.begin_one(key, run, now, until)).collect())
    }

    async fn finish(
        &self,
        done: &[(MarkKey, Option<Position>)],
        run: &str,
        now: Timestamp,
    ) -> Result<(), DependencyError> {
        tokio::task::yield_now().await;
        self.finish_faults.apply(Dependency::Dynamodb, || {
            let mut marks = self.marks();
            for (key, position) in done {
                let state = MarkState::Done { position: position.clone() };
                marks.insert(key.clone(), Mark { key: key.clone(), run: run.to_owned(), at: now, state });
            }
        })
    }

    async fn find(&self, keys: &[MarkKey]) -> Result<Vec<Option<Mark>>, DependencyError> {
        tokio::task::yield_now().await;
        self.faults.apply(Dependency::Dynamodb, || {
            let marks = self.marks();
            keys.iter().map(|key| marks.get(key).cloned()).collect()
        })
    }

    async fn of_origin(&self, origin: &Origin) -> Result<Vec<Mark>, DependencyError> {
        self.faults.apply(Dependency::Dynamodb, || {
            self.marks().values().filter(|mark| mark.key.letter.origin == *origin).cloned().collect()
        })
    }
}

/// A [`TopicSource`] over the records of a [`FakePublisher`]. A partition without records does not exist.
#[derive(Clone, Debug)]
pub struct FakeTopics {
    broker: Arc<FakePublisher>,
    /// The most records that one read returns.
    pub batch: usize,
}

impl FakeTopics {
    pub fn new(broker: Arc<FakePublisher>) -> Self {
        FakeTopics { broker, batch: 500 }
    }
}

struct FakeReader {
    left: std::collections::VecDeque<Record>,
    spans: BTreeMap<i32, PartitionSpan>,
    batch: usize,
}

#[async_trait]
impl TopicSource for FakeTopics {
    async fn open(&self, topic: &str, from: &BTreeMap<i32, i64>) -> Result<Box<dyn TopicReader>, DependencyError> {
        let mut spans: BTreeMap<i32, PartitionSpan> = BTreeMap::new();
        let mut left = std::collections::VecDeque::new();
        for record in self.broker.records(topic) {
            let Position { partition, offset, .. } = record.position;
            let start = from.get(&partition).copied().unwrap_or(0).max(0);
            spans.entry(partition).or_insert(PartitionSpan { next: start, end: 0 }).end = offset + 1;
            if offset >= start {
                left.push_back(record);
            }
        }
        Ok(Box::new(FakeReader { left, spans, batch: self.batch }))
    }
}

#[async_trait]
impl TopicReader for FakeReader {
    async fn read(&mut self, _max_wait: Duration) -> Result<Vec<Record>, DependencyError> {
        tokio::task::yield_now().await;
        let records: Vec<Record> = self.left.drain(..self.batch.min(self.left.len())).collect();
        for record in &records {
            if let Some(span) = self.spans.get_mut(&record.position.partition) {
                span.next = record.position.offset + 1;
            }
        }
        Ok(records)
    }

    fn spans(&self) -> &BTreeMap<i32, PartitionSpan> {
        &self.spans
    }
}
