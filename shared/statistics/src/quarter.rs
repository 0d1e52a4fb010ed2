//! The grain of statistics.

use event::Timestamp;

/// A quarter of an hour, in milliseconds. The offset of every time zone in use is a multiple of it, so that the hours and
/// days of each are made of whole cells.
pub const QUARTER_MS: i64 = 900_000;

/// The start of the quarter that an instant is in.
pub fn quarter_of(at: Timestamp) -> Timestamp {
    Timestamp::from_millis(at.as_millis().div_euclid(QUARTER_MS).saturating_mul(QUARTER_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_begins_at_or_before_its_instants_also_before_1970() {
        let start = |ms| quarter_of(Timestamp::from_millis(ms)).as_millis();
        assert_eq!((start(0), start(899_999), start(900_000), start(-1)), (0, 0, 900_000, -900_000));
    }
}
