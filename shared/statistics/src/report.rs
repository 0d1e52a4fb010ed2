//! What readers ask of statistics.

use std::collections::BTreeMap;

use async_trait::async_trait;
use event::{TenantId, Timestamp};
use pipeline::DependencyError;

use crate::{AddressTotals, StatusCounts};

/// Whole quarters, from the first one's start to the last one's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub from: Timestamp,
    pub to: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeriesInterval {
    Hour,
    Day,
}

impl SeriesInterval {
    pub const fn as_str(self) -> &'static str {
        match self {
            SeriesInterval::Hour => "hour",
            SeriesInterval::Day => "day",
        }
    }
}

/// Which records a report is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subset {
    pub tenant: TenantId,
    /// Empty for all records of the tenant.
    pub dimension: &'static str,
    pub value: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportRequest {
    pub part: Subset,
    pub range: Range,
    pub interval: SeriesInterval,
    /// The name of the time zone whose hours or days the periods are.
    pub timezone: String,
    /// Pairs that begin with the part's dimension. Their second values are told.
    pub pairs: &'static [&'static str],
}

/// An hour or a day. At the ends of the range, the part of it that is in the range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    pub start: Timestamp,
    /// How far the time zone is ahead of UTC at the start, in seconds.
    pub ahead_sec: i32,
    pub by_type: BTreeMap<String, StatusCounts>,
}

/// The numbers of a measure, as decimal texts with all their digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeasureSums {
    pub events: i64,
    pub sum: String,
    pub min: String,
    pub max: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueCounts {
    pub value: String,
    pub counts: StatusCounts,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatisticsReport {
    /// Everything received before this instant is counted; `None` before the first run of the aggregator.
    pub complete_until: Option<Timestamp>,
    /// Every period that has a quarter in the range, also without records, in order.
    pub periods: Vec<Period>,
    /// Estimated number of different subjects of the stored events.
    pub distinct: u64,
    /// Of valid events, by type and measure.
    pub measures: BTreeMap<(String, String), MeasureSums>,
    /// For each of the pairs, the second values with the most stored events: those with the most first, and no more than
    /// [`MAX_SECOND_VALUES`].
    pub second_values: Vec<Vec<ValueCounts>>,
}

pub const MAX_SECOND_VALUES: usize = 50;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopValues {
    /// As in a [`StatisticsReport`].
    pub complete_until: Option<Timestamp>,
    /// Those with the most records first.
    pub values: Vec<ValueCounts>,
}

/// The addresses that send the most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopAddresses {
    /// As in a [`StatisticsReport`].
    pub complete_until: Option<Timestamp>,
    /// Those with the most records first.
    pub addresses: Vec<AddressTotals>,
    /// By how much their counts may be too high.
    pub error: u64,
}

/// The cells that the aggregator has written. Each call sees one instant, and changes nothing.
#[async_trait]
pub trait Statistics: Send + Sync {
    /// `None` if there is no time zone of this name.
    async fn report(&self, request: &ReportRequest) -> Result<Option<StatisticsReport>, DependencyError>;

    /// The values of a dimension that have the most records in the range, at most `limit` of them.
    async fn top_values(
        &self,
        tenant: &TenantId,
        dimension: &'static str,
        range: Range,
        limit: u16,
    ) -> Result<TopValues, DependencyError>;

    /// The addresses that have the most records in the range, which is one of whole hours in UTC; at most `limit` of them.
    async fn top_addresses(&self, tenant: &TenantId, range: Range, limit: u16)
    -> Result<TopAddresses, DependencyError>;
}
