//! The scorer, invoked with the Lambda Invoke API. AWS, the emulators and Kubernetes differ only in the endpoint.

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use aws_config::SdkConfig;
use event::EventId;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use invoke::{CallError, FunctionClient};
use pipeline::ports::{Score, ScoreRequest, Scorer};
use pipeline::{Dependency, DependencyError, ErrorClass, trace};
use serde::de::Error as _;
use serde::{Deserialize, Serialize};

/// Number of events in one call. That is some 100 kB each way, far below Lambda's 6 MB and the scorer's own limit.
const EVENTS_PER_CALL: usize = 1_000;
/// Number of calls at the same time, so that one large batch does not use every instance of the scorer.
const CONCURRENT_CALLS: usize = 4;

#[derive(Serialize)]
struct Request<'a> {
    events: &'a [ScoreRequest],
    /// The span that the scores are for, if its trace is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    scores: Vec<AnsweredScore<'a>>,
}

/// A [`Score`], as far as possible still in the answer.
#[derive(Deserialize)]
struct AnsweredScore<'a> {
    #[serde(borrow)]
    event_id: Cow<'a, str>,
    risk_score: u8,
    reasons: Vec<String>,
    #[serde(borrow)]
    rules_version: Cow<'a, str>,
}

/// Why a call returned no scores.
#[derive(Debug, thiserror::Error)]
pub enum ScorerClientError {
    #[error("cannot write the request to the scorer as JSON")]
    Request(#[source] serde_json::Error),
    #[error("cannot invoke the scorer")]
    Invoke(#[from] CallError),
    #[error("the scorer's answer is not {{\"scores\":[…]}}")]
    Answer(#[source] serde_json::Error),
}

impl ScorerClientError {
    /// Never permanent: no failure here is caused by an event, and the events can be scored later.
    pub fn class(&self) -> ErrorClass {
        match self {
            ScorerClientError::Invoke(error) if error.class() == ErrorClass::Overload => ErrorClass::Overload,
            ScorerClientError::Request(_) | ScorerClientError::Invoke(_) | ScorerClientError::Answer(_) => {
                ErrorClass::Transient
            }
        }
    }

    pub fn tag(&self) -> &'static str {
        match self {
            ScorerClientError::Request(_) => "request",
            ScorerClientError::Invoke(error) => error.tag(),
            ScorerClientError::Answer(_) => "bad-answer",
        }
    }
}

impl From<ScorerClientError> for DependencyError {
    fn from(error: ScorerClientError) -> Self {
        DependencyError {
            dependency: Dependency::Scorer,
            class: error.class(),
            tag: error.tag(),
            doing: "invoking the scorer",
            source: error.into(),
        }
    }
}

/// A [`Scorer`] that invokes a Lambda function.
#[derive(Clone, Debug)]
pub struct ScorerClient {
    functions: FunctionClient,
    function: String,
}

impl ScorerClient {
    /// A client of the function with that name, alias or ARN. Makes no call.
    pub fn new(config: &SdkConfig, function: impl Into<String>) -> Self {
        ScorerClient { functions: FunctionClient::new(config), function: function.into() }
    }

    async fn invoke(&self, events: &[ScoreRequest]) -> Result<Vec<Score>, ScorerClientError> {
        let traceparent = trace::current().filter(|span| span.is_sampled).map(|span| span.to_string());
        let request = serde_json::to_vec(&Request { events, traceparent }).map_err(ScorerClientError::Request)?;
        let answer = self.functions.call(&self.function, request).await?;
        let answer: Answer<'_> = serde_json::from_slice(&answer).map_err(ScorerClientError::Answer)?;
        scores(answer.scores, events).map_err(ScorerClientError::Answer)
    }
}

/// The scores of an answer. They share the ids of the requests, in whose order they should be, and the version.
fn scores(answered: Vec<AnsweredScore<'_>>, requests: &[ScoreRequest]) -> Result<Vec<Score>, serde_json::Error> {
    let mut version: Arc<str> = Arc::from("");
    let mut requests = requests.iter();
    let score = |answered: AnsweredScore<'_>| {
        let event_id = match requests.next() {
            Some(request) if request.event_id.as_str() == answered.event_id => request.event_id.clone(),
            Some(_) | None => EventId::new(&answered.event_id).map_err(serde_json::Error::custom)?,
        };
        if *version != *answered.rules_version {
            version = answered.rules_version.into();
        }
        let (risk_score, reasons) = (answered.risk_score, answered.reasons);
        Ok(Score { event_id, risk_score, reasons, rules_version: Arc::clone(&version) })
    };
    answered.into_iter().map(score).collect()
}

#[async_trait]
impl Scorer for ScorerClient {
    async fn score(&self, requests: &[ScoreRequest]) -> Result<Vec<Score>, DependencyError> {
        let calls: Vec<_> = requests.chunks(EVENTS_PER_CALL).map(|events| self.invoke(events)).collect();
        let scores: Vec<Vec<Score>> = stream::iter(calls).buffered(CONCURRENT_CALLS).try_collect().await?;
        Ok(scores.into_iter().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_share_the_version_and_keep_the_ids_of_the_answer() {
        let request = |id| ScoreRequest { event_id: EventId::new(id).unwrap(), ip: None, user_id: None };
        let requests = [request("a"), request("b")];
        let answer = |ids: &[&str]| {
            let score =
                |id: &&str| format!(r#"{{"event_id":"{id}","risk_score":1,"reasons":["r"],"rules_version":"7"}}"#);
            let scores: Vec<String> = ids.iter().map(score).collect();
            format!(r#"{{"scores":[{}]}}"#, scores.join(","))
        };
        let read = |ids: &[&str]| {
            let text = answer(ids);
            let answer: Answer<'_> = serde_json::from_str(&text).unwrap();
            scores(answer.scores, &requests)
        };
        let ids = |scores: &[Score]| scores.iter().map(|score| score.event_id.to_string()).collect::<Vec<_>>();
        let scored = read(&["a", "b"]).unwrap();
        assert_eq!((ids(&scored), &*scored[1].rules_version), (vec!["a".to_owned(), "b".to_owned()], "7"));
        assert!(Arc::ptr_eq(&scored[0].rules_version, &scored[1].rules_version));
        // Whether they are the ids of the requests is checked by the caller, who must see what came.
        assert_eq!(ids(&read(&["b", "a", "c"]).unwrap()), ["b", "a", "c"]);
        assert!(read(&["a", ""]).is_err());
    }
}
