//! Parks letters that failed too often, as objects under `parked/`.
//!
//! An object holds one letter: a line in the format of `archive::line`, compressed with zstd. Its key is made from the
//! letter's id, so that parking a letter again writes nothing. Objects are never changed; whether a letter was released
//! is in its mark.

use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use event::Origin;
use pipeline::dead_letter::DeadLetter;
use pipeline::ports::{BeginVerdict, LetterId, LetterStep, MarkKey};
use pipeline::topic;

use crate::app::App;
use crate::error::RedriverError;
use crate::run::RedriveRun;
use crate::sending::LetterFate;

pub const PREFIX: &str = "parked/";
const EXTENSION: &str = ".ndjson.zst";
const ZSTD_LEVEL: i32 = 3;

/// Largest line that is read, in bytes. A letter has at most 1.5 MB, and base64 adds a third.
const MAX_LINE_BYTES: u64 = 8 * 1024 * 1024;

/// `parked/topic=raw-events/partition=0/00000000000000000005.<digest>.a3.ndjson.zst`, with the digest of the letter's
/// origin if it has one.
pub fn object_key(letter: &LetterId) -> String {
    let LetterId { origin: Origin { topic, partition, offset, digest }, attempt } = letter;
    let digest = digest.map(|digest| format!(".{digest}")).unwrap_or_default();
    format!("{PREFIX}topic={topic}/partition={partition}/{offset:020}{digest}.a{attempt}{EXTENSION}")
}

fn pack(letter: &DeadLetter) -> Result<Bytes, RedriverError> {
    let mut line = Vec::new();
    archive::line::encode(&letter.record, &mut line).map_err(|error| RedriverError::Pack(error.into()))?;
    Ok(zstd::bulk::compress(&line, ZSTD_LEVEL).map_err(RedriverError::Pack)?.into())
}

/// Reads the letter in an object.
///
/// # Errors
/// If the object was not written by [`park`], or holds another letter than its key says.
pub fn unpack(key: &str, body: &[u8]) -> Result<DeadLetter, RedriverError> {
    let unreadable = |problem| RedriverError::Parked { key: key.to_owned(), problem };
    let mut line = Vec::new();
    let decoder = zstd::Decoder::new(body).map_err(|_| unreadable("it is not compressed with zstd"))?;
    let read = decoder.take(MAX_LINE_BYTES).read_to_end(&mut line);
    read.map_err(|_| unreadable("it cannot be decompressed"))?;
    let topic: Arc<str> = Arc::from(topic::DEAD_LETTER_EVENTS);
    let record = archive::line::decode(&line, &topic).map_err(|_| unreadable("it does not hold a record"))?;
    let letter = DeadLetter::read(record).map_err(|_| unreadable("it does not hold a dead letter"))?;
    if object_key(&letter.id) == key { Ok(letter) } else { Err(unreadable("it holds another letter")) }
}

/// Parks a letter, unless another run has parked it or is working on it.
///
/// # Errors
/// If a dependency fails after bounded retries.
pub async fn park(app: &App, run: &RedriveRun, letter: &DeadLetter) -> Result<LetterFate, RedriverError> {
    let keys = [MarkKey { letter: letter.id.clone(), step: LetterStep::Park }];
    let now = app.ports.clock.now();
    let begin = || app.ports.marks.begin(&keys, &run.id, now, run.until);
    let verdicts = app.guards.dynamodb.call_each(run.end_deadline, "marking a letter", 1, begin).await?;
    match verdicts.as_slice() {
        [BeginVerdict::UnderWay { until }] => return Ok(LetterFate::UnderWay { until: *until }),
        [BeginVerdict::Done] => return Ok(LetterFate::Already),
        _ => {}
    }
    let (key, body) = (object_key(&letter.id), pack(letter)?);
    // `AlreadyThere`: a run wrote it and died before it could mark the letter as parked.
    let put = || app.ports.objects.put_new(&key, body.clone());
    app.guards.s3.call(run.end_deadline, "parking a letter", put).await?;
    let now = app.ports.clock.now();
    let [key] = keys;
    let done = [(key, None)];
    let finish = || app.ports.marks.finish(&done, &run.id, now);
    app.guards.dynamodb.call(run.end_deadline, "marking a letter as parked", finish).await?;
    Ok(LetterFate::Sent)
}
