//! One request for scores, and its answer.

use std::net::IpAddr;

use event::EventId;
use lambda::invocation::{Invocation, InvocationError};
use pipeline::ports::ScoreRequest;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::app::App;
use crate::error::ScorerError;
use crate::rules::{Assessment, Rules};
use crate::trace::ScoreTrace;

/// Largest number of events in one request. Keeps the answer far below Lambda's 6 MB, even with ids of full length.
pub const MAX_EVENTS: usize = 5_000;

/// A single event's fields, or a batch. The fields that are present decide.
#[derive(Deserialize)]
struct Request {
    // The outer `Option` says whether the field is present: `"ip":null` is an event without an address.
    #[serde(default, deserialize_with = "present")]
    ip: Option<Option<IpAddr>>,
    #[serde(default, deserialize_with = "present")]
    user_id: Option<Option<String>>,
    events: Option<Vec<ScoreRequest>>,
    /// The span that the scores are for; other forms of the request have none.
    traceparent: Option<String>,
}

fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// The answer to a single event.
#[derive(Serialize)]
struct SingleScore {
    risk_score: u8,
}

/// The answer to a batch, in the order of the events. Each score has the shape of [`pipeline::ports::Score`].
#[derive(Serialize)]
struct BatchScores<'a> {
    scores: Vec<EventScore<'a>>,
}

#[derive(Serialize)]
struct EventScore<'a> {
    event_id: &'a EventId,
    risk_score: u8,
    reasons: Vec<&'a str>,
    rules_version: &'a str,
}

/// Answers one request: `{"ip","user_id"}` with `{"risk_score"}`, `{"events":[…]}` with `{"scores":[…]}`.
///
/// # Errors
/// If the request is neither. The same request fails again.
pub async fn handle(request: &RawValue, _: &Invocation, app: &App) -> Result<Box<RawValue>, InvocationError> {
    Ok(answer(request, &app.rules)?)
}

/// The answer to one request under these rules.
///
/// # Errors
/// [`ScorerError`] if the request is neither a single event nor a batch.
pub fn answer(request: &RawValue, rules: &Rules) -> Result<Box<RawValue>, ScorerError> {
    let request: Request = serde_json::from_str(request.get()).map_err(ScorerError::Malformed)?;
    match request {
        Request { events: Some(_), ip: Some(_), .. } | Request { events: Some(_), user_id: Some(_), .. } => {
            Err(ScorerError::Ambiguous)
        }
        Request { events: Some(events), ip: None, user_id: None, traceparent } => {
            let trace = ScoreTrace::begin(traceparent.as_deref(), events.len());
            let scores = score_batch(&events, rules);
            trace.finish(scores.as_ref().err().map(ScorerError::tag));
            scores
        }
        Request { events: None, ip: Some(ip), .. } => {
            to_raw_value(&SingleScore { risk_score: rules.assess(ip).risk_score }).map_err(ScorerError::Answer)
        }
        Request { events: None, ip: None, .. } => Err(ScorerError::Empty),
    }
}

fn score_batch<'a>(events: &'a [ScoreRequest], rules: &'a Rules) -> Result<Box<RawValue>, ScorerError> {
    if events.len() > MAX_EVENTS {
        return Err(ScorerError::TooManyEvents { events: events.len(), most: MAX_EVENTS });
    }
    let score = |event: &'a ScoreRequest| {
        let Assessment { risk_score, reasons } = rules.assess(event.ip);
        EventScore { event_id: &event.event_id, risk_score, reasons, rules_version: rules.version() }
    };
    to_raw_value(&BatchScores { scores: events.iter().map(score).collect() }).map_err(ScorerError::Answer)
}

#[cfg(test)]
mod tests {
    use pipeline::chain;
    use testkit::samples::sample;

    use super::*;

    fn answered(request: &str) -> Result<String, String> {
        let request = RawValue::from_string(request.to_owned()).unwrap();
        let rules = Rules::shipped().unwrap();
        answer(&request, &rules)
            .map(|answer| answer.get().to_owned())
            .map_err(|error| format!("{}: {}", error.tag(), chain(&error)))
    }

    #[test]
    fn scores_a_single_event() {
        assert_eq!(answered(&sample("scorer", "private-address")).unwrap(), r#"{"risk_score":100}"#);
        assert_eq!(answered(r#"{"ip":"203.0.113.10","user_id":"u-1"}"#).unwrap(), r#"{"risk_score":0}"#);
        assert_eq!(answered(r#"{"ip":null,"user_id":"u-1"}"#).unwrap(), r#"{"risk_score":0}"#);
        assert_eq!(answered(r#"{"ip":"10.0.0.1","user_id":null,"more":1}"#).unwrap(), r#"{"risk_score":100}"#);
    }

    #[test]
    fn scores_a_batch_in_its_order() {
        #[derive(Deserialize)]
        struct Score {
            event_id: String,
            risk_score: u8,
            reasons: Vec<String>,
            rules_version: String,
        }
        #[derive(Deserialize)]
        struct Answer {
            scores: Vec<Score>,
        }
        let answer: Answer = serde_json::from_str(&answered(&sample("scorer", "batch")).unwrap()).unwrap();
        let answered: Vec<_> = answer
            .scores
            .iter()
            .map(|score| (score.event_id.as_str(), score.risk_score, score.reasons.join(",")))
            .collect();
        assert_eq!(
            answered,
            [
                ("order-1", 0, String::new()),
                ("order-2", 100, "private-range".to_owned()),
                ("order-3", 0, "no-address".to_owned()),
                ("order-2", 0, String::new()),
            ]
        );
        assert!(answer.scores.iter().all(|score| score.rules_version == Rules::shipped().unwrap().version()));
    }

    #[test]
    fn an_empty_batch_is_scored() {
        assert_eq!(answered(r#"{"events":[]}"#).unwrap(), r#"{"scores":[]}"#);
    }

    #[test]
    fn a_bad_request_is_told_why() {
        let bad = answered(&sample("scorer", "bad-address")).unwrap_err();
        assert!(bad.starts_with("malformed-request: the request is not"), "{bad}");
        assert!(bad.contains("invalid IP address syntax at line"), "{bad}");
        for (request, tag) in [
            ("{}", "empty-request"),
            (r#"{"user_id":"u-1"}"#, "empty-request"),
            (r#"{"events":null}"#, "empty-request"),
            (r#"{"events":[],"ip":"10.0.0.1"}"#, "ambiguous-request"),
            ("[]", "malformed-request"),
            ("7", "malformed-request"),
            (r#"{"events":{}}"#, "malformed-request"),
            (r#"{"events":[{"ip":"10.0.0.1"}]}"#, "malformed-request"),
            (r#"{"ip":""}"#, "malformed-request"),
        ] {
            let error = answered(request).unwrap_err();
            assert!(error.starts_with(&format!("{tag}: ")), "{request}: {error}");
        }
    }

    #[test]
    fn a_batch_has_a_limit() {
        let event = r#"{"event_id":"a","ip":null,"user_id":null}"#;
        let events = |count: usize| format!(r#"{{"events":[{}]}}"#, vec![event; count].join(","));
        assert!(answered(&events(MAX_EVENTS)).is_ok());
        assert!(answered(&events(MAX_EVENTS + 1)).unwrap_err().starts_with("too-many-events: "));
    }
}
