//! How offsets are named in a report: the first of them, and how many more there are.

use std::fmt;

use archive::OffsetRanges;

/// Most ranges of offsets that are listed of one kind and partition, and most events that are lost.
pub(crate) const MAX_LISTED: usize = 100;

/// Names offsets, at most [`MAX_LISTED`] ranges of them.
pub(crate) fn list(f: &mut fmt::Formatter<'_>, partition: i32, offsets: &OffsetRanges, what: &str) -> fmt::Result {
    for range in offsets.ranges().iter().take(MAX_LISTED) {
        writeln!(f, "partition {partition}: offsets {} to {} {what}", range.start(), range.end())?;
    }
    match offsets.ranges().len().checked_sub(MAX_LISTED) {
        Some(more) if more > 0 => writeln!(f, "partition {partition}: and {more} more ranges that {what}"),
        Some(_) | None => Ok(()),
    }
}
