//! The archive back into Postgres, or through other rules.
//!
//! Owns which archived records a run takes, how fast, and how it goes on after it was stopped or killed. How an outcome
//! becomes a row again, and what is decided about a record once more, is in `pipeline::decisions`; that repeating
//! either changes nothing is what the ports promise. Touches neither Kafka nor claims, and publishes nothing.

mod batches;
mod config;
mod counts;
mod error;
mod reprocess;
pub mod request;
mod restore;
mod run;

use std::fmt;
use std::sync::Arc;

use archive::Reader;
use event::Timestamp;
use event::schema::Registry;
use lambda::breaker::guard;
use lambda::invocation::{Invocation, InvocationError};
use pipeline::Dependency;
use pipeline::chain;
use pipeline::clock::Clock;
use pipeline::failpoint;
use pipeline::guard::Guard;
use pipeline::pace::Pace;
use pipeline::ports::{EventStore, ObjectStore, ReplayRuns, ReprocessedOutcomes, UnscoredEvents};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::Instant;

pub use config::{Config, Policy};
pub use counts::{Counts, Reprocessed, Restored};
pub use error::ReplayerError;
pub use reprocess::{LambdaScorers, Scorers};
pub use request::Request;

use crate::batches::Batches;
use crate::reprocess::Reprocessor;
use crate::request::{Action, Offsets};
use crate::run::Run;

/// Largest batch: one transaction, and some progress to lose when killed.
const MAX_BATCH: usize = 500;

/// What the replayer needs from the outside.
pub struct Ports {
    pub objects: Arc<dyn ObjectStore>,
    pub store: Arc<dyn EventStore>,
    pub unscored: Arc<dyn UnscoredEvents>,
    pub runs: Arc<dyn ReplayRuns>,
    pub reprocessed: Arc<dyn ReprocessedOutcomes>,
    pub scorers: Arc<dyn Scorers>,
    pub clock: Arc<dyn Clock>,
}

/// One instance of the function.
pub struct App {
    policy: Policy,
    registry: Registry,
    ports: Ports,
    /// What this instance knows of Postgres' health.
    postgres: Guard,
    /// And of S3's.
    s3: Arc<Guard>,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("policy", &self.policy).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    /// Whether everything that is meant has been dealt with.
    complete: bool,
    dry_run: bool,
    counts: &'a Counts,
    /// Unless complete: for each partition that was begun, where to go on. A run does so by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a Offsets>,
}

impl App {
    pub fn new(policy: Policy, registry: Registry, ports: Ports) -> Self {
        let postgres = guard(Dependency::Postgres, policy.breaker_open);
        let s3 = Arc::new(guard(Dependency::S3, policy.breaker_open));
        App { policy, registry, ports, postgres, s3 }
    }

    fn now(&self) -> Timestamp {
        self.ports.clock.now()
    }

    /// Carries out one request as far as time allows.
    ///
    /// # Errors
    /// If the request cannot be read, or a dependency failed after bounded retries. What was done stays done, and the
    /// same request goes on there.
    pub async fn handle(&self, event: &RawValue, invocation: &Invocation) -> Result<Box<RawValue>, InvocationError> {
        let request = Request::parse(event)?;
        let mut run = Run::open(self, &request, invocation).await?;
        let result = self.carry_out(&request, &mut run).await;
        tracing::info!(
            request_id = invocation.request_id,
            mode = ?request.mode,
            order = ?request.order,
            records = run.counts.records,
            unreadable = run.counts.unreadable,
            complete = matches!(result, Ok(true)),
            error = result.as_ref().err().map(|error| chain(error)),
            "replay ended"
        );
        let complete = result?;
        let next = (!complete).then_some(&run.next);
        let answer = Answer { complete, dry_run: run.is_dry(), counts: &run.counts, next };
        Ok(to_raw_value(&answer).map_err(ReplayerError::Answer)?)
    }

    /// Whether it came to the end.
    async fn carry_out(&self, request: &Request, run: &mut Run<'_>) -> Result<bool, ReplayerError> {
        let order = &request.order;
        let reprocessor = match &order.action {
            Action::Restore => None,
            Action::Reprocess { version, scorer } => {
                Some(Reprocessor::new(self, version, scorer.as_deref(), run.is_dry()))
            }
        };
        let reader = Reader::guarded(Arc::clone(&self.ports.objects), Arc::clone(&self.s3));
        let filter = order.filter().starting_at(run.next.clone());
        let rate = match (&order.action, run.is_dry()) {
            // Asks nothing of Postgres or the scorer.
            (Action::Restore, true) => request::MAX_RATE,
            (Action::Restore | Action::Reprocess { .. }, _) => request.rate,
        };
        let mut pace = Pace::new(rate);
        let mut batches = Batches::open(&reader, &filter, pace.batch(MAX_BATCH), run.deadline).await?;
        while pace.wait(run.deadline).await {
            let began = Instant::now();
            let Some(records) = batches.next(&mut run.counts).await? else { break };
            let before = run.counts.records;
            match &reprocessor {
                None => {
                    restore::restore(self, order, run.is_dry(), &records, &mut run.counts, run.end_deadline).await?;
                }
                Some(reprocessor) => {
                    reprocessor.reprocess(order, &records, &mut run.counts, run.end_deadline).await?;
                }
            }
            failpoint!("replayer::applied");
            run.next.extend(records.iter().map(|record| (record.position.partition, record.position.offset + 1)));
            run.save().await?;
            failpoint!("replayer::saved");
            // What the filters leave out asks nothing of Postgres.
            pace.spend(run.counts.records - before, began);
        }
        if batches.is_finished() {
            run.save().await?;
        }
        Ok(batches.is_finished())
    }
}
