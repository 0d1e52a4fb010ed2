//! Records that wait, by partition, and the batches built from them. No I/O; `now` is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use kafka::{Rebalance, TopicPartition};
use pipeline::{Position, Record};
use tokio::time::Instant;

use crate::config::MappingConfig;
use crate::event::{EncodedRecord, EventFrame, MAX_EVENT_BYTES, partition_overhead};

/// Records of one partition in a batch, by offset; offsets may have gaps.
#[derive(Clone, Debug)]
pub(crate) struct BatchSpan {
    pub(crate) of: TopicPartition,
    /// Identifies the assignment of the partition under which the records were read.
    epoch: u64,
    pub(crate) records: Vec<EncodedRecord>,
}

impl BatchSpan {
    pub(crate) fn contains(&self, offset: i64) -> bool {
        self.records.binary_search_by_key(&offset, |record| record.offset).is_ok()
    }
}

/// The content of one invocation.
#[derive(Clone, Debug)]
pub(crate) struct InvocationBatch {
    pub(crate) spans: Vec<BatchSpan>,
    pub(crate) event: Bytes,
    /// Records in the event.
    pub(crate) records: usize,
}

/// The delay before a batch is sent again; it doubles up to a cap, with jitter.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RetryDelay {
    failures: u32,
}

impl RetryDelay {
    const BASE: Duration = Duration::from_millis(100);
    const CAP: Duration = Duration::from_secs(10);

    /// The delay after one more failure: between half of the bound and the bound, so that a function that fails at once
    /// is not called in a tight loop.
    pub(crate) fn next(&mut self) -> Duration {
        let bound = Self::BASE.saturating_mul(2_u32.saturating_pow(self.failures)).min(Self::CAP);
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

#[derive(Debug)]
struct Queue {
    of: TopicPartition,
    epoch: u64,
    records: VecDeque<EncodedRecord>,
    /// When the oldest record arrived.
    since: Instant,
    /// Set after a partial failure: the offset that failed, and how long the partition waits.
    retry: Option<Retry>,
}

#[derive(Clone, Copy, Debug)]
struct Retry {
    offset: i64,
    not_before: Instant,
    backoff: RetryDelay,
}

impl Queue {
    fn is_held(&self, now: Instant) -> bool {
        self.retry.is_some_and(|retry| retry.not_before > now)
    }
}

/// The records that a poller has read and not yet sent, for the partitions that it owns.
#[derive(Debug)]
pub(crate) struct Buffer {
    frame: EventFrame,
    batch_size: usize,
    window: Duration,
    max_event_bytes: usize,
    queues: Vec<Queue>,
    next_epoch: u64,
    /// The queue that the next batch starts with, so that one busy partition cannot starve the others.
    turn: usize,
    /// Number of records and bytes that wait.
    records: usize,
    bytes: usize,
}

impl Buffer {
    pub(crate) fn new(config: &MappingConfig) -> Self {
        Buffer {
            frame: EventFrame::new(config),
            batch_size: config.batch_size,
            window: config.window,
            max_event_bytes: MAX_EVENT_BYTES,
            queues: Vec::new(),
            next_epoch: 0,
            turn: 0,
            records: 0,
            bytes: 0,
        }
    }

    /// Applies a rebalance. Records of a revoked partition are dropped: its new owner reads them.
    pub(crate) fn rebalance(&mut self, change: &Rebalance, now: Instant) {
        match change {
            Rebalance::Assigned(partitions) => {
                for of in partitions {
                    self.remove(of);
                    self.add(of.clone(), now);
                }
            }
            Rebalance::Revoked(partitions) | Rebalance::Lost(partitions) => {
                for of in partitions {
                    self.remove(of);
                }
            }
        }
    }

    fn add(&mut self, of: TopicPartition, now: Instant) -> usize {
        let epoch = self.next_epoch;
        self.next_epoch += 1;
        self.queues.push(Queue { of, epoch, records: VecDeque::new(), since: now, retry: None });
        self.queues.len() - 1
    }

    fn remove(&mut self, of: &TopicPartition) {
        if let Some(index) = self.queues.iter().position(|queue| queue.of == *of) {
            let queue = self.queues.remove(index);
            self.records -= queue.records.len();
            self.bytes -= queue.records.iter().map(|record| record.json.len()).sum::<usize>();
        }
    }

    /// Partitions owned now.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.queues.iter().map(|queue| &queue.of)
    }

    /// Adds a polled record. If it is too large for any event, returns its position: it will be skipped.
    pub(crate) fn push(&mut self, record: &Record, now: Instant) -> Option<Position> {
        let position = &record.position;
        let known = self
            .queues
            .iter()
            .position(|queue| queue.of.topic == position.topic && queue.of.partition == position.partition);
        let index = known.unwrap_or_else(|| {
            let of = TopicPartition::new(position.topic.clone(), position.partition);
            self.add(of, now)
        });
        let mut encoded = EncodedRecord::new(record);
        let queue = &mut self.queues[index];
        let too_large = self.frame.len() + partition_overhead(&queue.of) + encoded.json.len() > self.max_event_bytes;
        if too_large {
            encoded.json = Vec::new();
        }
        if queue.records.is_empty() {
            queue.since = now;
        }
        self.records += 1;
        self.bytes += encoded.json.len();
        queue.records.push_back(encoded);
        too_large.then(|| position.clone())
    }

    /// Whether to read more: there is room for one more batch while another is in flight.
    pub(crate) fn has_room(&self) -> bool {
        self.records < 2 * self.batch_size && self.bytes < self.max_event_bytes
    }

    /// When the next batch is due; `None` if nothing waits. A batch is due when it is full, by count or bytes, or when
    /// its window has passed.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        let (mut records, mut bytes, mut earliest) = (0, self.frame.len(), None::<Instant>);
        for queue in self.queues.iter().filter(|queue| !queue.records.is_empty()) {
            let due = match queue.retry {
                Some(retry) => retry.not_before,
                None => queue.since + self.window,
            };
            earliest = Some(earliest.map_or(due, |earliest| earliest.min(due)));
            if !queue.is_held(now) {
                records += queue.records.len();
                bytes += partition_overhead(&queue.of);
                bytes += queue.records.iter().map(|record| record.json.len() + 1).sum::<usize>();
            }
        }
        if records >= self.batch_size || bytes >= self.max_event_bytes { Some(now) } else { earliest }
    }

    /// Builds a batch of the records that may be sent now.
    pub(crate) fn cut(&mut self, now: Instant) -> Option<InvocationBatch> {
        let mut spans: Vec<BatchSpan> = Vec::new();
        let (mut count, mut bytes) = (0, self.frame.len());
        let queues = self.queues.len();
        for step in 0..queues {
            let index = (self.turn + step) % queues;
            let queue = &mut self.queues[index];
            if queue.records.is_empty() || queue.is_held(now) {
                continue;
            }
            bytes += partition_overhead(&queue.of);
            let mut taken = 0;
            for record in &queue.records {
                let fits = record.json.is_empty() || bytes + record.json.len() <= self.max_event_bytes;
                if count + taken == self.batch_size || !fits {
                    break;
                }
                // Including the comma after it.
                bytes += record.json.len() + usize::from(!record.json.is_empty());
                taken += 1;
            }
            if taken == 0 {
                self.turn = index;
                break;
            }
            count += taken;
            let records: Vec<EncodedRecord> = queue.records.drain(..taken).collect();
            self.records -= records.len();
            self.bytes -= records.iter().map(|record| record.json.len()).sum::<usize>();
            let cut_off = !queue.records.is_empty();
            spans.push(BatchSpan { of: queue.of.clone(), epoch: queue.epoch, records });
            if cut_off {
                self.turn = index + 1;
                break;
            }
        }
        if spans.is_empty() { None } else { Some(self.batch(spans)) }
    }

    fn batch(&self, spans: Vec<BatchSpan>) -> InvocationBatch {
        let event = self.frame.event(spans.iter().map(|span| (&span.of, span.records.as_slice())));
        let records = spans.iter().flat_map(|span| &span.records).filter(|record| !record.json.is_empty()).count();
        InvocationBatch { spans, event, records }
    }

    fn owner(&mut self, span: &BatchSpan) -> Option<&mut Queue> {
        self.queues.iter_mut().find(|queue| queue.epoch == span.epoch)
    }

    /// Removes the partitions that this poller no longer owns from a batch. `None` if nothing remains.
    pub(crate) fn still_owned(&self, batch: InvocationBatch) -> Option<InvocationBatch> {
        let owned = |span: &BatchSpan| self.queues.iter().any(|queue| queue.epoch == span.epoch);
        if batch.spans.iter().all(owned) {
            return Some(batch);
        }
        let spans: Vec<BatchSpan> = batch.spans.into_iter().filter(owned).collect();
        if spans.is_empty() { None } else { Some(self.batch(spans)) }
    }

    /// Takes a batch back after its answer: records to send again go to the front of their partition. Returns the next
    /// offset of each partition, to be committed, except for partitions that this poller no longer owns.
    ///
    /// `retry_from` has one entry for each partition of the batch. Everything from the lowest failed offset on is sent
    /// again, also records above it that succeeded: a committed offset cannot have holes.
    pub(crate) fn complete(
        &mut self,
        batch: InvocationBatch,
        retry_from: &[Option<i64>],
        now: Instant,
    ) -> Vec<Position> {
        let mut next = Vec::with_capacity(batch.spans.len());
        for (mut span, retry_from) in batch.spans.into_iter().zip(retry_from) {
            let Some(queue) = self.owner(&span) else { continue };
            let (Some(first), Some(last)) = (span.records.first(), span.records.last()) else { continue };
            let (first, last) = (first.offset, last.offset);
            let Some(failed) = *retry_from else {
                queue.retry = None;
                next.push(Position { topic: span.of.topic, partition: span.of.partition, offset: last + 1 });
                continue;
            };
            let mut backoff = match queue.retry {
                // The batch made no progress since the last attempt.
                Some(retry) if retry.offset == failed => retry.backoff,
                Some(_) | None => RetryDelay::default(),
            };
            queue.retry = Some(Retry { offset: failed, not_before: now + backoff.next(), backoff });
            let again = span.records.split_off(span.records.partition_point(|record| record.offset < failed));
            let (records, bytes) = (again.len(), again.iter().map(|record| record.json.len()).sum::<usize>());
            for record in again.into_iter().rev() {
                queue.records.push_front(record);
            }
            self.records += records;
            self.bytes += bytes;
            if failed > first {
                next.push(Position { topic: span.of.topic, partition: span.of.partition, offset: failed });
            }
        }
        next
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use ::event::Timestamp;
    use pipeline::RecordHeaders;

    use super::*;

    fn of(partition: i32) -> TopicPartition {
        TopicPartition::new("t", partition)
    }

    fn record(partition: i32, offset: i64, value: usize) -> Record {
        Record {
            position: Position::new("t", partition, offset),
            timestamp: Timestamp::from_millis(1),
            key: None,
            value: Some(Bytes::from(vec![b'x'; value])),
            headers: RecordHeaders::default(),
            undecodable: None,
        }
    }

    fn buffer(batch_size: usize, window: Duration) -> Buffer {
        Buffer::new(&MappingConfig { batch_size, window, ..MappingConfig::new("f", "t", "g") })
    }

    /// A batch with these offsets, by partition of topic `t`.
    pub(crate) fn batch(partitions: &[(i32, &[i64])]) -> InvocationBatch {
        let now = Instant::now();
        let mut buffer = buffer(10_000, Duration::ZERO);
        for (partition, offsets) in partitions {
            for offset in *offsets {
                buffer.push(&record(*partition, *offset, 1), now);
            }
        }
        buffer.cut(now).unwrap()
    }

    fn offsets(batch: &InvocationBatch) -> Vec<(i32, Vec<i64>)> {
        let of_span = |span: &BatchSpan| (span.of.partition, span.records.iter().map(|record| record.offset).collect());
        batch.spans.iter().map(of_span).collect()
    }

    fn fill(buffer: &mut Buffer, partition: i32, range: std::ops::Range<i64>, now: Instant) {
        for offset in range {
            buffer.push(&record(partition, offset, 1), now);
        }
    }

    #[test]
    fn a_batch_is_due_by_window_or_count() {
        let now = Instant::now();
        let mut buffer = buffer(3, Duration::from_secs(5));
        assert_eq!(buffer.due(now), None);
        fill(&mut buffer, 0, 0..2, now);
        assert_eq!(buffer.due(now), Some(now + Duration::from_secs(5)), "the window starts with the first record");
        fill(&mut buffer, 1, 0..1, now + Duration::from_secs(1));
        assert_eq!(buffer.due(now), Some(now), "full");
        assert_eq!(offsets(&buffer.cut(now).unwrap()), [(0, vec![0, 1]), (1, vec![0])]);
        assert!(buffer.cut(now).is_none());
    }

    #[test]
    fn partitions_take_turns() {
        let now = Instant::now();
        let mut buffer = buffer(2, Duration::ZERO);
        fill(&mut buffer, 0, 0..4, now);
        fill(&mut buffer, 1, 0..4, now);
        let mut order = Vec::new();
        while let Some(batch) = buffer.cut(now) {
            order.extend(offsets(&batch));
        }
        assert_eq!(order, [(0, vec![0, 1]), (1, vec![0, 1]), (0, vec![2, 3]), (1, vec![2, 3])]);
    }

    #[test]
    fn no_event_exceeds_the_limit_and_none_is_cut_short() {
        let now = Instant::now();
        let mut buffer = buffer(10_000, Duration::from_secs(60));
        for offset in 0..20 {
            assert_eq!(buffer.push(&record(offset % 3, i64::from(offset), 700_000), now), None);
        }
        assert_eq!(buffer.due(now), Some(now), "full by bytes");
        let mut seen = 0;
        while let Some(batch) = buffer.cut(now) {
            assert!(batch.event.len() <= MAX_EVENT_BYTES, "{}", batch.event.len());
            assert!(batch.records >= 6 || seen + batch.records == 20, "{} records", batch.records);
            seen += batch.records;
        }
        assert_eq!((seen, buffer.records, buffer.bytes), (20, 0, 0));
    }

    #[test]
    fn a_record_that_just_fits_is_sent_and_one_byte_more_is_skipped() {
        let now = Instant::now();
        let mut buffer = buffer(10, Duration::ZERO);
        let empty = EncodedRecord::new(&record(0, 0, 0)).json.len();
        buffer.max_event_bytes = buffer.frame.len() + partition_overhead(&of(0)) + empty + 400;
        assert_eq!(buffer.push(&record(0, 0, 300), now), None, "400 bytes in base64");
        assert_eq!(buffer.push(&record(0, 1, 301), now), Some(Position::new("t", 0, 1)));
        assert_eq!(buffer.push(&record(0, 2, 1), now), None);
        let first = buffer.cut(now).unwrap();
        assert_eq!((first.records, offsets(&first)), (1, vec![(0, vec![0, 1])]));
        let second = buffer.cut(now).unwrap();
        assert_eq!(offsets(&second), [(0, vec![2])]);
        let next = buffer.complete(first, &[None], now);
        assert_eq!(next, [Position::new("t", 0, 2)], "the offset of the skipped record is committed");
    }

    #[test]
    fn after_a_partial_failure_the_rest_of_the_partition_comes_again_in_order() {
        let now = Instant::now();
        let mut buffer = buffer(4, Duration::ZERO);
        fill(&mut buffer, 0, 10..13, now);
        fill(&mut buffer, 1, 5..6, now);
        let batch = buffer.cut(now).unwrap();
        fill(&mut buffer, 0, 13..14, now);
        fill(&mut buffer, 1, 6..7, now);
        let next = buffer.complete(batch, &[Some(11), None], now);
        assert_eq!(next, [Position::new("t", 0, 11), Position::new("t", 1, 6)]);
        let meanwhile = buffer.cut(now).unwrap();
        assert_eq!(offsets(&meanwhile), [(1, vec![6])], "only the failed partition waits");
        let due = buffer.due(now).unwrap();
        assert!(due > now && due <= now + RetryDelay::CAP);
        let again = buffer.cut(due).unwrap();
        assert_eq!(offsets(&again), [(0, vec![11, 12, 13])]);
        assert_eq!(buffer.complete(again, &[Some(11)], due), [], "nothing succeeded, nothing to commit");
    }

    #[test]
    fn revoked_records_are_neither_sent_again_nor_committed() {
        let now = Instant::now();
        let mut buffer = buffer(10, Duration::ZERO);
        buffer.rebalance(&Rebalance::Assigned(vec![of(0), of(1)]), now);
        fill(&mut buffer, 0, 0..2, now);
        fill(&mut buffer, 1, 0..2, now);
        let batch = buffer.cut(now).unwrap();
        fill(&mut buffer, 0, 2..3, now);
        // Revoked and assigned again: another member may have worked on it in between.
        buffer.rebalance(&Rebalance::Revoked(vec![of(0)]), now);
        buffer.rebalance(&Rebalance::Assigned(vec![of(0)]), now);
        assert!(buffer.cut(now).is_none(), "records read before are dropped");
        let left = buffer.still_owned(batch.clone()).unwrap();
        assert_eq!((offsets(&left), left.records), (vec![(1, vec![0, 1])], 2));
        assert!(left.event.len() < batch.event.len());
        assert_eq!(buffer.complete(batch.clone(), &[None, None], now), [Position::new("t", 1, 2)]);
        buffer.rebalance(&Rebalance::Lost(vec![of(1)]), now);
        assert!(buffer.still_owned(batch).is_none());
        assert_eq!((buffer.records, buffer.bytes), (0, 0));
    }

    #[test]
    fn reads_ahead_by_one_batch() {
        let now = Instant::now();
        let mut buffer = buffer(2, Duration::ZERO);
        fill(&mut buffer, 0, 0..3, now);
        assert!(buffer.has_room());
        fill(&mut buffer, 0, 3..4, now);
        assert!(!buffer.has_room());
    }

    #[test]
    fn the_retry_delay_grows_to_its_cap_and_is_never_zero() {
        let mut backoff = RetryDelay::default();
        let waits: Vec<Duration> = (0..40).map(|_| backoff.next()).collect();
        assert!(waits.iter().all(|wait| *wait >= RetryDelay::BASE / 2 && *wait <= RetryDelay::CAP));
        assert!(waits[39] >= RetryDelay::CAP / 2);
    }
}
