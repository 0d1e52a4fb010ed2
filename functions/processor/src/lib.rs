//! From `raw-events` to one outcome per record: deduplicate, limit, score, store, publish.
//!
//! Owns the order of the effects and the rule that an invocation either finishes all of them or fails. What is decided
//! about a record is in `pipeline::decisions`; how a service is spoken to is in the adapters. Every effect is idempotent
//! by record or by origin, so a crash between any two is repaired by the next delivery (DESIGN section 6).

pub mod adapters;
mod block_list;
pub mod config;
mod error;
mod guards;
mod publishing;
mod report;
mod storing;

use std::sync::Arc;
use std::time::Duration;

use event::schema::Registry;
use lambda::breaker::guard;
use lambda::invocation::{Invocation, InvocationError};
use lambda::kafka_trigger::{BatchAnswer, Delivered, decode};
use pipeline::chain;
use pipeline::clock::Clock;
use pipeline::decisions::dedup::{ClaimPlan, Standing};
use pipeline::decisions::intake::{Batch, Candidate, Reader};
use pipeline::decisions::limits::LimitPlan;
use pipeline::decisions::verdicts::{self, Findings};
use pipeline::failpoint;
use pipeline::ports::{AddressCounters, BlockList, ClaimStore, EventStore, LedgerEntry, RecordPublisher, Scorer};
use pipeline::{Dependency, Reason};
use scoring::Scoring;
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::Instant;

use crate::block_list::CachedBlockList;
use crate::config::Policy;
pub use crate::error::{ProcessorError, Step};
use crate::guards::Guards;
use crate::report::Stopwatch;

/// Kept back from the platform's deadline, so that a failed batch is answered and not killed.
const RESERVE: Duration = Duration::from_millis(500);

/// What the processor needs from the outside.
pub struct Ports {
    pub claims: Arc<dyn ClaimStore>,
    pub counters: Arc<dyn AddressCounters>,
    pub block_list: Arc<dyn BlockList>,
    pub scorer: Arc<dyn Scorer>,
    pub store: Arc<dyn EventStore>,
    pub publisher: Arc<dyn RecordPublisher>,
    pub clock: Arc<dyn Clock>,
}

/// One instance of the function. Between invocations it remembers the block list for a moment and the states of the
/// breakers; losing either is harmless.
pub struct App {
    policy: Policy,
    guards: Guards,
    registry: Arc<Registry>,
    claims: Arc<dyn ClaimStore>,
    counters: Arc<dyn AddressCounters>,
    block_list: CachedBlockList,
    scoring: Scoring,
    store: Arc<dyn EventStore>,
    publisher: Arc<dyn RecordPublisher>,
    clock: Arc<dyn Clock>,
}

impl App {
    pub fn new(policy: Policy, registry: impl Into<Arc<Registry>>, ports: Ports) -> Self {
        App {
            block_list: CachedBlockList::new(ports.block_list, policy.block_list_age),
            scoring: Scoring::new(ports.scorer, guard(Dependency::Scorer, policy.breaker_open), policy.scorer_timeout),
            guards: Guards::new(policy.breaker_open, policy.dedup_store),
            policy,
            registry: registry.into(),
            claims: ports.claims,
            counters: ports.counters,
            store: ports.store,
            publisher: ports.publisher,
            clock: ports.clock,
        }
    }

    /// Processes one batch of the Kafka trigger.
    ///
    /// # Errors
    /// If a dependency failed after bounded retries, so that the trigger sends the batch again; never because of a
    /// record. With `BATCH_RESPONSE=partial` such a failure is an answer that names every record.
    pub async fn handle(&self, event: &RawValue, invocation: &Invocation) -> Result<Box<RawValue>, InvocationError> {
        let delivered = decode(event.get()).map_err(ProcessorError::Trigger)?;
        let answer = match self.process(&delivered, invocation).await {
            Ok(()) => BatchAnswer::done(),
            Err(error) => {
                tracing::error!(
                    request_id = invocation.request_id,
                    records = delivered.len(),
                    tag = error.tag(),
                    error = chain(&error),
                    "batch failed: it will be sent again"
                );
                let unfinished = delivered.iter().map(|delivered| delivered.record.position.clone()).collect();
                self.policy.batch_response.answer(unfinished, || error.into())?
            }
        };
        to_raw_value(&answer).map_err(|error| ProcessorError::Answer(error).into())
    }

    async fn process(&self, delivered: &[Delivered], invocation: &Invocation) -> Result<(), ProcessorError> {
        if delivered.is_empty() {
            return Ok(());
        }
        // Without these nothing can be finished; claims and counts made before would only be made again.
        self.guards.postgres.ready("storing the batch")?;
        self.guards.kafka.ready("publishing outcomes")?;
        let mut stopwatch = Stopwatch::start();
        let deadline = Instant::now() + invocation.remaining(RESERVE);
        let now = self.clock.now();
        let reader = Reader { registry: &self.registry, foreign_tenant: &self.policy.foreign_tenant };
        let batch = Batch::read(delivered.iter().map(|delivered| (&delivered.record, delivered.problem)), reader);
        stopwatch.durations.read = stopwatch.lap();
        failpoint!("processor::read");

        let standings = self.claim(batch.candidates(), now, deadline).await?;
        stopwatch.durations.claim = stopwatch.lap();
        failpoint!("processor::claimed");

        let blocked = self.limit(batch.candidates(), &standings, deadline).await?;
        stopwatch.durations.limit = stopwatch.lap();
        failpoint!("processor::limited");

        let open = verdicts::open(&standings, &blocked);
        let scores = match open.as_slice() {
            [] => None,
            open => self.scoring.score(&verdicts::score_requests(batch.candidates(), open), deadline).await,
        };
        stopwatch.durations.score = stopwatch.lap();
        failpoint!("processor::scored");

        let findings = Findings { standings, blocked, scores };
        let decisions = verdicts::decide(&batch, findings, self.policy.fraud_threshold);
        in_time(Step::Store, deadline)?;
        let ledger = storing::record(&*self.store, &self.guards.postgres, &batch, decisions, now, deadline).await?;
        stopwatch.durations.store = stopwatch.lap();
        failpoint!("processor::stored");

        self.publish(&batch, &ledger, deadline).await?;
        stopwatch.durations.publish = stopwatch.lap();
        failpoint!("processor::published");

        report::finished(&invocation.request_id, &batch, &ledger, &stopwatch);
        Ok(())
    }

    async fn claim(
        &self,
        candidates: &[Candidate<'_>],
        now: event::Timestamp,
        deadline: Instant,
    ) -> Result<Vec<Standing>, ProcessorError> {
        let plan = ClaimPlan::new(candidates, now, self.policy.dedup_window);
        if plan.claims.is_empty() {
            return Ok(plan.resolve(candidates, &[]));
        }
        in_time(Step::Claim, deadline)?;
        let claim = || self.claims.claim(&plan.claims, now);
        let answers = self.guards.claims().call_each(deadline, "claiming ids", plan.claims.len(), claim).await?;
        Ok(plan.resolve(candidates, &answers))
    }

    async fn limit(
        &self,
        candidates: &[Candidate<'_>],
        standings: &[Standing],
        deadline: Instant,
    ) -> Result<Vec<Option<Reason>>, ProcessorError> {
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        in_time(Step::Limit, deadline)?;
        let blocks = self.block_list.current(&self.guards.dynamodb, deadline).await?;
        let plan = LimitPlan::new(candidates, standings, &blocks, self.policy.limits);
        let totals = match plan.counts.as_slice() {
            [] => Vec::new(),
            counts => {
                let add = || self.counters.add(counts);
                self.guards.dynamodb.call_each(deadline, "counting addresses", counts.len(), add).await?
            }
        };
        let verdicts = plan.resolve(candidates, &totals);
        if !verdicts.blocks.is_empty() {
            for block in &verdicts.blocks {
                tracing::warn!(address = %block.address, reason = block.reason, from = %block.from, "address blocked");
            }
            self.block_list.add(&verdicts.blocks, &self.guards.dynamodb, deadline).await?;
        }
        Ok(verdicts.blocked)
    }

    async fn publish(
        &self,
        batch: &Batch<'_>,
        ledger: &[LedgerEntry],
        deadline: Instant,
    ) -> Result<(), ProcessorError> {
        in_time(Step::Publish, deadline)?;
        let (publisher, timeout) = (&*self.publisher, self.policy.publish_timeout);
        publishing::publish(publisher, &self.guards.kafka, batch, ledger, timeout, deadline).await
    }
}

/// A step that begins without time would be killed half-way; failing first leaves it whole to the next delivery.
fn in_time(step: Step, deadline: Instant) -> Result<(), ProcessorError> {
    if Instant::now() < deadline { Ok(()) } else { Err(ProcessorError::OutOfTime(step)) }
}
