//! Which offsets of a topic hold a record. Not every one does: transaction markers, aborted and compacted records leave
//! offsets behind that nobody can process.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::ensure;
use archive::OffsetRanges;
use kafka::{KafkaClient, PartitionWatermarks};
use pipeline::ports::TopicSource as _;
use tokio::time::Instant;

/// Longest wait for one read.
const READ_WAIT: Duration = Duration::from_millis(500);
/// How long the topic may stay silent before the check is given up. A transaction that is open holds the records behind it.
const SILENCE: Duration = Duration::from_secs(20);

/// By partition.
pub(crate) type Offsets = BTreeMap<i32, OffsetRanges>;

/// The offsets of `asked` that hold a record. Reads the topic from the first of them to the last, and nothing if none is
/// asked for.
///
/// # Errors
/// If Kafka cannot be read.
pub(crate) async fn records_at(kafka: &KafkaClient, topic: &str, asked: &Offsets) -> anyhow::Result<Offsets> {
    let bounds = |ranges: &OffsetRanges| Some((*ranges.ranges().first()?.start(), *ranges.ranges().last()?.end()));
    let bounds: BTreeMap<i32, (i64, i64)> =
        asked.iter().filter_map(|(partition, ranges)| Some((*partition, bounds(ranges)?))).collect();
    let mut held: BTreeMap<i32, Vec<RangeInclusive<i64>>> = BTreeMap::new();
    if bounds.is_empty() {
        return Ok(Offsets::new());
    }
    // The others are read from beyond their end: not at all.
    let starts =
        kafka.topics().watermarks(topic).await?.into_iter().map(|PartitionWatermarks { partition, latest, .. }| {
            (partition, bounds.get(&partition).map_or(latest, |(first, _)| *first))
        });
    let mut reader = kafka.open(topic, &starts.collect()).await?;
    let mut heard = Instant::now();
    let is_done = |partition: &i32, next: i64| bounds.get(partition).is_none_or(|(_, last)| next > *last);
    while reader.spans().iter().any(|(partition, span)| !span.is_finished() && !is_done(partition, span.next)) {
        let before = reader.spans().clone();
        for record in reader.read(READ_WAIT).await? {
            let (partition, offset) = (record.position.partition, record.position.offset);
            if asked.get(&partition).is_some_and(|ranges| ranges.contains(offset)) {
                held.entry(partition).or_default().push(offset..=offset);
            }
        }
        if *reader.spans() != before {
            heard = Instant::now();
        }
        ensure!(
            heard.elapsed() < SILENCE,
            "reading {topic} stopped before its end; a transaction that is open holds the records behind it"
        );
    }
    Ok(held.into_iter().map(|(partition, ranges)| (partition, OffsetRanges::union_of(ranges))).collect())
}
