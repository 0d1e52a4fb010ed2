//! Which client addresses send the most.
//!
//! There may be any number of addresses, so only those with many records are kept: a sketch of frequent items for each count.

use datasketches::frequencies::{ErrorType, FrequentItemsSketch};
use event::{AddressKey, Timestamp};
use strum::{IntoStaticStr, VariantArray};

use crate::{Change, RecordStatus, SketchError};

/// At most three quarters of it are kept, which is 1,536 addresses in about 50 kB. Up to so many are counted exactly; with more,
/// each count is at most 3.5/2,048 of all records of the hour too high (Anderson et al., A High-Performance Algorithm for
/// Identifying Frequent Items in Data Streams, 2017).
const MAP_SIZE: usize = 2_048;

const HOUR_MS: i64 = 3_600_000;

/// The start of the hour, in UTC.
pub fn hour_of(at: Timestamp) -> Timestamp {
    Timestamp::from_millis(at.as_millis().div_euclid(HOUR_MS) * HOUR_MS)
}

/// What is counted of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum AddressFigure {
    Records,
    /// Those that were stored.
    Events,
    Fraud,
    Blocked,
}

impl AddressFigure {
    pub const ALL: &'static [AddressFigure] = AddressFigure::VARIANTS;

    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }

    /// Only what never goes down again: a sketch cannot subtract.
    fn grows_by(self, change: Change) -> bool {
        match (self, change) {
            (AddressFigure::Records, Change::Recorded(_)) => true,
            (AddressFigure::Events, Change::Recorded(status)) => status.is_stored(),
            (AddressFigure::Fraud, Change::Recorded(status) | Change::ScoredLate(status)) => {
                status == RecordStatus::Fraud
            }
            (AddressFigure::Blocked, Change::Recorded(status)) => status == RecordStatus::Blocked,
            (AddressFigure::Records | AddressFigure::Events | AddressFigure::Blocked, Change::ScoredLate(_)) => false,
        }
    }
}

/// The counts of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressTotals {
    pub address: String,
    pub records: u64,
    pub events: u64,
    pub fraud: u64,
    pub blocked: u64,
}

/// The addresses of a tenant in an hour.
#[derive(Clone, Debug)]
pub struct BusyAddresses([FrequentItemsSketch<String>; AddressFigure::ALL.len()]);

impl Default for BusyAddresses {
    fn default() -> Self {
        let sketch = || match FrequentItemsSketch::new(MAP_SIZE) {
            Ok(sketch) => sketch,
            Err(_) => unreachable!("the size is a constant in the range that the library takes"),
        };
        BusyAddresses(std::array::from_fn(|_| sketch()))
    }
}

impl BusyAddresses {
    pub fn add(&mut self, address: AddressKey, change: Change) {
        let address = address.to_string();
        for (sketch, count) in self.0.iter_mut().zip(AddressFigure::ALL) {
            if count.grows_by(change) {
                sketch.update_ref(address.as_str());
            }
        }
    }

    /// Adds a stored sketch of one count.
    ///
    /// # Errors
    /// If it is damaged, or of a version that this build cannot read.
    pub fn merge(&mut self, count: AddressFigure, stored: &[u8]) -> Result<(), SketchError> {
        let stored = FrequentItemsSketch::deserialize(stored).map_err(SketchError::of)?;
        self.0[count as usize].merge(&stored);
        Ok(())
    }

    /// The sketch of one count, in the format of Apache DataSketches, which names its version.
    pub fn to_bytes(&self, count: AddressFigure) -> Vec<u8> {
        self.0[count as usize].serialize()
    }

    /// By how much the counts may be too high. They are never too low, but for addresses that are not kept.
    pub fn error(&self) -> u64 {
        self.0[AddressFigure::Records as usize].maximum_error()
    }

    /// Those with the most records, at most `limit` of them.
    pub fn top(&self, limit: usize) -> Vec<AddressTotals> {
        let [records, events, fraud, blocked] = &self.0;
        let mut rows = records.frequent_items(ErrorType::NoFalseNegatives);
        rows.sort_by(|one, other| other.estimate().cmp(&one.estimate()).then_with(|| one.item().cmp(other.item())));
        rows.truncate(limit);
        let totals = |row: &datasketches::frequencies::Row<String>| {
            let address = row.item();
            // Each count has its own error, and no part is more than the whole.
            let part = |sketch: &FrequentItemsSketch<String>| sketch.estimate(address.as_str()).min(row.estimate());
            AddressTotals {
                address: address.clone(),
                records: row.estimate(),
                events: part(events),
                fraud: part(fraud),
                blocked: part(blocked),
            }
        };
        rows.iter().map(totals).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn address(number: u32) -> AddressKey {
        AddressKey::of(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number)))
    }

    fn of(records: impl IntoIterator<Item = (u32, Change)>) -> BusyAddresses {
        let mut addresses = BusyAddresses::default();
        records.into_iter().for_each(|(number, change)| addresses.add(address(number), change));
        addresses
    }

    const VALID: Change = Change::Recorded(RecordStatus::Valid);
    const FRAUD: Change = Change::Recorded(RecordStatus::Fraud);
    const BLOCKED: Change = Change::Recorded(RecordStatus::Blocked);

    fn told(addresses: &BusyAddresses) -> Vec<String> {
        let told = |AddressTotals { address, records, events, fraud, blocked }: AddressTotals| {
            format!("{address}: {records} {events} {fraud} {blocked}")
        };
        addresses.top(3).into_iter().map(told).collect()
    }

    #[test]
    fn few_addresses_are_counted_exactly_by_what_became_of_their_records() {
        let unscored = Change::Recorded(RecordStatus::Unscored);
        let late = Change::ScoredLate(RecordStatus::Fraud);
        let cleared = Change::ScoredLate(RecordStatus::Valid);
        let addresses = of([
            (1, VALID),
            (1, unscored),
            (1, late),
            (2, BLOCKED),
            (2, FRAUD),
            (2, Change::Recorded(RecordStatus::Duplicate)),
            (3, unscored),
            (3, cleared),
        ]);
        assert_eq!(told(&addresses), ["10.0.0.2: 3 1 1 1", "10.0.0.1: 2 2 1 0", "10.0.0.3: 1 1 0 0"]);
        assert_eq!(addresses.error(), 0);
    }

    #[test]
    fn addresses_are_those_that_limits_apply_to() {
        let mut addresses = BusyAddresses::default();
        for text in ["2001:db8::1", "2001:db8::2", "::ffff:10.0.0.1", "10.0.0.1", "10.0.0.1"] {
            addresses.add(AddressKey::of(text.parse().unwrap()), VALID);
        }
        assert_eq!(told(&addresses), ["10.0.0.1: 3 3 0 0", "2001:db8::/64: 2 2 0 0"]);
    }

    #[test]
    fn those_that_send_the_most_are_found_among_any_number() {
        let many = (0..200_000).map(|number| (number + 10, VALID));
        let busy = (0..9_000).map(|number| (number % 3, BLOCKED));
        let addresses = of(many.zip(busy.cycle()).flat_map(|(one, other)| [one, other]).take(100_000));
        let top = addresses.top(3);
        let bound = 100_000 * 7 / 2 / MAP_SIZE as u64;
        assert!(addresses.error() > 0 && addresses.error() <= bound, "{}", addresses.error());
        for AddressTotals { address, records, events, fraud, blocked } in top {
            assert!(address.starts_with("10.0.0.") && records.abs_diff(16_667) <= bound + 1, "{address}: {records}");
            assert!((events, fraud) == (0, 0) && blocked <= records && blocked + bound >= records, "{blocked}");
        }
    }

    #[test]
    fn stored_counts_are_added() {
        let (one, other) = (of([(1, VALID), (1, FRAUD)]), of([(1, BLOCKED), (2, VALID)]));
        let mut both = one.clone();
        for count in AddressFigure::ALL {
            both.merge(*count, &other.to_bytes(*count)).unwrap();
        }
        assert_eq!(told(&both), ["10.0.0.1: 3 2 1 1", "10.0.0.2: 1 1 0 0"]);
        assert!(both.merge(AddressFigure::Records, &[]).is_err());
        let mut damaged = one.to_bytes(AddressFigure::Records);
        // The second byte is the version of the format.
        damaged[1] = 99;
        assert!(both.merge(AddressFigure::Records, &damaged).is_err());
    }

    #[test]
    fn hours_begin_on_the_hour_also_before_1970() {
        for (at, hour) in [(0, 0), (3_599_999, 0), (3_600_000, 3_600_000), (-1, -3_600_000)] {
            assert_eq!(hour_of(Timestamp::from_millis(at)), Timestamp::from_millis(hour));
        }
    }
}
