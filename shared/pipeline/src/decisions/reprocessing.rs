//! Decides on records again, under other rules.
//!
//! Records are read and scored again. Which record was first and which address was over its limit depend on when the
//! records came, so those decisions stay.

use event::Timestamp;

use crate::ports::LedgerEntry;
use crate::tracked::{Admitted, Decided, Read, State, Tracked};
use crate::{Outcome, WrongNumberOfAnswers};

/// Prepares the records for the scorer. `firsts` holds the first outcome of each; a record that was a duplicate or
/// blocked is closed with that outcome again, whatever the rules.
///
/// # Errors
/// If `firsts` and the records differ in number.
pub fn admit<'a>(
    records: Vec<Tracked<'a, Read>>,
    firsts: &[Option<LedgerEntry>],
) -> Result<Vec<Tracked<'a, Admitted>>, WrongNumberOfAnswers> {
    WrongNumberOfAnswers::check(records.len(), firsts.len())?;
    let admit = |(mut record, first): (Tracked<'a, Read>, &Option<LedgerEntry>)| {
        if let Some(LedgerEntry { outcome: outcome @ (Outcome::Duplicate | Outcome::Blocked), reason, .. }) = first {
            record.close(*outcome, reason);
        }
        record.advance(|_, Read| Admitted)
    };
    Ok(records.into_iter().zip(firsts).map(admit).collect())
}

/// How a record ends now. `first` is its entry in the ledger.
pub fn entry(record: Tracked<'_, Decided>, first: Option<&LedgerEntry>, now: Timestamp) -> LedgerEntry {
    let key = record.key().cloned();
    let Tracked { position, digest, incarnation: _, origin, trace_id, state } = record;
    let (outcome, reason, risk) = match state {
        State::Open { found: Decided { outcome, risk }, .. } => (outcome, String::new(), risk),
        State::Closed { outcome, reason, .. } => (outcome, reason, None),
    };
    let position = first.map_or(position, |first| first.position.clone());
    LedgerEntry { position, digest, origin, trace_id, key, outcome, reason, risk, recorded_at: now }
}

/// The change that a reprocessing makes to a record, such as `valid -> fraud`; `valid -> valid` if there is none, and
/// `unseen -> …` for a record that the ledger does not know.
pub fn change(first: Option<&LedgerEntry>, second: &LedgerEntry) -> String {
    format!("{} -> {}", first.map_or("unseen", |first| first.outcome.as_str()), second.outcome)
}

#[cfg(test)]
mod tests {
    use event::TenantId;
    use event::schema::Registry;

    use super::super::intake::Reader;
    use super::super::samples::record;
    use super::super::verdicts::{ScorePlan, decide};
    use super::*;
    use crate::Record;
    use crate::ports::{Score, ScoreRequest};

    const NOW: Timestamp = Timestamp::from_millis(9);

    fn first(record: &Record, outcome: Outcome, reason: &str) -> Option<LedgerEntry> {
        Some(LedgerEntry {
            position: record.position.clone(),
            digest: record.digest(),
            origin: record.origin(record.digest()),
            trace_id: None,
            key: None,
            outcome,
            reason: reason.into(),
            risk: None,
            recorded_at: Timestamp::EPOCH,
        })
    }

    #[test]
    fn limits_and_claims_stay_and_the_rest_is_decided_anew() {
        let event = |id: &str| format!(r#"{{"type":"click","id":"{id}","user_id":"u","campaign_id":"c"}}"#);
        let values = ["valid", "fraud", "duplicate", "blocked", "dead", "unseen"].map(event);
        let mut records: Vec<Record> =
            (1..).zip(&values).map(|(offset, value)| record(offset, Some(value), &[])).collect();
        records.push(record(7, Some("no json"), &[]));
        let firsts = [
            first(&records[0], Outcome::Valid, ""),
            first(&records[1], Outcome::Fraud, ""),
            first(&records[2], Outcome::Duplicate, "already-claimed: raw-events/0/0"),
            first(&records[3], Outcome::Blocked, "address-rate"),
            first(&records[4], Outcome::DeadLettered, "unknown-type"),
            None,
            first(&records[6], Outcome::Valid, ""),
        ];
        let registry = Registry::embedded().unwrap();
        let tenant = TenantId::new("kafka").unwrap();
        let reader = Reader { registry: &registry, foreign_tenant: &tenant, now: Timestamp::EPOCH };
        let admitted = admit(reader.read_all(&records), &firsts).unwrap();

        let asked = ScorePlan::new(&admitted).requests;
        let ids: Vec<&str> = asked.iter().map(|request| request.event_id.as_str()).collect();
        assert_eq!(ids, ["valid", "fraud", "dead", "unseen"]);
        let score = |(request, risk_score): (&ScoreRequest, u8)| Score {
            event_id: request.event_id.clone(),
            risk_score,
            reasons: vec![],
            rules_version: "2".into(),
        };
        let scores = asked.iter().zip([80, 79, 0, 100]).map(score).collect();
        let decided = decide(admitted, Some(scores), 80).unwrap();
        let seconds: Vec<LedgerEntry> =
            decided.into_iter().zip(&firsts).map(|(record, first)| entry(record, first.as_ref(), NOW)).collect();
        let changes: Vec<String> =
            firsts.iter().zip(&seconds).map(|(first, second)| change(first.as_ref(), second)).collect();
        assert_eq!(
            changes,
            [
                "valid -> fraud",
                "fraud -> valid",
                "duplicate -> duplicate",
                "blocked -> blocked",
                "dead_lettered -> valid",
                "unseen -> fraud",
                "valid -> dead_lettered",
            ]
        );
        assert_eq!(seconds[2].reason, "already-claimed: raw-events/0/0");
        assert_eq!((seconds[0].risk.as_ref().unwrap().score, seconds[0].recorded_at), (80, NOW));
        assert!(seconds[6].reason.starts_with("malformed-json"), "{}", seconds[6].reason);
        assert_eq!(seconds[6].risk, None);
    }
}
