//! The scorer in memory, with the only rule that the tests need: 10.0.0.0/8 scores 100.

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::PoisonError;

use async_trait::async_trait;
use pipeline::ports::{Score, ScoreRequest, Scorer};
use pipeline::{Dependency, DependencyError};

use super::Faults;

/// A scorer that remembers its requests.
#[derive(Debug, Default)]
pub struct FakeScorer {
    pub faults: Faults,
    asked: Mutex<Vec<Vec<ScoreRequest>>>,
}

impl FakeScorer {
    /// The requests of each call so far, including calls that failed.
    pub fn asked(&self) -> Vec<Vec<ScoreRequest>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn score(request: &ScoreRequest) -> Score {
    let private = match request.ip.map(|ip| ip.to_canonical()) {
        Some(IpAddr::V4(ip)) => ip.octets()[0] == 10,
        Some(IpAddr::V6(_)) | None => false,
    };
    Score {
        event_id: request.event_id.clone(),
        risk_score: if private { 100 } else { 0 },
        reasons: if private { vec!["private-range".to_owned()] } else { Vec::new() },
        rules_version: "fake".into(),
    }
}

#[async_trait]
impl Scorer for FakeScorer {
    async fn score(&self, requests: &[ScoreRequest]) -> Result<Vec<Score>, DependencyError> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(requests.to_vec());
        self.faults.apply(Dependency::Scorer, || requests.iter().map(score).collect())
    }
}
