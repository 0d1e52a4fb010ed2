//! I8: scoring the same event again gives the same decision.

use anyhow::Context as _;
use fastrand::Rng;
use serde::Deserialize;
use serde_json::json;
use stack::stack::Stack;

use crate::evidence::{Evidence, Row, StoredRisk};
use crate::verdict::TrialFindings;

/// How many stored events are scored again in each trial.
const SAMPLE: usize = 200;
/// `FRAUD_THRESHOLD` of every trial.
pub const FRAUD_FROM: i16 = 80;

#[derive(Deserialize)]
struct ScorerAnswer {
    scores: Vec<Scored>,
}

#[derive(Deserialize)]
struct Scored {
    event_id: String,
    #[serde(flatten)]
    risk: StoredRisk,
}

/// Scores a sample of the stored events again, and compares the results.
///
/// # Errors
/// If the scorer does not answer.
pub async fn check(
    stack: &Stack,
    evidence: &Evidence,
    rng: &mut Rng,
    findings: &mut TrialFindings,
) -> anyhow::Result<()> {
    let scored: Vec<&Row> = evidence.rows.iter().filter(|row| row.risk.is_some()).collect();
    let sample: Vec<&Row> = rng.choose_multiple(scored, SAMPLE);
    let events: Vec<_> =
        sample.iter().map(|row| json!({"event_id": row.event_id, "ip": row.ip, "user_id": row.user_id})).collect();
    let answer = stack
        .invoke("scorer", json!({ "events": events }))
        .await
        .context("the scorer did not score the sample again")?;
    let answer: ScorerAnswer = serde_json::from_value(answer).context("the scorer's answer cannot be read")?;
    compare(&sample, &answer.scores, findings);
    Ok(())
}

fn compare(sample: &[&Row], again: &[Scored], findings: &mut TrialFindings) {
    findings.rescored = sample.len();
    if sample.len() != again.len() {
        findings.add("I8", format!("{} scores for {} events", again.len(), sample.len()));
    }
    for (row, again) in sample.iter().zip(again) {
        if row.event_id != again.event_id || row.risk.as_ref() != Some(&again.risk) {
            findings.add("I8", format!("{} has {:?} and now gets {:?}", row.event_id, row.risk, again.risk));
        }
        if (row.status == "fraud") != (again.risk.score >= FRAUD_FROM) {
            findings.add("I8", format!("{} is {} with a score of {}", row.event_id, row.status, again.risk.score));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(change: impl FnOnce(&mut Row, &mut Scored)) -> usize {
        let risk = StoredRisk { score: 100, reasons: vec!["private-range".to_owned()], rules_version: "1".to_owned() };
        let mut row = Row {
            event_id: "a".to_owned(),
            payload: String::new(),
            payload_hash: String::new(),
            status: "fraud".to_owned(),
            ip: None,
            user_id: None,
            risk: Some(risk.clone()),
            received_at: 1,
            stored_at: 2,
        };
        let mut again = Scored { event_id: "a".to_owned(), risk };
        change(&mut row, &mut again);
        let mut findings = TrialFindings::default();
        compare(&[&row], &[again], &mut findings);
        findings.violations.values().map(Vec::len).sum()
    }

    #[test]
    fn another_score_version_or_decision_is_found() {
        assert_eq!(found(|_, _| {}), 0);
        assert_eq!(found(|_, again| again.risk.rules_version = "2".to_owned()), 1);
        assert_eq!(found(|_, again| again.risk.score = 99), 1);
        assert_eq!(found(|row, _| row.status = "valid".to_owned()), 1);
        assert_eq!(found(|_, again| again.event_id = "b".to_owned()), 1);
    }
}
