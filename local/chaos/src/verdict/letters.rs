//! Dead letters: each has its record's bytes, and each that is redriven ends exactly once.

use std::collections::BTreeMap;

use crate::evidence::{Evidence, Message, PartitionOffset, RAW};
use crate::load::LoadEvent;
use crate::verdict::findings::TrialFindings;

/// Identifies a letter: its origin and how often it was redriven before.
fn letter_id(message: &Message, place: Option<PartitionOffset>) -> (String, u32) {
    let own = place.map(|place| format!("{RAW}/{}/{}", place.0, place.1));
    let origin = message.origin().or(own).unwrap_or_default();
    (origin, message.header("attempt").and_then(|attempt| attempt.parse().ok()).unwrap_or(0))
}

/// The record in an object that a letter points to, in place of its own bytes.
fn quarantined<'e>(evidence: &'e Evidence, key: &str) -> Option<&'e Message> {
    let object = evidence.quarantined.iter().find(|object| object.key == key)?;
    object.lines.first().map(|(_, _, record)| record)
}

/// I3 for dead letters.
pub fn letters_have_their_bytes(evidence: &Evidence, findings: &mut TrialFindings) {
    let letters: BTreeMap<(String, u32), &Message> =
        evidence.dead_letters.values().map(|letter| (letter_id(letter, None), letter)).collect();
    for (place, row) in evidence.record_outcomes.iter().filter(|(_, row)| row.outcome == "dead_lettered") {
        let at = format!("{RAW}/{}/{}", place.0, place.1);
        let record = evidence.raw.get(place);
        let letter = record.and_then(|record| letters.get(&letter_id(record, Some(*place))));
        match letter.zip(record) {
            Some((letter, record)) => {
                let kept = letter.header("quarantine").map_or(Some(*letter), |key| quarantined(evidence, &key));
                if kept.is_none_or(|kept| (&kept.key, &kept.value) != (&record.key, &record.value)) {
                    findings.add("I3", format!("the dead letter of {at} has other bytes"));
                }
                if letter.header("error-reason").as_ref() != Some(&row.reason) {
                    findings.add("I3", format!("the dead letter of {at} has another reason"));
                }
            }
            None => findings.add("I3", format!("{at} is dead-lettered and has no letter")),
        }
    }
}

/// I3: a good event is never a dead letter, whatever fails: an outage must not look like a bad record.
pub fn no_good_event_is_dead_lettered(evidence: &Evidence, findings: &mut TrialFindings) {
    for letter in evidence.dead_letters.values() {
        if let Some(id) = letter.header("event-id").filter(|id| LoadEvent::is_made_up(id)) {
            let reason = letter.header("error-reason").unwrap_or_default();
            findings.add("I3", format!("{id} is a good event and became a dead letter: {reason:?}"));
        }
    }
}

/// I1 and I2 after a redrive: every letter was stored, closed as a copy, or parked, and only once.
pub fn all_have_ended(evidence: &Evidence, findings: &mut TrialFindings) {
    #[derive(Default)]
    struct Ends {
        stored: usize,
        closed: usize,
        parked: usize,
    }
    let mut ends: BTreeMap<String, Ends> = BTreeMap::new();
    for letter in evidence.dead_letters.values() {
        ends.entry(letter_id(letter, None).0).or_default();
    }
    for row in evidence.record_outcomes.values() {
        let (partition, offset) = row.origin;
        let Some(end) = ends.get_mut(&format!("{RAW}/{partition}/{offset}")) else { continue };
        end.stored += usize::from(row.is_stored());
        end.closed += usize::from(!row.is_stored() && row.outcome != "dead_lettered");
    }
    for key in &evidence.parked {
        match parked_origin(key).and_then(|origin| ends.get_mut(&origin)) {
            Some(end) => end.parked += 1,
            None => findings.add("I2", format!("{key} is parked and was never a dead letter")),
        }
    }
    for (origin, Ends { stored, closed, parked }) in ends {
        if stored + closed + parked == 0 {
            findings.add("I1", format!("the dead letter of {origin} was neither stored nor closed nor parked"));
        }
        if stored + parked > 1 {
            findings.add("I2", format!("the dead letter of {origin} is stored {stored} and parked {parked} times"));
        }
    }
}

/// Reads `parked/topic=<topic>/partition=<partition>/<offset>.<digest>.a<attempt>.ndjson.zst`.
fn parked_origin(key: &str) -> Option<String> {
    let mut parts = key.split('/').skip(1);
    let topic = parts.next()?.strip_prefix("topic=")?;
    let partition: i32 = parts.next()?.strip_prefix("partition=")?.parse().ok()?;
    let offset: i64 = parts.next()?.split('.').next()?.parse().ok()?;
    Some(format!("{topic}/{partition}/{offset}"))
}
