//! A set of offsets as ranges.

use std::ops::RangeInclusive;

/// Offsets held as sorted, disjoint, non-adjacent ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetRanges(Vec<RangeInclusive<i64>>);

impl OffsetRanges {
    /// The union of ranges in any order.
    pub fn union_of(ranges: impl IntoIterator<Item = RangeInclusive<i64>>) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().filter(|range| !range.is_empty()).collect();
        ranges.sort_unstable_by_key(|range| *range.start());
        let mut union: Vec<RangeInclusive<i64>> = Vec::new();
        for range in ranges {
            match union.last_mut() {
                Some(last) if *range.start() <= last.end().saturating_add(1) => {
                    if range.end() > last.end() {
                        *last = *last.start()..=*range.end();
                    }
                }
                Some(_) | None => union.push(range),
            }
        }
        OffsetRanges(union)
    }

    pub fn ranges(&self) -> &[RangeInclusive<i64>] {
        &self.0
    }

    /// The number of offsets in the set.
    pub fn len(&self) -> u64 {
        self.0.iter().map(range_len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, offset: i64) -> bool {
        let after = self.0.partition_point(|range| *range.start() <= offset);
        after.checked_sub(1).and_then(|index| self.0.get(index)).is_some_and(|range| range.contains(&offset))
    }

    /// The offsets of `within` that are in the set.
    pub fn within(&self, within: RangeInclusive<i64>) -> OffsetRanges {
        let cut = |range: &RangeInclusive<i64>| *range.start().max(within.start())..=*range.end().min(within.end());
        OffsetRanges::union_of(self.0.iter().map(cut))
    }

    /// The offsets of `within` that are not in the set.
    pub fn missing(&self, within: RangeInclusive<i64>) -> OffsetRanges {
        let mut missing = Vec::new();
        let mut next = *within.start();
        for range in &self.0 {
            if *range.end() < next {
                continue;
            }
            if range.start() > within.end() {
                break;
            }
            if next < *range.start() {
                missing.push(next..=range.start() - 1);
            }
            match range.end().checked_add(1) {
                Some(after) => next = after,
                None => return OffsetRanges(missing),
            }
        }
        if next <= *within.end() {
            missing.push(next..=*within.end());
        }
        OffsetRanges(missing)
    }
}

fn range_len(range: &RangeInclusive<i64>) -> u64 {
    if range.is_empty() { 0 } else { range.end().abs_diff(*range.start()).saturating_add(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_nested_and_overlapping_ranges_become_one() {
        let set = OffsetRanges::union_of([8..=12, 5..=9, 6..=7, 13..=13, 20..=21, RangeInclusive::new(0, -1)]);
        assert_eq!(set.ranges(), [5..=13, 20..=21]);
        assert_eq!(set.len(), 11);
    }

    #[test]
    fn the_part_within_a_range_is_cut_at_both_ends() {
        let set = OffsetRanges::union_of([5..=9, 12..=12, 15..=20]);
        assert_eq!(set.within(8..=16).ranges(), [8..=9, 12..=12, 15..=16]);
        assert!(set.within(10..=11).is_empty());
        let held: Vec<i64> = (0..=21).filter(|offset| set.contains(*offset)).collect();
        assert_eq!(held, [5, 6, 7, 8, 9, 12, 15, 16, 17, 18, 19, 20]);
    }

    #[test]
    fn missing_is_what_the_set_leaves_of_a_range() {
        let set = OffsetRanges::union_of([5..=9, 12..=12]);
        let missing = |within| set.missing(within).ranges().to_vec();
        assert_eq!(missing(0..=20), [0..=4, 10..=11, 13..=20]);
        assert_eq!(missing(6..=9), []);
        assert_eq!(missing(9..=12), [10..=11]);
        assert_eq!(missing(RangeInclusive::new(30, 29)), []);
        assert_eq!(OffsetRanges::default().missing(3..=4).ranges(), [3..=4]);
        assert_eq!(OffsetRanges::union_of([0..=i64::MAX]).missing(0..=i64::MAX).ranges(), []);
    }
}
