//! Sends batches until each event of them is accepted or refused.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use http::header::RETRY_AFTER;
use indicatif::ProgressBar;
use pipeline::backoff::Backoff;
use secrecy::SecretString;

use crate::client::{AnywhereClient, HttpAnswer};
use crate::ending::{Ending, Stop};
use crate::ingest_answer::{EventFate, Verdict, verdict};
use crate::place::key_header;

/// Longest wait for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

const BACKOFF: Backoff = Backoff { attempts: u32::MAX, base: Duration::from_millis(500), cap: Duration::from_secs(30) };

/// An event of a file on its way.
#[derive(Clone, Debug)]
pub struct OutgoingEvent {
    pub line: u64,
    /// As it stands in the file.
    pub text: String,
    pub event: String,
}

/// A line that did not become an event.
#[derive(Debug)]
pub struct RefusedLine {
    pub line: u64,
    pub reason: String,
    pub text: String,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct BatchResult {
    pub accepted: u64,
    pub refused: Vec<RefusedLine>,
    /// Events that were sent more than once, because it was unknown whether they had arrived.
    pub sent_again: u64,
}

/// A careful client of ingest.
#[derive(Debug)]
pub struct IngestClient<'a> {
    pub client: &'a AnywhereClient,
    /// Of `POST /events/batch`.
    pub url: String,
    pub key: SecretString,
    /// How long to go on without any progress.
    pub patience: Duration,
    /// Most events in a request; less after ingest has refused that many.
    pub largest: usize,
    pub bar: ProgressBar,
}

impl IngestClient<'_> {
    /// # Errors
    /// If the key is refused, ingest answers strangely, or nothing is accepted or refused for as long as `patience`.
    pub async fn deliver(&mut self, events: Vec<OutgoingEvent>) -> anyhow::Result<BatchResult> {
        let mut result = BatchResult::default();
        let mut open = VecDeque::from([events]);
        let (mut attempt, mut last_progress) = (0, Instant::now());
        while let Some(mut batch) = open.pop_front() {
            if batch.is_empty() {
                continue;
            }
            if batch.len() > self.largest {
                open.push_front(batch.split_off(self.largest));
            }
            let sent = batch.len();
            let (again, why, wait_at_least) = match self.post(&batch).await {
                Err(error) => {
                    result.sent_again += sent as u64;
                    (batch, format!("{error:#}"), None)
                }
                Ok(answer) => {
                    let again = match verdict(answer.status, &answer.body, sent) {
                        Verdict::Each(fates) => settle(batch, fates, &mut result),
                        Verdict::TooMuch { reason, .. } if sent == 1 => {
                            refuse(batch, &reason, &mut result);
                            Vec::new()
                        }
                        Verdict::TooMuch { because_of_size, .. } => {
                            let second = batch.split_off(sent / 2);
                            if because_of_size {
                                self.largest = batch.len();
                            }
                            open.push_front(second);
                            open.push_front(batch);
                            continue;
                        }
                        Verdict::Later => batch,
                        Verdict::KeyRefused(reason) => return Err(key_refused(&reason)),
                        Verdict::Strange(reason) => anyhow::bail!("{} is no address of ingest: {reason}", self.url),
                    };
                    (again, format!("ingest answered {}", answer.status), retry_after(&answer))
                }
            };
            if again.len() < sent {
                (attempt, last_progress) = (0, Instant::now());
            }
            if again.is_empty() {
                continue;
            }
            open.push_front(again);
            attempt += 1;
            let wait = BACKOFF.wait(attempt).max(wait_at_least.unwrap_or_default());
            let idle = last_progress.elapsed();
            anyhow::ensure!(idle + wait < self.patience, "gave up after {} s without progress: {why}", idle.as_secs());
            self.bar.set_message(format!("{why}: waiting {:.0} s", wait.as_secs_f64().ceil()));
            tokio::time::sleep(wait).await;
            self.bar.set_message("");
        }
        Ok(result)
    }

    async fn post(&self, batch: &[OutgoingEvent]) -> anyhow::Result<HttpAnswer> {
        let events: Vec<&str> = batch.iter().map(|outgoing| outgoing.event.as_str()).collect();
        let body = format!("[{}]", events.join(","));
        let headers = key_header(&self.key);
        let answer = self.client.post(&self.url, &headers, body);
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(answer) => answer,
            Err(_) => anyhow::bail!("no answer from {} within {} s", self.url, ANSWER_TIMEOUT.as_secs()),
        }
    }
}

/// What to tell somebody whose key is refused.
pub fn key_refused(reason: &str) -> anyhow::Error {
    let text = format!(
        "the API key is refused: {reason}; it needs the scope write to send and read to ask (`forebay keys list`), and a \
         new key works within seconds"
    );
    Stop::with(Ending::NotAllowed, text)
}

fn retry_after(answer: &HttpAnswer) -> Option<Duration> {
    answer.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// Counts the events with a fate, and returns those to send again.
fn settle(batch: Vec<OutgoingEvent>, fates: Vec<EventFate>, result: &mut BatchResult) -> Vec<OutgoingEvent> {
    let mut fates = fates.into_iter();
    let mut again = Vec::new();
    for outgoing in batch {
        match fates.next() {
            Some(EventFate::Accepted) => result.accepted += 1,
            Some(EventFate::Refused(reason)) => refuse(vec![outgoing], &reason, result),
            Some(EventFate::Unknown) | None => {
                result.sent_again += 1;
                again.push(outgoing);
            }
        }
    }
    again
}

fn refuse(batch: Vec<OutgoingEvent>, reason: &str, result: &mut BatchResult) {
    let refused = |OutgoingEvent { line, text, .. }| RefusedLine { line, reason: reason.to_owned(), text };
    result.refused.extend(batch.into_iter().map(refused));
}
