//! From objects back to records, each record once.
//!
//! Batches that were cut differently leave overlapping objects, so the same record may be in several. All objects of a
//! partition are merged by offset, and copies are recognised by offset and content. Two different records at one offset are
//! of two logs: the topic was made again, or lost its tail. Both are returned, in the order of their objects' names.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::io::{BufRead as _, BufReader, Cursor, Read as _};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use event::Timestamp;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use pipeline::breaker::OPEN_FOR;
use pipeline::guard::Guard;
use pipeline::ports::ObjectStore;
use pipeline::{Dependency, Position, Record, topic};
use tokio::time::Instant;

use crate::error::ArchiveError;
use crate::key::{Hour, ObjectKey, Series, Status, day_name};
use crate::line;
use crate::offsets::OffsetRanges;

/// Number of objects fetched ahead, so that a reader does not wait for each one. An object is at most a few MB.
const FETCH_AHEAD: usize = 8;

/// Longest line that is read, in bytes. A batch has at most 6 MB, so no line is longer, even with every byte escaped.
const MAX_LINE_BYTES: u64 = 64 * 1024 * 1024;

/// Time limit for all attempts of one call.
const CALL_BUDGET: Duration = Duration::from_secs(30);

/// Up to this many days are listed one by one. For a longer range, one listing of everything takes fewer calls.
const MAX_DAY_LISTINGS: i64 = 100;

/// Which records to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    topic: Arc<str>,
    status: Option<Status>,
    /// `None` means all partitions.
    partitions: Option<BTreeSet<i32>>,
    /// For each partition, the first offset to read. Partitions that are not in the map are read from their start.
    starts: BTreeMap<i32, i64>,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Filter {
    /// Every record of a topic; for `processed-events`, the records of every status.
    pub fn topic(topic: impl Into<Arc<str>>) -> Self {
        let topic = topic.into();
        Filter { topic, status: None, partitions: None, starts: BTreeMap::new(), from: None, until: None }
    }

    /// The records of `processed-events` with this status.
    pub fn status(status: Status) -> Self {
        Filter { status: Some(status), ..Filter::topic(topic::PROCESSED_EVENTS) }
    }

    #[must_use]
    pub fn partition(self, partition: i32) -> Self {
        self.partitions([partition])
    }

    #[must_use]
    pub fn partitions(self, partitions: impl IntoIterator<Item = i32>) -> Self {
        Filter { partitions: Some(partitions.into_iter().collect()), ..self }
    }

    /// For the partitions in the map, only records from that offset on.
    #[must_use]
    pub fn starting_at(self, starts: BTreeMap<i32, i64>) -> Self {
        Filter { starts, ..self }
    }

    /// Records whose Kafka timestamp is at or after `from`.
    #[must_use]
    pub fn from(self, from: Timestamp) -> Self {
        Filter { from: Some(from), ..self }
    }

    /// Records whose Kafka timestamp is before `until`.
    #[must_use]
    pub fn until(self, until: Timestamp) -> Self {
        Filter { until: Some(until), ..self }
    }

    fn series(&self) -> Vec<Series> {
        if *self.topic == *topic::PROCESSED_EVENTS {
            let statuses = self.status.map_or_else(|| Status::ALL.to_vec(), |status| vec![status]);
            statuses.into_iter().map(|status| Series::Outcomes { status }).collect()
        } else {
            vec![Series::Raw { topic: Arc::clone(&self.topic) }]
        }
    }

    fn first_hour(&self) -> Option<Hour> {
        self.from.map(Hour::of)
    }

    fn last_hour(&self) -> Option<Hour> {
        self.until.map(|until| Hour::of(Timestamp::from_millis(until.as_millis() - 1)))
    }

    /// The prefixes that together contain every object to read and few others.
    fn prefixes(&self) -> Vec<String> {
        let days = self.first_hour().zip(self.last_hour()).and_then(|(first, last)| Some(first.day()?..=last.day()?));
        let days = days.filter(|days| days.end() - days.start() < MAX_DAY_LISTINGS);
        let of_series = |series: Series| match days.clone() {
            None => vec![format!("{series}/")],
            Some(days) => days.map(|day| format!("{series}/{}/", day_name(day))).collect(),
        };
        self.series().into_iter().flat_map(of_series).collect()
    }

    fn wants_object(&self, key: &ObjectKey) -> bool {
        self.partitions.as_ref().is_none_or(|partitions| partitions.contains(&key.partition))
            && self.starts.get(&key.partition).is_none_or(|start| *start <= key.last)
            && self.first_hour().is_none_or(|first| first <= key.hour)
            && self.last_hour().is_none_or(|last| key.hour <= last)
    }

    fn wants_record(&self, record: &Record) -> bool {
        let Position { partition, offset, .. } = &record.position;
        self.starts.get(partition).is_none_or(|start| start <= offset)
            && self.from.is_none_or(|from| from <= record.timestamp)
            && self.until.is_none_or(|until| record.timestamp < until)
    }
}

/// An object of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedObject {
    pub key: ObjectKey,
    /// Size in bytes as stored, i.e. compressed.
    pub size: u64,
}

/// Reads the archive in an object store.
#[derive(Clone)]
pub struct ArchiveReader {
    store: Arc<dyn ObjectStore>,
    guard: Arc<Guard>,
}

impl ArchiveReader {
    /// A reader for a single use: it has its own breaker, which is not in the metrics.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        ArchiveReader::guarded(store, Arc::new(Guard::unobserved(Dependency::S3, OPEN_FOR)))
    }

    /// A reader that uses its function's guard, and so its circuit breaker, for S3.
    pub fn guarded(store: Arc<dyn ObjectStore>, guard: Arc<Guard>) -> Self {
        ArchiveReader { store, guard }
    }

    /// Objects that may hold records to read, sorted by partition and then by first offset. Objects whose names are not
    /// archive names are skipped.
    ///
    /// # Errors
    /// Errors of the object store.
    pub async fn objects(&self, filter: &Filter) -> Result<Vec<ArchivedObject>, ArchiveError> {
        let mut objects = Vec::new();
        for prefix in filter.prefixes() {
            let deadline = Instant::now() + CALL_BUDGET;
            let listed = self.guard.call(deadline, "listing objects", || self.store.list(&prefix)).await?;
            objects.extend(listed.into_iter().filter_map(|info| match info.key.parse::<ObjectKey>() {
                Ok(key) => filter.wants_object(&key).then_some(ArchivedObject { key, size: info.size }),
                Err(error) => {
                    tracing::warn!(object = %info.key, %error, "skipped an object: its name is not an archive name");
                    None
                }
            }));
        }
        // Then by name, so that the order of objects with equal ranges is always the same.
        objects.sort_by_cached_key(|object| {
            (object.key.partition, object.key.first, object.key.last, object.key.to_string())
        });
        Ok(objects)
    }

    /// The records to read: partition by partition, in the order of their offsets, each once.
    ///
    /// Keeps in memory only the objects that overlap at the current offset, and a few fetched ahead.
    ///
    /// # Errors
    /// Errors of the object store when listing.
    pub async fn records(&self, filter: &Filter) -> Result<Records, ArchiveError> {
        let objects = self.objects(filter).await?;
        let pending: VecDeque<ObjectKey> = objects.into_iter().map(|object| object.key).collect();
        Ok(Records {
            filter: filter.clone(),
            bodies: self.bodies(pending.clone()),
            pending,
            open: BinaryHeap::new(),
            failed: VecDeque::new(),
            others: VecDeque::new(),
            tally: Tally::default(),
        })
    }

    /// Which offsets the archive holds, per partition. The times of the filter are rounded to whole hours.
    ///
    /// The name of a dense object is enough. Objects with gaps are read, because their names do not say which offsets
    /// they hold.
    ///
    /// # Errors
    /// Errors of the object store, or an error in an object with gaps.
    pub async fn coverage(&self, filter: &Filter) -> Result<Coverage, ArchiveError> {
        let mut ranges: BTreeMap<i32, Vec<RangeInclusive<i64>>> = BTreeMap::new();
        let mut coverage = Coverage::default();
        let mut sparse = VecDeque::new();
        for ArchivedObject { key, size } in self.objects(filter).await? {
            let partition = coverage.partitions.entry(key.partition).or_default();
            partition.objects += 1;
            partition.bytes += size;
            partition.copies += key.records;
            if key.is_dense() {
                ranges.entry(key.partition).or_default().push(key.first..=key.last);
            } else {
                sparse.push_back(key);
            }
        }
        let mut bodies = self.bodies(sparse);
        while let Some((key, body)) = bodies.next().await {
            let held = ranges.entry(key.partition).or_default();
            let mut lines = Lines::open(key, body?)?;
            while let Some(offset) = lines.next(line::decode_offset)? {
                lines.admit(offset)?;
                match held.last_mut() {
                    Some(range) if range.end().checked_add(1) == Some(offset) => *range = *range.start()..=offset,
                    Some(_) | None => held.push(offset..=offset),
                }
            }
        }
        for (partition, ranges) in ranges {
            coverage.partitions.entry(partition).or_default().held = OffsetRanges::union_of(ranges);
        }
        Ok(coverage)
    }

    /// The bodies of these objects in this order. Some are fetched ahead.
    fn bodies(&self, keys: VecDeque<ObjectKey>) -> Bodies {
        let reader = self.clone();
        stream::iter(keys)
            .map(move |key| {
                let ArchiveReader { store, guard } = reader.clone();
                async move {
                    let name = key.to_string();
                    let deadline = Instant::now() + CALL_BUDGET;
                    let body = guard.call(deadline, "reading an object", || store.get(&name)).await;
                    (key, body.map_err(ArchiveError::from))
                }
            })
            .buffered(FETCH_AHEAD)
            .boxed()
    }
}

type Bodies = BoxStream<'static, (ObjectKey, Result<Bytes, ArchiveError>)>;

/// The offsets the archive holds, by partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    pub partitions: BTreeMap<i32, PartitionCoverage>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionCoverage {
    /// Each offset counts once.
    pub held: OffsetRanges,
    /// Number of lines in all objects: more than `held` if objects overlap.
    pub copies: u64,
    pub objects: u64,
    /// Compressed size of the objects.
    pub bytes: u64,
}

impl PartitionCoverage {
    /// Number of lines whose offset also has an earlier line.
    pub fn overlaps(&self) -> u64 {
        self.copies.saturating_sub(self.held.len())
    }

    /// Offsets in `within` that the archive does not hold. `within` comes from the broker: from its earliest offset to
    /// the one before its high watermark.
    pub fn gaps(&self, within: RangeInclusive<i64>) -> OffsetRanges {
        self.held.missing(within)
    }
}

/// What has been read so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Objects opened.
    pub objects: u64,
    /// Compressed size of those objects.
    pub bytes: u64,
    /// Records returned.
    pub records: u64,
    /// Further copies of a record, which were skipped.
    pub overlaps: u64,
    /// Records at an offset at which there is another record too.
    pub reused_offsets: u64,
}

/// The stream of records that [`ArchiveReader::records`] returns.
pub struct Records {
    filter: Filter,
    /// The objects that `bodies` has not returned yet, in its order.
    pending: VecDeque<ObjectKey>,
    bodies: Bodies,
    /// Open objects, all of one partition. The one with the lowest next offset is on top.
    open: BinaryHeap<Reverse<OpenObject>>,
    /// Errors that have not been returned yet.
    failed: VecDeque<ArchiveError>,
    /// Other records at the offset of the last one, that have not been returned yet.
    others: VecDeque<Record>,
    tally: Tally,
}

impl Records {
    /// The next record, or `None` after the last.
    ///
    /// # Errors
    /// If an object cannot be fetched or is damaged. The error affects only that object: a caller that
    /// continues gets the records of the others, and misses the rest of the damaged one.
    pub async fn next(&mut self) -> Result<Option<Record>, ArchiveError> {
        loop {
            self.open_due().await;
            if let Some(error) = self.failed.pop_front() {
                return Err(error);
            }
            let next = self.others.pop_front().or_else(|| self.take_lowest());
            let Some(record) = next else { return Ok(None) };
            if self.filter.wants_record(&record) {
                self.tally.records += 1;
                return Ok(Some(record));
            }
        }
    }

    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Opens every object that may hold the partition's lowest offset.
    async fn open_due(&mut self) {
        while let Some(key) = self.pending.front() {
            let due = self.open.peek().is_none_or(|Reverse(lowest)| {
                lowest.lines.key.partition == key.partition && key.first <= lowest.head.position.offset
            });
            if !due {
                break;
            }
            let Some((key, body)) = self.bodies.next().await else { break };
            self.pending.pop_front();
            let opened = body.and_then(|body| {
                self.tally.objects += 1;
                self.tally.bytes += body.len() as u64;
                Lines::open(key, body)
            });
            match opened {
                Ok(lines) => self.go_on_with(lines),
                Err(error) => self.failed.push_back(error),
            }
        }
    }

    /// Takes the record with the lowest offset, skips its copies in other objects, and keeps other records at that offset.
    fn take_lowest(&mut self) -> Option<Record> {
        let Reverse(OpenObject { head, lines }) = self.open.pop()?;
        self.go_on_with(lines);
        while self.open.peek().is_some_and(|Reverse(copy)| copy.head.position.offset == head.position.offset) {
            let Some(Reverse(copy)) = self.open.pop() else { break };
            // By digest: two readers of one record may differ in what is absent and what is empty.
            let digest = copy.head.digest();
            if digest == head.digest() || self.others.iter().any(|other| other.digest() == digest) {
                self.tally.overlaps += 1;
            } else {
                self.tally.reused_offsets += 1;
                self.others.push_back(copy.head);
            }
            self.go_on_with(copy.lines);
        }
        Some(head)
    }

    /// Puts the object back with its next record. An error is kept for later, so that no record of another object is
    /// lost.
    fn go_on_with(&mut self, lines: Lines) {
        match OpenObject::next(lines) {
            Ok(Some(object)) => self.open.push(Reverse(object)),
            Ok(None) => {}
            Err(error) => self.failed.push_back(error),
        }
    }
}

/// An object with at least one more record.
struct OpenObject {
    head: Record,
    lines: Lines,
}

impl OpenObject {
    /// With its next record as head; `None` after the last.
    fn next(mut lines: Lines) -> Result<Option<Self>, ArchiveError> {
        let topic = Arc::clone(&lines.topic);
        let Some(head) = lines.next(|line| line::decode(line, &topic))? else { return Ok(None) };
        lines.admit(head.position.offset)?;
        if head.position.topic != topic || head.position.partition != lines.key.partition {
            return Err(lines.contents("it has a record of another topic or partition"));
        }
        Ok(Some(OpenObject { head, lines }))
    }

    fn rank(&self) -> (i64, i64, i64) {
        (self.head.position.offset, self.lines.key.first, self.lines.key.last)
    }
}

impl Ord for OpenObject {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank()).then_with(|| self.lines.name.cmp(&other.lines.name))
    }
}

impl PartialOrd for OpenObject {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for OpenObject {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for OpenObject {}

/// The lines of one object, decompressed as they are read.
struct Lines {
    key: ObjectKey,
    name: String,
    topic: Arc<str>,
    reader: BufReader<zstd::Decoder<'static, Cursor<Bytes>>>,
    line: Vec<u8>,
    /// Lines read.
    read: u64,
    last_offset: Option<i64>,
}

impl Lines {
    fn open(key: ObjectKey, body: Bytes) -> Result<Self, ArchiveError> {
        let name = key.to_string();
        let decoder = zstd::Decoder::with_buffer(Cursor::new(body)).map_err(|source| ArchiveError::Decompress {
            key: name.clone(),
            line: 0,
            source,
        })?;
        let topic = Arc::from(key.series.topic());
        let reader = BufReader::new(decoder);
        Ok(Lines { key, name, topic, reader, line: Vec::new(), read: 0, last_offset: None })
    }

    /// Parses the next line. At the end, checks the number of lines against the name.
    fn next<T>(&mut self, parse: impl FnOnce(&[u8]) -> Result<T, line::LineError>) -> Result<Option<T>, ArchiveError> {
        self.line.clear();
        let length = (&mut self.reader)
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut self.line)
            .map_err(|source| ArchiveError::Decompress { key: self.name.clone(), line: self.read, source })?;
        if length == 0 {
            return if self.read == self.key.records { Ok(None) } else { Err(self.contents("it has too few records")) };
        }
        if self.line.pop() != Some(b'\n') {
            return Err(self.contents("its last line has no line break"));
        }
        self.read += 1;
        let parsed = parse(&self.line);
        parsed.map(Some).map_err(|source| ArchiveError::Line { key: self.name.clone(), line: self.read, source })
    }

    /// Checks an offset against the range in the name and against the offset before it.
    fn admit(&mut self, offset: i64) -> Result<(), ArchiveError> {
        if !(self.key.first..=self.key.last).contains(&offset) {
            return Err(self.contents("it has an offset outside the range"));
        }
        if self.last_offset.is_some_and(|last| offset <= last) {
            return Err(self.contents("its offsets are not in ascending order"));
        }
        self.last_offset = Some(offset);
        Ok(())
    }

    fn contents(&self, problem: &'static str) -> ArchiveError {
        ArchiveError::Contents { key: self.name.clone(), problem }
    }
}
