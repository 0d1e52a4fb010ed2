//! Which offsets of a topic hold a record, as ranges.

use std::collections::BTreeMap;

use archive::OffsetRanges;
use kafka::{KafkaClient, offsets_with_records};
use pipeline::DependencyError;

/// By partition.
pub(crate) type Offsets = BTreeMap<i32, OffsetRanges>;

/// The offsets of `asked` that hold a record.
///
/// # Errors
/// As [`offsets_with_records`].
pub(crate) async fn records_at(kafka: &KafkaClient, topic: &str, asked: &Offsets) -> Result<Offsets, DependencyError> {
    let asked = asked.iter().map(|(partition, ranges)| (*partition, ranges.ranges().to_vec())).collect();
    let held = offsets_with_records(kafka, topic, &asked).await?;
    let ranges = |offsets: Vec<i64>| OffsetRanges::union_of(offsets.into_iter().map(|offset| offset..=offset));
    Ok(held.into_iter().map(|(partition, offsets)| (partition, ranges(offsets))).collect())
}
