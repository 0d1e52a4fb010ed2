//! The fraud score of an event.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use event::EventId;
use serde::{Deserialize, Serialize};

use crate::DependencyError;

/// The input of the scorer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScoreRequest {
    pub event_id: EventId,
    pub ip: Option<IpAddr>,
    pub user_id: Option<String>,
}

/// The scorer's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Score {
    pub event_id: EventId,
    /// 0 (no sign of fraud) to 100.
    pub risk_score: u8,
    /// Names of the rules that matched, in the order of the rules.
    pub reasons: Vec<String>,
    /// Shared by all scores of an answer.
    pub rules_version: Arc<str>,
}

#[async_trait]
pub trait Scorer: Send + Sync {
    /// Scores each request; answers are in the order of the requests. Pure and repeatable: the same request under
    /// the same `rules_version` gives the same score.
    async fn score(&self, requests: &[ScoreRequest]) -> Result<Vec<Score>, DependencyError>;
}
