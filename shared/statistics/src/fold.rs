//! How records become cells.

use std::borrow::Cow;
use std::collections::BTreeMap;

use event::{AddressKey, Timestamp, TypeDefinition};
use rust_decimal::Decimal;
use serde_json::value::RawValue;

use crate::cell::{Cell, CellKey, Measured};
use crate::{BusyAddresses, DistinctSubjects, RecordStatus, hour_of, quarter_of};

/// What happened to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new in the ledger.
    Recorded(RecordStatus),
    /// Its event was stored without a score, and has one now.
    ScoredLate(RecordStatus),
}

/// A record as the ledger has it.
#[derive(Clone, Copy, Debug)]
pub struct Fact<'a> {
    pub tenant: &'a str,
    pub event_type: &'a str,
    pub received_at: Timestamp,
    pub subject: Option<i64>,
    /// The declared dimensions and measures, as a JSON object.
    pub fields: Option<&'a str>,
    /// Where it came from, if that is known.
    pub address: Option<AddressKey>,
    pub change: Change,
}

/// The records of a batch, folded.
#[derive(Debug, Default)]
pub struct Cells {
    cells: BTreeMap<CellKey, Cell>,
    /// By tenant and hour.
    addresses: BTreeMap<(String, Timestamp), BusyAddresses>,
    /// Numbers with more digits than a sum can hold: their events are counted, but they are in no sum.
    pub unmeasured: u64,
}

impl Cells {
    /// In the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&CellKey, &Cell)> {
        self.cells.iter()
    }

    /// By tenant and hour, in their order.
    pub fn addresses(&self) -> impl Iterator<Item = (&(String, Timestamp), &BusyAddresses)> {
        self.addresses.iter()
    }

    /// Counts a record in the cell of its type, in one for each of its dimensions, and in one for each pair of which it has both
    /// values.
    pub fn add(&mut self, fact: &Fact<'_>) {
        if let Some(address) = fact.address {
            let hour = (fact.tenant.to_owned(), hour_of(fact.received_at));
            self.addresses.entry(hour).or_default().add(address, fact.change);
        }
        let Some(definition) = TypeDefinition::of(fact.event_type) else {
            return self.count(fact, "", "", "", &[]);
        };
        // The processor wrote them, so they can be read; if not, the record still counts in the totals.
        let fields: BTreeMap<&str, &RawValue> =
            fact.fields.and_then(|fields| serde_json::from_str(fields).ok()).unwrap_or_default();
        let measures = self.numbers(definition, &fields);
        self.count(fact, "", "", "", &measures);
        let value = |name: &str| fields.get(name).copied().map(text);
        for dimension in definition.dimensions {
            if let Some(value) = value(dimension) {
                self.count(fact, dimension, &value, "", &measures);
            }
        }
        for [first, second] in definition.pairs {
            if let (Some(value), Some(second_value)) = (value(first), value(second)) {
                self.count(fact, &format!("{first},{second}"), &value, &second_value, &measures);
            }
        }
    }

    fn numbers(
        &mut self,
        definition: &TypeDefinition,
        fields: &BTreeMap<&str, &RawValue>,
    ) -> Vec<(&'static str, Decimal)> {
        let mut numbers = Vec::new();
        for name in definition.measures {
            let Some(raw) = fields.get(name) else { continue };
            let text = raw.get();
            match text.parse().or_else(|_| Decimal::from_scientific(text)) {
                Ok(number) => numbers.push((*name, number)),
                Err(_) => self.unmeasured += 1,
            }
        }
        numbers
    }

    fn count(
        &mut self,
        fact: &Fact<'_>,
        dimension: &str,
        value: &str,
        second_value: &str,
        measures: &[(&'static str, Decimal)],
    ) {
        let key = CellKey {
            tenant: fact.tenant.to_owned(),
            dimension: dimension.to_owned(),
            value: storable(value),
            quarter: quarter_of(fact.received_at),
            event_type: fact.event_type.to_owned(),
            second_value: storable(second_value),
        };
        let cell = self.cells.entry(key).or_default();
        let status = match fact.change {
            Change::Recorded(status) => status,
            Change::ScoredLate(status) => {
                cell.counts.add(RecordStatus::Unscored, -1);
                status
            }
        };
        cell.counts.add(status, 1);
        if let (Change::Recorded(_), true, Some(subject)) = (fact.change, status.is_stored(), fact.subject) {
            cell.subjects.get_or_insert_with(DistinctSubjects::new).add(subject);
        }
        if !matches!(status, RecordStatus::Valid | RecordStatus::Fraud) {
            return;
        }
        for (name, number) in measures {
            let measured =
                cell.measures.get(&(*name, status)).map_or(Some(Measured::of(*number)), |at| at.and(*number));
            match measured {
                Some(measured) => drop(cell.measures.insert((*name, status), measured)),
                // Once for the event, not once for each of its cells.
                None => self.unmeasured += u64::from(dimension.is_empty()),
            }
        }
    }
}

/// The value of a dimension as text.
fn text(raw: &RawValue) -> Cow<'_, str> {
    serde_json::from_str(raw.get()).map_or(Cow::Borrowed(raw.get()), Cow::<str>::Owned)
}

/// A value as cells have it: Postgres cannot hold U+0000.
pub fn storable(value: &str) -> String {
    value.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLICK: Fact<'_> = Fact {
        tenant: "acme",
        event_type: "click",
        received_at: Timestamp::from_millis(1_000_000),
        subject: Some(7),
        fields: Some(r#"{"campaign_id":"c1","geo_country":"DE"}"#),
        address: None,
        change: Change::Recorded(RecordStatus::Valid),
    };

    const TRANSACTION: Fact<'_> =
        Fact { event_type: "transaction", fields: Some(r#"{"currency":"EUR","amount":0.1}"#), ..CLICK };

    fn fold(facts: &[Fact<'_>]) -> Cells {
        let mut cells = Cells::default();
        facts.iter().for_each(|fact| cells.add(fact));
        cells
    }

    /// `dimension value second: valid fraud unscored duplicate subjects` of each cell.
    fn told(cells: &Cells) -> Vec<String> {
        let told = |(key, cell): (&CellKey, &Cell)| {
            let counts = [RecordStatus::Valid, RecordStatus::Fraud, RecordStatus::Unscored, RecordStatus::Duplicate]
                .map(|of| cell.counts.get(of));
            let subjects = cell.subjects.as_ref().map_or(0, |subjects| subjects.estimate());
            format!("{} {} {}: {counts:?} {subjects}", key.dimension, key.value, key.second_value)
        };
        cells.iter().map(told).collect()
    }

    #[test]
    fn a_record_is_counted_in_its_type_its_dimensions_and_the_pairs_that_it_has_both_values_of() {
        let other = Fact { subject: Some(8), fields: Some(r#"{"campaign_id":"c1"}"#), ..CLICK };
        let duplicate = Fact { change: Change::Recorded(RecordStatus::Duplicate), subject: Some(9), ..other };
        assert_eq!(
            told(&fold(&[CLICK, other, duplicate])),
            [
                "  : [2, 0, 0, 1] 2",
                "campaign_id c1 : [2, 0, 0, 1] 2",
                "campaign_id,geo_country c1 DE: [1, 0, 0, 0] 1",
                "geo_country DE : [1, 0, 0, 0] 1",
            ]
        );
        let unknown = Fact { event_type: "gone", ..CLICK };
        assert_eq!(told(&fold(&[unknown])), ["  : [1, 0, 0, 0] 1"]);
    }

    #[test]
    fn a_late_score_moves_the_event_and_adds_no_subject() {
        let unscored = Fact { change: Change::Recorded(RecordStatus::Unscored), ..TRANSACTION };
        let scored = Fact { change: Change::ScoredLate(RecordStatus::Fraud), ..TRANSACTION };
        for facts in [[unscored, scored], [scored, unscored]] {
            let cells = fold(&facts);
            assert_eq!(told(&cells)[0], "  : [0, 1, 0, 0] 1");
            let (_, cell) = cells.iter().next().unwrap();
            assert_eq!(cell.measures[&("amount", RecordStatus::Fraud)].sum.to_string(), "0.1");
        }
        assert_eq!(told(&fold(&[scored]))[0], "  : [0, 1, -1, 0] 0");
    }

    #[test]
    fn sums_are_exact_and_what_cannot_be_summed_is_told() {
        let amount = |fields| Fact { fields: Some(fields), ..TRANSACTION };
        let cells = fold(&[TRANSACTION, amount(r#"{"amount":0.2}"#), amount(r#"{"amount":1e2}"#)]);
        let measured = cells.iter().next().unwrap().1.measures[&("amount", RecordStatus::Valid)];
        assert_eq!((measured.events, measured.sum.to_string().as_str()), (3, "100.3"));
        assert_eq!((measured.min.to_string().as_str(), measured.max.to_string().as_str()), ("0.1", "100"));
        let cells = fold(&[TRANSACTION, amount(r#"{"amount":1e300}"#)]);
        assert_eq!((cells.unmeasured, told(&cells)[0].as_str()), (1, "  : [2, 0, 0, 0] 1"));
        let blocked = Fact { change: Change::Recorded(RecordStatus::Blocked), ..TRANSACTION };
        assert!(fold(&[blocked]).iter().all(|(_, cell)| cell.measures.is_empty()));
    }

    #[test]
    fn values_are_texts_of_any_kind() {
        let status = |fields| Fact { event_type: "page_view", fields: Some(fields), ..CLICK };
        let cells = fold(&[status(r#"{"status":200}"#), status(r#"{"status":"a\u0000\"b"}"#), status("[]")]);
        assert_eq!(
            told(&cells),
            ["  : [3, 0, 0, 0] 1", "status 200 : [1, 0, 0, 0] 1", "status a\u{fffd}\"b : [1, 0, 0, 0] 1"]
        );
    }
}
