//! Sends letters back to `raw-events`, each once, and no faster than requested.
//!
//! A letter is marked as under way, sent, and marked as done. The first mark stops concurrent runs from sending the
//! same letter. It expires, so that a letter is not lost if its run dies in between. Such a letter is sent a second
//! time, which has no second effect: both copies have the same origin, and the processor's claim, the event row and the
//! mark of the next attempt are keyed by origin (ADR 8).

use std::borrow::Cow;
use std::time::Duration;

use pipeline::dead_letter::DeadLetter;
use pipeline::pace::Pace;
use pipeline::ports::{BeginVerdict, LetterStep, MarkKey};
use pipeline::{ErrorClass, Position, topic};
use tokio::time::Instant;
use traces::SpanClock;

use crate::app::App;
use crate::error::RedriverError;
use crate::run::RedriveRun;
use crate::trace;

/// The most letters that are sent between two checks of the deadline.
const MAX_CHUNK: usize = 100;
/// The same for those whose bytes are in the archive: each may have megabytes.
const MAX_QUARANTINED: usize = 4;
/// Longest wait for Kafka's acknowledgements.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(10);

/// The result for a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterFate {
    Sent,
    /// Another run has already sent it.
    Already,
    /// Another run is working on it.
    UnderWay {
        until: event::Timestamp,
    },
    /// Kafka refuses it permanently, because it is too large for `raw-events`; or the object with its bytes is gone.
    Refused,
    /// There was not enough time to send it.
    NotReached,
}

/// Sends at a rate.
#[derive(Debug)]
pub struct LetterSender<'a> {
    app: &'a App,
    run: &'a RedriveRun,
    pace: Pace,
}

impl<'a> LetterSender<'a> {
    pub fn new(app: &'a App, run: &'a RedriveRun, max_per_sec: u32) -> Self {
        LetterSender { app, run, pace: Pace::new(max_per_sec) }
    }

    /// Sends the letters in their order, those whose bytes are in the archive last, and stops before the deadline. The
    /// caller passes each letter at most once per call. The results are in no particular order.
    ///
    /// # Errors
    /// If a dependency still fails after bounded retries. Letters that were sent are marked as far as possible; the
    /// next run sends the rest.
    pub async fn send<'l>(
        &mut self,
        letters: &[&'l DeadLetter],
    ) -> Result<Vec<(&'l DeadLetter, LetterFate)>, RedriverError> {
        let mut fates = Vec::with_capacity(letters.len());
        let (quarantined, whole): (Vec<&DeadLetter>, Vec<&DeadLetter>) =
            letters.iter().copied().partition(|letter| letter.quarantined().is_some());
        let (many, few) = (self.pace.batch(MAX_CHUNK), self.pace.batch(MAX_QUARANTINED));
        let mut chunks = whole.chunks(many).chain(quarantined.chunks(few));
        while let Some(chunk) = chunks.next() {
            if !self.pace.wait(self.run.deadline).await {
                let rest = std::iter::once(chunk).chain(chunks).flatten();
                fates.extend(rest.map(|letter| (*letter, LetterFate::NotReached)));
                break;
            }
            fates.extend(self.send_chunk(chunk).await?);
        }
        Ok(fates)
    }

    async fn send_chunk<'l>(
        &mut self,
        letters: &[&'l DeadLetter],
    ) -> Result<Vec<(&'l DeadLetter, LetterFate)>, RedriverError> {
        let RedriveRun { id, end_deadline, until, .. } = self.run;
        let dynamodb = &self.app.guards.access;
        let key = |letter: &&DeadLetter| MarkKey { letter: letter.id.clone(), step: LetterStep::Send };
        let keys: Vec<MarkKey> = letters.iter().map(key).collect();
        let began = Instant::now();
        let now = self.app.ports.clock.now();
        let begin = || self.app.ports.marks.begin(&keys, id, now, *until);
        let verdicts = dynamodb.call_each(*end_deadline, "marking letters", keys.len(), begin).await?;

        let mut fates = Vec::with_capacity(letters.len());
        let mut begun = Vec::with_capacity(letters.len());
        for ((letter, key), verdict) in letters.iter().zip(keys).zip(verdicts) {
            match verdict {
                BeginVerdict::Ours => begun.push((*letter, key)),
                BeginVerdict::UnderWay { until } => fates.push((*letter, LetterFate::UnderWay { until })),
                BeginVerdict::Done => fates.push((*letter, LetterFate::Already)),
            }
        }
        let (mut ours, mut copies) = (Vec::with_capacity(begun.len()), Vec::with_capacity(begun.len()));
        for (letter, key) in begun {
            match self.whole(letter).await? {
                Some(whole) => {
                    copies.push(whole.redriven());
                    ours.push((letter, key));
                }
                None => fates.push((letter, LetterFate::Refused)),
            }
        }
        let kafka = &self.app.guards.kafka;
        let publisher = &*self.app.ports.publisher;
        // `end_deadline`, because a step that was begun may be finished after the deadline for beginning one.
        let clock = SpanClock::start();
        let answers = kafka.publish(*end_deadline, "sending letters", publisher, copies, PUBLISH_TIMEOUT).await;
        self.pace.spend(ours.len() as u64, began);

        let mut sent: Vec<(MarkKey, Option<Position>)> = Vec::with_capacity(ours.len());
        let (mut failure, mut spans) = (None, Vec::new());
        for ((letter, key), answer) in ours.into_iter().zip(answers) {
            match answer {
                Ok(position) => {
                    spans.extend(trace::redriven(letter, &position, clock));
                    sent.push((key, Some(position)));
                    fates.push((letter, LetterFate::Sent));
                }
                Err(error) => match error.class {
                    ErrorClass::Permanent => {
                        tracing::error!(letter = %letter.id, tag = error.tag, "kafka refused a letter permanently: it stays on the dead letter topic or in its parked object");
                        fates.push((letter, LetterFate::Refused));
                    }
                    ErrorClass::Transient | ErrorClass::Overload => failure = Some(error),
                },
            }
        }
        traces::keep(spans);
        // Also done if some were not acknowledged, so that the acknowledged ones are not sent again.
        let now = self.app.ports.clock.now();
        let finish = || self.app.ports.marks.finish(&sent, id, now);
        dynamodb.call(*end_deadline, "marking letters as sent", finish).await?;
        match failure {
            Some(error) => Err(error.into()),
            None => Ok(fates),
        }
    }

    /// The letter with the bytes of its record, from the archive if they are there; `None` if they are there no more.
    async fn whole<'l>(&self, letter: &'l DeadLetter) -> Result<Option<Cow<'l, DeadLetter>>, RedriverError> {
        let Some(key) = letter.quarantined() else { return Ok(Some(Cow::Borrowed(letter))) };
        let get = || self.app.ports.objects.get(key);
        let problem = match self.app.guards.s3.call(self.run.end_deadline, "reading a quarantined record", get).await {
            Ok(object) => match archive::single::unpack(&object, topic::RAW_EVENTS) {
                Ok(record) => return Ok(Some(Cow::Owned(letter.with_bytes_of(record)))),
                Err(problem) => problem,
            },
            Err(error) => match error.class {
                ErrorClass::Permanent => error.tag,
                ErrorClass::Transient | ErrorClass::Overload => return Err(error.into()),
            },
        };
        tracing::error!(letter = %letter.id, object = key, problem, "the bytes of a letter cannot be read from the archive: it stays where it is");
        Ok(None)
    }
}
