//! Cells of statistics, and how a record is counted in them.
//!
//! Owns what a cell is, how records become cells, and what readers may ask of them ([`Statistics`]). Does not own which records
//! are counted when, and where cells are kept.

mod addresses;
mod cell;
mod distinct;
mod fold;
mod quarter;
mod report;
mod status;

pub use addresses::{AddressFigure, AddressTotals, BusyAddresses, hour_of};
pub use cell::{Cell, CellKey, Measured, StatusCounts};
pub use distinct::{DistinctSubjects, RELATIVE_ERROR, SketchError};
pub use fold::{Cells, Change, Fact, storable};
pub use quarter::{QUARTER_MS, quarter_of};
pub use report::{
    MAX_SECOND_VALUES, MeasureSums, Period, Range, ReportRequest, SeriesInterval, Statistics, StatisticsReport, Subset,
    TopAddresses, TopValues, ValueCounts,
};
pub use status::RecordStatus;
