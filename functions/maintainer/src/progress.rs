//! What operators ask of Kafka: it is in a private network, and this function can reach it.

use kafka::{GroupPlace, PartitionWatermarks};
use pipeline::{group, topic};
use serde::Serialize;

use crate::app::App;
use crate::error::MaintainerError;

/// A topic as it is listed.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ListedTopic {
    topic: &'static str,
    /// The sum over the partitions; some offsets may hold no record.
    offsets: u64,
    partitions: Vec<ListedPartition>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ListedPartition {
    partition: i32,
    earliest: i64,
    /// The offset that the next record will get.
    latest: i64,
}

/// A consumer group as it is listed.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ListedGroup {
    group: &'static str,
    topic: &'static str,
    /// Offsets that are written and not committed; `None` if the group has never committed any: nothing reads with it.
    lag: Option<u64>,
    partitions: Vec<ListedPlace>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ListedPlace {
    partition: i32,
    /// The next offset to read.
    committed: Option<i64>,
    latest: i64,
    lag: u64,
}

/// The topics of the pipeline.
pub(crate) async fn topics(app: &App) -> Result<Vec<ListedTopic>, MaintainerError> {
    let admin = app.kafka().await?.topics();
    let mut listed = Vec::with_capacity(topic::ALL.len());
    for topic in topic::ALL {
        let marks = admin.watermarks(topic).await.map_err(MaintainerError::topics)?;
        let partitions = marks.into_iter().map(|PartitionWatermarks { partition, earliest, latest }| ListedPartition {
            partition,
            earliest,
            latest,
        });
        let partitions: Vec<ListedPartition> = partitions.collect();
        let offsets = partitions.iter().map(|of| u64::try_from(of.latest - of.earliest).unwrap_or(0)).sum();
        listed.push(ListedTopic { topic, offsets, partitions });
    }
    Ok(listed)
}

/// The consumer groups of the pipeline, asked of Kafka and not of who reads: a reader that hangs does not know.
pub(crate) async fn groups(app: &App) -> Result<Vec<ListedGroup>, MaintainerError> {
    let admin = app.kafka().await?.topics();
    let mut listed = Vec::with_capacity(group::ALL.len());
    for (group, topic) in group::ALL {
        let places = admin.places_of(group, topic).await.map_err(MaintainerError::topics)?;
        listed.push(ListedGroup::of(group, topic, &places));
    }
    Ok(listed)
}

impl ListedGroup {
    fn of(group: &'static str, topic: &'static str, places: &[GroupPlace]) -> Self {
        let partitions = places.iter().map(|place| ListedPlace {
            partition: place.marks.partition,
            committed: place.committed,
            latest: place.marks.latest,
            // All groups begin with the oldest record.
            lag: place.behind(place.marks.earliest),
        });
        let partitions: Vec<ListedPlace> = partitions.collect();
        let has_read = places.iter().any(|place| place.committed.is_some());
        let lag = has_read.then(|| partitions.iter().map(|place| place.lag).sum());
        ListedGroup { group, topic, lag, partitions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(partition: i32, committed: Option<i64>) -> GroupPlace {
        GroupPlace { marks: PartitionWatermarks { partition, earliest: 10, latest: 30 }, committed }
    }

    #[test]
    fn a_lag_is_what_is_written_and_not_committed() {
        let of = |committed: [Option<i64>; 3]| {
            let places: Vec<GroupPlace> = (0..).zip(committed).map(|(partition, at)| place(partition, at)).collect();
            let group = ListedGroup::of("processor", "raw-events", &places);
            (group.lag, group.partitions.iter().map(|place| place.lag).collect::<Vec<_>>())
        };
        assert_eq!(of([Some(30), Some(25), None]), (Some(25), vec![0, 5, 20]));
        assert_eq!(of([Some(3), Some(30), Some(31)]), (Some(20), vec![20, 0, 0]), "retention has deleted some");
        assert_eq!(of([None, None, None]).0, None, "nothing reads with this group");
    }
}
