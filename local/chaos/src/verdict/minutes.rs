//! The records by the minute in which they were written, to see when it was that something went wrong.

use std::collections::BTreeMap;

use crate::evidence::Evidence;

/// Most minutes that are listed: the last ones.
const MAX_LISTED: usize = 60;
const MINUTE_MS: i64 = 60_000;

/// One line for each minute with a record, counted from the first: how many records there were, and how they ended.
pub fn by_minute(evidence: &Evidence) -> Vec<String> {
    let mut minutes: BTreeMap<i64, BTreeMap<&str, usize>> = BTreeMap::new();
    for (place, message) in &evidence.raw {
        let outcome = evidence.record_outcomes.get(place).map_or("no outcome", |row| row.outcome.as_str());
        let minute = minutes.entry(message.timestamp.div_euclid(MINUTE_MS)).or_default();
        *minute.entry(outcome).or_default() += 1;
    }
    let first = minutes.keys().next().copied().unwrap_or_default();
    let line = |(minute, outcomes): (&i64, &BTreeMap<&str, usize>)| {
        let ends: Vec<String> = outcomes.iter().map(|(outcome, count)| format!("{outcome} {count}")).collect();
        format!("minute {}: {} records: {}", minute - first, outcomes.values().sum::<usize>(), ends.join(", "))
    };
    let left_out = minutes.len().saturating_sub(MAX_LISTED);
    minutes.iter().skip(left_out).map(line).collect()
}
