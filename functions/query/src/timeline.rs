//! The timeline of an event: everything known about it, in the order in which it happened. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use event::{EventId, Origin, TimeDoubt, Timestamp};
use pipeline::ports::{History, LedgerEntry, LetterStep, Mark, MarkState, RiskScore, StoredEvent};
use pipeline::{Outcome, Position, TraceId};
use serde::Serialize;
use utoipa::ToSchema;

/// The answer to a query about an event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventTimeline)]
pub struct Timeline {
    #[schema(value_type = String)]
    pub id: EventId,
    /// The event's current outcome: from its latest row in `events`, or else from the last of its records that is not a
    /// duplicate.
    #[schema(schema_with = crate::schemas::outcome)]
    pub status: Outcome,
    /// The record of the client's receipt, if one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Receipt)]
    pub receipt: Option<Receipt>,
    pub timeline: Vec<TimelineStep>,
    /// What is missing in the timeline.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub incomplete: Vec<Missing>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReceiptState)]
pub struct Receipt {
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String)]
    pub record: Position,
    pub processed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// There are more records than the timeline shows.
    Records,
    /// It is not known for all letters whether they were redriven.
    Redrives,
}

/// Records are `<topic>/<partition>/<offset>`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum TimelineStep {
    /// A copy of the event that a client sent is in Kafka. The time is known only if the event was stored.
    Accepted {
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = String, format = DateTime)]
        at: Option<Timestamp>,
        #[serde(serialize_with = "as_text")]
        #[schema(value_type = String)]
        record: Position,
    },
    /// A record reached its outcome. One whose origin is another record is a redriven or replayed copy.
    Recorded {
        #[schema(value_type = String, format = DateTime)]
        at: Timestamp,
        #[serde(serialize_with = "as_text")]
        #[schema(value_type = String)]
        record: Position,
        #[schema(value_type = String)]
        origin: Origin,
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = String)]
        trace_id: Option<TraceId>,
        #[schema(schema_with = crate::schemas::outcome)]
        outcome: Outcome,
        #[serde(skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// The event's row was stored.
    Stored {
        #[schema(value_type = String, format = DateTime)]
        at: Timestamp,
        #[schema(value_type = String)]
        origin: Origin,
        /// Of the record that stored it.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = String)]
        trace_id: Option<TraceId>,
        #[serde(rename = "type")]
        event_type: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = String, format = DateTime)]
        occurred_at: Option<Timestamp>,
        /// Why `occurred_at` is hardly true; absent if it is not doubted.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(schema_with = lambda::openapi::time_doubt)]
        time_doubt: Option<TimeDoubt>,
    },
    /// The row got its score, at once or later.
    Scored {
        #[schema(value_type = String, format = DateTime)]
        at: Timestamp,
        #[schema(value_type = String)]
        origin: Origin,
        #[schema(schema_with = crate::schemas::outcome)]
        outcome: Outcome,
        risk: Risk,
    },
    /// A redriver sent or parked a dead letter of the origin.
    Redrive {
        #[schema(value_type = String, format = DateTime)]
        at: Timestamp,
        #[schema(value_type = String)]
        origin: Origin,
        #[schema(schema_with = crate::schemas::letter_step)]
        action: LetterStep,
        /// How often the letter had been redriven before.
        attempt: u32,
        state: RedriveState,
        /// The position of the redriven copy.
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_optional_text")]
        #[schema(value_type = String)]
        record: Option<Position>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RedriveState {
    UnderWay,
    Done,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Risk {
    pub score: u8,
    pub reasons: Vec<String>,
    #[schema(value_type = String)]
    pub rules_version: Arc<str>,
}

impl From<RiskScore> for Risk {
    fn from(RiskScore { score, reasons, rules_version }: RiskScore) -> Self {
        Risk { score, reasons, rules_version }
    }
}

fn as_text<S: serde::Serializer>(position: &Position, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(position)
}

fn as_optional_text<S: serde::Serializer>(position: &Option<Position>, serializer: S) -> Result<S::Ok, S::Error> {
    match position {
        Some(position) => as_text(position, serializer),
        None => serializer.serialize_none(),
    }
}

/// The origins whose letters may have been redriven: those of dead letters, of copies, and of rows whose own record
/// stored nothing or is not known.
pub fn redriven_origins(history: &History) -> BTreeSet<Origin> {
    let of_records = history
        .records
        .iter()
        .filter(|entry| entry.outcome == Outcome::DeadLettered || !entry.is_first_copy())
        .map(|entry| &entry.origin);
    let has_record = |stored: &StoredEvent| {
        history.records.iter().any(|entry| entry.outcome.is_stored() && entry.as_origin().is_same(&stored.origin))
    };
    let of_rows = history.stored.iter().filter(|stored| !has_record(stored)).map(|stored| &stored.origin);
    of_records.chain(of_rows).cloned().collect()
}

/// `None` if no record has the id.
pub fn status(history: &History) -> Option<Outcome> {
    let of_rows = history.stored.last().map(|stored| stored.outcome);
    let mut of_records = history.records.iter().rev().map(|entry| entry.outcome);
    of_rows.or_else(|| of_records.clone().find(|outcome| *outcome != Outcome::Duplicate)).or_else(|| of_records.next())
}

/// All steps by time. Steps of the same millisecond are in causal order.
pub fn steps(history: History, marks: Vec<Mark>) -> Vec<TimelineStep> {
    let mut steps: Vec<(Timestamp, TimelineStep)> = Vec::new();
    for entry in &history.records {
        if entry.is_first_copy() {
            let row = history.stored.iter().find(|stored| stored.origin.is_same(&entry.origin));
            let at = row.map(|stored| stored.received_at);
            steps
                .push((at.unwrap_or(entry.recorded_at), TimelineStep::Accepted { at, record: entry.position.clone() }));
        }
    }
    for stored in &history.stored {
        if !history.records.iter().any(|entry| entry.as_origin().is_same(&stored.origin)) {
            let at = stored.received_at;
            let Origin { topic, partition, offset, digest: _ } = stored.origin.clone();
            let record = Position::new(topic, partition, offset);
            steps.push((at, TimelineStep::Accepted { at: Some(at), record }));
        }
    }
    steps.extend(history.records.into_iter().map(|entry| (entry.recorded_at, recorded(entry))));
    for stored in history.stored {
        let StoredEvent { outcome, event_type, origin, trace_id, occurred_at, stored_at, risk, scored_at, received_at } =
            stored;
        let scored = risk.zip(scored_at).map(|(risk, at)| {
            let risk = Risk::from(risk);
            (at, TimelineStep::Scored { at, origin: origin.clone(), outcome, risk })
        });
        let time_doubt = occurred_at.and_then(|at| at.doubt(received_at));
        let step = TimelineStep::Stored { at: stored_at, origin, trace_id, event_type, occurred_at, time_doubt };
        steps.push((stored_at, step));
        steps.extend(scored);
    }
    steps.extend(marks.into_iter().map(|mark| (mark.at, redrive(mark))));
    steps.sort_by_key(|(at, _)| *at);
    steps.into_iter().map(|(_, step)| step).collect()
}

fn recorded(entry: LedgerEntry) -> TimelineStep {
    let LedgerEntry { position, digest: _, origin, trace_id, outcome, reason, recorded_at, key: _, risk: _ } = entry;
    TimelineStep::Recorded { at: recorded_at, record: position, origin, trace_id, outcome, reason }
}

fn redrive(mark: Mark) -> TimelineStep {
    let Mark { key, at, state, run: _ } = mark;
    let (state, record) = match state {
        MarkState::UnderWay { until: _ } => (RedriveState::UnderWay, None),
        MarkState::Done { position } => (RedriveState::Done, position),
    };
    TimelineStep::Redrive {
        at,
        origin: key.letter.origin,
        action: key.step,
        attempt: key.letter.attempt,
        state,
        record,
    }
}

#[cfg(test)]
mod tests {
    use pipeline::ports::{LetterId, MarkKey};

    use super::*;

    fn entry(offset: i64, origin: i64, outcome: Outcome, at: i64) -> LedgerEntry {
        LedgerEntry {
            position: Position::new("raw-events", 0, offset),
            digest: None,
            origin: Origin::new("raw-events", 0, origin),
            trace_id: None,
            key: None,
            outcome,
            reason: String::new(),
            risk: None,
            recorded_at: Timestamp::from_millis(at),
        }
    }

    fn stored(origin: i64, outcome: Outcome) -> StoredEvent {
        StoredEvent {
            outcome,
            event_type: "click".into(),
            origin: Origin::new("raw-events", 0, origin),
            trace_id: None,
            received_at: Timestamp::from_millis(10),
            occurred_at: None,
            stored_at: Timestamp::from_millis(50),
            risk: Some(RiskScore { score: 7, reasons: vec![], rules_version: "1".into() }),
            scored_at: Some(Timestamp::from_millis(90)),
        }
    }

    fn origins(history: &History) -> Vec<i64> {
        redriven_origins(history).into_iter().map(|origin| origin.offset).collect()
    }

    #[test]
    fn only_dead_letters_copies_and_rows_without_their_record_are_asked_about() {
        let plain = History {
            stored: vec![stored(0, Outcome::Valid)],
            records: vec![entry(0, 0, Outcome::Valid, 50), entry(1, 1, Outcome::Duplicate, 60)],
            ..History::default()
        };
        assert_eq!(origins(&plain), [0_i64; 0], "the common case asks nothing");
        let letter = History { records: vec![entry(2, 2, Outcome::DeadLettered, 1)], ..History::default() };
        assert_eq!(origins(&letter), [2]);
        let copy = History { records: vec![entry(5, 3, Outcome::Blocked, 1)], ..History::default() };
        assert_eq!(origins(&copy), [3]);
        let row = History { stored: vec![stored(4, Outcome::Valid)], ..History::default() };
        assert_eq!(origins(&row), [4]);
    }

    #[test]
    fn the_row_has_the_last_word_on_the_status() {
        let records = vec![entry(0, 0, Outcome::DeadLettered, 1), entry(1, 1, Outcome::Duplicate, 2)];
        let mut history = History { records, ..History::default() };
        assert_eq!(status(&history), Some(Outcome::DeadLettered));
        history.stored = vec![stored(0, Outcome::Valid), stored(9, Outcome::Fraud)];
        assert_eq!(status(&history), Some(Outcome::Fraud));
        let copies = History { records: vec![entry(1, 1, Outcome::Duplicate, 2)], ..History::default() };
        assert_eq!(status(&copies), Some(Outcome::Duplicate));
        assert_eq!(status(&History::default()), None);
    }

    #[test]
    fn a_redriven_letter_is_told_in_order() {
        let mark = Mark {
            key: MarkKey {
                letter: LetterId { origin: Origin::new("raw-events", 0, 0), attempt: 0 },
                step: LetterStep::Send,
            },
            run: "r".into(),
            at: Timestamp::from_millis(40),
            state: MarkState::Done { position: Some(Position::new("raw-events", 0, 8)) },
        };
        let history = History {
            stored: vec![stored(0, Outcome::Valid)],
            records: vec![entry(0, 0, Outcome::DeadLettered, 20), entry(8, 0, Outcome::Valid, 50)],
            ..History::default()
        };
        let names: Vec<String> = steps(history, vec![mark])
            .iter()
            .map(|step| match step {
                TimelineStep::Accepted { record, .. } => format!("accepted {record}"),
                TimelineStep::Recorded { record, outcome, .. } => format!("{outcome} {record}"),
                TimelineStep::Stored { origin, .. } => format!("stored {origin}"),
                TimelineStep::Scored { risk, .. } => format!("scored {}", risk.score),
                TimelineStep::Redrive { action, state, record, .. } => {
                    format!("{action} {state:?} {}", record.as_ref().unwrap())
                }
            })
            .collect();
        let expected = [
            "accepted raw-events/0/0",
            "dead_lettered raw-events/0/0",
            "send Done raw-events/0/8",
            "valid raw-events/0/8",
            "stored raw-events/0/0",
            "scored 7",
        ];
        assert_eq!(names, expected);
    }
}
