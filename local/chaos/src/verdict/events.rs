//! I1, I2 and I5: how each record and each event ended.

use std::collections::{BTreeMap, BTreeSet};

use crate::evidence::{Evidence, Message, RAW, position};
use crate::ledger::SentEvents;
use crate::ledger::hash;
use crate::verdict::findings::TrialFindings;

/// I1 by record: each record has an outcome, and each outcome has a record.
pub fn records_have_outcomes(evidence: &Evidence, findings: &mut TrialFindings) {
    for place in evidence.raw.keys().filter(|place| !evidence.record_outcomes.contains_key(place)) {
        findings.add("I1", format!("{} has no outcome", position(RAW, *place)));
    }
    for place in evidence.record_outcomes.keys().filter(|place| !evidence.raw.contains_key(place)) {
        findings.add("I2", format!("there is an outcome for {}, which is not in Kafka", position(RAW, *place)));
    }
}

/// I1, I2 and I5 by event.
pub fn events_have_one_effect(sent_events: &SentEvents, evidence: &Evidence, findings: &mut TrialFindings) {
    let mut rows: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for row in &evidence.rows {
        rows.entry(&row.event_id).or_default().push(row);
    }
    let mut effects: BTreeMap<&str, usize> = BTreeMap::new();
    for outcome in evidence.record_outcomes.values() {
        if let (true, Some(id)) = (outcome.is_stored(), &outcome.event_id) {
            *effects.entry(id).or_default() += 1;
        }
    }
    let dead_lettered: BTreeSet<String> = evidence.dead_letters.values().filter_map(Message::origin).collect();
    for (id, sent_event) in sent_events {
        let stored = rows.get(id.as_str()).map_or(0, Vec::len);
        let terminal = sent_event.receipts.iter().any(|(partition, offset)| {
            let outcomes =
                evidence.places((*partition, *offset)).filter_map(|place| evidence.record_outcomes.get(&place));
            let mut of_event = outcomes.filter(|outcome| outcome.event_id.as_ref().is_none_or(|of| of == id));
            of_event.any(|outcome| match outcome.outcome.as_str() {
                "dead_lettered" => dead_lettered.contains(&format!("{RAW}/{partition}/{offset}")),
                other => other == "blocked",
            })
        });
        if sent_event.acked && stored == 0 && !terminal {
            findings.lost += 1;
            findings.add("I1", format!("{id} was acknowledged and is lost"));
        }
        if stored > 1 || effects.get(id.as_str()).copied().unwrap_or(0) > 1 {
            findings.duplicated += 1;
            findings.add("I2", format!("{id} has {stored} rows and {:?} effects", effects.get(id.as_str())));
        }
        if !sent_event.acked && !sent_event.unknown && stored > 0 {
            findings.add("I2", format!("{id} was rejected and is stored"));
        }
        for (partition, offset) in &sent_event.receipts {
            let records = evidence.places((*partition, *offset)).filter_map(|place| evidence.raw.get(&place));
            let named: Vec<String> = records.filter_map(|message| message.header("event-id")).collect();
            if !named.contains(id) && !id.starts_with("poison") {
                findings.add("I1", format!("the receipt of {id}, {RAW}/{partition}/{offset}, is for {named:?}"));
            }
        }
        for row in rows.get(id.as_str()).into_iter().flatten() {
            if !sent_event.payload_hashes.contains(&hash(row.payload.as_bytes())) {
                findings.add("I5", format!("{id} is stored with other bytes than were sent"));
            }
            if !sent_event.payload_hashes.contains(&row.payload_hash) {
                findings.add("I5", format!("{id} is stored with a hash of other bytes"));
            }
        }
    }
    for id in rows.keys().filter(|id| !sent_events.contains_key(**id)) {
        findings.add("I2", format!("{id} is stored and was never sent"));
    }
    let stored = i64::try_from(evidence.rows.len()).unwrap_or(i64::MAX);
    if evidence.counted != stored {
        findings.duplicated += usize::try_from(evidence.counted.abs_diff(stored)).unwrap_or(usize::MAX);
        findings.add("I2", format!("{} events are counted and {stored} are stored", evidence.counted));
    }
}
