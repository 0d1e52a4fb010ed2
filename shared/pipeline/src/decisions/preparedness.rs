//! Whether this build is fit for the events that ingest accepts.
//!
//! Ingest writes only events whose type and version it knows. If the processor does not know them, it is an older build,
//! or one with fewer types: the records are good, and would become dead letters by the thousand. A few of them may be
//! the last of a type that was removed, so only many in one batch count.

use crate::tracked::{Read, Tracked};
use crate::{ReasonTag, Record, header};

/// A batch with fewer records from ingest says nothing.
const LEAST: usize = 20;

/// This build lacks the type or version of so many records of a batch that the build must be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this build does not know the type or version of {unknown} of {accepted} records that ingest accepted: deploy the \
     processor with the types that ingest has"
)]
pub struct Unprepared {
    pub unknown: usize,
    pub accepted: usize,
}

/// Checks a batch. `records` are what was read from `delivered`, in its order.
///
/// # Errors
/// [`Unprepared`] if at least half of at least 20 records that ingest accepted would be dead letters for want of their type
/// or version.
pub fn check(delivered: &[Record], records: &[Tracked<'_, Read>]) -> Result<(), Unprepared> {
    // The headers of good records, which are nearly all, are not looked at.
    let both = delivered.iter().zip(records);
    let unknown = both.filter(|(delivered, record)| is_unknown(record) && is_from_ingest(delivered)).count();
    if unknown < LEAST / 2 {
        return Ok(());
    }
    let accepted = delivered.iter().filter(|delivered| is_from_ingest(delivered)).count();
    if accepted >= LEAST && unknown >= accepted.div_ceil(2) { Err(Unprepared { unknown, accepted }) } else { Ok(()) }
}

/// By the headers that ingest writes. A copy does not count: a redrive of such letters must not stop a partition.
fn is_from_ingest(record: &Record) -> bool {
    let has = |name| record.headers.get(name).is_some();
    has(header::EVENT_ID) && has(header::EVENT_TYPE) && !has(header::ORIGIN)
}

fn is_unknown(record: &Tracked<'_, Read>) -> bool {
    matches!(
        record.reason_tag(),
        Some(ReasonTag::UnknownType | ReasonTag::UnknownSchemaVersion | ReasonTag::UnknownEnvelopeVersion)
    )
}

#[cfg(test)]
mod tests {
    use event::schema::Registry;
    use event::{TenantId, Timestamp};

    use super::super::intake::Reader;
    use super::super::samples::record;
    use super::*;

    const ENVELOPE: &str = r#"{"envelope":1,"id":"a","id_source":"client","type":"click","schema":1,"tenant":"acme","received_at":"2026-11-20T18:02:00.000Z","data":{"type":"click","id":"a","user_id":"u-1","campaign_id":"c"}}"#;
    const INGEST: [(&str, &str); 2] = [("event-id", "a"), ("event-type", "click")];

    type Headers<'a> = &'a [(&'static str, &'a str)];

    /// Of a batch with so many records of each value and headers.
    fn verdict(batch: &[(usize, &str, Headers<'_>)]) -> Result<(), Unprepared> {
        let (registry, foreign_tenant) = (Registry::embedded().unwrap(), TenantId::new("kafka").unwrap());
        let delivered: Vec<Record> = batch
            .iter()
            .flat_map(|(count, value, headers)| (0..*count).map(|_| record(5, Some(value), headers)))
            .collect();
        let reader = Reader { registry: &registry, foreign_tenant: &foreign_tenant, now: Timestamp::EPOCH };
        check(&delivered, &reader.read_all(&delivered))
    }

    #[test]
    fn half_of_twenty_are_too_many() {
        let unknown = ENVELOPE.replace("\"type\":\"click\",\"schema\"", "\"type\":\"refund\",\"schema\"");
        let of = |good, bad| verdict(&[(good, ENVELOPE, &INGEST), (bad, &unknown, &INGEST)]);
        assert_eq!(of(10, 10), Err(Unprepared { unknown: 10, accepted: 20 }));
        assert_eq!(of(0, 500), Err(Unprepared { unknown: 500, accepted: 500 }));
        assert_eq!(of(10, 11), Err(Unprepared { unknown: 11, accepted: 21 }));
        for (good, bad) in [(11, 9), (9, 10), (0, 19), (11, 10), (200, 199), (20, 0), (0, 0)] {
            assert_eq!(of(good, bad), Ok(()), "{good} good and {bad} bad");
        }
    }

    #[test]
    fn every_kind_of_version_counts_and_bad_records_do_not() {
        let schema = ENVELOPE.replace("\"schema\":1", "\"schema\":7");
        let envelope = ENVELOPE.replace("\"envelope\":1", "\"envelope\":2");
        for unknown in [&schema, &envelope] {
            assert!(verdict(&[(20, unknown, &INGEST)]).is_err(), "{unknown}");
        }
        let violation = ENVELOPE.replace("\"user_id\":\"u-1\"", "\"user_id\":7");
        for bad in [&*violation, "not json", "{}", r#"{"envelope":1}"#] {
            assert_eq!(verdict(&[(50, bad, &INGEST)]), Ok(()), "{bad}");
        }
    }

    #[test]
    fn only_what_ingest_wrote_counts() {
        let unknown = ENVELOPE.replace("\"schema\":1", "\"schema\":7");
        let copy = [INGEST[0], INGEST[1], ("origin", "raw-events/0/5")];
        for headers in [&INGEST[..1], &INGEST[1..], &[], &copy] {
            assert_eq!(verdict(&[(50, &unknown, headers)]), Ok(()), "{headers:?}");
        }
        assert_eq!(verdict(&[(50, r#"{"type":"refund"}"#, &[])]), Ok(()), "another producer's");
    }
}
