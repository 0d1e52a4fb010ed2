//! One run: scores unscored events until none is left, the time is nearly up, or the scorer is down.

use std::collections::BTreeSet;
use std::time::Duration;

use pipeline::Outcome;
use pipeline::decisions::late::{control_question, late_scores, score_requests};
use pipeline::ports::{EventPlace, LateScore, Score, UnscoredEvent};
use serde::Serialize;
use strum::IntoStaticStr;
use telemetry::list::EVENTS_SCORED_LATE;
use tokio::time::Instant;

use crate::app::App;
use crate::error::RescorerError;

/// Time reserved at the end to finish a batch that was begun.
const ENDING: Duration = Duration::from_secs(1);
/// Events that are found, scored and settled in one batch.
pub(crate) const BATCH: usize = 500;

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case", const_into_str)]
pub enum Ended {
    /// No further event can be scored.
    Done,
    /// The requested number of events has been looked at.
    Limit,
    /// The function's time is nearly up.
    OutOfTime,
    ScorerDown,
}

impl Ended {
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// What a run did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Unscored events that were looked at.
    pub found: usize,
    /// Events whose score this run stored.
    pub scored: usize,
    /// Those of them that turned out to be fraud.
    pub fraud: usize,
    /// Late outcomes that Kafka acknowledged, including those of earlier runs.
    pub published: usize,
    /// Events that the scorer cannot score while it scores others. They stay unscored, and every run tries again.
    pub unscorable: usize,
    /// Late outcomes that Kafka refuses permanently. They stay in the outbox, and every run tries again.
    pub undeliverable: usize,
    /// Events that still wait for a score.
    pub left: u64,
    pub ended: Ended,
}

pub(crate) struct Run<'a> {
    pub app: &'a App,
    /// No batch is begun after this instant.
    pub deadline: Instant,
    /// A batch that was begun must be finished by this instant.
    pub end_deadline: Instant,
    found: usize,
    scored: usize,
    fraud: usize,
    unscorable: usize,
    pub published: usize,
    /// Entries of the outbox that Kafka refused permanently.
    pub undeliverable: BTreeSet<EventPlace>,
}

impl<'a> Run<'a> {
    pub fn new(app: &'a App, deadline: Instant) -> Self {
        Run {
            app,
            deadline,
            end_deadline: deadline + ENDING,
            found: 0,
            scored: 0,
            fraud: 0,
            unscorable: 0,
            published: 0,
            undeliverable: BTreeSet::new(),
        }
    }

    pub fn into_report(self, left: u64, ended: Ended) -> Report {
        Report {
            found: self.found,
            scored: self.scored,
            fraud: self.fraud,
            published: self.published,
            unscorable: self.unscorable,
            undeliverable: self.undeliverable.len(),
            left,
            ended,
        }
    }

    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Whether too little time is left for an attempt at the scorer, which may take at most half of the remaining time.
    /// A run that is out of time must not conclude that the scorer is down.
    fn is_short_of_time(&self) -> bool {
        self.time_left() < self.app.policy.scorer_timeout * 2
    }

    /// Goes through the unscored events by their places, so that those that stay unscored do not hold up others.
    pub async fn score_all(&mut self, limit: Option<usize>) -> Result<Ended, RescorerError> {
        let mut after: Option<EventPlace> = None;
        loop {
            let wanted = limit.map_or(BATCH, |limit| BATCH.min(limit - self.found));
            if wanted == 0 {
                return Ok(Ended::Limit);
            }
            if self.is_short_of_time() {
                return Ok(Ended::OutOfTime);
            }
            let find = || self.app.events.find(after.as_ref(), wanted);
            let page = self.app.postgres.call(self.end_deadline, "finding events", find).await?;
            let Some(last) = page.last() else { return Ok(Ended::Done) };
            after = Some(last.place.clone());
            self.found += page.len();
            if let Some(ended) = self.score_page(page).await? {
                return Ok(ended);
            }
        }
    }

    /// Scores the events together. If that fails although the scorer works, one of them is at fault. So that the others
    /// still get their scores, each half is tried alone, down to the single event.
    async fn score_page(&mut self, page: Vec<UnscoredEvent>) -> Result<Option<Ended>, RescorerError> {
        let mut pieces = vec![page];
        while let Some(mut piece) = pieces.pop() {
            if self.is_short_of_time() {
                return Ok(Some(Ended::OutOfTime));
            }
            if let Some(scores) = self.app.scoring.score(&score_requests(&piece), self.deadline).await {
                self.settle(piece, scores).await?;
                self.publish_outbox().await?;
            } else if self.app.scoring.score(&control_question(&piece), self.deadline).await.is_none() {
                return Ok(Some(Ended::ScorerDown));
            } else if piece.len() > 1 {
                let second = piece.split_off(piece.len() / 2);
                pieces.extend([second, piece]);
            } else {
                for event in piece {
                    self.unscorable += 1;
                    tracing::error!(tenant = %event.place.key.tenant, event.id = %event.place.key.id, "the scorer fails on this event but works for others: the event stays unscored, and every run tries it again");
                }
            }
        }
        Ok(None)
    }

    async fn settle(&mut self, events: Vec<UnscoredEvent>, scores: Vec<Score>) -> Result<(), RescorerError> {
        let late = late_scores(events, scores, self.app.policy.fraud_threshold);
        let now = self.app.clock.now();
        let settle = || self.app.events.settle(late.clone(), now);
        // If an answer is lost, the repeated call finds nothing left to do: the events are settled but missing from
        // this run's counts.
        let settled = self.app.postgres.call(self.end_deadline, "storing scores", settle).await?;
        let of = |outcome: Outcome| settled.iter().filter(|late: &&LateScore| late.outcome == outcome).count();
        self.scored += settled.len();
        self.fraud += of(Outcome::Fraud);
        for outcome in [Outcome::Valid, Outcome::Fraud] {
            EVENTS_SCORED_LATE.add(of(outcome) as u64, [outcome.as_str()]);
        }
        Ok(())
    }
}
