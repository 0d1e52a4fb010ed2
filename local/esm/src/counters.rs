//! What a mapping has done since its start: for its status, and as metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use strum::{IntoStaticStr, VariantArray};
use telemetry::list::{ESM_INVOCATIONS, ESM_RECORDS};

/// Counts since the start, over all pollers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MappingStatus {
    pub invocations: u64,
    /// Invocations after which records had to be sent again, including throttles.
    pub failed_invocations: u64,
    pub throttles: u64,
    /// Records of batches that the function answered, including records that it asked to get again.
    pub records_delivered: u64,
    /// Records that were given up without an on-failure destination: they are lost.
    pub records_dropped: u64,
    /// Records that were given up and are at the on-failure destination.
    pub records_at_destination: u64,
    /// Records that the filters left out.
    pub records_filtered: u64,
}

/// How an invocation ended.
#[derive(Clone, Copy, Debug, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case", const_into_str)]
pub(crate) enum Ended {
    Ok,
    /// Some records must be sent again.
    Partly,
    Failed,
    Throttled,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case", const_into_str)]
pub(crate) enum Fate {
    /// The function answered for its batch.
    Delivered,
    /// A filter left it out.
    Filtered,
    AtDestination,
    /// Given up without a destination.
    Dropped,
}

/// Over all pollers of a mapping.
#[derive(Debug)]
pub(crate) struct Counters {
    group: String,
    started: AtomicU64,
    /// By [`Ended`].
    ended: [AtomicU64; Ended::VARIANTS.len()],
    /// By [`Fate`].
    records: [AtomicU64; Fate::VARIANTS.len()],
}

impl Counters {
    /// The metrics begin at 0 with it.
    pub(crate) fn new(group: &str) -> Self {
        Ended::VARIANTS.iter().for_each(|ended| ESM_INVOCATIONS.begin([group, ended.into_str()]));
        Fate::VARIANTS.iter().for_each(|fate| ESM_RECORDS.begin([group, fate.into_str()]));
        Counters {
            group: group.to_owned(),
            started: AtomicU64::default(),
            ended: Default::default(),
            records: Default::default(),
        }
    }

    pub(crate) fn invoked(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ended(&self, how: Ended) {
        self.ended[how as usize].fetch_add(1, Ordering::Relaxed);
        ESM_INVOCATIONS.add(1, [&self.group, how.into_str()]);
    }

    pub(crate) fn records(&self, fate: Fate, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.records[fate as usize].fetch_add(count, Ordering::Relaxed);
        ESM_RECORDS.add(count, [&self.group, fate.into_str()]);
    }

    pub(crate) fn status(&self) -> MappingStatus {
        let ended = |how: Ended| self.ended[how as usize].load(Ordering::Relaxed);
        let records = |fate: Fate| self.records[fate as usize].load(Ordering::Relaxed);
        MappingStatus {
            invocations: self.started.load(Ordering::Relaxed),
            failed_invocations: ended(Ended::Failed) + ended(Ended::Partly) + ended(Ended::Throttled),
            throttles: ended(Ended::Throttled),
            records_delivered: records(Fate::Delivered),
            records_dropped: records(Fate::Dropped),
            records_at_destination: records(Fate::AtDestination),
            records_filtered: records(Fate::Filtered),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_and_fate_has_its_own_place() {
        let counters = Counters::new("g");
        for (times, ended) in (1..).zip(Ended::VARIANTS) {
            (0..times).for_each(|_| counters.ended(*ended));
        }
        for (count, fate) in (1..).zip(Fate::VARIANTS) {
            counters.records(*fate, count);
        }
        let status = counters.status();
        assert_eq!((status.failed_invocations, status.throttles), (2 + 3 + 4, 4));
        assert_eq!((status.records_delivered, status.records_filtered), (1, 2));
        assert_eq!((status.records_at_destination, status.records_dropped), (3, 4));
    }
}
