//! Risk scores from the scorer function, without depending on it.
//!
//! Owns the calls to the scorer: their size, the circuit breaker, the check of the answer. What a score means for an
//! event is decided in `pipeline::decisions`.

mod client;

use std::sync::Arc;
use std::time::Duration;

use pipeline::chain;
use pipeline::guard::Guard;
use pipeline::ports::{Score, ScoreRequest, Scorer};
use pipeline::{Dependency, DependencyError, ErrorClass};
use tokio::time::{Instant, timeout};

pub use crate::client::{ScorerClient, ScorerClientError};

/// The scorer behind its circuit breaker.
pub struct Scoring {
    scorer: Arc<dyn Scorer>,
    guard: Guard,
    /// Longest wait for the scores of one batch, per attempt.
    attempt_timeout: Duration,
}

impl Scoring {
    /// `guard` is the scorer's guard; `attempt_timeout` is the longest wait for the scores of one batch, per attempt.
    pub fn new(scorer: Arc<dyn Scorer>, guard: Guard, attempt_timeout: Duration) -> Self {
        Scoring { scorer, guard, attempt_timeout }
    }

    /// The scores of the requests, in their order. `None` if the scorer is down, slow or behind an open breaker: the
    /// events then stay unscored and are scored later. Never fails a batch, and takes at most half of the time left.
    pub async fn score(&self, requests: &[ScoreRequest], deadline: Instant) -> Option<Vec<Score>> {
        let now = Instant::now();
        let deadline = now + deadline.saturating_duration_since(now) / 2;
        match self.guard.call(deadline, "scoring a batch", || self.attempt(requests, deadline)).await {
            Ok(scores) => Some(scores),
            Err(error) => {
                tracing::warn!(
                    tag = error.tag,
                    error = chain(&error),
                    events = requests.len(),
                    "cannot get scores from the scorer; the events are stored unscored and scored later"
                );
                None
            }
        }
    }

    async fn attempt(&self, requests: &[ScoreRequest], deadline: Instant) -> Result<Vec<Score>, DependencyError> {
        let wait = self.attempt_timeout.min(deadline.saturating_duration_since(Instant::now()));
        match timeout(wait, self.scorer.score(requests)).await {
            Ok(Ok(scores)) => check(requests, scores),
            Ok(Err(error)) => Err(error),
            Err(elapsed) => Err(failure("timeout", elapsed.into())),
        }
    }
}

/// The scorer is deployed separately, so its answer is checked before it is stored.
fn check(requests: &[ScoreRequest], scores: Vec<Score>) -> Result<Vec<Score>, DependencyError> {
    let in_order = scores.len() == requests.len()
        && scores.iter().zip(requests).all(|(score, request)| score.event_id == request.event_id);
    if !in_order {
        return Err(failure("bad-answer", "the ids of the scores are not those of the requests".into()));
    }
    if scores.iter().any(|score| score.risk_score > 100) {
        return Err(failure("bad-answer", "a score is above 100".into()));
    }
    Ok(scores)
}

fn failure(tag: &'static str, source: Box<dyn std::error::Error + Send + Sync>) -> DependencyError {
    let class = ErrorClass::Transient;
    DependencyError { dependency: Dependency::Scorer, class, tag, doing: "scoring a batch", source }
}
