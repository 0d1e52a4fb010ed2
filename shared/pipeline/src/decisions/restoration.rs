//! Restores from a published outcome what was recorded: the ledger entry, and the event's row if it was stored.
//!
//! The result is recorded in the store with the time of the first recording, and gives the same rows: the store is
//! idempotent by position, and the characters that it replaced in a text the first time are already replaced now.

use std::borrow::Cow;
use std::net::IpAddr;

use event::{EventKey, Facts, Origin, Timestamp};

use super::publication::{OutcomeValue, SCORED_LATER};
use crate::ports::{EventPlace, LateScore, LedgerEntry, RiskScore, UnscoredEvent};
use crate::tracked::{Decided, Event, Known, Payload, State, Tracked};
use crate::{Outcome, Position};

/// The parsed value of an outcome record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedOutcome<'a> {
    /// The entry as it was in the ledger. For a late score: the record that stored the event, with the outcome and risk
    /// that it got, and the time of scoring as `recorded_at`.
    pub entry: LedgerEntry,
    /// `None` if the record holds no event, or one of an unknown type.
    pub event_type: Option<Cow<'a, str>>,
    pub effect: Effect<'a>,
}

/// What was recorded along with the ledger entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<'a> {
    /// The event's row, and an increment of its hourly count.
    Stored(Box<Event<'a>>),
    Nothing {
        received_at: Option<Timestamp>,
        /// What statistics keep of the event.
        facts: Facts,
        ip: Option<IpAddr>,
    },
    /// There was no new entry: an unscored row got its score, at the entry's time.
    ScoredLater(Box<LateScore>),
}

/// Why nothing can be restored from an outcome record.
#[derive(Debug, thiserror::Error)]
pub enum RestorationError {
    #[error("not an outcome")]
    Malformed(#[source] serde_json::Error),
    #[error("outcome_id is not <topic>/<partition>/<offset> or <topic>/<partition>/<offset>@<incarnation>")]
    Position,
    /// An older build wrote it; older builds did not publish all columns of the row.
    #[error("the outcome of a stored event lacks {0}")]
    Incomplete(&'static str),
    #[error("the outcome has a tenant without an id, or an id without a tenant")]
    HalfKey,
}

impl<'a> ArchivedOutcome<'a> {
    /// Reads the value of a record on `processed-events`.
    ///
    /// # Errors
    /// If it is not an outcome, or lacks a field that its event's row needs.
    pub fn read(value: &'a [u8]) -> Result<Self, RestorationError> {
        let mut value: OutcomeValue<'a> = serde_json::from_slice(value).map_err(RestorationError::Malformed)?;
        let (position, is_late_score) = match value.outcome_id.strip_suffix(SCORED_LATER) {
            Some(position) => (position, true),
            None => (&*value.outcome_id, false),
        };
        let position: Position = position.parse().map_err(|_| RestorationError::Position)?;
        let key = match (value.tenant.take(), value.id.take()) {
            (Some(tenant), Some(id)) => Some(EventKey { tenant, id }),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(RestorationError::HalfKey),
        };
        let entry = LedgerEntry {
            digest: value.digest.or_else(|| value.origin.digest.filter(|_| is_first_copy(&position, &value.origin))),
            position,
            origin: value.origin.clone(),
            trace_id: value.trace_id,
            key,
            outcome: value.outcome,
            reason: value.reason.as_ref().to_owned(),
            risk: risk(&value),
            recorded_at: value.recorded_at,
        };
        let (event_type, received_at) = (value.event_type.clone(), value.received_at);
        let (facts, ip) = (facts(&value), value.ip);
        let effect = match (is_late_score, entry.outcome) {
            (true, _) => Effect::ScoredLater(Box::new(late_score(&value, &entry)?)),
            (false, Outcome::Valid | Outcome::Fraud) => Effect::Stored(Box::new(event(value, &entry)?)),
            (false, Outcome::Duplicate | Outcome::Blocked | Outcome::DeadLettered) => {
                Effect::Nothing { received_at, facts, ip }
            }
        };
        Ok(ArchivedOutcome { entry, event_type, effect })
    }

    /// The record to give to the store, with the entry's time; `None` for a late score, whose event is already
    /// recorded.
    pub fn record(&self) -> Option<Tracked<'a, Decided>> {
        let LedgerEntry { position, digest, origin, trace_id, key, outcome, reason, risk, recorded_at: _ } =
            self.entry.clone();
        let state = match &self.effect {
            Effect::Stored(event) => State::Open { event: Event::clone(event), found: Decided { outcome, risk } },
            Effect::Nothing { received_at, facts, ip } => {
                let (event_type, received_at, facts) = (self.event_type.clone(), *received_at, facts.clone());
                let known = Known::Partly { key, event_type, received_at, ip: *ip, facts };
                State::Closed { outcome, reason, known }
            }
            Effect::ScoredLater(_) => return None,
        };
        let incarnation = Some(position.incarnation);
        Some(Tracked {
            position: Position { incarnation: 0, ..position },
            digest,
            incarnation,
            origin,
            trace_id,
            state,
        })
    }
}

fn is_first_copy(position: &Position, origin: &Origin) -> bool {
    (position.offset, position.partition, &position.topic) == (origin.offset, origin.partition, &origin.topic)
}

/// Those of an event that was not stored.
fn facts(value: &OutcomeValue<'_>) -> Facts {
    let subject = value.subject.as_deref().and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let fields = value.fields.map(|fields| fields.get().to_owned());
    Facts { fields, subject: subject.map(u64::cast_signed), ..Facts::NONE }
}

fn risk(value: &OutcomeValue<'_>) -> Option<RiskScore> {
    Some(RiskScore {
        score: value.risk_score?,
        reasons: value.risk_reasons.as_deref().unwrap_or_default().to_vec(),
        rules_version: value.rules_version.as_deref().unwrap_or_default().into(),
    })
}

fn late_score(value: &OutcomeValue<'_>, entry: &LedgerEntry) -> Result<LateScore, RestorationError> {
    let lacks = RestorationError::Incomplete;
    let event = UnscoredEvent {
        place: EventPlace {
            received_at: value.received_at.ok_or(lacks("received_at"))?,
            key: entry.key.clone().ok_or(lacks("id"))?,
        },
        event_type: value.event_type.as_deref().ok_or(lacks("type"))?.to_owned(),
        ip: value.ip,
        user_id: value.user_id.as_deref().map(str::to_owned),
        origin: entry.origin.clone(),
        position: entry.position.clone(),
    };
    Ok(LateScore { event, risk: entry.risk.clone().ok_or(lacks("risk_score"))?, outcome: entry.outcome })
}

fn event<'a>(value: OutcomeValue<'a>, entry: &LedgerEntry) -> Result<Event<'a>, RestorationError> {
    let lacks = RestorationError::Incomplete;
    let key = entry.key.clone().ok_or(lacks("id"))?;
    let payload = value.data.ok_or(lacks("data"))?;
    let id_source = value.id_source.ok_or(lacks("id_source"))?;
    let event_type = value.event_type.ok_or(lacks("type"))?;
    Ok(Event {
        facts: Facts::of_data(&event_type, payload.get()),
        event_type,
        schema_version: value.schema.ok_or(lacks("schema"))?,
        received_at: value.received_at.ok_or(lacks("received_at"))?,
        undated: false,
        occurred_at: value.occurred_at,
        ip: value.ip,
        user_agent: value.user_agent,
        user_id: value.user_id,
        payload_hash: id_source.payload_hash(&key.id, payload),
        payload: Payload(Cow::Borrowed(payload)),
        id_source,
        key,
    })
}

#[cfg(test)]
mod tests {
    use event::TenantId;
    use event::schema::Registry;

    use super::super::intake::Reader;
    use super::super::publication;
    use super::super::samples::record;
    use super::*;
    use crate::tracked::Read;
    use crate::{Reason, ReasonTag, Record};

    const ENVELOPE: &str = r#"{"envelope":1,"id":"a \"b\"","id_source":"client","type":"click","schema":1,"tenant":"acme","received_at":"2026-11-20T18:02:00.000Z","occurred_at":"2026-11-20T18:01:00.000Z","ip":"203.0.113.7","user_agent":"a \"curl\" é","data":{ "type":"click" , "id":"a","user_id":"ü\n","campaign_id":"c"}}"#;
    const FOREIGN: &str = r#" {"type":"click", "user_id":"u","campaign_id":"c"} "#;

    fn at() -> Timestamp {
        Timestamp::parse("2026-11-20T18:02:03.004Z").unwrap()
    }

    /// The processor's decision: store an event with its score, or close its record.
    type Decision = Result<(Outcome, Option<RiskScore>), (Outcome, Reason)>;

    /// The record that the processor stored, the entry that the ledger got, and the outcome that was published.
    fn processed(record: &Record, decision: Decision) -> (Tracked<'_, Decided>, LedgerEntry, Vec<u8>) {
        let registry = Registry::embedded().unwrap();
        let foreign_tenant = TenantId::new("kafka").unwrap();
        let reader = Reader { registry: &registry, foreign_tenant: &foreign_tenant, now: Timestamp::EPOCH };
        let mut read = reader.read(record);
        if let Err((outcome, reason)) = &decision {
            read.state = match read.state {
                // The reason found by reading the record does not matter here.
                State::Closed { known, .. } => State::Closed { outcome: *outcome, reason: reason.to_string(), known },
                open => open,
            };
            read.close(*outcome, reason);
        }
        let (outcome, reason, risk) = match decision {
            Ok((outcome, risk)) => (outcome, String::new(), risk),
            Err((outcome, reason)) => (outcome, reason.to_string(), None),
        };
        let decided = read.advance(|_, Read| Decided { outcome, risk: risk.clone() });
        let (position, digest) = (decided.position.clone(), decided.digest);
        let (origin, key) = (decided.origin.clone(), decided.key().cloned());
        let trace_id = decided.trace_id;
        let entry = LedgerEntry { position, digest, origin, trace_id, key, outcome, reason, risk, recorded_at: at() };
        let outcome = publication::OutcomeWriter::new(&[]).outcome(&decided, &entry, None).unwrap();
        (decided, entry, outcome.value.unwrap().to_vec())
    }

    fn store(outcome: Outcome, risk: Option<RiskScore>) -> Decision {
        Ok((outcome, risk))
    }

    fn close(outcome: Outcome, tag: ReasonTag, detail: &str) -> Decision {
        Err((outcome, Reason::new(tag, detail)))
    }

    /// What the store uses of a record: everything of an open one, and the key, outcome and reason of a closed one.
    fn recorded<'r>(record: &'r Tracked<'_, Decided>) -> (Option<&'r EventKey>, Result<String, (Outcome, &'r str)>) {
        let recorded = match &record.state {
            State::Open { event, found } => Ok(format!("{event:?} {found:?}")),
            State::Closed { outcome, reason, .. } => Err((*outcome, reason.as_str())),
        };
        (record.key(), recorded)
    }

    #[test]
    fn an_outcome_gives_back_the_verdict_and_the_entry() {
        let risk = |score, reasons: &[&str]| RiskScore {
            score,
            reasons: reasons.iter().map(|r| (*r).into()).collect(),
            rules_version: "7".into(),
        };
        let violation = ENVELOPE.replace(r#""user_id":"ü\n""#, r#""user_id":7"#);
        let redriven = [("origin", "raw-events/2/9"), ("origin-timestamp", "77")];
        let cases = [
            (record(5, Some(ENVELOPE), &[]), store(Outcome::Valid, None)),
            (record(5, Some(ENVELOPE), &[]), store(Outcome::Valid, Some(risk(0, &[])))),
            (
                record(5, Some(ENVELOPE), &redriven),
                store(Outcome::Fraud, Some(risk(100, &["private-range", "odd \"one\""]))),
            ),
            // The id of this event is its fingerprint, from which the payload hash is also made.
            (record(6, Some(FOREIGN), &redriven), store(Outcome::Valid, None)),
            (record(5, Some(ENVELOPE), &[]), close(Outcome::Duplicate, ReasonTag::AlreadyClaimed, "raw-events/0/1")),
            (record(5, Some(ENVELOPE), &[]), close(Outcome::Blocked, ReasonTag::AddressRate, "")),
            (
                record(5, Some(&violation), &[]),
                close(Outcome::DeadLettered, ReasonTag::SchemaViolation, "/user_id \"breaks\""),
            ),
            (record(5, Some("not json"), &[]), close(Outcome::DeadLettered, ReasonTag::MalformedJson, "\u{fffd}")),
            (record(5, None, &[]), close(Outcome::DeadLettered, ReasonTag::Tombstone, "")),
        ];
        for (record, decision) in cases {
            let (stored, entry, value) = processed(&record, decision);
            let restored = ArchivedOutcome::read(&value).unwrap();
            assert_eq!(restored.entry, entry);
            let record = restored.record().unwrap();
            assert_eq!(record.incarnation, Some(0));
            let place = |record: &Tracked<'_, Decided>| (record.position.clone(), record.digest, record.origin.clone());
            assert_eq!(place(&record), place(&stored));
            assert_eq!(recorded(&record), recorded(&stored));
        }
    }

    #[test]
    fn a_late_score_is_not_recorded_again() {
        let risk = RiskScore { score: 100, reasons: vec![], rules_version: "7".into() };
        let record = record(5, Some(ENVELOPE), &[]);
        let (_, entry, value) = processed(&record, store(Outcome::Fraud, Some(risk)));
        let value = String::from_utf8(value)
            .unwrap()
            .replace("raw-events/0/5\",\"outcome\"", "raw-events/0/5#scored\",\"outcome\"");
        let late = ArchivedOutcome::read(value.as_bytes()).unwrap();
        assert_eq!((late.record(), &late.entry), (None, &entry));
        let Effect::ScoredLater(score) = late.effect else { panic!("{:?}", late.effect) };
        assert_eq!((Some(score.risk), score.outcome), (entry.risk, Outcome::Fraud));
        assert_eq!((score.event.position, score.event.origin), (entry.position, entry.origin));
        assert_eq!(Some(score.event.place.key), entry.key);
        assert_eq!(score.event.place.received_at.to_string(), "2026-11-20T18:02:00.000Z");
        assert_eq!(score.event.event_type, "click");
    }

    #[test]
    fn a_record_is_restored_in_its_incarnation() {
        let record = record(5, Some(ENVELOPE), &[]);
        let (stored, _, value) = processed(&record, store(Outcome::Valid, None));
        let value = String::from_utf8(value).unwrap().replace("raw-events/0/5\"", "raw-events/0/5@2\"");
        let restored = ArchivedOutcome::read(value.as_bytes()).unwrap();
        assert_eq!(restored.entry.position, stored.position.clone().in_incarnation(2));
        let record = restored.record().unwrap();
        assert_eq!((&record.position, record.incarnation), (&stored.position, Some(2)));
    }

    #[test]
    fn what_cannot_be_restored_from_is_an_error() {
        let record = record(5, Some(ENVELOPE), &[]);
        let (_, _, value) = processed(&record, store(Outcome::Valid, None));
        let value = String::from_utf8(value).unwrap();
        let refused = |from: &str, to: &str| {
            assert!(value.contains(from), "{from} is not in {value}");
            ArchivedOutcome::read(value.replace(from, to).as_bytes()).unwrap_err().to_string()
        };
        assert_eq!(refused("{", ""), "not an outcome");
        assert_eq!(refused("\"valid\"", "\"splendid\""), "not an outcome");
        assert_eq!(
            refused("raw-events/0/5\",\"outcome\"", "five\",\"outcome\""),
            RestorationError::Position.to_string()
        );
        assert_eq!(refused("\"tenant\"", "\"owner\""), RestorationError::HalfKey.to_string());
        for (field, name) in
            [("schema", "schema"), ("id_source", "id_source"), ("data", "data"), ("received_at", "received_at")]
        {
            assert_eq!(
                refused(&format!("\"{field}\""), "\"x\""),
                format!("the outcome of a stored event lacks {name}")
            );
        }
    }
}
