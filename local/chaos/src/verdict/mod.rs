//! Checks the invariants I1 to I5 on the evidence and the ledger. Pure. The other invariants are checked in `trial` and
//! `rescoring`.

mod archive;
mod events;
mod findings;
mod letters;
mod minutes;
mod outcomes;

use crate::evidence::{Evidence, OUTCOMES, RAW};
use crate::ledger::SentEvents;

pub use findings::TrialFindings;
pub use letters::all_have_ended;

/// Checks everything.
pub fn judge(sent_events: &SentEvents, evidence: &Evidence) -> TrialFindings {
    let mut findings = TrialFindings {
        events: sent_events.len(),
        acked: sent_events.values().filter(|sent_event| sent_event.acked).count(),
        records: evidence.raw.len(),
        minutes: minutes::by_minute(evidence),
        ..TrialFindings::default()
    };
    events::records_have_outcomes(evidence, &mut findings);
    events::events_have_one_effect(sent_events, evidence, &mut findings);
    outcomes::outcomes_are_published(evidence, &mut findings);
    letters::letters_have_their_bytes(evidence, &mut findings);
    letters::no_good_event_is_dead_lettered(evidence, &mut findings);
    archive::archive_is_whole(RAW, &evidence.raw, evidence, &mut findings);
    archive::archive_is_whole(OUTCOMES, &evidence.outcomes, evidence, &mut findings);
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{Message, Object, OutcomeRow, Row, TopicRecords, in_log};
    use crate::ledger::hash;
    use crate::ledger::{AttemptResult, Entry, add};

    const EVENT: &str = r#"{"id":"a"}"#;

    const MESSAGE: Message = Message { key: None, value: None, headers: Vec::new(), timestamp: 1 };

    /// One event that went through everything.
    fn whole() -> (SentEvents, Evidence) {
        let mut sent_events = SentEvents::new();
        let entry = Entry {
            event_id: "a".to_owned(),
            payload_hash: hash(EVENT.as_bytes()),
            batch: 0,
            attempt: 1,
            result: AttemptResult::Acked,
            partition: Some(0),
            offset: Some(0),
        };
        add(&mut sent_events, entry);
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
            ended_logs: 0,
            outcomes: [((0, 0), outcome)].into(),
            dead_letters: TopicRecords::new(),
            rows: vec![Row {
                event_id: "a".to_owned(),
                payload: EVENT.to_owned(),
                payload_hash: hash(EVENT.as_bytes()),
                status: "valid".to_owned(),
                ip: None,
                user_id: None,
                risk: None,
                received_at: 1,
                stored_at: 2,
            }],
            record_outcomes: [(
                (0, 0),
                OutcomeRow {
                    event_id: Some("a".to_owned()),
                    outcome: "valid".to_owned(),
                    reason: String::new(),
                    origin: (0, 0),
                },
            )]
            .into(),
            counted: 1,
            parked: Vec::new(),
            quarantined: Vec::new(),
        };
        (sent_events, evidence)
    }

    fn broken(change: impl FnOnce(&mut SentEvents, &mut Evidence)) -> Vec<&'static str> {
        let (mut sent_events, mut evidence) = whole();
        change(&mut sent_events, &mut evidence);
        judge(&sent_events, &evidence).violations.into_keys().collect()
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
        assert_eq!(broken(|sent_events, _| drop(sent_events.insert("b".to_owned(), sent_events["a"].clone()))), ["I1"]);
        let rejected = |sent_events: &mut SentEvents, _: &mut Evidence| {
            sent_events.entry("a".to_owned()).or_default().acked = false;
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
        let dead_letter = |evidence: &mut Evidence, value: &str| {
            evidence.rows.clear();
            evidence.counted = 0;
            let (outcome, reason) = ("dead_lettered".to_owned(), "bad".to_owned());
            let row = OutcomeRow { event_id: None, outcome, reason, origin: (0, 0) };
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
        assert_eq!(broken(|_, evidence| dead_letter(evidence, "")), [""; 0]);
        let altered = |_: &mut SentEvents, evidence: &mut Evidence| {
            dead_letter(evidence, "");
            if let Some(letter) = evidence.dead_letters.get_mut(&(0, 0)) {
                letter.value = None;
            }
        };
        assert_eq!(broken(altered), ["I3"]);
        let in_the_archive = |evidence: &mut Evidence, kept: &[Message]| {
            dead_letter(evidence, "");
            let lines = kept.iter().map(|kept| (RAW.to_owned(), (0, 0), kept.clone())).collect();
            evidence.quarantined.push(Object { key: "quarantine/a".to_owned(), lines });
            for letter in evidence.dead_letters.values_mut() {
                letter.value = None;
                letter.headers.insert(0, ("quarantine".to_owned(), Some("quarantine/a".into())));
            }
        };
        let whole = |_: &mut SentEvents, evidence: &mut Evidence| {
            let record = evidence.raw[&(0, 0)].clone();
            in_the_archive(evidence, &[record]);
        };
        assert_eq!(broken(whole), [""; 0]);
        assert_eq!(broken(|_, evidence| in_the_archive(evidence, &[MESSAGE])), ["I3"]);
        assert_eq!(broken(|_, evidence| in_the_archive(evidence, &[])), ["I3"]);
        let good = |_: &mut SentEvents, evidence: &mut Evidence| {
            dead_letter(evidence, "");
            for letter in evidence.dead_letters.values_mut() {
                letter.headers.push(("event-id".to_owned(), Some("e0000007".into())));
            }
        };
        assert_eq!(broken(good), ["I3"]);
    }

    #[test]
    fn each_log_of_a_topic_that_was_made_again_is_checked() {
        // Another record at the same position, a copy of the event.
        let made_again = |evidence: &mut Evidence, without: &str| {
            let copy = Message { headers: vec![("event-id".to_owned(), Some("a".into()))], timestamp: 9, ..MESSAGE };
            let value = r#"{"outcome_id":"raw-events/0/0@1","outcome":"duplicate","reason":""}"#;
            let outcome = Message { value: Some(value.into()), ..evidence.outcomes[&(0, 0)].clone() };
            let row = OutcomeRow { outcome: "duplicate".to_owned(), ..evidence.record_outcomes[&(0, 0)].clone() };
            let object = |topic: &str, offset: i64, message: &Message| Object {
                key: format!("{topic}/{offset:020}-{offset:020}.x1.ndjson.zst"),
                lines: vec![(topic.to_owned(), (0, offset), message.clone())],
            };
            evidence.ended_logs = 1;
            evidence.objects.push(object(OUTCOMES, 1, &outcome));
            if without != "object" {
                evidence.objects.push(object(RAW, 0, &copy));
            }
            if without != "outcome" {
                evidence.outcomes.insert((0, 1), outcome);
            }
            if without != "row" {
                evidence.record_outcomes.insert(in_log((0, 0), 1), row);
            }
            evidence.raw.insert(in_log((0, 0), 1), copy);
        };
        assert_eq!(broken(|_, evidence| made_again(evidence, "")), [""; 0]);
        assert_eq!(broken(|_, evidence| made_again(evidence, "object")), ["I4"]);
        assert_eq!(broken(|_, evidence| made_again(evidence, "outcome")), ["I3", "I4"]);
        assert_eq!(broken(|_, evidence| made_again(evidence, "row")), ["I1", "I3"]);
        let overwritten = |_: &mut SentEvents, evidence: &mut Evidence| {
            made_again(evidence, "");
            evidence.objects.remove(0);
        };
        assert_eq!(broken(overwritten), ["I4"], "the object of the first log");
    }

    #[test]
    fn records_are_counted_by_minute() {
        let (_, mut evidence) = whole();
        let add = |evidence: &mut Evidence, offset: i64, timestamp: i64, outcome: Option<&str>| {
            evidence.raw.insert((0, offset), Message { timestamp, ..MESSAGE });
            if let Some(outcome) = outcome {
                let row = OutcomeRow { outcome: outcome.to_owned(), ..evidence.record_outcomes[&(0, 0)].clone() };
                evidence.record_outcomes.insert((0, offset), row);
            }
        };
        add(&mut evidence, 1, 59_999, Some("duplicate"));
        add(&mut evidence, 2, 180_000, None);
        let lines = ["minute 0: 2 records: duplicate 1, valid 1", "minute 3: 1 records: no outcome 1"];
        assert_eq!(minutes::by_minute(&evidence), lines);
        for minute in 4..90 {
            add(&mut evidence, minute, minute * 60_000, Some("valid"));
        }
        let lines = minutes::by_minute(&evidence);
        assert_eq!((lines.len(), lines[59].as_str()), (60, "minute 89: 1 records: valid 1"), "the last 60");
    }

    #[test]
    fn a_letter_ends_once() {
        let ended = |change: fn(&mut Evidence)| {
            let (_, mut evidence) = whole();
            let letter = Message { headers: vec![("origin".to_owned(), Some("raw-events/0/0".into()))], ..MESSAGE };
            evidence.dead_letters.insert((0, 0), letter);
            change(&mut evidence);
            let mut findings = TrialFindings::default();
            all_have_ended(&evidence, &mut findings);
            findings.violations.into_keys().collect::<Vec<_>>()
        };
        fn park(evidence: &mut Evidence) {
            let key = "parked/topic=raw-events/partition=0/00000000000000000000.a3.ndjson.zst".to_owned();
            evidence.parked.push(key);
        }
        fn forget(evidence: &mut Evidence) {
            evidence.record_outcomes.clear();
        }
        assert_eq!(ended(|_| {}), [""; 0], "stored");
        let parked = |evidence: &mut Evidence| {
            forget(evidence);
            park(evidence);
        };
        assert_eq!(ended(parked), [""; 0], "parked");
        assert_eq!(ended(park), ["I2"], "both");
        assert_eq!(ended(forget), ["I1"], "neither");
    }
}
