//! Parks letters that failed too often, as objects under `parked/`.
//!
//! An object holds one letter ([`archive::single`]). Its key is made from the letter's id, so that parking a letter again
//! writes nothing. Objects are never changed; whether a letter was released is in its mark.

use pipeline::dead_letter::DeadLetter;
use pipeline::ports::{BeginVerdict, LetterStep, MarkKey};
use pipeline::{object_name, topic};

use crate::app::App;
use crate::error::RedriverError;
use crate::run::RedriveRun;
use crate::sending::LetterFate;

/// Reads the letter in an object.
///
/// # Errors
/// If the object was not written by [`park`], or holds another letter than its key says.
pub fn unpack(key: &str, body: &[u8]) -> Result<DeadLetter, RedriverError> {
    let unreadable = |problem| RedriverError::Parked { key: key.to_owned(), problem };
    let record = archive::single::unpack(body, topic::DEAD_LETTER_EVENTS).map_err(unreadable)?;
    let letter = DeadLetter::read(record).map_err(|_| unreadable("it does not hold a dead letter"))?;
    if object_name::parked(&letter.id) == key { Ok(letter) } else { Err(unreadable("it holds another letter")) }
}

/// Parks a letter, unless another run has parked it or is working on it.
///
/// # Errors
/// If a dependency fails after bounded retries.
pub async fn park(app: &App, run: &RedriveRun, letter: &DeadLetter) -> Result<LetterFate, RedriverError> {
    let keys = [MarkKey { letter: letter.id.clone(), step: LetterStep::Park }];
    let now = app.ports.clock.now();
    let begin = || app.ports.marks.begin(&keys, &run.id, now, run.until);
    let verdicts = app.guards.access.call_each(run.end_deadline, "marking a letter", 1, begin).await?;
    match verdicts.as_slice() {
        [BeginVerdict::UnderWay { until }] => return Ok(LetterFate::UnderWay { until: *until }),
        [BeginVerdict::Done] => return Ok(LetterFate::Already),
        _ => {}
    }
    let key = object_name::parked(&letter.id);
    let body = archive::single::pack(&letter.record).map_err(RedriverError::Pack)?;
    // `AlreadyThere`: a run wrote it and died before it could mark the letter as parked.
    let put = || app.ports.objects.put_new(&key, body.clone());
    app.guards.s3.call(run.end_deadline, "parking a letter", put).await?;
    let now = app.ports.clock.now();
    let [key] = keys;
    let done = [(key, None)];
    let finish = || app.ports.marks.finish(&done, &run.id, now);
    app.guards.access.call(run.end_deadline, "marking a letter as parked", finish).await?;
    Ok(LetterFate::Sent)
}
