//! What is counted, and where.

use std::collections::BTreeMap;
use std::iter::Sum;

use event::Timestamp;
use rust_decimal::Decimal;

use crate::{DistinctSubjects, RecordStatus};

/// Where a record is counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CellKey {
    pub tenant: String,
    /// Empty for everything; the name of a dimension; or the names of a pair, with a comma between.
    pub dimension: String,
    pub value: String,
    pub quarter: Timestamp,
    pub event_type: String,
    /// Of a pair; else empty.
    pub second_value: String,
}

/// Records by status. Negative while a late score is counted before the record that it is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusCounts([i64; RecordStatus::ALL.len()]);

impl StatusCounts {
    pub fn get(&self, status: RecordStatus) -> i64 {
        self.0[status as usize]
    }

    pub fn add(&mut self, status: RecordStatus, by: i64) {
        self.0[status as usize] += by;
    }

    pub fn merge(&mut self, other: &StatusCounts) {
        for status in RecordStatus::ALL {
            self.add(*status, other.get(*status));
        }
    }

    /// Stored events. Never negative: a late score moves an event from one status to another.
    pub fn stored(&self) -> i64 {
        RecordStatus::ALL.iter().filter(|status| status.is_stored()).map(|status| self.get(*status)).sum()
    }

    /// Records of every status.
    pub fn records(&self) -> i64 {
        self.0.iter().sum()
    }
}

impl<'a> Sum<&'a StatusCounts> for StatusCounts {
    fn sum<I: Iterator<Item = &'a StatusCounts>>(counts: I) -> Self {
        counts.fold(StatusCounts::default(), |mut sum, counts| {
            sum.merge(counts);
            sum
        })
    }
}

/// The numbers of a measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    pub events: i64,
    pub sum: Decimal,
    pub min: Decimal,
    pub max: Decimal,
}

impl Measured {
    pub(crate) fn of(number: Decimal) -> Self {
        Measured { events: 1, sum: number, min: number, max: number }
    }

    /// `None` if the sum has more digits than can be held.
    pub(crate) fn and(self, number: Decimal) -> Option<Self> {
        Some(Measured {
            events: self.events + 1,
            sum: self.sum.checked_add(number)?,
            min: self.min.min(number),
            max: self.max.max(number),
        })
    }
}

/// What is known about the records of a key.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    pub counts: StatusCounts,
    pub subjects: Option<DistinctSubjects>,
    pub measures: BTreeMap<(&'static str, RecordStatus), Measured>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_before_its_record_is_no_stored_event_until_the_record_comes() {
        let mut counts = StatusCounts::default();
        counts.add(RecordStatus::Unscored, -1);
        counts.add(RecordStatus::Fraud, 1);
        counts.add(RecordStatus::Duplicate, 3);
        assert_eq!((counts.stored(), counts.records()), (0, 3));
        let mut record = StatusCounts::default();
        record.add(RecordStatus::Unscored, 1);
        counts.merge(&record);
        assert_eq!((counts.get(RecordStatus::Unscored), counts.stored(), counts.records()), (0, 1, 4));
    }
}
