//! Decides what to store about events that were stored unscored, once they have their scores.

use super::verdicts::stored_outcome;
use crate::ports::{LateScore, RiskScore, Score, ScoreRequest, UnscoredEvent};

/// What to ask the scorer about the events, in their order.
pub fn score_requests(events: &[UnscoredEvent]) -> Vec<ScoreRequest> {
    let request = |event: &UnscoredEvent| ScoreRequest {
        event_id: event.place.key.id.clone(),
        ip: event.ip,
        user_id: event.user_id.clone(),
    };
    events.iter().map(request).collect()
}

/// A score request with only the first event's id, which any working scorer can answer. If it is answered and the
/// request for the events is not, one of the events is at fault.
pub fn control_question(events: &[UnscoredEvent]) -> Vec<ScoreRequest> {
    let control =
        |event: &UnscoredEvent| ScoreRequest { event_id: event.place.key.id.clone(), ip: None, user_id: None };
    events.iter().take(1).map(control).collect()
}

/// The events with their scores. `scores` must be in the order of the events.
pub fn late_scores(events: Vec<UnscoredEvent>, scores: Vec<Score>, fraud_threshold: u8) -> Vec<LateScore> {
    let late = |(event, score)| {
        let risk = RiskScore::from(score);
        LateScore { event, outcome: stored_outcome(Some(&risk), fraud_threshold), risk }
    };
    events.into_iter().zip(scores).map(late).collect()
}

#[cfg(test)]
mod tests {
    use event::{EventId, EventKey, Origin, TenantId, Timestamp};

    use super::*;
    use crate::ports::EventPlace;
    use crate::{Outcome, Position};

    fn event(id: &str) -> UnscoredEvent {
        UnscoredEvent {
            place: EventPlace {
                received_at: Timestamp::EPOCH,
                key: EventKey { tenant: TenantId::new("acme").unwrap(), id: EventId::new(id).unwrap() },
            },
            event_type: "click".into(),
            ip: Some([10, 0, 0, 1].into()),
            user_id: Some("u-1".into()),
            origin: Origin::new("raw-events", 0, 1),
            position: Position::new("raw-events", 0, 1),
        }
    }

    #[test]
    fn everything_the_scorer_looks_at_is_asked() {
        let requests = score_requests(&[event("a"), event("b")]);
        let ids: Vec<&str> = requests.iter().map(|request| request.event_id.as_str()).collect();
        assert_eq!(ids, ["a", "b"]);
        assert_eq!((requests[0].ip, requests[0].user_id.as_deref()), (Some([10, 0, 0, 1].into()), Some("u-1")));
    }

    #[test]
    fn the_control_question_has_nothing_of_the_events_but_an_id() {
        let question = control_question(&[event("a"), event("b")]);
        assert_eq!(question.len(), 1);
        assert_eq!((question[0].ip, &question[0].user_id), (None, &None));
    }

    #[test]
    fn an_event_is_fraud_from_the_threshold_on() {
        let score = |id: &str, risk_score| Score {
            event_id: EventId::new(id).unwrap(),
            risk_score,
            reasons: vec!["private-range".into()],
            rules_version: "7".into(),
        };
        let late = late_scores(vec![event("a"), event("b")], vec![score("a", 79), score("b", 80)], 80);
        let outcomes: Vec<Outcome> = late.iter().map(|late| late.outcome).collect();
        assert_eq!(outcomes, [Outcome::Valid, Outcome::Fraud]);
        let risk = RiskScore { score: 80, reasons: vec!["private-range".into()], rules_version: "7".into() };
        assert_eq!((&late[1].event, &late[1].risk), (&event("b"), &risk));
    }
}
