//! I9: statistics count each stored event once, whatever happened while they were made.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use stack::stack::Stack;

use crate::verdict::TrialFindings;

/// How often the aggregator runs during a trial, so that faults meet it at work.
pub const EVERY: Duration = Duration::from_millis(500);
/// Runs until everything must be counted. A failpoint may end some of them.
const RUNS: usize = 30;

#[derive(Deserialize)]
struct Run {
    records: u64,
    ended: String,
}

#[derive(Deserialize)]
struct Verification {
    events: u64,
    different: u64,
    examples: Vec<String>,
}

/// Lets the aggregator count what is left, and compares the cells with the payloads of the stored events.
///
/// # Errors
/// If the aggregator does not answer.
pub async fn check(stack: &Stack, stored: usize, findings: &mut TrialFindings) -> anyhow::Result<()> {
    if !count_all(stack).await {
        findings.add("I9", format!("the aggregator has not counted everything after {RUNS} runs"));
    }
    // Clocks of senders may be wrong, so events may be of any time.
    let all = json!({"action": "verify", "from": "0001-01-01T00:00:00Z", "to": "9999-12-31T00:00:00Z"});
    let Verification { events, different, examples } = serde_json::from_value(stack.invoke("aggregator", all).await?)?;
    if different > 0 {
        findings.add("I9", format!("{different} cells of statistics differ from the events: {}", examples.join("; ")));
    }
    if events != stored as u64 {
        findings.add("I9", format!("{stored} events are stored, and statistics were compared with {events}"));
    }
    Ok(())
}

async fn count_all(stack: &Stack) -> bool {
    for _ in 0..RUNS {
        let answer = stack.invoke("aggregator", json!({"action": "aggregate"})).await;
        let run = answer.ok().and_then(|answer| serde_json::from_value::<Run>(answer).ok());
        match run {
            Some(Run { records: 0, ended }) if ended == "done" => return true,
            Some(_) => {}
            None => tokio::time::sleep(EVERY).await,
        }
    }
    false
}
