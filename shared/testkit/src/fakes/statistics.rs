//! Statistics in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use event::{TenantId, Timestamp};
use pipeline::{Dependency, DependencyError};
use statistics::{
    AddressFigure, BusyAddresses, Cell, CellKey, Cells, DistinctSubjects, MAX_SECOND_VALUES, MeasureSums, Measured,
    Period, QUARTER_MS, Range, RecordStatus, ReportRequest, SeriesInterval, Statistics, StatisticsReport, StatusCounts,
    TopAddresses, TopValues, ValueCounts,
};

use super::Faults;

/// The time zones that the fake knows, with their distance from UTC in seconds. They have no summer time.
const TIMEZONES: [(&str, i32); 3] = [("UTC", 0), ("Asia/Kolkata", 19_800), ("Asia/Kathmandu", 20_700)];

/// [`Statistics`] of the cells that tests add.
#[derive(Debug, Default)]
pub struct FakeStatistics {
    pub faults: Faults,
    cells: Mutex<Vec<(CellKey, Cell)>>,
    addresses: Mutex<Vec<((String, Timestamp), BusyAddresses)>>,
    complete_until: Mutex<Option<Timestamp>>,
}

impl FakeStatistics {
    pub fn add(&self, cells: &Cells) {
        let addresses = cells.addresses().map(|(key, addresses)| (key.clone(), addresses.clone()));
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).extend(addresses);
        let cells = cells.iter().map(|(key, cell)| (key.clone(), cell.clone()));
        self.cells.lock().unwrap_or_else(PoisonError::into_inner).extend(cells);
    }

    pub fn complete_until(&self, at: Timestamp) {
        *self.complete_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    fn progress(&self) -> Option<Timestamp> {
        *self.complete_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cells_of(&self, tenant: &TenantId, dimension: &str, range: Range) -> Vec<(CellKey, Cell)> {
        let cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        let is_wanted = |key: &CellKey| {
            key.tenant == tenant.as_str() && key.dimension == dimension && (range.from..range.to).contains(&key.quarter)
        };
        cells.iter().filter(|(key, _)| is_wanted(key)).cloned().collect()
    }

    fn report_of(&self, request: &ReportRequest) -> Option<StatisticsReport> {
        let ReportRequest { part, range, interval, timezone, pairs } = request;
        let (_, ahead_sec) = *TIMEZONES.iter().find(|(name, _)| name == timezone)?;
        let mut cells = self.cells_of(&part.tenant, part.dimension, *range);
        cells.retain(|(key, _)| key.value == part.value);
        let mut periods = BTreeMap::<i64, Period>::new();
        let length = match interval {
            SeriesInterval::Hour => 3_600_000,
            SeriesInterval::Day => 86_400_000,
        };
        let number = |at: Timestamp| (at.as_millis() + i64::from(ahead_sec) * 1000).div_euclid(length);
        let mut quarter = range.from;
        while quarter < range.to {
            let empty = || Period { start: quarter, ahead_sec, by_type: BTreeMap::new() };
            periods.entry(number(quarter)).or_insert_with(empty);
            quarter = Timestamp::from_millis(quarter.as_millis() + QUARTER_MS);
        }
        let mut distinct = DistinctSubjects::new();
        let mut measures = BTreeMap::<(String, String), Measured>::new();
        for (key, cell) in &cells {
            if let Some(period) = periods.get_mut(&number(key.quarter)) {
                period.by_type.entry(key.event_type.clone()).or_default().merge(&cell.counts);
            }
            if let Some(subjects) = &cell.subjects {
                // What the sketch itself wrote.
                let _ = distinct.merge(&subjects.to_bytes());
            }
            for ((measure, status), measured) in &cell.measures {
                if *status == RecordStatus::Valid {
                    let all = measures.entry((key.event_type.clone(), (*measure).to_owned()));
                    all.and_modify(|all| *all = sum(*all, *measured)).or_insert(*measured);
                }
            }
        }
        let of_pair = |pair: &&str| {
            let mut cells = self.cells_of(&part.tenant, pair, *range);
            cells.retain(|(key, _)| key.value == part.value);
            let mut values = by_value(cells, |key| &key.second_value);
            values.retain(|value| value.counts.stored() > 0);
            values.sort_by_key(|value| std::cmp::Reverse(value.counts.stored()));
            values.truncate(MAX_SECOND_VALUES);
            values
        };
        Some(StatisticsReport {
            complete_until: self.progress(),
            periods: periods.into_values().collect(),
            distinct: distinct.estimate(),
            measures: measures.into_iter().map(|(name, measured)| (name, texts(measured))).collect(),
            second_values: pairs.iter().map(of_pair).collect(),
        })
    }
}

fn sum(a: Measured, b: Measured) -> Measured {
    Measured { events: a.events + b.events, sum: a.sum + b.sum, min: a.min.min(b.min), max: a.max.max(b.max) }
}

fn texts(Measured { events, sum, min, max }: Measured) -> MeasureSums {
    let [sum, min, max] = [sum, min, max].map(|number| number.normalize().to_string());
    MeasureSums { events, sum, min, max }
}

/// In the order of the values.
fn by_value(cells: Vec<(CellKey, Cell)>, value: impl Fn(&CellKey) -> &String) -> Vec<ValueCounts> {
    let mut values = BTreeMap::<String, StatusCounts>::new();
    for (key, cell) in cells {
        values.entry(value(&key).clone()).or_default().merge(&cell.counts);
    }
    values.into_iter().map(|(value, counts)| ValueCounts { value, counts }).collect()
}

#[async_trait]
impl Statistics for FakeStatistics {
    async fn report(&self, request: &ReportRequest) -> Result<Option<StatisticsReport>, DependencyError> {
        self.faults.apply(Dependency::Postgres, || self.report_of(request))
    }

    async fn top_values(
        &self,
        tenant: &TenantId,
        dimension: &'static str,
        range: Range,
        limit: u16,
    ) -> Result<TopValues, DependencyError> {
        self.faults.apply(Dependency::Postgres, || {
            let mut values = by_value(self.cells_of(tenant, dimension, range), |key| &key.value);
            values.retain(|value| value.counts.records() > 0);
            values.sort_by_key(|value| std::cmp::Reverse(value.counts.records()));
            values.truncate(limit.into());
            TopValues { complete_until: self.progress(), values }
        })
    }

    async fn top_addresses(
        &self,
        tenant: &TenantId,
        range: Range,
        limit: u16,
    ) -> Result<TopAddresses, DependencyError> {
        self.faults.apply(Dependency::Postgres, || {
            let mut all = BusyAddresses::default();
            for ((of, hour), addresses) in self.addresses.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                if of == tenant.as_str() && (range.from..range.to).contains(hour) {
                    for count in AddressFigure::ALL {
                        // What the sketch itself wrote.
                        let _ = all.merge(*count, &addresses.to_bytes(*count));
                    }
                }
            }
            let complete_until = self.progress();
            TopAddresses { complete_until, addresses: all.top(limit.into()), error: all.error() }
        })
    }
}
