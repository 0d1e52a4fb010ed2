//! Records that wait, by partition, and the batches built from them. No I/O; `now` is an argument.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use kafka::{Rebalance, TopicPartition};
use pipeline::{Position, Record};
use tokio::time::Instant;

use crate::config::MappingConfig;
use crate::event::{EncodedRecord, EventFrame, MAX_EVENT_BYTES, Undelivered, partition_overhead};
use crate::filter::RecordFilters;

/// Maximum size in bytes of all records that wait in one poller, encoded: eight events. The partitions share it equally,
/// so that one that is held for long leaves room for the others. Each may exceed its share by what one poll returns.
const MAX_WAITING_BYTES: usize = 8 * MAX_EVENT_BYTES;

/// Records of one partition in a batch, by offset; offsets may have gaps.
#[derive(Clone, Debug)]
pub(crate) struct BatchSpan {
    pub(crate) of: TopicPartition,
    /// Identifies the assignment of the partition under which the records were read.
    epoch: u64,
    pub(crate) records: Vec<EncodedRecord>,
}

impl BatchSpan {
    fn undelivered(&self) -> impl Iterator<Item = (&TopicPartition, &EncodedRecord, Undelivered)> {
        self.records.iter().filter_map(|record| Some((&self.of, record, record.undelivered?)))
    }

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

impl InvocationBatch {
    /// The records that are not in the event, with the reason, and that the destination does not have yet.
    pub(crate) fn undelivered(&self) -> impl Iterator<Item = (&TopicPartition, &EncodedRecord, Undelivered)> {
        self.spans.iter().flat_map(BatchSpan::undelivered).filter(|(_, record, _)| !record.kept)
    }

    /// Those that are not in the event and do not come again after this answer.
    pub(crate) fn finished_undelivered(
        &self,
        retry_from: &[Option<i64>],
    ) -> impl Iterator<Item = (&TopicPartition, &EncodedRecord, Undelivered)> {
        self.spans.iter().zip(retry_from).flat_map(|(span, retry_from)| {
            let is_finished = |offset| retry_from.is_none_or(|from| offset < from);
            span.undelivered().filter(move |(_, record, _)| is_finished(record.offset))
        })
    }

    /// Notes that the destination has what is undelivered: it is not written there once more when the batch comes again.
    pub(crate) fn note_kept(&mut self) {
        for record in self.spans.iter_mut().flat_map(|span| &mut span.records) {
            record.kept = record.undelivered.is_some();
        }
    }

    /// The timestamp of the oldest record that has one, in milliseconds.
    pub(crate) fn oldest(&self) -> Option<i64> {
        self.spans.iter().flat_map(|span| &span.records).map(|record| record.timestamp).filter(|at| *at >= 0).min()
    }
}

/// A part of a batch that was split, to be sent when the parts before it are done.
#[derive(Clone, Debug)]
pub(crate) struct BatchPart {
    spans: Vec<BatchSpan>,
    /// How often the function has failed with these records in a larger batch.
    pub(crate) earlier: u32,
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
    /// The offset after the last record that a filter left out, until it is committed.
    filtered_to: Option<i64>,
    /// Size of the records.
    bytes: usize,
    /// When the oldest record arrived.
    since: Instant,
    /// Whether the consumer was told not to read this partition, because it has no room.
    paused: bool,
    /// Set after a partial failure: the offset that failed, and how long the partition waits.
    retry: Option<Retry>,
}

#[derive(Clone, Copy, Debug)]
struct Retry {
    offset: i64,
    not_before: Instant,
    backoff: RetryDelay,
    /// How often the function has failed with this record as the first one of its partition.
    invocations: u32,
}

impl Queue {
    /// The offset to commit when every record up to `last` is done: what filters left out after it is done, too.
    fn next_after(&mut self, last: i64) -> i64 {
        match self.records.front() {
            Some(waiting) => waiting.offset,
            None => self.filtered_to.take().map_or(last + 1, |to| to.max(last + 1)),
        }
    }

    fn put_back(&mut self, records: Vec<EncodedRecord>) {
        self.bytes += size(&records);
        for record in records.into_iter().rev() {
            self.records.push_front(record);
        }
    }

    /// Whether every record that was read is done; `out` are the partitions of the batches that are out.
    fn is_idle(&self, out: &BTreeSet<TopicPartition>) -> bool {
        self.records.is_empty() && !out.contains(&self.of)
    }

    /// Whether the partition waits before its failed records are sent again.
    fn backs_off(&self, now: Instant) -> bool {
        self.retry.is_some_and(|retry| retry.not_before > now)
    }
}

/// Whether a partition is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    Pause(TopicPartition),
    Resume(TopicPartition),
}

/// The records that a poller has read and not yet sent, for the partitions that it owns.
#[derive(Debug)]
pub(crate) struct Buffer {
    frame: EventFrame,
    filters: RecordFilters,
    batch_size: usize,
    window: Duration,
    max_event_bytes: usize,
    max_retries: Option<u32>,
    /// Whether the bytes of records that fit in no event are kept for the on-failure destination.
    keeps_undelivered: bool,
    queues: Vec<Queue>,
    next_epoch: u64,
    /// The queue that the next batch starts with, so that one busy partition cannot starve the others.
    turn: usize,
    /// Partitions of the batches that are out. By name and not by assignment: while the function works on records of a
    /// partition that was revoked and came back, it must not get others of that partition.
    out: BTreeSet<TopicPartition>,
}

impl Buffer {
    pub(crate) fn new(config: &MappingConfig) -> Self {
        Buffer {
            frame: EventFrame::new(config),
            filters: config.filters.clone(),
            batch_size: config.batch_size,
            window: config.window,
            max_event_bytes: MAX_EVENT_BYTES,
            max_retries: config.max_retries(),
            keeps_undelivered: config.on_failure.is_some(),
            queues: Vec::new(),
            next_epoch: 0,
            turn: 0,
            out: BTreeSet::new(),
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
        let records = VecDeque::new();
        let queue = Queue { of, epoch, records, filtered_to: None, bytes: 0, since: now, paused: false, retry: None };
        self.queues.push(queue);
        self.queues.len() - 1
    }

    fn remove(&mut self, of: &TopicPartition) {
        self.queues.retain(|queue| queue.of != *of);
    }

    /// Adds a polled record. False if the filters leave it out.
    pub(crate) fn push(&mut self, record: &Record, now: Instant) -> bool {
        let position = &record.position;
        let known = self
            .queues
            .iter()
            .position(|queue| queue.of.topic == position.topic && queue.of.partition == position.partition);
        let index = known.unwrap_or_else(|| {
            let of = TopicPartition::new(position.topic.clone(), position.partition);
            self.add(of, now)
        });
        let queue = &mut self.queues[index];
        if !self.filters.take(record.value.as_deref()) {
            queue.filtered_to = Some(position.offset + 1);
            return false;
        }
        let mut encoded = EncodedRecord::new(record);
        if self.frame.len() + partition_overhead(&queue.of) + encoded.json.len() > self.max_event_bytes {
            encoded.undelivered = Some(Undelivered::PayloadTooLarge);
            if !self.keeps_undelivered {
                encoded.json = Vec::new();
            }
        }
        if queue.records.is_empty() {
            queue.since = now;
        }
        queue.bytes += encoded.json.len();
        queue.records.push_back(encoded);
        true
    }

    /// Whether a whole batch of this partition waits, or its share of the memory is used.
    fn is_full(&self, queue: &Queue) -> bool {
        let share = (MAX_WAITING_BYTES / self.queues.len()).min(self.max_event_bytes);
        queue.records.len() >= self.batch_size || queue.bytes >= share
    }

    /// Whether records of this partition may be sent now.
    fn is_free(&self, queue: &Queue, now: Instant) -> bool {
        !queue.records.is_empty() && !queue.backs_off(now) && !self.out.contains(&queue.of)
    }

    /// What has to change in the reading of the partitions, now that the caller knows it: a full one is paused until it
    /// has room.
    pub(crate) fn change_reading(&mut self) -> Vec<Reading> {
        let full: Vec<bool> = self.queues.iter().map(|queue| self.is_full(queue)).collect();
        let mut changes = Vec::new();
        for (queue, full) in self.queues.iter_mut().zip(full) {
            if queue.paused != full {
                queue.paused = full;
                let of = queue.of.clone();
                changes.push(if full { Reading::Pause(of) } else { Reading::Resume(of) });
            }
        }
        changes
    }

    /// The partitions of which every record that was read is done.
    pub(crate) fn idle(&self) -> Vec<TopicPartition> {
        self.queues.iter().filter(|queue| queue.is_idle(&self.out)).map(|queue| queue.of.clone()).collect()
    }

    /// The next offset of the partitions in which nothing but records that the filters leave out has come, each once.
    pub(crate) fn filtered(&mut self) -> Vec<Position> {
        let passed = |queue: &mut Queue| {
            Some(Position::new(queue.of.topic.clone(), queue.of.partition, queue.filtered_to.take()?))
        };
        self.queues.iter_mut().filter(|queue| queue.is_idle(&self.out)).filter_map(passed).collect()
    }

    /// Whether a partition is paused.
    pub(crate) fn is_paused(&self) -> bool {
        self.queues.iter().any(|queue| queue.paused)
    }

    /// When the next batch is due; `None` if nothing waits that is not out already. A batch is due when it is full, by
    /// count or bytes, when a partition has no room for more, or when the window has passed, but not before its oldest
    /// record has waited for `at_least`.
    pub(crate) fn due(&self, now: Instant, at_least: Duration) -> Option<Instant> {
        let (mut records, mut bytes, mut earliest) = (0, self.frame.len(), None::<Instant>);
        for queue in self.queues.iter().filter(|queue| !queue.records.is_empty() && !self.out.contains(&queue.of)) {
            let due = match queue.retry {
                Some(retry) => retry.not_before,
                None => queue.since + self.window.max(at_least),
            };
            earliest = Some(earliest.map_or(due, |earliest| earliest.min(due)));
            if !queue.backs_off(now) {
                if self.is_full(queue) {
                    return Some(now);
                }
                records += queue.records.len();
                // Including the comma after each record.
                bytes += partition_overhead(&queue.of) + queue.bytes + queue.records.len();
            }
        }
        if records >= self.batch_size || bytes >= self.max_event_bytes { Some(now) } else { earliest }
    }

    /// Builds a batch of the records that may be sent now. Its partitions are in no other batch until it comes back, by
    /// [`Buffer::complete`] or [`Buffer::still_owned`].
    pub(crate) fn cut(&mut self, now: Instant) -> Option<InvocationBatch> {
        let mut spans: Vec<BatchSpan> = Vec::new();
        let (mut count, mut bytes) = (0, self.frame.len());
        let queues = self.queues.len();
        for step in 0..queues {
            let index = (self.turn + step) % queues;
            if !self.is_free(&self.queues[index], now) {
                continue;
            }
            let queue = &mut self.queues[index];
            bytes += partition_overhead(&queue.of);
            let mut taken = 0;
            for record in &queue.records {
                let is_sent = record.undelivered.is_none();
                let fits = !is_sent || bytes + record.json.len() <= self.max_event_bytes;
                if count + taken == self.batch_size || !fits {
                    break;
                }
                if is_sent {
                    // Including the comma after it.
                    bytes += record.json.len() + 1;
                }
                taken += 1;
            }
            if taken == 0 {
                self.turn = index;
                break;
            }
            count += taken;
            let records: Vec<EncodedRecord> = queue.records.drain(..taken).collect();
            queue.bytes -= size(&records);
            let cut_off = !queue.records.is_empty();
            self.out.insert(queue.of.clone());
            spans.push(BatchSpan { of: queue.of.clone(), epoch: queue.epoch, records });
            if cut_off {
                self.turn = index + 1;
                break;
            }
        }
        if spans.is_empty() { None } else { Some(self.batch(spans)) }
    }

    fn batch(&self, spans: Vec<BatchSpan>) -> InvocationBatch {
        let sent = spans.iter().flat_map(|span| {
            span.records.iter().filter(|record| record.undelivered.is_none()).map(|record| (&span.of, record))
        });
        let (event, records) = (self.frame.event(sent.clone()), sent.count());
        InvocationBatch { spans, event, records }
    }

    /// The batch without an event: none of its records will be sent to the function again.
    pub(crate) fn give_up(&self, mut batch: InvocationBatch, invocations: u32) -> InvocationBatch {
        for record in batch.spans.iter_mut().flat_map(|span| &mut span.records) {
            record.undelivered.get_or_insert(Undelivered::RetriesExhausted { invocations });
        }
        self.batch(batch.spans)
    }

    /// Splits a batch of at least two records that the function can get. The first half has one more if their number is
    /// odd.
    pub(crate) fn split(&self, batch: InvocationBatch, earlier: u32) -> (InvocationBatch, BatchPart) {
        let mut left = batch.records.div_ceil(2);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for mut span in batch.spans {
            let mut taken = 0;
            for record in &span.records {
                let is_sent = record.undelivered.is_none();
                if is_sent && left == 0 {
                    break;
                }
                left -= usize::from(is_sent);
                taken += 1;
            }
            let records = span.records.split_off(taken);
            if !records.is_empty() {
                second.push(BatchSpan { of: span.of.clone(), epoch: span.epoch, records });
            }
            if taken > 0 {
                first.push(span);
            }
        }
        (self.batch(first), BatchPart { spans: second, earlier })
    }

    /// Takes the part that is to be sent next from the rest of a batch, which ends with it.
    pub(crate) fn next_part(&self, rest: &mut Vec<BatchPart>) -> Option<(InvocationBatch, u32)> {
        rest.pop().map(|part| (self.batch(part.spans), part.earlier))
    }

    /// Removes the partitions that this poller no longer owns from the rest of a batch. The others stay out.
    pub(crate) fn keep_owned(&mut self, rest: &mut Vec<BatchPart>) {
        for part in rest.iter_mut() {
            part.spans.retain(|span| {
                let is_owned = self.queues.iter().any(|queue| queue.epoch == span.epoch);
                if is_owned {
                    self.out.insert(span.of.clone());
                } else {
                    self.out.remove(&span.of);
                }
                is_owned
            });
        }
        rest.retain(|part| !part.spans.is_empty());
    }

    /// Puts the records of a partition back, behind the failed one before them.
    fn give_back(&mut self, of: &TopicPartition, rest: &mut [BatchPart]) {
        // The last part comes first, so each goes to the front of those after it.
        for part in rest {
            for span in part.spans.extract_if(.., |span| span.of == *of) {
                if let Some(queue) = self.owner(&span) {
                    queue.put_back(span.records);
                }
            }
        }
    }

    fn owner(&mut self, span: &BatchSpan) -> Option<&mut Queue> {
        self.queues.iter_mut().find(|queue| queue.epoch == span.epoch)
    }

    /// Removes the partitions that this poller no longer owns from a batch that the function does not have. `None` if
    /// nothing remains.
    pub(crate) fn still_owned(&mut self, batch: InvocationBatch) -> Option<InvocationBatch> {
        let owned = |span: &BatchSpan| self.queues.iter().any(|queue| queue.epoch == span.epoch);
        if batch.spans.iter().all(owned) {
            return Some(batch);
        }
        let (spans, given_up): (Vec<BatchSpan>, Vec<BatchSpan>) = batch.spans.into_iter().partition(owned);
        for span in &given_up {
            self.out.remove(&span.of);
        }
        if spans.is_empty() { None } else { Some(self.batch(spans)) }
    }

    /// Takes a batch back after its answer: records to send again go to the front of their partition. Returns the next
    /// offset of each partition, to be committed, except for partitions that this poller no longer owns.
    ///
    /// `retry_from` has one entry for each partition of the batch. Everything from the lowest failed offset on is sent
    /// again, also records above it that succeeded: a committed offset cannot have holes. A record with which the function
    /// has failed as often as it may is not sent again, and the others are.
    ///
    /// `rest` are the parts after this one, if the batch was split. What a partition has in them waits behind its failed
    /// record, too; the other partitions stay out.
    pub(crate) fn complete(
        &mut self,
        batch: InvocationBatch,
        retry_from: &[Option<i64>],
        rest: &mut Vec<BatchPart>,
        now: Instant,
    ) -> Vec<Position> {
        for (span, _) in batch.spans.iter().zip(retry_from).filter(|(_, retry_from)| retry_from.is_some()) {
            self.give_back(&span.of, rest);
        }
        let max_retries = self.max_retries;
        let mut done = Vec::with_capacity(batch.spans.len());
        for (mut span, retry_from) in batch.spans.into_iter().zip(retry_from) {
            self.out.remove(&span.of);
            let in_rest = first_offset(rest, &span.of);
            let Some(queue) = self.owner(&span) else { continue };
            let (Some(first), Some(last)) = (span.records.first(), span.records.last()) else { continue };
            let (first, last) = (first.offset, last.offset);
            let Some(failed) = *retry_from else {
                queue.retry = None;
                let next = in_rest.unwrap_or_else(|| queue.next_after(last));
                done.push(Position::new(span.of.topic, span.of.partition, next));
                continue;
            };
            let (mut backoff, before) = match queue.retry {
                // The batch made no progress since the last attempt.
                Some(retry) if retry.offset == failed => (retry.backoff, retry.invocations),
                Some(_) | None => (RetryDelay::default(), 0),
            };
            let invocations = before.saturating_add(1);
            queue.retry = Some(Retry { offset: failed, not_before: now + backoff.next(), backoff, invocations });
            let mut again = span.records.split_off(span.records.partition_point(|record| record.offset < failed));
            if max_retries.is_some_and(|retries| invocations > retries)
                && let Some(record) = again.first_mut()
            {
                record.undelivered = Some(Undelivered::RetriesExhausted { invocations });
            }
            queue.put_back(again);
            if failed > first {
                done.push(Position::new(span.of.topic, span.of.partition, failed));
            }
        }
        self.keep_owned(rest);
        done
    }
}

/// The lowest offset of a partition in the rest of a batch, which begins with its last part.
fn first_offset(rest: &[BatchPart], of: &TopicPartition) -> Option<i64> {
    let spans = rest.iter().rev().flat_map(|part| &part.spans);
    spans.filter(|span| span.of == *of).find_map(|span| span.records.first()).map(|record| record.offset)
}

/// Size in bytes of encoded records.
fn size(records: &[EncodedRecord]) -> usize {
    records.iter().map(|record| record.json.len()).sum()
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

    /// Size of what waits, by partition in the order of assignment; it must be what the buffer counted.
    fn bytes(buffer: &Buffer) -> Vec<usize> {
        let counted = buffer.queues.iter().map(|queue| queue.bytes).collect();
        let of_queue = |queue: &Queue| queue.records.iter().map(|record| record.json.len()).sum();
        assert_eq!(counted, buffer.queues.iter().map(of_queue).collect::<Vec<usize>>());
        counted
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
        assert_eq!(buffer.due(now, Duration::ZERO), None);
        fill(&mut buffer, 0, 0..2, now);
        assert_eq!(
            buffer.due(now, Duration::ZERO),
            Some(now + Duration::from_secs(5)),
            "the window starts with the first record"
        );
        fill(&mut buffer, 1, 0..1, now + Duration::from_secs(1));
        assert_eq!(buffer.due(now, Duration::ZERO), Some(now), "full");
        assert_eq!(offsets(&buffer.cut(now).unwrap()), [(0, vec![0, 1]), (1, vec![0])]);
        assert!(buffer.cut(now).is_none());
    }

    #[test]
    fn beside_another_batch_records_wait_until_they_fill_one() {
        let (now, beside) = (Instant::now(), Duration::from_millis(50));
        let mut buffer = buffer(3, Duration::ZERO);
        fill(&mut buffer, 0, 0..2, now);
        assert_eq!(buffer.due(now, beside), Some(now + beside));
        assert_eq!(buffer.due(now, Duration::ZERO), Some(now), "as soon as the other one is done");
        fill(&mut buffer, 1, 0..1, now);
        assert_eq!(buffer.due(now, beside), Some(now), "full");
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
            buffer.complete(batch, &[None], &mut Vec::new(), now);
        }
        assert_eq!(order, [(0, vec![0, 1]), (1, vec![0, 1]), (0, vec![2, 3]), (1, vec![2, 3])]);
    }

    #[test]
    fn no_event_exceeds_the_limit_and_none_is_cut_short() {
        let now = Instant::now();
        let mut buffer = buffer(10_000, Duration::from_secs(60));
        for offset in 0..20 {
            buffer.push(&record(offset % 3, i64::from(offset), 700_000), now);
        }
        assert_eq!(buffer.due(now, Duration::ZERO), Some(now), "full by bytes");
        let mut seen = 0;
        while let Some(batch) = buffer.cut(now) {
            assert!(batch.event.len() <= MAX_EVENT_BYTES, "{}", batch.event.len());
            assert!(batch.records >= 6 || seen + batch.records == 20, "{} records", batch.records);
            seen += batch.records;
            let done = vec![None; batch.spans.len()];
            buffer.complete(batch, &done, &mut Vec::new(), now);
        }
        assert_eq!((seen, bytes(&buffer)), (20, [0, 0, 0].to_vec()));
    }

    #[test]
    fn a_record_that_just_fits_is_sent_and_one_byte_more_is_skipped() {
        let now = Instant::now();
        let mut buffer = buffer(10, Duration::ZERO);
        let empty = EncodedRecord::new(&record(0, 0, 0)).json.len();
        buffer.max_event_bytes = buffer.frame.len() + partition_overhead(&of(0)) + empty + 400;
        for (offset, bytes) in [(0, 300), (1, 301), (2, 1)] {
            // 300 bytes are 400 in base64.
            buffer.push(&record(0, offset, bytes), now);
        }
        let first = buffer.cut(now).unwrap();
        assert_eq!((first.records, offsets(&first)), (1, vec![(0, vec![0, 1])]));
        let undelivered: Vec<_> = first.undelivered().map(|(_, record, why)| (record.offset, why)).collect();
        assert_eq!(undelivered, [(1, Undelivered::PayloadTooLarge)]);
        let next = buffer.complete(first, &[None], &mut Vec::new(), now);
        assert_eq!(next, [Position::new("t", 0, 2)], "the offset of the skipped record is committed");
        let second = buffer.cut(now).unwrap();
        assert_eq!(offsets(&second), [(0, vec![2])]);
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
        let next = buffer.complete(batch, &[Some(11), None], &mut Vec::new(), now);
        assert_eq!(next, [Position::new("t", 0, 11), Position::new("t", 1, 6)]);
        let meanwhile = buffer.cut(now).unwrap();
        assert_eq!(offsets(&meanwhile), [(1, vec![6])], "only the failed partition waits");
        let due = buffer.due(now, Duration::ZERO).unwrap();
        assert!(due > now && due <= now + RetryDelay::CAP);
        let again = buffer.cut(due).unwrap();
        assert_eq!(offsets(&again), [(0, vec![11, 12, 13])]);
        assert_eq!(
            buffer.complete(again, &[Some(11)], &mut Vec::new(), due),
            [],
            "nothing succeeded, nothing to commit"
        );
    }

    /// A partition's records by their values, from offset 0 on.
    fn fill_with(buffer: &mut Buffer, partition: i32, first: i64, values: &[&'static str]) {
        for (offset, value) in (first..).zip(values) {
            let value = Some(Bytes::from_static(value.as_bytes()));
            buffer.push(&Record { value, ..record(partition, offset, 0) }, Instant::now());
        }
    }

    #[test]
    fn what_the_filters_leave_out_is_in_no_batch_and_is_committed_with_what_is_before_it() {
        let now = Instant::now();
        let filters = RecordFilters::parse([r#"{"value":["yes"]}"#]).unwrap();
        let config =
            MappingConfig { batch_size: 2, window: Duration::ZERO, filters, ..MappingConfig::new("f", "t", "g") };
        let mut buffer = Buffer::new(&config);
        fill_with(&mut buffer, 0, 0, &["no", "no"]);
        assert_eq!(
            (buffer.due(now, Duration::ZERO), buffer.cut(now).is_none()),
            (None, true),
            "no batch without records"
        );
        assert_eq!(buffer.filtered(), [Position::new("t", 0, 2)]);
        assert_eq!(buffer.filtered(), [], "once");
        fill_with(&mut buffer, 0, 2, &["yes", "no", "no", "yes", "no", "yes", "no"]);
        assert_eq!(buffer.filtered(), [], "a record before them is not done");
        let batch = buffer.cut(now).unwrap();
        assert_eq!(offsets(&batch), [(0, vec![2, 5])], "they do not count for the batch size");
        fill_with(&mut buffer, 0, 9, &["no"]);
        assert_eq!(
            buffer.complete(batch, &[None], &mut Vec::new(), now),
            [Position::new("t", 0, 7)],
            "up to the record that waits"
        );
        let batch = buffer.cut(now).unwrap();
        assert_eq!(buffer.filtered(), [], "the function has a record before them");
        assert_eq!(buffer.complete(batch, &[Some(7)], &mut Vec::new(), now), []);
        let due = buffer.due(now, Duration::ZERO).unwrap();
        let again = buffer.cut(due).unwrap();
        assert_eq!(buffer.complete(again, &[None], &mut Vec::new(), due), [Position::new("t", 0, 10)]);
        fill_with(&mut buffer, 0, 10, &["no"]);
        buffer.rebalance(&Rebalance::Revoked(vec![of(0)]), now);
        assert_eq!(buffer.filtered(), [], "its new owner commits it");
    }

    #[test]
    fn a_split_batch_comes_back_part_by_part_and_commits_each() {
        let now = Instant::now();
        let mut buffer = buffer(10, Duration::ZERO);
        buffer.rebalance(&Rebalance::Assigned(vec![of(0), of(1)]), now);
        fill(&mut buffer, 0, 0..3, now);
        fill(&mut buffer, 1, 0..2, now);
        let batch = buffer.cut(now).unwrap();
        fill(&mut buffer, 0, 3..4, now);
        let (first, second) = buffer.split(batch, 1);
        assert_eq!((first.records, offsets(&first)), (3, vec![(0, vec![0, 1, 2])]));
        let mut rest = vec![second];
        let (first, second) = buffer.split(first, 2);
        assert_eq!(offsets(&first), [(0, vec![0, 1])]);
        rest.push(second);
        let next = buffer.complete(first, &[None], &mut rest, now);
        assert_eq!(next, [Position::new("t", 0, 2)], "not past what is in the rest");
        assert!(buffer.cut(now).is_none(), "both partitions are still out");
        let (part, earlier) = buffer.next_part(&mut rest).unwrap();
        assert_eq!((offsets(&part), earlier), (vec![(0, vec![2])], 2));
        assert_eq!(buffer.complete(part, &[None], &mut rest, now), [Position::new("t", 0, 3)]);
        assert_eq!(offsets(&buffer.cut(now).unwrap()), [(0, vec![3])], "the first partition is free");
        let (part, earlier) = buffer.next_part(&mut rest).unwrap();
        assert_eq!((part.records, offsets(&part), earlier), (2, vec![(1, vec![0, 1])], 1));
        assert_eq!(buffer.complete(part, &[None], &mut rest, now), [Position::new("t", 1, 2)]);
        assert!(buffer.next_part(&mut rest).is_none());
    }

    #[test]
    fn after_a_partial_failure_of_a_part_the_rest_of_its_partition_waits_behind_it() {
        let now = Instant::now();
        let mut buffer = buffer(6, Duration::ZERO);
        fill(&mut buffer, 0, 0..5, now);
        fill(&mut buffer, 1, 0..1, now);
        let batch = buffer.cut(now).unwrap();
        fill(&mut buffer, 0, 5..6, now);
        let (first, second) = buffer.split(batch, 1);
        let mut rest = vec![second];
        assert_eq!(buffer.complete(first, &[Some(1)], &mut rest, now), [Position::new("t", 0, 1)]);
        let (part, _) = buffer.next_part(&mut rest).unwrap();
        assert_eq!(offsets(&part), [(1, vec![0])]);
        let due = buffer.due(now, Duration::ZERO).unwrap();
        assert_eq!(offsets(&buffer.cut(due).unwrap()), [(0, vec![1, 2, 3, 4, 5])]);
        assert_eq!(buffer.complete(part, &[None], &mut rest, now), [Position::new("t", 1, 1)]);
        assert_eq!(bytes(&buffer), [0, 0]);
    }

    #[test]
    fn the_rest_of_a_batch_loses_the_partitions_that_are_revoked() {
        let now = Instant::now();
        let mut buffer = buffer(10, Duration::ZERO);
        buffer.rebalance(&Rebalance::Assigned(vec![of(0), of(1)]), now);
        fill(&mut buffer, 0, 0..3, now);
        fill(&mut buffer, 1, 0..1, now);
        let batch = buffer.cut(now).unwrap();
        let (first, second) = buffer.split(batch, 1);
        let mut rest = vec![second];
        buffer.rebalance(&Rebalance::Revoked(vec![of(0)]), now);
        buffer.rebalance(&Rebalance::Assigned(vec![of(0)]), now);
        fill(&mut buffer, 0, 2..3, now);
        assert!(buffer.cut(now).is_none(), "the function still has records of the partition");
        assert_eq!(buffer.complete(first, &[None], &mut rest, now), []);
        assert_eq!(offsets(&buffer.cut(now).unwrap()), [(0, vec![2])]);
        let (part, _) = buffer.next_part(&mut rest).unwrap();
        assert_eq!(offsets(&part), [(1, vec![0])]);
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
        assert_eq!(buffer.complete(batch.clone(), &[None, None], &mut Vec::new(), now), [Position::new("t", 1, 2)]);
        buffer.rebalance(&Rebalance::Lost(vec![of(1)]), now);
        assert!(buffer.still_owned(batch).is_none());
        assert_eq!(bytes(&buffer), [0]);
    }

    #[test]
    fn batches_that_are_out_share_no_partition() {
        let now = Instant::now();
        let mut buffer = buffer(3, Duration::ZERO);
        fill(&mut buffer, 0, 0..4, now);
        fill(&mut buffer, 1, 0..2, now);
        fill(&mut buffer, 2, 0..2, now);
        let first = buffer.cut(now).unwrap();
        assert_eq!(offsets(&first), [(0, vec![0, 1, 2])]);
        let second = buffer.cut(now).unwrap();
        assert_eq!(offsets(&second), [(1, vec![0, 1]), (2, vec![0])]);
        fill(&mut buffer, 1, 2..9, now);
        assert!(buffer.cut(now).is_none(), "every partition is out");
        assert_eq!(
            buffer.due(now, Duration::ZERO),
            None,
            "records of partitions that are out are not due, however many they are"
        );
        assert_eq!(
            buffer.complete(second, &[None, None], &mut Vec::new(), now),
            [Position::new("t", 1, 2), Position::new("t", 2, 1)]
        );
        let third = buffer.cut(now).unwrap();
        assert_eq!(offsets(&third), [(1, vec![2, 3, 4])], "partition 0 is still out");
        let fourth = buffer.cut(now).unwrap();
        assert_eq!(offsets(&fourth), [(2, vec![1])]);
        assert_eq!(buffer.complete(first, &[Some(1)], &mut Vec::new(), now), [Position::new("t", 0, 1)]);
        let due = buffer.due(now, Duration::ZERO).unwrap();
        assert!(due > now, "the failed partition waits, and the others are out");
        assert_eq!(offsets(&buffer.cut(due).unwrap()), [(0, vec![1, 2, 3])]);
        buffer.complete(third, &[None], &mut Vec::new(), now);
        assert_eq!(offsets(&buffer.cut(now).unwrap()), [(1, vec![5, 6, 7])]);
        buffer.complete(fourth, &[None], &mut Vec::new(), now);
        assert_eq!(bytes(&buffer)[2], 0);
    }

    #[test]
    fn a_window_runs_while_other_partitions_are_out() {
        let now = Instant::now();
        let window = Duration::from_secs(5);
        let mut buffer = buffer(3, window);
        fill(&mut buffer, 0, 0..3, now);
        let full = buffer.cut(now).unwrap();
        fill(&mut buffer, 0, 3..5, now);
        let later = now + Duration::from_secs(1);
        fill(&mut buffer, 1, 0..2, later);
        assert_eq!(
            buffer.due(later, Duration::ZERO),
            Some(later + window),
            "two records that may go: neither full nor old enough"
        );
        buffer.complete(full, &[None], &mut Vec::new(), later);
        assert_eq!(buffer.due(later, Duration::ZERO), Some(later), "four records that may go");
    }

    #[test]
    fn a_partition_that_comes_back_waits_for_the_batch_that_the_function_has() {
        let now = Instant::now();
        let mut buffer = buffer(10, Duration::ZERO);
        buffer.rebalance(&Rebalance::Assigned(vec![of(0), of(1)]), now);
        fill(&mut buffer, 0, 0..2, now);
        let zero = buffer.cut(now).unwrap();
        fill(&mut buffer, 1, 0..2, now);
        let one = buffer.cut(now).unwrap();
        buffer.rebalance(&Rebalance::Revoked(vec![of(0), of(1)]), now);
        buffer.rebalance(&Rebalance::Assigned(vec![of(0), of(1)]), now);
        fill(&mut buffer, 0, 0..2, now);
        fill(&mut buffer, 1, 0..2, now);
        assert!(buffer.cut(now).is_none());
        assert_eq!(
            buffer.complete(zero, &[None], &mut Vec::new(), now),
            [],
            "the assignment under which it was read has ended"
        );
        assert_eq!(offsets(&buffer.cut(now).unwrap()), [(0, vec![0, 1])]);
        assert!(buffer.still_owned(one).is_none());
        assert_eq!(offsets(&buffer.cut(now).unwrap()), [(1, vec![0, 1])]);
    }

    #[test]
    fn a_partition_is_paused_while_one_batch_waits_and_the_others_are_read() {
        let now = Instant::now();
        let mut buffer = buffer(2, Duration::ZERO);
        buffer.rebalance(&Rebalance::Assigned(vec![of(0), of(1)]), now);
        fill(&mut buffer, 0, 0..2, now);
        let batch = buffer.cut(now).unwrap();
        fill(&mut buffer, 0, 2..3, now);
        assert_eq!(buffer.change_reading(), []);
        fill(&mut buffer, 0, 3..4, now);
        assert_eq!(buffer.change_reading(), [Reading::Pause(of(0))]);
        assert!(buffer.is_paused());
        assert_eq!(buffer.change_reading(), [], "the caller knows");
        buffer.complete(batch, &[None], &mut Vec::new(), now);
        buffer.cut(now).unwrap();
        assert_eq!(buffer.change_reading(), [Reading::Resume(of(0))]);
        assert!(!buffer.is_paused());
    }

    #[test]
    fn partitions_share_the_memory_and_one_that_used_its_share_is_due() {
        let now = Instant::now();
        let mut buffer = buffer(10_000, Duration::from_secs(300));
        let partitions: Vec<TopicPartition> = (0..24).map(of).collect();
        buffer.rebalance(&Rebalance::Assigned(partitions.clone()), now);
        // A third of an event's limit in base64.
        buffer.push(&record(0, 0, MAX_EVENT_BYTES / 4), now);
        assert_eq!(buffer.change_reading(), [Reading::Pause(of(0))]);
        assert_eq!(buffer.due(now, Duration::ZERO), Some(now), "it cannot grow, so it does not wait for its window");
        for partition in 1..24 {
            buffer.push(&record(partition, 0, MAX_EVENT_BYTES / 4), now);
        }
        assert_eq!(buffer.change_reading().len(), 23);
        let most = MAX_WAITING_BYTES + partitions.len() * 1024;
        assert!(bytes(&buffer).into_iter().sum::<usize>() < most);
    }

    #[test]
    fn the_retry_delay_grows_to_its_cap_and_is_never_zero() {
        let mut backoff = RetryDelay::default();
        let waits: Vec<Duration> = (0..40).map(|_| backoff.next()).collect();
        assert!(waits.iter().all(|wait| *wait >= RetryDelay::BASE / 2 && *wait <= RetryDelay::CAP));
        assert!(waits[39] >= RetryDelay::CAP / 2);
    }
}
