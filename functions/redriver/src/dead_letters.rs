//! The actions on the dead letter topic: list and redrive.

use std::collections::BTreeMap;
use std::time::Duration;

use event::Timestamp;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use pipeline::dead_letter::DeadLetter;
use pipeline::guard::Guard;
use pipeline::pace::Pace;
use pipeline::ports::{LetterStep, MarkKey, PartitionSpan, TopicReader};
use pipeline::{Position, Record, topic};
use serde::Serialize;
use tokio::time::Instant;

use crate::app::App;
use crate::error::RedriverError;
use crate::parking;
use crate::request::Filters;
use crate::run::RedriveRun;
use crate::sending::{LetterFate, LetterSender};
use crate::shown::{Shown, shown};
use crate::status::{Distinct, LetterStatus, Unfinished, statuses, step_of};

/// Number of example letters shown for each reason.
const EXAMPLES: usize = 3;
/// Longest wait for one read from Kafka.
const READ_WAIT: Duration = Duration::from_secs(1);
/// Letters whose marks are looked up per second. Ingest and the processor read keys and blocked addresses from the same
/// table, and a letter costs one read unit: three concurrent runs leave half of the 12,000 units a second that a new
/// table supports.
///
/// Source: <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/pre-warming-on-demand-capacity-mode.html>
const LOOKS_PER_SEC: u32 = 2_000;
/// Letters that are parked concurrently.
const CONCURRENT_PARKS: usize = 8;

/// A part of the topic, by the offsets of its partitions. Each partition is read from `from`, or its start if `from`
/// does not name it, up to but not including `until`, or its present end.
#[derive(Clone, Copy, Debug)]
pub struct LetterRange<'a> {
    pub from: &'a BTreeMap<i32, i64>,
    pub until: &'a BTreeMap<i32, i64>,
}

/// Reads the topic from start to end, until the time is up.
struct TopicWalk<'a> {
    run: &'a RedriveRun,
    kafka: &'a Guard,
    reader: Box<dyn TopicReader>,
    /// For each partition, the offset after the last one to read.
    until: BTreeMap<i32, i64>,
    filters: &'a Filters,
    pace: Pace,
    distinct: Distinct,
    counts: WalkCounts,
}

/// Counts of the records read.
#[derive(Debug, Default, Serialize)]
pub struct WalkCounts {
    /// Records looked at.
    pub read: u64,
    /// Records that are not dead letters.
    pub unreadable: u64,
    /// Further copies of letters that meet the filters; they are not in the other counts.
    pub copies: u64,
    /// Letters that meet the filters.
    pub matched: u64,
}

impl<'a> TopicWalk<'a> {
    async fn open(
        app: &'a App,
        run: &'a RedriveRun,
        filters: &'a Filters,
        range: LetterRange<'_>,
    ) -> Result<Self, RedriverError> {
        let open = || app.ports.topics.open(topic::DEAD_LETTER_EVENTS, range.from);
        let kafka = &app.guards.kafka;
        let reader = kafka.call(run.end_deadline, "opening the topic", open).await?;
        let until = |(partition, span): (&i32, &PartitionSpan)| {
            (*partition, range.until.get(partition).map_or(span.end, |until| span.end.min(*until)))
        };
        let until = reader.spans().iter().map(until).collect();
        Ok(TopicWalk {
            run,
            kafka,
            reader,
            until,
            filters,
            pace: Pace::new(LOOKS_PER_SEC),
            distinct: Distinct::default(),
            counts: WalkCounts::default(),
        })
    }

    fn is_finished(&self, partition: i32, span: PartitionSpan) -> bool {
        self.until.get(&partition).is_none_or(|until| span.next >= *until)
    }

    /// The next letters that meet the filters, in the order of each partition; `None` at the end, or if the time is up.
    async fn next(&mut self) -> Result<Option<Vec<DeadLetter>>, RedriverError> {
        let is_finished = self.reader.spans().iter().all(|(partition, span)| self.is_finished(*partition, *span));
        if is_finished || !self.pace.wait(self.run.deadline).await {
            return Ok(None);
        }
        let began = Instant::now();
        let records = self.read().await?;
        let mut letters = Vec::with_capacity(records.len());
        for record in records {
            let Position { partition, offset, .. } = &record.position;
            if self.until.get(partition).is_none_or(|until| offset >= until) {
                continue;
            }
            self.counts.read += 1;
            let Ok(letter) = DeadLetter::read(record) else {
                self.counts.unreadable += 1;
                continue;
            };
            if !self.filters.meets(&letter) {
                continue;
            }
            if self.distinct.is_new(&letter) {
                self.counts.matched += 1;
                letters.push(letter);
            } else {
                self.counts.copies += 1;
            }
        }
        self.pace.spend(letters.len() as u64, began);
        Ok(Some(letters))
    }

    async fn read(&mut self) -> Result<Vec<Record>, RedriverError> {
        let run = self.run;
        // Behind a lock, because a call that may be repeated cannot borrow the reader mutably. The lock is never
        // contended.
        let reader = tokio::sync::Mutex::new(&mut self.reader);
        let read = || async {
            let left = run.deadline.saturating_duration_since(Instant::now());
            reader.lock().await.read(READ_WAIT.min(left)).await
        };
        Ok(self.kafka.call(run.deadline, "reading the topic", read).await?)
    }

    /// Where to continue: for each partition the first offset that is not read or not finished. `None` if there is
    /// none.
    fn next_offsets(&self, unfinished: &Unfinished) -> Option<BTreeMap<i32, i64>> {
        let next = self.reader.spans().iter().filter_map(|(partition, span)| {
            let unread = (!self.is_finished(*partition, *span)).then_some(span.next);
            Some((*partition, unfinished.first(*partition).or(unread)?))
        });
        let next: BTreeMap<i32, i64> = next.collect();
        // A partition that is missing here would be read from its start again, so either all are named or none.
        (!next.is_empty()).then(|| {
            let ends = self.until.iter().map(|(partition, until)| (*partition, *until));
            ends.chain(next).collect()
        })
    }
}

/// Where each letter stands, in their order.
async fn statuses_of(app: &App, run: &RedriveRun, letters: &[DeadLetter]) -> Result<Vec<LetterStatus>, RedriverError> {
    let key = |letter: &DeadLetter| MarkKey { letter: letter.id.clone(), step: step_of(&letter.id) };
    let keys: Vec<MarkKey> = letters.iter().map(key).collect();
    statuses(&*app.ports.marks, &app.guards.access, &keys, app.ports.clock.now(), run.end_deadline).await
}

/// The letters of one reason.
#[derive(Debug, Serialize)]
pub struct Group {
    pub letters: u64,
    /// Letters that a redrive would send or park.
    pub open: u64,
    /// Letters that a run is working on.
    pub under_way: u64,
    /// Letters that were sent back. If one failed again, that is another letter.
    pub redriven: u64,
    pub parked: u64,
    pub first_failed_at: Timestamp,
    pub last_failed_at: Timestamp,
    pub examples: Vec<Shown>,
}

impl Group {
    fn of(letter: &DeadLetter) -> Self {
        Group {
            letters: 0,
            open: 0,
            under_way: 0,
            redriven: 0,
            parked: 0,
            first_failed_at: letter.failed_at,
            last_failed_at: letter.failed_at,
            examples: Vec::new(),
        }
    }

    fn add(&mut self, letter: &DeadLetter, status: LetterStatus) {
        self.letters += 1;
        match (status, step_of(&letter.id)) {
            (LetterStatus::Open, _) => self.open += 1,
            (LetterStatus::UnderWay { .. }, _) => self.under_way += 1,
            (LetterStatus::Done, LetterStep::Send) => self.redriven += 1,
            (LetterStatus::Done, LetterStep::Park) => self.parked += 1,
        }
        self.first_failed_at = self.first_failed_at.min(letter.failed_at);
        self.last_failed_at = self.last_failed_at.max(letter.failed_at);
        if self.examples.len() < EXAMPLES {
            self.examples.push(shown(letter));
        }
    }
}

#[derive(Debug, Default, Serialize)]
pub struct ListAnswer {
    #[serde(flatten)]
    pub walk: WalkCounts,
    /// The letters by the tag of the reason.
    pub reasons: BTreeMap<String, Group>,
    /// Where to continue, if the time ran out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<BTreeMap<i32, i64>>,
}

/// Counts letters by reason, with a few examples of each.
///
/// # Errors
/// If a dependency fails after bounded retries.
pub async fn list(
    app: &App,
    run: &RedriveRun,
    filters: &Filters,
    range: LetterRange<'_>,
    answer: &mut ListAnswer,
) -> Result<(), RedriverError> {
    let mut walk = TopicWalk::open(app, run, filters, range).await?;
    while let Some(letters) = walk.next().await? {
        let statuses = statuses_of(app, run, &letters).await?;
        for (letter, status) in letters.iter().zip(statuses) {
            let group = answer.reasons.entry(letter.reason.clone()).or_insert_with(|| Group::of(letter));
            group.add(letter, status);
        }
    }
    answer.next = walk.next_offsets(&Unfinished::default());
    answer.walk = walk.counts;
    Ok(())
}

/// What a redrive did, or in a dry run would do.
#[derive(Debug, Default, Serialize)]
pub struct RedriveAnswer {
    pub dry_run: bool,
    #[serde(flatten)]
    pub walk: WalkCounts,
    pub sent: u64,
    pub parked: u64,
    /// Sent or parked before.
    pub already: u64,
    /// Letters that other runs are working on.
    pub under_way: u64,
    /// Letters that Kafka refuses because they are too large for `raw-events`.
    pub refused: u64,
    /// `sent` and `parked` by the tag of the reason.
    pub by_reason: BTreeMap<String, u64>,
    /// Where to continue: the time ran out, or other runs are working on letters from there on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<BTreeMap<i32, i64>>,
    /// Set along with `next`: where this run would have ended. Letters that fail again meanwhile come after it, so that
    /// the next run does not send them a second time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<BTreeMap<i32, i64>>,
    /// Set along with `next`: when the letters that other runs have begun will be finished or free to begin again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Timestamp>,
}

impl RedriveAnswer {
    fn add(&mut self, letter: &DeadLetter, step: LetterStep, fate: LetterFate, unfinished: &mut Unfinished) {
        match fate {
            LetterFate::Sent => {
                match step {
                    LetterStep::Send => self.sent += 1,
                    LetterStep::Park => self.parked += 1,
                }
                *self.by_reason.entry(letter.reason.clone()).or_default() += 1;
            }
            LetterFate::Already => self.already += 1,
            LetterFate::Refused => self.refused += 1,
            LetterFate::UnderWay { until } => {
                self.under_way += 1;
                self.next_at = self.next_at.max(Some(until));
                unfinished.add(letter);
            }
            LetterFate::NotReached => unfinished.add(letter),
        }
    }
}

/// Sends back or parks every letter that meets the filters and is not done yet.
///
/// # Errors
/// If a dependency still fails after bounded retries. `answer` then holds what was done; another run does the rest.
pub async fn redrive(
    app: &App,
    run: &RedriveRun,
    filters: &Filters,
    range: LetterRange<'_>,
    max_per_sec: u32,
    answer: &mut RedriveAnswer,
) -> Result<(), RedriverError> {
    let mut walk = TopicWalk::open(app, run, filters, range).await?;
    let mut sender = LetterSender::new(app, run, max_per_sec);
    let mut unfinished = Unfinished::default();
    while let Some(letters) = walk.next().await? {
        let statuses = statuses_of(app, run, &letters).await?;
        let (mut to_send, mut to_park): (Vec<&DeadLetter>, Vec<&DeadLetter>) = (Vec::new(), Vec::new());
        for (letter, status) in letters.iter().zip(statuses) {
            let step = step_of(&letter.id);
            let fate = match (status, answer.dry_run, step) {
                (LetterStatus::Done, _, _) => LetterFate::Already,
                (LetterStatus::UnderWay { until }, _, _) => LetterFate::UnderWay { until },
                (LetterStatus::Open, true, _) => LetterFate::Sent,
                (LetterStatus::Open, false, LetterStep::Send) => {
                    to_send.push(letter);
                    continue;
                }
                (LetterStatus::Open, false, LetterStep::Park) => {
                    to_park.push(letter);
                    continue;
                }
            };
            answer.add(letter, step, fate, &mut unfinished);
        }
        let parks: Vec<_> = to_park.into_iter().map(|letter| park_in_time(app, run, letter)).collect();
        let parks: Vec<(&DeadLetter, LetterFate)> =
            stream::iter(parks).buffered(CONCURRENT_PARKS).try_collect().await?;
        for (letter, fate) in parks {
            answer.add(letter, LetterStep::Park, fate, &mut unfinished);
        }
        for (letter, fate) in sender.send(&to_send).await? {
            answer.add(letter, LetterStep::Send, fate, &mut unfinished);
        }
        // Updated after each step, so that the audit entry of a run that fails later says what the run did.
        answer.walk.read = walk.counts.read;
    }
    answer.next = walk.next_offsets(&unfinished);
    answer.until = answer.next.is_some().then_some(walk.until);
    answer.walk = walk.counts;
    Ok(())
}

async fn park_in_time<'l>(
    app: &App,
    run: &RedriveRun,
    letter: &'l DeadLetter,
) -> Result<(&'l DeadLetter, LetterFate), RedriverError> {
    let fate = if run.is_out_of_time() { LetterFate::NotReached } else { parking::park(app, run, letter).await? };
    Ok((letter, fate))
}
