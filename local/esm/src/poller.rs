//! One member of the group: reads, sends, commits. It is a single task, so its state needs no lock, and it reads ahead
//! while the function works. Each invocation is a task of its own ([`crate::flight`]).

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use kafka::{GroupConsumer, KafkaError, Rebalance, TopicPartition};
use pipeline::chain;
use pipeline::clock::{Clock as _, SystemClock};
use pipeline::{Position, Record, millis};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::answer::{BatchOutcome, InvocationOutcome, read_answer};
use crate::batch::{Buffer, InvocationBatch, Reading, RetryDelay};
use crate::config::MappingConfig;
use crate::counters::{Counters, Ended, Fate};
use crate::destination::FailureDestination;
use crate::flight::{Flight, FlightEvent, Flights};
use crate::functions::{Function, Slot};

/// Maximum wait of one poll. Polls keep this member in the group, and a failed commit is repeated after one.
const POLL_WAIT: Duration = Duration::from_millis(500);
/// Maximum wait of one poll while a partition is paused: one that is resumed is not fetched before the fetch of the
/// others has ended.
const PAUSED_POLL_WAIT: Duration = Duration::from_millis(20);
/// How long records wait while the function works on another batch of this poller, unless they fill a batch. When that one
/// is done they go at once, so a function that keeps up gets few batches, each with all that has come; and one that takes
/// long, or that has much to catch up with, gets several at the same time.
const BESIDE_WINDOW: Duration = Duration::from_millis(50);
/// Maximum wait for the invocations in flight when stopping. Kubernetes kills a process after 30 s by default.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum wait for the request that leaves the group.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);

pub(crate) struct Poller {
    config: Arc<MappingConfig>,
    consumer: Arc<GroupConsumer>,
    counters: Arc<Counters>,
    /// Becomes true when the mapping must stop.
    stop: watch::Receiver<bool>,
    buffer: Buffer,
    flights: Flights,
    /// The next offset of each partition whose commit has not succeeded yet.
    uncommitted: BTreeMap<TopicPartition, i64>,
    /// What was committed last for each partition.
    committed: BTreeMap<TopicPartition, i64>,
    /// When the positions of idle partitions are looked at again.
    next_look: Instant,
    poll_backoff: RetryDelay,
    /// How long the next poll waits before it starts, because the last one failed.
    poll_delay: Duration,
}

impl Poller {
    pub(crate) fn new(
        config: Arc<MappingConfig>,
        consumer: GroupConsumer,
        function: Function,
        destination: Option<FailureDestination>,
        counters: Arc<Counters>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let buffer = Buffer::new(&config);
        Poller {
            config,
            consumer: Arc::new(consumer),
            counters,
            stop,
            buffer,
            flights: Flights::new(function, destination),
            uncommitted: BTreeMap::new(),
            committed: BTreeMap::new(),
            next_look: Instant::now(),
            poll_backoff: RetryDelay::default(),
            poll_delay: Duration::ZERO,
        }
    }

    /// Runs until the mapping stops; then waits for the invocations in flight, commits, and leaves the group.
    pub(crate) async fn run(mut self) {
        self.work().await;
        self.drain().await;
        if let Err(error) = self.consumer.close(LEAVE_TIMEOUT).await {
            tracing::warn!(group = self.config.group, error = %error, "a poller could not leave its consumer group");
        }
    }

    /// Reads, sends and commits until the mapping stops.
    async fn work(&mut self) {
        let consumer = Arc::clone(&self.consumer);
        let mut stop = self.stop.clone();
        // A poll lives through many rounds: one that is dropped leaves a fetch whose answer nobody reads.
        let mut polling = pin!(poll(&consumer, Duration::ZERO, POLL_WAIT));
        let mut has_polled = false;
        let mut slot = None;
        while !*stop.borrow() {
            if has_polled {
                self.pass_gaps().await;
            }
            let due = self.launch(slot.take());
            self.commit().await;
            let has_resumed = self.change_reading().await;
            if has_polled || has_resumed {
                polling.set(poll(&consumer, self.poll_delay, self.poll_wait()));
                has_polled = false;
            }
            tokio::select! {
                () = stopping(&mut stop) => {}
                event = self.flights.next() => {
                    slot = self.follow(event);
                    // What else has happened comes before the commit, so that one commit is for all that is done.
                    while slot.is_none() && let Some(event) = self.flights.next().now_or_never() {
                        slot = self.follow(event);
                    }
                }
                polled = &mut polling => {
                    self.take_in(polled);
                    has_polled = true;
                }
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.follow_rebalances();
                }
            }
        }
    }

    /// Sends every batch that is due and has a slot. Returns when the next one will be due, or `None` if nothing waits
    /// but for a slot.
    ///
    /// The slot comes first and the batch is cut then: while a batch waits for its slot it still grows.
    fn launch(&mut self, mut slot: Option<Slot>) -> Option<Instant> {
        loop {
            let now = Instant::now();
            let at_least = if self.flights.invocations() == 0 { Duration::ZERO } else { BESIDE_WINDOW };
            let due = self.buffer.due(now, at_least)?;
            if due > now {
                return Some(due);
            }
            let free = slot.take().or_else(|| self.flights.slot())?;
            let batch = self.buffer.cut(now)?;
            slot = self.send(Flight::new(batch), free);
        }
    }

    /// Sends a batch. Gives the slot back if the batch has no record that can be sent, neither to the function nor to a
    /// destination; its offsets are skipped.
    fn send(&mut self, flight: Flight, slot: Slot) -> Option<Slot> {
        if flight.batch.records == 0 && self.config.on_failure.is_none() {
            self.skip(flight);
            return Some(slot);
        }
        if flight.batch.records > 0 {
            self.counters.invoked();
        }
        self.flights.send(flight, slot);
        None
    }

    /// Returns a slot that is free for a new batch.
    fn follow(&mut self, event: FlightEvent) -> Option<Slot> {
        self.follow_rebalances();
        match event {
            FlightEvent::Slot(slot) => Some(slot),
            FlightEvent::Again(flight, slot) => match flight.still_owned(&mut self.buffer) {
                Some(flight) => self.send(flight, slot),
                None => Some(slot),
            },
            FlightEvent::Ended(flight, outcome) => {
                self.settle(flight, outcome);
                None
            }
        }
    }

    /// Pauses partitions that are full and resumes those that have room again. True if one was resumed: only a new poll
    /// fetches it.
    async fn change_reading(&mut self) -> bool {
        let mut resumed = false;
        for change in self.buffer.change_reading() {
            match change {
                Reading::Pause(of) => self.consumer.pause(&of).await,
                Reading::Resume(of) => {
                    self.consumer.resume(&of).await;
                    resumed = true;
                }
            }
        }
        resumed
    }

    fn poll_wait(&self) -> Duration {
        if self.buffer.is_paused() { PAUSED_POLL_WAIT } else { POLL_WAIT }
    }

    fn follow_rebalances(&mut self) {
        let now = Instant::now();
        for change in self.consumer.take_rebalances() {
            tracing::info!(group = self.config.group, ?change, "the consumer group was rebalanced");
            self.buffer.rebalance(&change, now);
            if let Rebalance::Revoked(partitions) | Rebalance::Lost(partitions) = change {
                self.uncommitted.retain(|of, _| !partitions.contains(of));
                self.committed.retain(|of, _| !partitions.contains(of));
            }
        }
    }

    fn take_in(&mut self, polled: Result<Vec<Record>, KafkaError>) {
        self.follow_rebalances();
        let records = match polled {
            Ok(records) => records,
            Err(error) => {
                let (tag, cause) = (error.tag(), chain(&error));
                tracing::warn!(group = self.config.group, tag, cause, "polling Kafka failed and will be retried");
                self.poll_delay = self.poll_backoff.next();
                return;
            }
        };
        (self.poll_backoff, self.poll_delay) = (RetryDelay::default(), Duration::ZERO);
        let now = Instant::now();
        let filtered = records.iter().filter(|record| !self.buffer.push(record, now)).count();
        self.counters.records(Fate::Filtered, filtered);
        self.pass(Buffer::filtered);
    }

    /// Lets idle partitions be committed to where they are read. Offsets without records, as transactions leave them, would
    /// otherwise count as lag for ever. A group that starts at the end has its start committed in the same way: without
    /// it, a restart before the first record would lose what was written meanwhile.
    async fn pass_gaps(&mut self) {
        let now = Instant::now();
        if now < self.next_look {
            return;
        }
        self.next_look = now + POLL_WAIT;
        for of in self.buffer.idle() {
            if let Some(position) = self.consumer.position(&of).await
                && self.committed.get(&of) != Some(&position)
            {
                self.uncommitted.insert(of, position);
            }
        }
    }

    /// Completes a batch after its answer, or lets it wait until it is sent again.
    fn settle(&mut self, mut flight: Flight, outcome: Option<InvocationOutcome>) {
        let Some(outcome) = outcome else { return self.skip(flight) };
        let (ended, reason) = match outcome {
            InvocationOutcome::Answered(answer) => {
                match read_answer(&flight.batch, self.config.partial_answers, &answer) {
                    BatchOutcome::PerPartition(retry_from) => {
                        let is_done = retry_from.iter().all(Option::is_none);
                        self.counters.ended(if is_done { Ended::Ok } else { Ended::Partly });
                        return self.complete(flight, &retry_from);
                    }
                    BatchOutcome::RetryAll(reason) => {
                        flight.attempts += 1;
                        (Ended::Failed, reason)
                    }
                }
            }
            InvocationOutcome::Failed(reason) => {
                flight.attempts += 1;
                (Ended::Failed, reason)
            }
            InvocationOutcome::Throttled => (Ended::Throttled, "throttled".to_owned()),
            InvocationOutcome::Unavailable(reason) => (Ended::Failed, reason),
        };
        self.counters.ended(ended);
        if self.config.bisect && flight.attempts > 0 && flight.batch.records > 1 && !self.is_too_old(&flight) {
            tracing::warn!(
                function = self.config.function,
                group = self.config.group,
                records = flight.batch.records,
                reason,
                "the batch failed and is split in two"
            );
            let half = flight.split(&self.buffer);
            return self.flights.send_later(half, RetryDelay::default().next());
        }
        if self.is_exhausted(&flight) {
            tracing::error!(
                function = self.config.function,
                group = self.config.group,
                records = flight.batch.records,
                attempts = flight.attempts,
                reason,
                "the batch failed as often, or for as long, as its mapping allows, and is given up"
            );
            return self.flights.send_later(flight.give_up(&self.buffer), Duration::ZERO);
        }
        let wait = flight.backoff.next();
        tracing::warn!(
            function = self.config.function,
            group = self.config.group,
            records = flight.batch.records,
            attempts = flight.attempts,
            reason,
            wait_ms = millis(wait),
            "the batch failed and will be sent again"
        );
        self.flights.send_later(flight, wait);
    }

    /// Whether a batch that has failed is not sent to the function again.
    fn is_exhausted(&self, flight: &Flight) -> bool {
        self.config.max_retries().is_some_and(|retries| flight.attempts > retries) || self.is_too_old(flight)
    }

    /// Whether a batch with which the function has failed is too old to be sent again. Only the function's own failures
    /// count: an outage of the service gives nothing up.
    fn is_too_old(&self, flight: &Flight) -> bool {
        let is_old = |age: Duration| {
            let now = SystemClock.now().as_millis();
            flight
                .batch
                .oldest()
                .is_some_and(|at| Duration::from_millis(now.saturating_sub(at).max(0).cast_unsigned()) > age)
        };
        flight.attempts > 0 && self.config.record_age.is_some_and(is_old)
    }

    /// Completes a batch of which nothing is sent to the function.
    fn skip(&mut self, flight: Flight) {
        let done = vec![None; flight.batch.spans.len()];
        self.complete(flight, &done);
    }

    /// Counts the finished records of a batch that no invocation gets, and names those that are lost.
    fn count_undelivered(&self, batch: &InvocationBatch, retry_from: &[Option<i64>]) {
        let has_destination = self.config.on_failure.is_some();
        for (of, record, why) in batch.finished_undelivered(retry_from) {
            self.counters.records(if has_destination { Fate::AtDestination } else { Fate::Dropped }, 1);
            if !has_destination {
                tracing::error!(
                    function = self.config.function,
                    topic = &*of.topic,
                    partition = of.partition,
                    offset = record.offset,
                    reason = why.condition(),
                    "this record is DROPPED, as AWS does without an on-failure destination"
                );
            }
        }
    }

    /// Waits for the invocations in flight, and commits what they have done.
    async fn drain(&mut self) {
        let until = Instant::now() + DRAIN_TIMEOUT;
        while let Ok(Some((flight, outcome))) = tokio::time::timeout_at(until, self.flights.drain()).await {
            self.follow_rebalances();
            self.settle(flight, outcome);
            // What else has ended is in the same commit.
            while let Some(Some((flight, outcome))) = self.flights.drain().now_or_never() {
                self.settle(flight, outcome);
            }
            self.commit().await;
        }
        if self.flights.invocations() > 0 {
            tracing::warn!(
                function = self.config.function,
                invocations = self.flights.invocations(),
                "the mapping stopped before the function answered; the batches will be delivered again"
            );
        }
        self.commit().await;
    }

    fn complete(&mut self, flight: Flight, retry_from: &[Option<i64>]) {
        let Flight { batch, mut rest, .. } = flight;
        self.count_undelivered(&batch, retry_from);
        let records = batch.records;
        let failed = retry_from.iter().flatten().count();
        if failed > 0 {
            tracing::warn!(
                function = self.config.function,
                group = self.config.group,
                partitions = failed,
                "part of the batch failed; each partition is sent again from its lowest failed offset"
            );
        }
        self.pass(|buffer| buffer.complete(batch, retry_from, &mut rest, Instant::now()));
        self.counters.records(Fate::Delivered, records);
        if let Some(part) = Flight::of_rest(rest, &self.buffer) {
            self.flights.send_later(part, Duration::ZERO);
        }
    }

    /// Notes offsets to commit.
    fn pass(&mut self, take: impl FnOnce(&mut Buffer) -> Vec<Position>) {
        for next in take(&mut self.buffer) {
            self.uncommitted.insert(TopicPartition::new(next.topic, next.partition), next.offset);
        }
    }

    /// Commits what is done. A failed commit is retried with the next one, at the latest after the next poll.
    async fn commit(&mut self) {
        if self.uncommitted.is_empty() {
            return;
        }
        let next: Vec<Position> = self
            .uncommitted
            .iter()
            .map(|(of, offset)| Position::new(of.topic.clone(), of.partition, *offset))
            .collect();
        match self.consumer.commit(&next).await {
            Ok(()) => self.committed.append(&mut self.uncommitted),
            Err(error) => {
                let (tag, cause) = (error.tag(), chain(&error));
                tracing::warn!(group = self.config.group, tag, cause, "committing offsets failed and will be retried");
            }
        }
    }
}

/// Polls once, after a delay.
async fn poll(consumer: &GroupConsumer, delay: Duration, wait: Duration) -> Result<Vec<Record>, KafkaError> {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    consumer.poll(wait).await
}

/// Resolves when the mapping must stop, or when its handle was dropped.
async fn stopping(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
