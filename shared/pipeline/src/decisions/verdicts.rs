//! Decides what to record about each record, once the results of all steps are known.

use crate::ports::{RiskScore, Score, ScoreRequest};
use crate::tracked::{Admitted, Decided, Tracked};
use crate::{Outcome, Reason, ReasonTag, WrongNumberOfAnswers};

/// What to ask the scorer about the open records of a batch, in their order.
///
/// A record's score depends on the record alone, so it may be asked for while another step still decides whether the
/// record stays open; see [`ScorePlan::of_open`].
#[derive(Debug)]
pub struct ScorePlan {
    pub requests: Vec<ScoreRequest>,
    /// For each request, its record's place in the batch.
    places: Vec<usize>,
}

impl ScorePlan {
    pub fn new<S>(records: &[Tracked<'_, S>]) -> Self {
        let open = records.iter().enumerate().filter_map(|(place, record)| Some((place, record.open()?.0)));
        let (places, requests) = open
            .map(|(place, event)| {
                let user_id = event.user_id.as_deref().map(str::to_owned);
                (place, ScoreRequest { event_id: event.key.id.clone(), ip: event.ip, user_id })
            })
            .unzip();
        ScorePlan { requests, places }
    }

    /// The scores of those records that are still open, from the scores of all that were. `records` are the same
    /// records in the same order.
    ///
    /// # Errors
    /// If the number of scores differs from the number of requests.
    pub fn of_open<S>(
        &self,
        records: &[Tracked<'_, S>],
        scores: Vec<Score>,
    ) -> Result<Vec<Score>, WrongNumberOfAnswers> {
        WrongNumberOfAnswers::check(self.requests.len(), scores.len())?;
        let is_open = |place: &usize| records.get(*place).is_some_and(|record| record.open().is_some());
        let scores = self.places.iter().zip(scores).filter(|(place, _)| is_open(place)).map(|(_, score)| score);
        Ok(scores.collect())
    }
}

/// The outcome of an event that is stored: `fraud` if its score is at or above `fraud_threshold`, else `valid`, also if
/// it has no score.
pub fn stored_outcome(risk: Option<&RiskScore>, fraud_threshold: u8) -> Outcome {
    if risk.is_some_and(|risk| risk.score >= fraud_threshold) { Outcome::Fraud } else { Outcome::Valid }
}

/// Decides on every record of the batch. `scores` are those of the open records, in their order, or `None` if the
/// scorer did not answer; events are then stored unscored, to be scored later.
///
/// # Errors
/// If the number of scores differs from the number of requests.
pub fn decide<'a>(
    records: Vec<Tracked<'a, Admitted>>,
    scores: Option<Vec<Score>>,
    fraud_threshold: u8,
) -> Result<Vec<Tracked<'a, Decided>>, WrongNumberOfAnswers> {
    let asked = records.iter().filter(|record| record.open().is_some()).count();
    let answered = scores.as_ref().map_or(asked, Vec::len);
    WrongNumberOfAnswers::check(asked, answered)?;
    let mut scores = scores.map(Vec::into_iter);
    let mut decide = |record: Tracked<'a, Admitted>| {
        record.try_advance(|_, Admitted| {
            let risk = match &mut scores {
                None => None,
                Some(scores) => Some(scores.next().ok_or(WrongNumberOfAnswers { asked, answered })?),
            };
            let risk = risk.map(RiskScore::from);
            Ok(Decided { outcome: stored_outcome(risk.as_ref(), fraud_threshold), risk })
        })
    };
    records.into_iter().map(&mut decide).collect()
}

/// Closes a record that the store refuses permanently while it accepts others, whatever else was decided about it: the
/// record itself is at fault.
pub fn refuse(record: &mut Tracked<'_, Decided>, error_tag: &'static str) {
    record.end(Outcome::DeadLettered, Reason::new(ReasonTag::StoreRefused, error_tag));
}

#[cfg(test)]
mod tests {
    use event::schema::Registry;
    use event::{TenantId, Timestamp};

    use super::super::intake::Reader;
    use super::super::samples::record;
    use super::*;
    use crate::Record;
    use crate::tracked::{Read, State};

    /// A record without an event, and three with one.
    fn records() -> Vec<Record> {
        let event = |id: &str| format!(r#"{{"type":"click","id":"{id}","user_id":"u-1","campaign_id":"c"}}"#);
        let mut records = vec![record(1, Some("not json"), &[])];
        records.extend((2..5).map(|offset| record(offset, Some(&event(&format!("e-{offset}"))), &[])));
        records
    }

    fn with_batch(test: impl FnOnce(Vec<Tracked<'_, Admitted>>)) {
        let (registry, foreign_tenant) = (Registry::embedded().unwrap(), TenantId::new("kafka").unwrap());
        let records = records();
        let reader = Reader { registry: &registry, foreign_tenant: &foreign_tenant, now: Timestamp::EPOCH };
        let read = reader.read_all(&records);
        test(read.into_iter().map(|record| record.advance(|_, Read| Admitted)).collect());
    }

    fn scores(of: &[(&str, u8)]) -> Option<Vec<Score>> {
        let score = |(id, risk_score): &(&str, u8)| Score {
            event_id: event::EventId::new(id).unwrap(),
            risk_score: *risk_score,
            reasons: Vec::new(),
            rules_version: "1".into(),
        };
        Some(of.iter().map(score).collect())
    }

    fn outcomes(records: &[Tracked<'_, Decided>]) -> Vec<Outcome> {
        let outcome = |record: &Tracked<'_, Decided>| match &record.state {
            State::Open { found, .. } => found.outcome,
            State::Closed { outcome, .. } => *outcome,
        };
        records.iter().map(outcome).collect()
    }

    #[test]
    fn an_event_is_fraud_from_the_threshold_on() {
        with_batch(|batch| {
            let decided = decide(batch, scores(&[("e-2", 79), ("e-3", 80), ("e-4", 100)]), 80).unwrap();
            assert_eq!(outcomes(&decided), [Outcome::DeadLettered, Outcome::Valid, Outcome::Fraud, Outcome::Fraud]);
        });
    }

    #[test]
    fn scores_belong_to_the_open_records_only() {
        with_batch(|mut batch| {
            batch[1].close(Outcome::Duplicate, Reason::new(ReasonTag::AlreadyClaimed, "t/0/1"));
            batch[2].close(Outcome::Blocked, Reason::new(ReasonTag::AddressRate, ""));
            let requests = ScorePlan::new(&batch).requests;
            assert_eq!(requests.len(), 1);
            assert_eq!(requests[0].event_id.as_str(), "e-4");
            assert_eq!(requests[0].user_id.as_deref(), Some("u-1"));
            let decided = decide(batch, scores(&[("e-4", 100)]), 80).unwrap();
            assert_eq!(
                outcomes(&decided),
                [Outcome::DeadLettered, Outcome::Duplicate, Outcome::Blocked, Outcome::Fraud]
            );
        });
    }

    #[test]
    fn a_record_that_is_closed_while_it_is_scored_takes_no_score() {
        with_batch(|mut batch| {
            let plan = ScorePlan::new(&batch);
            assert_eq!(plan.requests.len(), 3);
            batch[2].close(Outcome::Blocked, Reason::new(ReasonTag::AddressRate, ""));
            let all = scores(&[("e-2", 10), ("e-3", 100), ("e-4", 80)]).unwrap();
            assert!(plan.of_open(&batch, all[1..].to_vec()).is_err());
            let left = plan.of_open(&batch, all).unwrap();
            let decided = decide(batch, Some(left), 80).unwrap();
            assert_eq!(outcomes(&decided), [Outcome::DeadLettered, Outcome::Valid, Outcome::Blocked, Outcome::Fraud]);
        });
    }

    #[test]
    fn without_scores_events_are_stored_to_be_scored_later() {
        with_batch(|batch| {
            let decided = decide(batch, None, 0).unwrap();
            let unscored = Decided { outcome: Outcome::Valid, risk: None };
            assert!(decided[1..].iter().all(|record| record.open().is_some_and(|(_, found)| *found == unscored)));
            let (event, _) = decided[2].open().unwrap();
            assert_eq!(event.payload.as_str(), r#"{"type":"click","id":"e-3","user_id":"u-1","campaign_id":"c"}"#);
        });
    }

    #[test]
    fn a_missing_score_is_an_error_and_never_stored_as_unscored() {
        with_batch(|batch| {
            let error = decide(batch, scores(&[("e-2", 1), ("e-3", 1)]), 80).unwrap_err();
            assert_eq!((error.asked, error.answered), (3, 2));
        });
    }

    #[test]
    fn a_record_that_the_store_refuses_becomes_a_dead_letter() {
        with_batch(|batch| {
            let mut decided = decide(batch, None, 80).unwrap();
            decided[2].close(Outcome::Duplicate, "already-claimed: t/0/1");
            for record in &mut decided[1..3] {
                refuse(record, "invalid-text");
                let State::Closed { outcome, reason, .. } = &record.state else { panic!("it is open") };
                assert_eq!((*outcome, reason.as_str()), (Outcome::DeadLettered, "store-refused: invalid-text"));
                assert!(record.event().is_some(), "what is known about the event stays");
            }
        });
    }
}
