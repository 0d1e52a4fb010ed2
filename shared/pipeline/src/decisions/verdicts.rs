//! What is to be recorded about each record, once everything that bears on it is known.

use super::dedup::Standing;
use super::intake::{Batch, Candidate, Intake};
use super::reason;
use crate::ports::{EventRow, RiskScore, Score, ScoreRequest, Verdict, VerdictKind};
use crate::{Outcome, Reason};

/// How a record is to end. Index by index beside the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Store its event, with outcome `valid` or `fraud`; no score means that it is to be scored later.
    Store { outcome: Outcome, risk: Option<RiskScore> },
    /// Record the outcome only.
    Close { outcome: Outcome, reason: Reason },
}

/// The candidates that will be stored, and so are worth a score: neither duplicate nor blocked. Indices of
/// candidates, ascending.
pub fn open(standings: &[Standing], blocked: &[Option<Reason>]) -> Vec<usize> {
    let is_open = |(standing, blocked): (&Standing, &Option<Reason>)| match standing {
        Standing::First | Standing::Redelivered => blocked.is_none(),
        Standing::Duplicate(_) => false,
    };
    standings.iter().zip(blocked).enumerate().filter(|(_, pair)| is_open(*pair)).map(|(index, _)| index).collect()
}

/// What to ask the scorer about the open candidates, in their order.
pub fn score_requests(candidates: &[Candidate<'_>], open: &[usize]) -> Vec<ScoreRequest> {
    let request = |&index: &usize| {
        let candidate = &candidates[index];
        ScoreRequest { event_id: candidate.key.id.clone(), ip: candidate.ip, user_id: candidate.user_id.clone() }
    };
    open.iter().map(request).collect()
}

/// Everything known of a batch's candidates, index by index.
#[derive(Debug)]
pub struct Findings {
    pub standings: Vec<Standing>,
    /// Why a candidate is turned away by the limits; `None` if it is not.
    pub blocked: Vec<Option<Reason>>,
    /// The scores of the [`open`] candidates, in their order; `None` if the scorer could not be asked.
    pub scores: Option<Vec<Score>>,
}

/// How a stored event stands: `fraud` if its score is at or above `fraud_threshold`, else `valid`, also without one.
pub fn standing_of(risk: Option<&RiskScore>, fraud_threshold: u8) -> Outcome {
    if risk.is_some_and(|risk| risk.score >= fraud_threshold) { Outcome::Fraud } else { Outcome::Valid }
}

/// Decides on every record of the batch. An event is `fraud` if its score is at or above `fraud_threshold`.
pub fn decide(batch: &Batch<'_>, findings: Findings, fraud_threshold: u8) -> Vec<Decision> {
    let Findings { standings, blocked, scores } = findings;
    let mut scores = scores.map(Vec::into_iter);
    let mut candidates = standings.into_iter().zip(blocked);
    let mut decision = |intake: &Intake| match intake {
        Intake::Rejected(rejection) => {
            Decision::Close { outcome: Outcome::DeadLettered, reason: rejection.reason.clone() }
        }
        // Candidates are in the order of their records, so the next one is this record's.
        Intake::Event(_) => match candidates.next() {
            Some((Standing::Duplicate(reason), _)) => Decision::Close { outcome: Outcome::Duplicate, reason },
            Some((Standing::First | Standing::Redelivered, Some(reason))) => {
                Decision::Close { outcome: Outcome::Blocked, reason }
            }
            Some((Standing::First | Standing::Redelivered, None)) | None => {
                let risk = scores.as_mut().and_then(Iterator::next).map(RiskScore::from);
                Decision::Store { outcome: standing_of(risk.as_ref(), fraud_threshold), risk }
            }
        },
    };
    batch.intakes().iter().map(&mut decision).collect()
}

/// The decision on one record in the words of the store. Copies the event's fields out of the batch.
pub fn verdict(batch: &Batch<'_>, index: usize, decision: &Decision) -> Verdict {
    let position = batch.record(index).position.clone();
    let close = |outcome: Outcome, reason: &Reason| VerdictKind::Close { outcome, reason: reason.to_string() };
    match (batch.candidate(index), decision) {
        (Ok(candidate), decision) => Verdict {
            position,
            origin: candidate.origin.clone(),
            key: Some(candidate.key.clone()),
            kind: match decision {
                Decision::Store { outcome, risk } => {
                    VerdictKind::Store { outcome: *outcome, row: Box::new(row(candidate, risk.clone())) }
                }
                Decision::Close { outcome, reason } => close(*outcome, reason),
            },
        },
        (Err(rejection), decision) => Verdict {
            position,
            origin: rejection.origin.clone(),
            key: rejection.key.clone(),
            kind: match decision {
                Decision::Close { outcome, reason } => close(*outcome, reason),
                // There is no event to store.
                Decision::Store { .. } => close(Outcome::DeadLettered, &rejection.reason),
            },
        },
    }
}

fn row(candidate: &Candidate<'_>, risk: Option<RiskScore>) -> EventRow {
    EventRow {
        event_type: candidate.event_type.as_ref().to_owned(),
        schema_version: candidate.schema_version,
        received_at: candidate.received_at,
        occurred_at: candidate.occurred_at,
        ip: candidate.ip,
        user_agent: candidate.user_agent.as_deref().map(str::to_owned),
        user_id: candidate.user_id.clone(),
        payload_hash: candidate.payload_hash,
        payload: candidate.data.get().to_owned(),
        risk,
    }
}

/// The decision on a record that the store refuses for good while it takes others: it is at fault itself.
pub fn refused(error_tag: &'static str) -> Decision {
    Decision::Close { outcome: Outcome::DeadLettered, reason: Reason::new(reason::STORE_REFUSED, error_tag) }
}

#[cfg(test)]
mod tests {
    use event::TenantId;
    use event::schema::Registry;

    use super::super::intake::Reader;
    use super::super::samples::record;
    use super::*;
    use crate::Record;

    /// Three events with a record in front that is none.
    fn records() -> Vec<Record> {
        let event = |id: &str| format!(r#"{{"type":"click","id":"{id}","user_id":"u-1","campaign_id":"c"}}"#);
        let mut records = vec![record(1, Some("not json"), &[])];
        records.extend((2..5).map(|offset| record(offset, Some(&event(&format!("e-{offset}"))), &[])));
        records
    }

    fn with_batch(test: impl FnOnce(&Batch<'_>)) {
        let (registry, foreign_tenant) = (Registry::embedded().unwrap(), TenantId::new("kafka").unwrap());
        let records = records();
        let reader = Reader { registry: &registry, foreign_tenant: &foreign_tenant };
        test(&Batch::read(records.iter().map(|record| (record, None)), reader));
    }

    fn score(batch: &Batch<'_>, candidate: usize, risk_score: u8) -> Score {
        let event_id = batch.candidates()[candidate].key.id.clone();
        Score { event_id, risk_score, reasons: Vec::new(), rules_version: "1".to_owned() }
    }

    fn outcomes(decisions: &[Decision]) -> Vec<Outcome> {
        let outcome = |decision: &Decision| match decision {
            Decision::Store { outcome, .. } | Decision::Close { outcome, .. } => *outcome,
        };
        decisions.iter().map(outcome).collect()
    }

    #[test]
    fn an_event_is_fraud_from_the_threshold_on() {
        with_batch(|batch| {
            let findings = Findings {
                standings: vec![Standing::First, Standing::Redelivered, Standing::First],
                blocked: vec![None; 3],
                scores: Some(vec![score(batch, 0, 79), score(batch, 1, 80), score(batch, 2, 100)]),
            };
            let decisions = decide(batch, findings, 80);
            assert_eq!(outcomes(&decisions), [Outcome::DeadLettered, Outcome::Valid, Outcome::Fraud, Outcome::Fraud]);
        });
    }

    #[test]
    fn scores_belong_to_the_open_candidates_only() {
        with_batch(|batch| {
            let duplicate = Standing::Duplicate(Reason::new(reason::ALREADY_CLAIMED, "t/0/1"));
            let standings = vec![duplicate, Standing::First, Standing::First];
            let blocked = vec![None, Some(Reason::new(reason::ADDRESS_RATE, "")), None];
            let open = open(&standings, &blocked);
            assert_eq!(open, [2]);
            let requests = score_requests(batch.candidates(), &open);
            assert_eq!(requests[0].event_id.as_str(), "e-4");
            assert_eq!(requests[0].user_id.as_deref(), Some("u-1"));
            let scores = Some(vec![score(batch, 2, 100)]);
            let decisions = decide(batch, Findings { standings, blocked, scores }, 80);
            assert_eq!(
                outcomes(&decisions),
                [Outcome::DeadLettered, Outcome::Duplicate, Outcome::Blocked, Outcome::Fraud]
            );
        });
    }

    #[test]
    fn without_scores_events_are_stored_to_be_scored_later() {
        with_batch(|batch| {
            let findings = Findings { standings: vec![Standing::First; 3], blocked: vec![None; 3], scores: None };
            let decisions = decide(batch, findings, 0);
            let unscored = Decision::Store { outcome: Outcome::Valid, risk: None };
            assert!(decisions[1..].iter().all(|decision| *decision == unscored));
            let verdict = verdict(batch, 2, &decisions[2]);
            assert_eq!(verdict.position, batch.record(2).position);
            match verdict.kind {
                VerdictKind::Store { row, .. } => {
                    assert_eq!(row.payload, r#"{"type":"click","id":"e-3","user_id":"u-1","campaign_id":"c"}"#);
                }
                VerdictKind::Close { .. } => panic!("the event is to be stored"),
            }
        });
    }
}
