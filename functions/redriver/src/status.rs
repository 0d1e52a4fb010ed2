//! Looks up what has already been done with letters.

use std::collections::{BTreeMap, HashSet};

use event::Timestamp;
use pipeline::dead_letter::DeadLetter;
use pipeline::guard::Guard;
use pipeline::ports::{LetterId, LetterStep, MarkKey, MarkState, RedriveMarks};
use tokio::time::Instant;

use crate::error::RedriverError;

/// How many redrives may fail before a letter is parked (issue 3, item 2).
pub const MAX_REDRIVES: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterStatus {
    /// Nothing has been done, or a run that has died began it.
    Open,
    /// Another run is working on it until then.
    UnderWay {
        until: Timestamp,
    },
    Done,
}

/// The step that a redrive takes with a letter.
pub fn step_of(letter: &LetterId) -> LetterStep {
    if letter.attempt >= MAX_REDRIVES { LetterStep::Park } else { LetterStep::Send }
}

/// The state of each step, in the order of the keys.
pub async fn statuses(
    marks: &dyn RedriveMarks,
    guard: &Guard,
    keys: &[MarkKey],
    now: Timestamp,
    deadline: Instant,
) -> Result<Vec<LetterStatus>, RedriverError> {
    let found = guard.call_each(deadline, "reading marks", keys.len(), || marks.find(keys)).await?;
    let status = |state: MarkState| match state {
        MarkState::Done { .. } => LetterStatus::Done,
        MarkState::UnderWay { until } if now < until => LetterStatus::UnderWay { until },
        MarkState::UnderWay { .. } => LetterStatus::Open,
    };
    Ok(found.into_iter().map(|mark| mark.map_or(LetterStatus::Open, |mark| status(mark.state))).collect())
}

/// The letters that have not been seen before. After a crash between publishing and answering, the processor publishes
/// a letter again, byte for byte; such copies are one letter.
#[derive(Debug, Default)]
pub struct Distinct(HashSet<LetterId>);

impl Distinct {
    pub fn is_new(&mut self, letter: &DeadLetter) -> bool {
        self.0.insert(letter.id.clone())
    }
}

/// In each partition, the first letter that is not done.
#[derive(Debug, Default)]
pub struct Unfinished(BTreeMap<i32, i64>);

impl Unfinished {
    pub fn add(&mut self, letter: &DeadLetter) {
        let position = &letter.record.position;
        let first = self.0.entry(position.partition).or_insert(position.offset);
        *first = position.offset.min(*first);
    }

    pub fn first(&self, partition: i32) -> Option<i64> {
        self.0.get(&partition).copied()
    }
}
