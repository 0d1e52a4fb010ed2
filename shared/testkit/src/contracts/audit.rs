//! The contract of every [`AuditTrail`].
#![expect(clippy::unwrap_used, reason = "a contract suite fails by panicking")]

use std::time::Duration;

use event::Timestamp;
use pipeline::ports::{ActionState, AuditEntry, AuditTrail};

use super::answer;

/// Runs the suite on an empty audit trail.
pub async fn audit_trail_contract(audit: &dyn AuditTrail) {
    let day = Timestamp::parse("2026-11-20T00:00:00.000Z").unwrap();
    let last = Timestamp::parse("2026-11-20T23:59:59.999Z").unwrap();
    let entry = |started_at, run: &str| AuditEntry {
        started_at,
        run: run.to_owned(),
        action: "redrive".to_owned(),
        by: None,
        state: ActionState::Started,
        request: r#"{"action":"redrive"}"#.to_owned(),
        result: String::new(),
    };
    assert_eq!(answer(audit.entries(day).await), []);
    let (late, early) = (entry(last, "late#1"), AuditEntry { by: Some("ada".to_owned()), ..entry(day, "early") });
    let tomorrow = entry(last.plus(Duration::from_millis(1)), "tomorrow");
    for entry in [&late, &early, &tomorrow] {
        answer(audit.record(entry).await);
    }
    assert_eq!(answer(audit.entries(day).await), [early.clone(), late.clone()], "the entries of one day, oldest first");
    let ended = AuditEntry { state: ActionState::Finished, result: r#"{"sent":1}"#.to_owned(), ..late };
    answer(audit.record(&ended).await);
    assert_eq!(answer(audit.entries(last).await), [early, ended], "the entry of the end replaces that of the start");
    assert_eq!(answer(audit.entries(tomorrow.started_at).await), [tomorrow]);
}
