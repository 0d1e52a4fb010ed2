//! Cells of statistics, and how a record is counted in them.
//!
//! Owns what a cell is and how records become cells. Does not own which records are counted when, and where cells are kept.

mod cell;
mod distinct;
mod fold;
mod quarter;
mod status;

pub use cell::{Cell, CellKey, Counts, Measured};
pub use distinct::{Distinct, RELATIVE_ERROR, SketchError};
pub use fold::{Cells, Change, Fact};
pub use quarter::{QUARTER_MS, quarter_of};
pub use status::Status;
