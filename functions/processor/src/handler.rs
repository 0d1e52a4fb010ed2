//! One invocation: runs the steps on a batch of records, in the order of their effects.

use std::num::NonZeroU32;
use std::time::Duration;

use event::Timestamp;
use lambda::invocation::{Invocation, InvocationError};
use lambda::kafka_trigger::{self, BatchAnswer};
use pipeline::decisions::dedup::ClaimPlan;
use pipeline::decisions::intake::Reader;
use pipeline::decisions::limits::{Blocks, LimitPlan};
use pipeline::decisions::verdicts::{self, ScorePlan};
use pipeline::decisions::{preparedness, size};
use pipeline::ports::{ActionState, AddressCount, AuditEntry, Block, Score, ScoreRequest};
use pipeline::trace::within;
use pipeline::tracked::{Admitted, Claimed, Read, Tracked};
use pipeline::{Record, chain, failpoint};
use serde_json::value::{RawValue, to_raw_value};
use telemetry::list::ADDRESSES_BLOCKED;
use tokio::time::Instant;
use traces::batch::BatchTrace;
use tracing::field::display;

use crate::app::App;
use crate::config::UnknownTypes;
use crate::error::{ProcessorError, Step};
use crate::report::Stopwatch;
use crate::{publishing, quarantine, report, storing, trace};

/// Time reserved before Lambda's deadline, so that a failed batch is answered before Lambda kills the instance.
const RESERVE: Duration = Duration::from_millis(500);

/// Processes one batch of the Kafka trigger.
///
/// # Errors
/// If a dependency still fails after bounded retries; the trigger then sends the batch again. A bad record is never an
/// error.
pub async fn handle(event: &RawValue, invocation: &Invocation, app: &App) -> Result<Box<RawValue>, InvocationError> {
    let delivery = kafka_trigger::read(event.get()).map_err(ProcessorError::Trigger)?;
    let deadline = Instant::now() + invocation.remaining(RESERVE);
    let records = archive::quarantine::records(delivery, &*app.objects, &app.s3, deadline).await;
    let records = records.map_err(ProcessorError::Quarantine)?;
    let mut trace = BatchTrace::begin("batch-processing", records.iter().map(Record::trace));
    let trace_id = trace.context().map(|context| display(context.trace_id));
    let result = within(trace.context(), app.process(&records, invocation, &mut trace)).await;
    trace.finish(result.as_ref().err().map(|error| error.tag().into()));
    let answer = match result {
        Ok(()) => BatchAnswer::done(),
        // Nothing is finished until everything is, so there is no partial answer.
        Err(error) => {
            tracing::error!(
                request_id = invocation.request_id,
                trace_id,
                records = records.len(),
                tag = error.tag(),
                error = chain(&error),
                "batch failed: it will be sent again"
            );
            return Err(error.into());
        }
    };
    to_raw_value(&answer).map_err(|error| ProcessorError::Answer(error).into())
}

impl App {
    async fn process(
        &self,
        delivered: &[Record],
        invocation: &Invocation,
        trace: &mut BatchTrace,
    ) -> Result<(), ProcessorError> {
        if delivered.is_empty() {
            return Ok(());
        }
        // The batch cannot be finished without these two; claims and counts made now would only be repeated later.
        self.postgres.ready("storing the batch")?;
        self.kafka.ready("publishing outcomes")?;
        let mut stopwatch = Stopwatch::start();
        let deadline = Instant::now() + invocation.remaining(RESERVE);
        let now = self.clock.now();
        kafka_trigger::observe_age(delivered, now);
        let reader = Reader { registry: &self.registry, foreign_tenant: &self.policy.foreign_tenant, now };
        let mut records = reader.read_all(delivered);
        match self.policy.unknown_types {
            UnknownTypes::Wait => preparedness::check(delivered, &records)?,
            UnknownTypes::DeadLetter => {}
        }
        size::close_too_large(delivered, &mut records, self.policy.max_record_bytes);
        stopwatch.durations.read = stopwatch.lap();
        trace.lap("read");
        failpoint!("processor::read");

        let records = self.claim(records, now, deadline).await?;
        stopwatch.durations.claim = stopwatch.lap();
        trace.lap("claim");
        failpoint!("processor::claimed");

        let limiting = self.plan_limits(records, deadline).await?;
        let scoring = ScorePlan::new(&limiting.records);
        // Neither needs the other. The events that the limit refuses only now are scored in vain: few, because the block
        // list has refused the others of their addresses.
        let ((records, limited), (scores, scored)) = tokio::join!(
            trace.timed(self.limit(limiting, deadline)),
            trace.timed(self.score(&scoring.requests, deadline))
        );
        trace.steps([("limit", limited), ("score", scored)]);
        let records = records?;
        let scores = scores.map(|scores| scoring.of_open(&records, scores)).transpose()?;
        stopwatch.durations.limit_and_score = stopwatch.lap();
        failpoint!("processor::scored");

        let mut records = verdicts::decide(records, scores, self.policy.fraud_threshold)?;
        in_time(Step::Store, deadline)?;
        quarantine::keep(self, delivered, &records, deadline).await?;
        let ledger = storing::record(&*self.store, &self.postgres, &mut records, now, deadline).await?;
        stopwatch.durations.store = stopwatch.lap();
        let stored = trace.lap("state-store");
        let sums = report::stored(&records, &ledger, now, self.clock.now());
        // Now, because a delivery that finds them in the ledger would not name them again.
        trace::log_dead_letters(&invocation.request_id, &records, &ledger, now);
        failpoint!("processor::stored");

        in_time(Step::Publish, deadline)?;
        publishing::publish(self, delivered, &records, &ledger, deadline).await?;
        stopwatch.durations.publish = stopwatch.lap();
        trace.lap("event-publish");
        trace::records(trace, delivered, &records, &ledger, stored);
        failpoint!("processor::published");

        report::finished(&invocation.request_id, trace.context(), &sums, &stopwatch);
        Ok(())
    }

    async fn claim<'a>(
        &self,
        records: Vec<Tracked<'a, Read>>,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<Vec<Tracked<'a, Claimed>>, ProcessorError> {
        let plan = ClaimPlan::new(records, now, self.policy.dedup_window);
        let answers = match plan.claims.as_slice() {
            [] => Vec::new(),
            claims => {
                in_time(Step::Claim, deadline)?;
                let claim = || self.claims.claim(claims, now);
                self.claims_guard().call_each(deadline, "claiming event ids", claims.len(), claim).await?
            }
        };
        Ok(plan.resolve(answers)?)
    }

    /// Applies the block list, and says what to count.
    async fn plan_limits<'a>(
        &self,
        records: Vec<Tracked<'a, Claimed>>,
        deadline: Instant,
    ) -> Result<LimitPlan<'a>, ProcessorError> {
        if records.iter().all(|record| record.event().is_none()) {
            return Ok(LimitPlan::new(records, &Blocks::default(), self.policy.limits));
        }
        in_time(Step::Limit, deadline)?;
        let blocks = self.block_list.current(self.access_guard(), deadline).await?;
        Ok(LimitPlan::new(records, &blocks, self.policy.limits))
    }

    async fn limit<'a>(
        &self,
        plan: LimitPlan<'a>,
        deadline: Instant,
    ) -> Result<Vec<Tracked<'a, Admitted>>, ProcessorError> {
        let totals = match self.policy.limits.per_minute {
            Some(limit) => self.count(&plan.counts, limit, deadline).await?,
            None => Vec::new(),
        };
        let verdicts = plan.resolve(&totals)?;
        if !verdicts.blocks.is_empty() {
            for block in &verdicts.blocks {
                tracing::warn!(address = %block.address, reason = block.reason, from = %block.from, "address is over its limit of new events and was put on the block list");
            }
            self.block_list.add(&verdicts.blocks, self.access_guard(), deadline).await?;
            ADDRESSES_BLOCKED.add(verdicts.blocks.len() as u64, []);
            self.audit_blocks(&verdicts.blocks, deadline).await;
        }
        failpoint!("processor::limited");
        Ok(verdicts.records)
    }

    /// Writes who was blocked into the audit trail, after it has happened: a block that an audit entry holds up would let a
    /// flood through. One entry for all of a batch.
    async fn audit_blocks(&self, blocks: &[Block], deadline: Instant) {
        let Some(first) = blocks.first() else { return };
        let now = self.clock.now();
        let entry = AuditEntry {
            started_at: now,
            // A redelivered batch blocks again, at another time.
            run: format!("processor-{}", first.address),
            action: "block".to_owned(),
            by: Some("processor".to_owned()),
            state: ActionState::Finished,
            request: serde_json::json!({ "blocks": blocks }).to_string(),
            result: String::new(),
        };
        let record = || self.audit.record(&entry);
        if let Err(error) = self.access_guard().call(deadline, "writing the audit trail", record).await {
            tracing::warn!(
                error = chain(&error),
                request = entry.request,
                "blocks of addresses are not in the audit trail"
            );
        }
    }

    /// The total of each count, as far as this instance knows it.
    async fn count(
        &self,
        counts: &[AddressCount],
        limit: NonZeroU32,
        deadline: Instant,
    ) -> Result<Vec<u64>, ProcessorError> {
        let due = self.address_counts.add(counts, limit);
        let answers = match due.as_slice() {
            [] => Vec::new(),
            due => {
                let add = || self.counters.add(due);
                self.access_guard().call_each(deadline, "counting events by address", due.len(), add).await?
            }
        };
        Ok(self.address_counts.totals(counts, &due, &answers)?)
    }

    async fn score(&self, requests: &[ScoreRequest], deadline: Instant) -> Option<Vec<Score>> {
        if requests.is_empty() { None } else { self.scoring.score(requests, deadline).await }
    }
}

/// A step that starts without enough time would be killed half-way. Failing first leaves the whole step to the next
/// delivery.
fn in_time(step: Step, deadline: Instant) -> Result<(), ProcessorError> {
    if Instant::now() < deadline { Ok(()) } else { Err(ProcessorError::OutOfTime(step)) }
}
