//! I3: the outcome of each record is published and equals the one in Postgres.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::evidence::{Evidence, Message, OUTCOMES, RAW, place_of, position};
use crate::verdict::findings::TrialFindings;

/// The fields of an outcome that are checked.
#[derive(Deserialize)]
struct PublishedOutcome {
    outcome_id: String,
    outcome: String,
    reason: String,
}

/// The end of the id of a late outcome, which is published when an event without a score gets one.
const LATE: &str = "#scored";

pub fn outcomes_are_published(evidence: &Evidence, findings: &mut TrialFindings) {
    let mut first: BTreeMap<String, &Message> = BTreeMap::new();
    for (place, message) in &evidence.outcomes {
        let parsed = message.value.as_deref().and_then(|value| serde_json::from_slice::<PublishedOutcome>(value).ok());
        let Some(published) = parsed else {
            findings.add("I3", format!("{OUTCOMES}/{}/{} is not an outcome", place.0, place.1));
            continue;
        };
        if let Some(known) = first.get(&published.outcome_id) {
            findings.outcome_copies += 1;
            if (&known.key, &known.value, &known.headers) != (&message.key, &message.value, &message.headers) {
                findings.add("I3", format!("the copies of outcome {} differ", published.outcome_id));
            }
            continue;
        }
        if !is_recorded(&published, evidence) {
            findings.add("I3", format!("outcome {} is not the one in Postgres", published.outcome_id));
        }
        first.insert(published.outcome_id, message);
    }
    for place in evidence.record_outcomes.keys() {
        let id = position(RAW, *place);
        if !first.contains_key(&id) {
            findings.add("I3", format!("the outcome of {id} was not published"));
        }
    }
}

fn is_recorded(published: &PublishedOutcome, evidence: &Evidence) -> bool {
    let (id, is_late) = match published.outcome_id.strip_suffix(LATE) {
        Some(id) => (id, true),
        None => (published.outcome_id.as_str(), false),
    };
    let row = place_of(id).and_then(|place| evidence.record_outcomes.get(&place));
    row.is_some_and(|row| match is_late {
        // The ledger keeps the first decision.
        true => {
            row.outcome == "valid"
                && matches!(published.outcome.as_str(), "valid" | "fraud")
                && published.reason == "scored-later"
        }
        false => (&row.outcome, &row.reason) == (&published.outcome, &published.reason),
    })
}
