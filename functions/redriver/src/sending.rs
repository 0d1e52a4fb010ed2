//! Sending letters back to `raw-events`, each once, and no faster than asked for.
//!
//! A letter is marked as under way, sent, and marked as done. Marking first keeps concurrent runs from sending the
//! same letter; that the mark lapses keeps a run that dies in between from losing it. Such a letter is sent a second
//! time, which has no second effect: both copies name the same origin, by which the processor's claim, its event row
//! and the mark of the next attempt are keyed (ADR 8).

use std::time::Duration;

use pipeline::pace::Pace;
use pipeline::ports::{BeginVerdict, LetterStep, MarkKey, NewRecord};
use pipeline::retry::RetryPolicy;
use pipeline::{Dependency, DependencyError, ErrorClass, Position};
use tokio::time::Instant;

use crate::App;
use crate::error::{RedriverError, failed};
use crate::letter::Letter;
use crate::run::Run;
use crate::standing::one_each;

/// Largest number of letters between two looks at the clock.
const MAX_CHUNK: usize = 100;
/// Longest wait for Kafka's acknowledgements.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(10);

/// What became of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Sent,
    /// Another run had done it.
    Already,
    /// Another run is at it.
    UnderWay {
        until: event::Timestamp,
    },
    /// Kafka does not take it, now or later: it is too large for `raw-events`.
    Refused,
    /// There was no time for it.
    NotReached,
}

/// Sends at a rate.
#[derive(Debug)]
pub struct Sender<'a> {
    app: &'a App,
    run: &'a Run,
    pace: Pace,
}

impl<'a> Sender<'a> {
    pub fn new(app: &'a App, run: &'a Run, max_per_sec: u32) -> Self {
        Sender { app, run, pace: Pace::new(max_per_sec) }
    }

    /// Sends the letters in their order, and stops in time. Nobody gives a letter twice in a call.
    ///
    /// # Errors
    /// If a dependency fails after bounded retries. What was sent is marked as far as that was possible; the rest is
    /// sent by the next run.
    pub async fn send(&mut self, letters: &[&Letter]) -> Result<Vec<Fate>, RedriverError> {
        let mut fates = Vec::with_capacity(letters.len());
        for letters in letters.chunks(self.pace.batch(MAX_CHUNK)) {
            if !self.pace.wait(self.run.deadline).await {
                break;
            }
            fates.extend(self.send_chunk(letters).await?);
        }
        fates.resize(letters.len(), Fate::NotReached);
        Ok(fates)
    }

    async fn send_chunk(&mut self, letters: &[&Letter]) -> Result<Vec<Fate>, RedriverError> {
        let Run { id, end_deadline, until, .. } = self.run;
        let dynamodb = &self.app.guards.dynamodb;
        let key = |letter: &&Letter| MarkKey { letter: letter.id.clone(), step: LetterStep::Send };
        let keys: Vec<MarkKey> = letters.iter().map(key).collect();
        let began = Instant::now();
        let now = self.app.clock.now();
        let begin = || self.app.marks.begin(&keys, id, now, *until);
        let begun = dynamodb.call(RetryPolicy::STANDARD, *end_deadline, begin).await;
        let verdicts = begun.map_err(failed("marking letters"))?;
        one_each(Dependency::Dynamodb, keys.len(), verdicts.len())?;

        let ours = |(index, verdict): (usize, &BeginVerdict)| match verdict {
            BeginVerdict::Ours => Some(index),
            BeginVerdict::UnderWay { .. } | BeginVerdict::Done => None,
        };
        let ours: Vec<usize> = verdicts.iter().enumerate().filter_map(ours).collect();
        let copies = ours.iter().map(|index| letters[*index].redriven()).collect();
        let answers = self.publish(copies).await?;
        self.pace.spend(ours.len() as u64, began);

        let mut sent: Vec<(MarkKey, Option<Position>)> = Vec::with_capacity(ours.len());
        let mut fates: Vec<Fate> = verdicts
            .iter()
            .map(|verdict| match verdict {
                BeginVerdict::Ours => Fate::Sent,
                BeginVerdict::UnderWay { until } => Fate::UnderWay { until: *until },
                BeginVerdict::Done => Fate::Already,
            })
            .collect();
        let mut failure = None;
        for (index, answer) in ours.into_iter().zip(answers) {
            match answer {
                Ok(position) => sent.push((keys[index].clone(), Some(position))),
                Err(error) => match error.class {
                    ErrorClass::Permanent => {
                        tracing::error!(letter = %letters[index].id, tag = error.tag, "letter cannot be redriven");
                        fates[index] = Fate::Refused;
                    }
                    ErrorClass::Transient | ErrorClass::Overload => failure = Some(error),
                },
            }
        }
        // Also if some were not acknowledged: those that were need not be sent again.
        let now = self.app.clock.now();
        let finish = || self.app.marks.finish(&sent, id, now);
        let finished = dynamodb.call(RetryPolicy::STANDARD, *end_deadline, finish).await;
        finished.map_err(failed("marking letters as sent"))?;
        match failure {
            Some(error) => Err(failed("sending letters")(error)),
            None => Ok(fates),
        }
    }

    /// Publishes, and again what failed and may do better.
    async fn publish(&self, records: Vec<NewRecord>) -> Result<Vec<Result<Position, DependencyError>>, RedriverError> {
        let policy = RetryPolicy::STANDARD;
        let mut answers: Vec<Option<Result<Position, DependencyError>>> = Vec::new();
        answers.resize_with(records.len(), || None);
        for attempt in 1..=policy.attempts {
            let open = |answer: &Option<Result<Position, DependencyError>>| match answer {
                None => true,
                Some(Ok(_)) => false,
                Some(Err(error)) => error.is_retryable(),
            };
            let left: Vec<usize> = (0..records.len()).filter(|index| open(&answers[*index])).collect();
            let wait = policy.wait(attempt);
            if left.is_empty() || (attempt > 1 && Instant::now() + wait >= self.run.deadline) {
                break;
            }
            if attempt > 1 {
                tokio::time::sleep(wait).await;
            }
            // Of the step at hand, which may be finished after the deadline for beginning one.
            let timeout = PUBLISH_TIMEOUT.min(self.run.end_deadline.saturating_duration_since(Instant::now()));
            let again = left.iter().map(|index| records[*index].clone()).collect();
            let results = self.app.guards.kafka.publish(&*self.app.publisher, again, timeout).await;
            one_each(Dependency::Kafka, left.len(), results.len())?;
            for (index, result) in left.into_iter().zip(results) {
                answers[index] = Some(result);
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }
}
