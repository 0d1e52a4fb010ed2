//! The invariants I1 to I5, evaluated on the evidence and the ledger. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;

use crate::evidence::{Evidence, Message, OUTCOMES, Outcome, Place, RAW, Topic};
use crate::ledger::Fates;
use crate::load::hash;

/// Violations printed of each kind; the rest is counted.
const SHOWN: usize = 5;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Events in the ledger.
    pub events: usize,
    /// Of these with a receipt.
    pub acked: usize,
    /// Records on `raw-events`.
    pub records: usize,
    /// I1: acknowledged events that ended nowhere.
    pub lost: usize,
    /// I2: events with more than one effect.
    pub duplicated: usize,
    /// Copies of outcomes on `processed-events`, each beyond the first.
    pub outcome_copies: usize,
    pub violations: BTreeMap<&'static str, Vec<String>>,
}

impl Findings {
    fn add(&mut self, invariant: &'static str, what: impl Into<String>) {
        self.violations.entry(invariant).or_default().push(what.into());
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (invariant, found) in &self.violations {
            for what in found.iter().take(SHOWN) {
                writeln!(f, "    {invariant}: {what}")?;
            }
            if found.len() > SHOWN {
                writeln!(f, "    {invariant}: and {} more", found.len() - SHOWN)?;
            }
        }
        Ok(())
    }
}

/// Evaluates everything.
pub fn judge(fates: &Fates, evidence: &Evidence) -> Findings {
    let mut findings = Findings {
        events: fates.len(),
        acked: fates.values().filter(|fate| fate.acked).count(),
        records: evidence.raw.len(),
        ..Findings::default()
    };
    records_have_outcomes(evidence, &mut findings);
    events_have_one_effect(fates, evidence, &mut findings);
    outcomes_are_published(evidence, &mut findings);
    archive_is_whole(RAW, &evidence.raw, evidence, &mut findings);
    archive_is_whole(OUTCOMES, &evidence.outcomes, evidence, &mut findings);
    findings
}

/// I1 by record: each has one outcome, and nothing else has.
fn records_have_outcomes(evidence: &Evidence, findings: &mut Findings) {
    for place in evidence.raw.keys().filter(|place| !evidence.record_outcomes.contains_key(place)) {
        findings.add("I1", format!("{RAW}/{}/{} has no outcome", place.0, place.1));
    }
    for place in evidence.record_outcomes.keys().filter(|place| !evidence.raw.contains_key(place)) {
        findings.add("I2", format!("an outcome for {RAW}/{}/{}, which is not in Kafka", place.0, place.1));
    }
}

/// I1, I2 and I5 by event.
fn events_have_one_effect(fates: &Fates, evidence: &Evidence, findings: &mut Findings) {
    let mut rows: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for row in &evidence.rows {
        rows.entry(&row.event_id).or_default().push(row);
    }
    let mut effects: BTreeMap<&str, usize> = BTreeMap::new();
    for outcome in evidence.record_outcomes.values() {
        if let ("valid" | "fraud", Some(id)) = (outcome.outcome.as_str(), &outcome.event_id) {
            *effects.entry(id).or_default() += 1;
        }
    }
    let buried: BTreeSet<String> =
        evidence.dead_letters.values().filter_map(|letter| letter.header("origin")).collect();
    for (id, fate) in fates {
        let stored = rows.get(id.as_str()).map_or(0, Vec::len);
        let terminal = fate.receipts.iter().any(|(partition, offset)| {
            evidence.record_outcomes.get(&(*partition, *offset)).is_some_and(|outcome| match outcome.outcome.as_str() {
                "dead_lettered" => buried.contains(&format!("{RAW}/{partition}/{offset}")),
                other => other == "blocked",
            })
        });
        if fate.acked && stored == 0 && !terminal {
            findings.lost += 1;
            findings.add("I1", format!("{id} was acknowledged and is lost"));
        }
        if stored > 1 || effects.get(id.as_str()).copied().unwrap_or(0) > 1 {
            findings.duplicated += 1;
            findings.add("I2", format!("{id} has {stored} rows and {:?} effects", effects.get(id.as_str())));
        }
        if !fate.acked && !fate.unknown && stored > 0 {
            findings.add("I2", format!("{id} was rejected and is stored"));
        }
        for (partition, offset) in &fate.receipts {
            let place = (*partition, *offset);
            let named = evidence.raw.get(&place).and_then(|message| message.header("event-id"));
            if named.as_deref() != Some(id) && !id.starts_with("poison") {
                findings.add("I1", format!("the receipt of {id}, {RAW}/{partition}/{offset}, is for {named:?}"));
            }
        }
        for row in rows.get(id.as_str()).into_iter().flatten() {
            if !fate.payload_hashes.contains(&hash(row.payload.as_bytes())) {
                findings.add("I5", format!("{id} is stored with other bytes than were sent"));
            }
            if !fate.payload_hashes.contains(&row.payload_hash) {
                findings.add("I5", format!("{id} is stored with a hash of other bytes"));
            }
        }
    }
    for id in rows.keys().filter(|id| !fates.contains_key(**id)) {
        findings.add("I2", format!("{id} is stored and was never sent"));
    }
    let stored = i64::try_from(evidence.rows.len()).unwrap_or(i64::MAX);
    if evidence.counted != stored {
        findings.duplicated += usize::try_from(evidence.counted.abs_diff(stored)).unwrap_or(usize::MAX);
        findings.add("I2", format!("{} events are counted and {stored} are stored", evidence.counted));
    }
}

/// The members of an outcome that are checked.
#[derive(Deserialize)]
struct Published {
    outcome_id: String,
    outcome: String,
    reason: String,
}

/// I3, and that each dead letter is there with its record's bytes.
fn outcomes_are_published(evidence: &Evidence, findings: &mut Findings) {
    let mut first: BTreeMap<String, &Message> = BTreeMap::new();
    for (place, message) in &evidence.outcomes {
        let parsed = message.value.as_deref().and_then(|value| serde_json::from_slice::<Published>(value).ok());
        let Some(published) = parsed else {
            findings.add("I3", format!("{OUTCOMES}/{}/{} is no outcome", place.0, place.1));
            continue;
        };
        let id = published.outcome_id;
        if let Some(known) = first.get(&id) {
            findings.outcome_copies += 1;
            if (&known.key, &known.value, &known.headers) != (&message.key, &message.value, &message.headers) {
                findings.add("I3", format!("the copies of outcome {id} differ"));
            }
            continue;
        }
        // An event that was stored unscored has a second outcome with its late score; the ledger keeps the first.
        let late = id.strip_suffix("#scored");
        let mut parts = late.unwrap_or(&id).rsplitn(3, '/');
        let place = parts
            .next()
            .zip(parts.next())
            .and_then(|(offset, partition)| Some((partition.parse::<i32>().ok()?, offset.parse::<i64>().ok()?)));
        let recorded = place.and_then(|place| evidence.record_outcomes.get(&place));
        let is_late = |row: &Outcome| {
            row.outcome == "valid"
                && matches!(published.outcome.as_str(), "valid" | "fraud")
                && published.reason == "scored-later"
        };
        let is_first = |row: &Outcome| (&row.outcome, &row.reason) == (&published.outcome, &published.reason);
        if !recorded.is_some_and(|row| if late.is_some() { is_late(row) } else { is_first(row) }) {
            findings.add("I3", format!("outcome {id} is not the one in Postgres"));
        }
        first.insert(id, message);
    }
    let mut letters: BTreeMap<String, &Message> = BTreeMap::new();
    for letter in evidence.dead_letters.values() {
        letters.insert(letter.header("origin").unwrap_or_default(), letter);
    }
    for (place, row) in &evidence.record_outcomes {
        let id = format!("{RAW}/{}/{}", place.0, place.1);
        if !first.contains_key(&id) {
            findings.add("I3", format!("the outcome of {id} was not published"));
        }
        if row.outcome != "dead_lettered" {
            continue;
        }
        let (letter, record) = (letters.get(&id), evidence.raw.get(place));
        match letter.zip(record) {
            Some((letter, record)) => {
                if (&letter.key, &letter.value) != (&record.key, &record.value) {
                    findings.add("I3", format!("the dead letter of {id} has other bytes"));
                }
                if letter.header("error-reason").as_ref() != Some(&row.reason) {
                    findings.add("I3", format!("the dead letter of {id} names another reason"));
                }
            }
            None => findings.add("I3", format!("{id} is dead lettered and has no letter")),
        }
    }
}

/// I4 for one topic: every record is in the archive, each copy with the topic's bytes, under a name that says so.
fn archive_is_whole(name: &str, topic: &Topic, evidence: &Evidence, findings: &mut Findings) {
    let mut archived: BTreeSet<Place> = BTreeSet::new();
    for object in &evidence.objects {
        let Some((first, last)) = range(&object.key) else {
            findings.add("I4", format!("{} names no range", object.key));
            continue;
        };
        for (_, place, message) in object.lines.iter().filter(|(of, _, _)| of == name) {
            archived.insert(*place);
            if !(first..=last).contains(&place.1) {
                findings.add("I4", format!("{} holds offset {}", object.key, place.1));
            }
            if topic.get(place) != Some(message) {
                findings.add("I4", format!("{} holds {name}/{}/{} with other bytes", object.key, place.0, place.1));
            }
        }
    }
    for place in topic.keys().filter(|place| !archived.contains(place)) {
        findings.add("I4", format!("{name}/{}/{} is not in the archive", place.0, place.1));
    }
}

/// First and last offset of `…/<first>-<last>[.…].ndjson.zst`.
fn range(key: &str) -> Option<(i64, i64)> {
    let (first, rest) = key.rsplit('/').next()?.split_once('-')?;
    let last: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{Object, Row};
    use crate::ledger::{Answer, Entry, add};

    const EVENT: &str = r#"{"id":"a"}"#;

    /// One event that went through everything.
    fn whole() -> (Fates, Evidence) {
        let mut fates = Fates::new();
        let entry = Entry {
            event_id: "a".to_owned(),
            payload_hash: hash(EVENT.as_bytes()),
            batch: 0,
            attempt: 1,
            result: Answer::Acked,
            partition: Some(0),
            offset: Some(0),
        };
        add(&mut fates, entry);
        let message = |value: &str, headers: &[(&str, &str)]| Message {
            key: Some(b"t/a".to_vec()),
            value: Some(value.into()),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).into()))).collect(),
            timestamp: 1,
        };
        let raw = message("{}", &[("event-id", "a")]);
        let outcome = message(r#"{"outcome_id":"raw-events/0/0","outcome":"valid","reason":""}"#, &[]);
        let object = |topic: &str, message: &Message| Object {
            key: format!("{topic}/00000000000000000000-00000000000000000000.ndjson.zst"),
            lines: vec![(topic.to_owned(), (0, 0), message.clone())],
        };
        let evidence = Evidence {
            objects: vec![object(RAW, &raw), object(OUTCOMES, &outcome)],
            raw: [((0, 0), raw)].into(),
            outcomes: [((0, 0), outcome)].into(),
            dead_letters: Topic::new(),
            rows: vec![Row {
                event_id: "a".to_owned(),
                payload: EVENT.to_owned(),
                payload_hash: hash(EVENT.as_bytes()),
            }],
            record_outcomes: [(
                (0, 0),
                Outcome { event_id: Some("a".to_owned()), outcome: "valid".to_owned(), reason: String::new() },
            )]
            .into(),
            counted: 1,
        };
        (fates, evidence)
    }

    fn broken(change: impl FnOnce(&mut Fates, &mut Evidence)) -> Vec<&'static str> {
        let (mut fates, mut evidence) = whole();
        change(&mut fates, &mut evidence);
        judge(&fates, &evidence).violations.into_keys().collect()
    }

    #[test]
    fn a_whole_pipeline_breaks_nothing() {
        assert_eq!(broken(|_, _| {}), [""; 0]);
    }

    #[test]
    fn each_loss_and_each_double_effect_is_found() {
        assert_eq!(broken(|_, evidence| evidence.rows.clear()), ["I1", "I2"]);
        assert_eq!(broken(|_, evidence| evidence.record_outcomes.clear()), ["I1", "I3"]);
        assert_eq!(broken(|_, evidence| evidence.rows.push(evidence.rows[0].clone())), ["I2"]);
        assert_eq!(broken(|_, evidence| evidence.counted = 2), ["I2"]);
        assert_eq!(broken(|_, evidence| evidence.rows[0].payload.push(' ')), ["I5"]);
        assert_eq!(broken(|_, evidence| evidence.outcomes.clear()), ["I3", "I4"]);
        assert_eq!(broken(|_, evidence| evidence.objects.truncate(1)), ["I4"]);
        assert_eq!(broken(|_, evidence| evidence.objects[0].lines[0].2.key = None), ["I4"]);
        assert_eq!(broken(|fates, _| drop(fates.insert("b".to_owned(), fates["a"].clone()))), ["I1"]);
        let rejected = |fates: &mut Fates, _: &mut Evidence| {
            fates.entry("a".to_owned()).or_default().acked = false;
        };
        assert_eq!(broken(rejected), ["I2"]);
    }

    #[test]
    fn a_late_score_is_a_second_outcome_of_a_stored_record_only() {
        let publish = |evidence: &mut Evidence, value: &str| {
            let mut late = evidence.outcomes[&(0, 0)].clone();
            late.value = Some(value.into());
            let key = "late/00000000000000000001-00000000000000000001.ndjson.zst".to_owned();
            evidence.objects.push(Object { key, lines: vec![(OUTCOMES.to_owned(), (0, 1), late.clone())] });
            evidence.outcomes.insert((0, 1), late);
        };
        let late = r#"{"outcome_id":"raw-events/0/0#scored","outcome":"fraud","reason":"scored-later"}"#;
        assert_eq!(broken(|_, evidence| publish(evidence, late)), [""; 0]);
        let other = late.replace("scored-later", "");
        assert_eq!(broken(|_, evidence| publish(evidence, &other)), ["I3"]);
        let nowhere = late.replace("0/0#", "0/7#");
        assert_eq!(broken(|_, evidence| publish(evidence, &nowhere)), ["I3"]);
    }

    #[test]
    fn a_dead_letter_needs_its_records_bytes() {
        let bury = |evidence: &mut Evidence, value: &str| {
            evidence.rows.clear();
            evidence.counted = 0;
            let row = Outcome { event_id: None, outcome: "dead_lettered".to_owned(), reason: "bad".to_owned() };
            evidence.record_outcomes.insert((0, 0), row);
            let value =
                r#"{"outcome_id":"raw-events/0/0","outcome":"dead_lettered","reason":"bad"}"#.to_owned() + value;
            let mut letter = evidence.raw[&(0, 0)].clone();
            for header in [("origin", "raw-events/0/0"), ("error-reason", "bad")] {
                letter.headers.push((header.0.to_owned(), Some(header.1.into())));
            }
            if let Some(outcome) = evidence.outcomes.get_mut(&(0, 0)) {
                outcome.value = Some(value.into());
                evidence.objects[1].lines[0].2 = outcome.clone();
            }
            evidence.dead_letters.insert((0, 0), letter);
        };
        assert_eq!(broken(|_, evidence| bury(evidence, "")), [""; 0]);
        let altered = |_: &mut Fates, evidence: &mut Evidence| {
            bury(evidence, "");
            if let Some(letter) = evidence.dead_letters.get_mut(&(0, 0)) {
                letter.value = None;
            }
        };
        assert_eq!(broken(altered), ["I3"]);
    }
}
