//! Which records are too large to publish anything about.
//!
//! Topics limit the size of a batch after its compression, so `raw-events` may hold a record whose outcome or dead letter no
//! topic takes. If that were found when the outcome is published, the ledger would say one thing, `processed-events`
//! nothing, and the partition would wait for ever. So it is decided before anything else: such a record is
//! `dead_lettered: too-large`, its bytes go to the archive ([`crate::object_name`]), and its letter points there.

use std::borrow::Cow;

use bytes::Bytes;
use event::Facts;

use crate::tracked::{Known, Read, State, Tracked};
use crate::{Outcome, Reason, ReasonTag, Record};

/// What an outcome or a dead letter has besides what it repeats of its record, at most: names, positions, digests, times,
/// the event's key, its score, and a reason, which is written twice in a letter.
const OVERHEAD: usize = 8 * 1024;
/// What a header takes besides its name and value: three lengths of at most five bytes.
const HEADER_OVERHEAD: usize = 16;

/// Closes each record whose outcome or dead letter might be larger than `max_record_bytes`, whatever was found in it.
/// `records` are what was read from `delivered`, in its order.
pub fn close_too_large(delivered: &[Record], records: &mut [Tracked<'_, Read>], max_record_bytes: usize) {
    for (delivered, record) in delivered.iter().zip(records) {
        let bytes = largest_published(delivered, record);
        if bytes > max_record_bytes {
            let detail = format!("{bytes} bytes to publish, and {max_record_bytes} are allowed");
            // Only what is short is kept, so that the outcome is, too.
            let known = Known::Partly {
                key: record.key().cloned(),
                event_type: record.event_type().map(|event_type| Cow::Owned(event_type.to_owned())),
                received_at: record.event().filter(|event| !event.undated).map(|event| event.received_at),
                ip: record.ip(),
                facts: Facts::NONE,
            };
            let reason = Reason::new(ReasonTag::TooLarge, detail).to_string();
            record.state = State::Closed { outcome: Outcome::DeadLettered, reason, known };
        }
    }
}

/// Whether [`close_too_large`] closed the record.
pub fn is_too_large<S>(record: &Tracked<'_, S>) -> bool {
    record.reason_tag() == Some(ReasonTag::TooLarge)
}

/// The size of its outcome or its dead letter, the larger one, in bytes. It is rather too high than too low.
fn largest_published(delivered: &Record, record: &Tracked<'_, Read>) -> usize {
    let Record { key, value, headers, .. } = delivered;
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers: usize =
        headers.0.iter().map(|header| header.name.len() + length(&header.value) + HEADER_OVERHEAD).sum();
    // An outcome repeats the value, and once more the user id that stands in it. As JSON, each of its characters may need
    // a backslash.
    let user_id = record.event().and_then(|event| event.user_id.as_ref()).map_or(0, |user_id| 2 * user_id.len());
    length(key) + length(value) + headers + user_id + OVERHEAD
}

#[cfg(test)]
mod tests {
    use event::schema::Registry;
    use event::{TenantId, Timestamp};

    use super::super::intake::Reader;
    use super::super::publication::OutcomeWriter;
    use super::super::samples::record;
    use super::*;
    use crate::dead_letter::dead_letter;
    use crate::ports::{LedgerEntry, NewRecord, RiskScore};
    use crate::tracked::Decided;
    use crate::{Header, RecordHeaders, header};

    const LIMIT: usize = 100_000;

    fn with_reader(record: &Record, test: impl FnOnce(Tracked<'_, Read>)) {
        let (registry, foreign_tenant) = (Registry::embedded().unwrap(), TenantId::new("kafka").unwrap());
        let mut records =
            [Reader { registry: &registry, foreign_tenant: &foreign_tenant, now: Timestamp::EPOCH }.read(record)];
        close_too_large(std::slice::from_ref(record), &mut records, LIMIT);
        let [record] = records;
        test(record);
    }

    /// The schema limits neither of the last two members.
    fn sensor(id: &str, user_id: &str, padding: usize) -> String {
        let note = "x".repeat(padding);
        serde_json::json!({"type": "sensor", "id": id, "device_id": "d", "reading": 1, "unit": "m", "user_id": user_id, "note": note})
            .to_string()
    }

    fn bytes(record: &NewRecord) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = record.headers.iter().map(|header| header.name.len() + length(&header.value) + HEADER_OVERHEAD);
        length(&record.key) + length(&record.value) + headers.sum::<usize>()
    }

    /// Members of the kind: a long value, key, header, many headers, no event at all, a user id that is written twice.
    fn kinds(size: usize) -> Vec<Record> {
        let plain = |value: &str| record(5, Some(value), &[]);
        let keyed = Record { key: Some(vec![b'k'; size].into()), ..plain(&sensor("a", "u", 0)) };
        let trace = "t".repeat(size);
        let traced = record(5, Some(&sensor("a", "u", 0)), &[(header::TRACEPARENT, &trace)]);
        let header = |_| Header { name: "h".into(), value: None };
        let many = Record {
            headers: RecordHeaders((0..size / (HEADER_OVERHEAD + 1)).map(header).collect()),
            ..plain(&sensor("a", "u", 0))
        };
        let tombstone = Record { value: None, ..keyed.clone() };
        vec![plain(&sensor("a", "u", size)), keyed, traced, many, tombstone, plain(&"[".repeat(size))]
    }

    #[test]
    fn what_is_published_about_a_record_is_never_larger_than_allowed() {
        let sizes = [0, LIMIT / 3, LIMIT - 2 * OVERHEAD, LIMIT - OVERHEAD, LIMIT, 3 * LIMIT];
        let mut too_large = 0;
        let quotes = |length: usize| record(5, Some(&sensor("a", &"\"".repeat(length), 0)), &[]);
        let users = [60, LIMIT / 5, LIMIT / 4, LIMIT / 3, LIMIT].map(quotes);
        for delivered in sizes.into_iter().flat_map(kinds).chain(users) {
            with_reader(&delivered, |tracked| {
                let (outcome, reason) = match &tracked.state {
                    State::Open { .. } => (Outcome::Fraud, String::new()),
                    State::Closed { outcome, reason, .. } => (*outcome, reason.clone()),
                };
                too_large += usize::from(is_too_large(&tracked));
                let risk = RiskScore { score: 100, reasons: vec!["r".repeat(200)], rules_version: "1".into() };
                let entry = LedgerEntry {
                    position: tracked.position.clone(),
                    digest: tracked.digest,
                    origin: tracked.origin.clone(),
                    trace_id: tracked.trace_id,
                    key: tracked.key().cloned(),
                    outcome,
                    reason,
                    risk: Some(risk),
                    recorded_at: Timestamp::EPOCH,
                };
                let tracked = tracked.advance(|_, Read| Decided { outcome, risk: None });
                let traceparent = delivered.headers.get(header::TRACEPARENT);
                let outcome = OutcomeWriter::new(&[]).outcome(&tracked, &entry, traceparent).unwrap();
                let letter = dead_letter(&delivered, &entry);
                for published in [Some(outcome), letter].into_iter().flatten() {
                    assert!(bytes(&published) <= LIMIT, "{} bytes on {}", bytes(&published), published.topic);
                }
            });
        }
        assert!((15..30).contains(&too_large), "{too_large} records");
    }

    #[test]
    fn a_record_that_just_fits_keeps_its_event() {
        let size = LIMIT - 2 * OVERHEAD;
        with_reader(&record(5, Some(&sensor("a", "u", size)), &[]), |record| assert!(record.open().is_some()));
        with_reader(&record(5, Some(&sensor("a", "u", LIMIT)), &[]), |record| {
            assert!(is_too_large(&record) && record.event().is_none());
            assert_eq!(record.key().unwrap().to_string(), "kafka/a");
            assert_eq!(record.event_type(), Some("sensor"));
            let State::Closed { outcome, reason, .. } = &record.state else { panic!("{record:?}") };
            assert_eq!(*outcome, Outcome::DeadLettered);
            assert!(reason.starts_with("too-large: 108"), "{reason}");
        });
    }
}
