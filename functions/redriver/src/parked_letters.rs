//! The actions on parked letters: list and release.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use pipeline::dead_letter::DeadLetter;
use pipeline::object_name;
use pipeline::ports::{LetterStep, MarkKey};
use serde::Serialize;

use crate::app::App;
use crate::error::RedriverError;
use crate::parking;
use crate::request::Filters;
use crate::run::RedriveRun;
use crate::sending::{LetterFate, LetterSender};
use crate::shown::{Shown, shown};
use crate::status::{LetterStatus, statuses};

/// Objects that are read in one step.
const CHUNK: usize = 64;
const CONCURRENT_READS: usize = 16;

/// Reads parked letters in the order of their keys, until the time is up.
struct ParkedWalk<'a> {
    app: &'a App,
    run: &'a RedriveRun,
    filters: &'a Filters,
    /// The objects that are left, with the next one last.
    keys: Vec<String>,
    read: u64,
    unreadable: u64,
}

/// A parked letter, and whether it was released.
struct Parked {
    key: String,
    letter: DeadLetter,
    status: LetterStatus,
}

impl<'a> ParkedWalk<'a> {
    async fn open(
        app: &'a App,
        run: &'a RedriveRun,
        filters: &'a Filters,
        from_key: &str,
    ) -> Result<Self, RedriverError> {
        let list = || app.ports.objects.list(object_name::PARKED);
        let objects = app.guards.s3.call(run.end_deadline, "listing parked letters", list).await?;
        let keys = objects.into_iter().map(|object| object.key).filter(|key| key.as_str() >= from_key).rev();
        Ok(ParkedWalk { app, run, filters, keys: keys.collect(), read: 0, unreadable: 0 })
    }

    async fn next(&mut self) -> Result<Option<Vec<Parked>>, RedriverError> {
        if self.keys.is_empty() || self.run.is_out_of_time() {
            return Ok(None);
        }
        let mut keys = self.keys.split_off(self.keys.len().saturating_sub(CHUNK));
        keys.reverse();
        self.read += keys.len() as u64;
        let reads: Vec<_> = keys.into_iter().map(|key| read(self.app, self.run, key)).collect();
        let letters: Vec<(String, Option<DeadLetter>)> =
            stream::iter(reads).buffered(CONCURRENT_READS).try_collect().await?;
        self.unreadable += letters.iter().filter(|(_, letter)| letter.is_none()).count() as u64;
        let letters: Vec<(String, DeadLetter)> = letters
            .into_iter()
            .filter_map(|(key, letter)| Some((key, letter.filter(|letter| self.filters.meets(letter))?)))
            .collect();
        let mark = |(_, letter): &(String, DeadLetter)| MarkKey { letter: letter.id.clone(), step: LetterStep::Send };
        let marks: Vec<MarkKey> = letters.iter().map(mark).collect();
        let statuses = statuses(
            &*self.app.ports.marks,
            &self.app.guards.access,
            &marks,
            self.app.ports.clock.now(),
            self.run.end_deadline,
        )
        .await?;
        let parked = |((key, letter), status)| Parked { key, letter, status };
        Ok(Some(letters.into_iter().zip(statuses).map(parked).collect()))
    }

    fn next_key(&self) -> Option<String> {
        self.keys.last().cloned()
    }
}

/// An object that holds no letter is skipped, so that it does not stop the reading of the others.
async fn read(app: &App, run: &RedriveRun, key: String) -> Result<(String, Option<DeadLetter>), RedriverError> {
    let get = || app.ports.objects.get(&key);
    let body = app.guards.s3.call(run.end_deadline, "reading a parked letter", get).await?;
    match parking::unpack(&key, &body) {
        Ok(letter) => Ok((key, Some(letter))),
        Err(error) => {
            tracing::warn!(tag = error.tag(), error = %error, "a parked object cannot be read and was skipped");
            Ok((key, None))
        }
    }
}

#[derive(Debug, Serialize)]
pub struct ParkedLetter {
    pub key: String,
    /// Whether the letter was sent back.
    pub released: bool,
    #[serde(flatten)]
    pub letter: Shown,
}

#[derive(Debug, Default, Serialize)]
pub struct ParkedAnswer {
    /// Objects looked at.
    pub read: u64,
    /// Objects that hold no letter.
    pub unreadable: u64,
    pub letters: Vec<ParkedLetter>,
    /// The key to continue from: there are more letters than the limit, or the time ran out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_key: Option<String>,
}

/// Lists parked letters.
///
/// # Errors
/// If a dependency fails after bounded retries.
pub async fn list(
    app: &App,
    run: &RedriveRun,
    filters: &Filters,
    from_key: &str,
    limit: usize,
    answer: &mut ParkedAnswer,
) -> Result<(), RedriverError> {
    let mut walk = ParkedWalk::open(app, run, filters, from_key).await?;
    'chunks: while let Some(letters) = walk.next().await? {
        for parked in letters {
            if answer.letters.len() == limit {
                answer.next_key = Some(parked.key);
                break 'chunks;
            }
            let released = parked.status == LetterStatus::Done;
            answer.letters.push(ParkedLetter { key: parked.key, released, letter: shown(&parked.letter) });
        }
    }
    if answer.next_key.is_none() {
        answer.next_key = walk.next_key();
    }
    (answer.read, answer.unreadable) = (walk.read, walk.unreadable);
    Ok(())
}

/// What a release did, or in a dry run would do.
#[derive(Debug, Default, Serialize)]
pub struct ReleaseAnswer {
    pub dry_run: bool,
    /// Objects looked at.
    pub read: u64,
    /// Objects that hold no letter.
    pub unreadable: u64,
    /// Letters sent back to `raw-events`.
    pub sent: u64,
    /// Letters that were released before.
    pub already: u64,
    /// Letters that other runs are working on.
    pub under_way: u64,
    /// Letters that Kafka refuses because they are too large for `raw-events`.
    pub refused: u64,
    /// The key to continue from: the time ran out, or another run is working on that letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_key: Option<String>,
}

impl ReleaseAnswer {
    fn add(&mut self, key: &str, fate: LetterFate) {
        match fate {
            LetterFate::Sent => self.sent += 1,
            LetterFate::Already => self.already += 1,
            LetterFate::Refused => self.refused += 1,
            LetterFate::UnderWay { .. } => self.under_way += 1,
            LetterFate::NotReached => {}
        }
        let is_unfinished = match fate {
            LetterFate::UnderWay { .. } | LetterFate::NotReached => true,
            LetterFate::Sent | LetterFate::Already | LetterFate::Refused => false,
        };
        if is_unfinished && self.next_key.as_deref().is_none_or(|first| key < first) {
            self.next_key = Some(key.to_owned());
        }
    }
}

/// Sends parked letters that meet the filters back to `raw-events`, each once.
///
/// # Errors
/// If a dependency still fails after bounded retries. `answer` then holds what was done; another run does the rest.
pub async fn release(
    app: &App,
    run: &RedriveRun,
    filters: &Filters,
    from_key: &str,
    max_per_sec: u32,
    answer: &mut ReleaseAnswer,
) -> Result<(), RedriverError> {
    let mut walk = ParkedWalk::open(app, run, filters, from_key).await?;
    let mut sender = LetterSender::new(app, run, max_per_sec);
    while let Some(letters) = walk.next().await? {
        let mut open = Vec::with_capacity(letters.len());
        for Parked { key, letter, status } in &letters {
            match status {
                LetterStatus::Open if answer.dry_run => answer.add(key, LetterFate::Sent),
                LetterStatus::Open => open.push(letter),
                LetterStatus::UnderWay { until } => answer.add(key, LetterFate::UnderWay { until: *until }),
                LetterStatus::Done => answer.add(key, LetterFate::Already),
            }
        }
        for (letter, fate) in sender.send(&open).await? {
            answer.add(&object_name::parked(&letter.id), fate);
        }
    }
    if answer.next_key.is_none() {
        answer.next_key = walk.next_key();
    }
    (answer.read, answer.unreadable) = (walk.read, walk.unreadable);
    Ok(())
}
