//! I4: the archive against the topics.

use std::collections::BTreeSet;

use crate::evidence::{Evidence, PartitionOffset, TopicRecords, position};
use crate::verdict::findings::TrialFindings;

/// I4 for one topic: every record is in the archive, and each copy has the topic's bytes and is within the range of its
/// object's name.
pub fn archive_is_whole(name: &str, topic: &TopicRecords, evidence: &Evidence, findings: &mut TrialFindings) {
    let mut archived: BTreeSet<PartitionOffset> = BTreeSet::new();
    for object in &evidence.objects {
        let range = range(&object.key);
        if range.is_none() {
            findings.add("I4", format!("the name of {} has no range of offsets", object.key));
        }
        for (_, place, message) in object.lines.iter().filter(|(of, _, _)| of == name) {
            if range.is_some_and(|(first, last)| !(first..=last).contains(&place.1)) {
                findings.add(
                    "I4",
                    format!("{} holds offset {}, which is outside the range in its name", object.key, place.1),
                );
            }
            // A line does not say of which log it is; its bytes do.
            let held: Vec<_> = evidence.places(*place).filter(|place| topic.get(place) == Some(message)).collect();
            if held.is_empty() {
                findings.add("I4", format!("{} holds {name}/{}/{} with other bytes", object.key, place.0, place.1));
            }
            archived.extend(held);
        }
    }
    for place in topic.keys().filter(|place| !archived.contains(place)) {
        findings.add("I4", format!("{} is not in the archive", position(name, *place)));
    }
}

/// First and last offset of `…/<first>-<last>[.…].ndjson.zst`.
fn range(key: &str) -> Option<(i64, i64)> {
    let (first, rest) = key.rsplit('/').next()?.split_once('-')?;
    let last: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((first.parse().ok()?, last.parse().ok()?))
}
