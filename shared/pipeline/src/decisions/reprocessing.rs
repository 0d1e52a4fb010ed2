//! What is decided about records once more, under other rules.
//!
//! Only the reading and the score are made anew. Who was first and who was over the limit are questions about the time
//! at which records came, and their answers stay.

use std::collections::HashMap;

use event::Timestamp;

use super::intake::Batch;
use super::verdicts::standing_of;
use crate::Outcome;
use crate::ports::{LedgerEntry, RiskScore, Score};

/// Whether a first outcome stays, whatever the rules.
fn stays(first: Option<&LedgerEntry>) -> bool {
    match first.map(|first| first.outcome) {
        Some(Outcome::Duplicate | Outcome::Blocked) => true,
        Some(Outcome::Valid | Outcome::Fraud | Outcome::DeadLettered) | None => false,
    }
}

/// The candidates that are to be scored, ascending. `firsts` holds how each record of the batch ended the first time.
pub fn open(batch: &Batch<'_>, firsts: &[Option<LedgerEntry>]) -> Vec<usize> {
    let first = |record: usize| firsts.get(record).and_then(Option::as_ref);
    let candidates = batch.candidates().iter().enumerate();
    candidates.filter(|(_, candidate)| !stays(first(candidate.record))).map(|(index, _)| index).collect()
}

/// How each record of the batch ends now, in their order. `scores` are those of the [`open`] candidates, in their order.
pub fn decide(
    batch: &Batch<'_>,
    firsts: &[Option<LedgerEntry>],
    scores: Vec<Score>,
    fraud_threshold: u8,
    now: Timestamp,
) -> Vec<LedgerEntry> {
    let open = open(batch, firsts).into_iter().map(|candidate| batch.candidates()[candidate].record);
    let mut scores: HashMap<usize, Score> = open.zip(scores).collect();
    let entry = |index: usize| {
        let position = batch.record(index).position.clone();
        let (origin, key, outcome, reason, risk) = match (batch.candidate(index), scores.remove(&index)) {
            (Err(rejection), _) => {
                let reason = rejection.reason.to_string();
                (rejection.origin.clone(), rejection.key.clone(), Outcome::DeadLettered, reason, None)
            }
            (Ok(candidate), Some(score)) => {
                let risk = RiskScore::from(score);
                let outcome = standing_of(Some(&risk), fraud_threshold);
                (candidate.origin.clone(), Some(candidate.key.clone()), outcome, String::new(), Some(risk))
            }
            (Ok(candidate), None) => {
                let first = firsts.get(index).and_then(Option::as_ref);
                // Without a first outcome there would be a score; the processor, too, stores what it cannot score.
                let (outcome, reason) =
                    first.map_or((Outcome::Valid, String::new()), |first| (first.outcome, first.reason.clone()));
                (candidate.origin.clone(), Some(candidate.key.clone()), outcome, reason, None)
            }
        };
        LedgerEntry { position, origin, key, outcome, reason, risk, recorded_at: now }
    };
    (0..batch.len()).map(entry).collect()
}

/// What a reprocessing changed about a record, `valid -> fraud`; also `valid -> valid` if nothing, and `unseen -> …` of a
/// record that the ledger does not know.
pub fn change(first: Option<&LedgerEntry>, second: &LedgerEntry) -> String {
    format!("{} -> {}", first.map_or("unseen", |first| first.outcome.as_str()), second.outcome)
}

#[cfg(test)]
mod tests {
    use event::TenantId;
    use event::schema::Registry;

    use super::super::intake::Reader;
    use super::super::samples::record;
    use super::super::verdicts::score_requests;
    use super::*;
    use crate::Record;
    use crate::ports::ScoreRequest;

    const NOW: Timestamp = Timestamp::from_millis(9);

    fn first(record: &Record, outcome: Outcome, reason: &str) -> Option<LedgerEntry> {
        Some(LedgerEntry {
            position: record.position.clone(),
            origin: record.origin(),
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
            first(&records[4], Outcome::DeadLettered, "unknown_type"),
            None,
            first(&records[6], Outcome::Valid, ""),
        ];
        let registry = Registry::embedded().unwrap();
        let tenant = TenantId::new("kafka").unwrap();
        let reader = Reader { registry: &registry, foreign_tenant: &tenant };
        let batch = Batch::read(records.iter().map(|record| (record, None)), reader);

        let open = open(&batch, &firsts);
        let asked = score_requests(batch.candidates(), &open);
        let ids: Vec<&str> = asked.iter().map(|request| request.event_id.as_str()).collect();
        assert_eq!(ids, ["valid", "fraud", "dead", "unseen"]);
        let score = |(request, risk_score): (&ScoreRequest, u8)| Score {
            event_id: request.event_id.clone(),
            risk_score,
            reasons: vec![],
            rules_version: "2".into(),
        };
        let scores = asked.iter().zip([80, 79, 0, 100]).map(score).collect();
        let seconds = decide(&batch, &firsts, scores, 80, NOW);
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
        assert!(seconds[6].reason.starts_with("malformed_json"), "{}", seconds[6].reason);
        assert_eq!(seconds[6].risk, None);
    }
}
