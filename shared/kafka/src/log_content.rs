//! Which offsets of a topic hold a record. Not every one does: transaction markers, aborted and compacted records leave
//! offsets behind that nobody can process.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use krafka::KrafkaError;
use pipeline::DependencyError;
use pipeline::ports::TopicSource as _;
use tokio::time::Instant;

use crate::{KafkaClient, KafkaError, PartitionWatermarks};

/// Longest wait for one read.
const READ_WAIT: Duration = Duration::from_millis(500);
/// How long the topic may stay silent before the look is given up. A transaction that is open holds the records behind it.
const SILENCE: Duration = Duration::from_secs(20);

/// The offsets among those asked for, by partition, that hold a record, in their order. Ranges are asked for lowest first.
/// Reads the topic from the first of them to the last, and nothing if none is asked for.
///
/// # Errors
/// If Kafka cannot be read; after 20 s of silence, with what an open transaction does as the reason.
pub async fn offsets_with_records(
    kafka: &KafkaClient,
    topic: &str,
    asked: &BTreeMap<i32, Vec<RangeInclusive<i64>>>,
) -> Result<BTreeMap<i32, Vec<i64>>, DependencyError> {
    let bounds = |ranges: &[RangeInclusive<i64>]| Some((*ranges.first()?.start(), *ranges.last()?.end()));
    let bounds: BTreeMap<i32, (i64, i64)> =
        asked.iter().filter_map(|(partition, ranges)| Some((*partition, bounds(ranges)?))).collect();
    let mut held: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    if bounds.is_empty() {
        return Ok(held);
    }
    let watermarks = kafka.topics().watermarks(topic).await;
    let watermarks = watermarks.map_err(|error| error.into_dependency_error("finding the ends of a topic"))?;
    // The others are read from beyond their end: not at all.
    let start = |PartitionWatermarks { partition, latest, .. }| {
        (partition, bounds.get(&partition).map_or(latest, |(first, _)| *first))
    };
    let mut reader = kafka.open(topic, &watermarks.into_iter().map(start).collect()).await?;
    let mut heard = Instant::now();
    let is_done = |partition: &i32, next: i64| bounds.get(partition).is_none_or(|(_, last)| next > *last);
    while reader.spans().iter().any(|(partition, span)| !span.is_finished() && !is_done(partition, span.next)) {
        let before = reader.spans().clone();
        for record in reader.read(READ_WAIT).await? {
            let (partition, offset) = (record.position.partition, record.position.offset);
            let is_asked = |ranges: &Vec<RangeInclusive<i64>>| {
                // The first range that does not end before it.
                let at = ranges.partition_point(|range| *range.end() < offset);
                ranges.get(at).is_some_and(|range| range.contains(&offset))
            };
            if asked.get(&partition).is_some_and(is_asked) {
                held.entry(partition).or_default().push(offset);
            }
        }
        if *reader.spans() != before {
            heard = Instant::now();
        }
        if heard.elapsed() >= SILENCE {
            let error = KafkaError::Read {
                topic: topic.to_owned(),
                doing: "reading to the end of",
                source: KrafkaError::timeout("records; a transaction that is open holds the records behind it"),
            };
            return Err(error.into_dependency_error("looking for records"));
        }
    }
    Ok(held)
}
