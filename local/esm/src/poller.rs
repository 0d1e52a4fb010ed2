//! One member of the group: reads, sends, commits. It is a single task, so its state needs no lock, and it reads ahead
//! while the function works.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kafka::{GroupConsumer, Rebalance, TopicPartition};
use pipeline::chain;
use pipeline::{Position, Record};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::answer::{BatchOutcome, InvocationOutcome, judge, read_answer};
use crate::batch::{Buffer, InvocationBatch, RetryDelay};
use crate::config::MappingConfig;
use crate::invoker::Invoker;

/// Maximum wait of one poll. It must be short, because rebalances and failed commits are handled between polls.
const POLL_WAIT: Duration = Duration::from_millis(500);
/// Maximum wait for the invocation in flight when stopping. Kubernetes kills a process after 30 s by default.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum wait for the request that leaves the group.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Counters of a mapping, over all its pollers.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) invocations: AtomicU64,
    pub(crate) failed_invocations: AtomicU64,
    pub(crate) throttles: AtomicU64,
    pub(crate) records_delivered: AtomicU64,
    pub(crate) records_dropped: AtomicU64,
}

impl Counters {
    fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

pub(crate) struct Poller {
    config: Arc<MappingConfig>,
    consumer: GroupConsumer,
    invoker: Arc<dyn Invoker>,
    counters: Arc<Counters>,
    /// Becomes true when the mapping must stop.
    stop: watch::Receiver<bool>,
    buffer: Buffer,
    /// The next offset of each partition whose commit has not succeeded yet.
    uncommitted: BTreeMap<TopicPartition, i64>,
    paused: bool,
    poll_backoff: RetryDelay,
}

impl Poller {
    pub(crate) fn new(
        config: Arc<MappingConfig>,
        consumer: GroupConsumer,
        invoker: Arc<dyn Invoker>,
        counters: Arc<Counters>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let buffer = Buffer::new(&config);
        Poller {
            config,
            consumer,
            invoker,
            counters,
            stop,
            buffer,
            uncommitted: BTreeMap::new(),
            paused: false,
            poll_backoff: RetryDelay::default(),
        }
    }

    /// Runs until the mapping stops; then commits and leaves the group.
    pub(crate) async fn run(mut self) {
        while let Some(batch) = self.gather().await {
            self.deliver(batch).await;
        }
        self.commit().await;
        if let Err(error) = self.consumer.close(LEAVE_TIMEOUT).await {
            tracing::warn!(group = self.config.group, error = %error, "a poller could not leave its consumer group");
        }
    }

    /// Reads until a batch is due. `None` when stopping.
    async fn gather(&mut self) -> Option<InvocationBatch> {
        loop {
            if *self.stop.borrow() {
                return None;
            }
            let now = Instant::now();
            let due = self.buffer.due(now);
            if due.is_some_and(|due| due <= now)
                && let Some(batch) = self.buffer.cut(now)
            {
                return Some(batch);
            }
            self.commit().await;
            let wait = due.map_or(POLL_WAIT, |due| due.saturating_duration_since(now).min(POLL_WAIT));
            self.read(wait).await;
        }
    }

    /// Polls once; returns early when stopping. Polling also keeps this member in the group, so this is called all the
    /// time, with all partitions paused if there is no room.
    ///
    /// Dropping this future loses nothing: a poll returns its records in one step, and adding them does not wait.
    async fn read(&mut self, wait: Duration) {
        self.pause_if_full().await;
        let polled = tokio::select! {
            polled = self.consumer.poll(wait) => polled,
            () = stopping(&mut self.stop) => return,
        };
        self.follow_rebalances();
        match polled {
            Ok(records) => {
                self.poll_backoff = RetryDelay::default();
                self.take_in(&records);
            }
            Err(error) => {
                let (tag, cause) = (error.tag(), chain(&error));
                tracing::warn!(group = self.config.group, tag, cause, "polling Kafka failed and will be retried");
                let wait = self.poll_backoff.next();
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = stopping(&mut self.stop) => {}
                }
            }
        }
    }

    async fn pause_if_full(&mut self) {
        let full = !self.buffer.has_room();
        if full == self.paused {
            return;
        }
        for of in self.buffer.partitions() {
            if full {
                self.consumer.pause(of).await;
            } else {
                self.consumer.resume(of).await;
            }
        }
        self.paused = full;
    }

    fn follow_rebalances(&mut self) {
        let now = Instant::now();
        for change in self.consumer.take_rebalances() {
            tracing::info!(group = self.config.group, ?change, "the consumer group was rebalanced");
            self.buffer.rebalance(&change, now);
            match change {
                // A new partition is not paused; the next read pauses it if needed.
                Rebalance::Assigned(_) => self.paused = false,
                Rebalance::Revoked(partitions) | Rebalance::Lost(partitions) => {
                    self.uncommitted.retain(|of, _| !partitions.contains(of));
                }
            }
        }
    }

    fn take_in(&mut self, records: &[Record]) {
        let now = Instant::now();
        for record in records {
            if let Some(position) = self.buffer.push(record, now) {
                Counters::add(&self.counters.records_dropped, 1);
                tracing::error!(
                    function = self.config.function,
                    topic = &*position.topic,
                    partition = position.partition,
                    offset = position.offset,
                    "MaximumPayloadSizeExceeded: this record alone exceeds 6 MB in an event and is DROPPED, as AWS \
                     does without an on-failure destination"
                );
            }
        }
    }

    /// Sends a batch until the function has answered, this poller no longer owns its partitions, or the mapping stops.
    async fn deliver(&mut self, mut batch: InvocationBatch) {
        let mut backoff = RetryDelay::default();
        // Throttles and failures of the service do not count as attempts (AWS).
        let mut attempts = 0_u32;
        while batch.records > 0 {
            let Some(verdict) = self.invoke(&batch).await else { return };
            self.follow_rebalances();
            let reason = match verdict {
                InvocationOutcome::Answered(answer) => {
                    match read_answer(&batch, self.config.partial_answers, &answer) {
                        BatchOutcome::PerPartition(retry_from) => return self.complete(batch, &retry_from).await,
                        BatchOutcome::RetryAll(reason) => {
                            attempts += 1;
                            reason
                        }
                    }
                }
                InvocationOutcome::Failed(reason) => {
                    attempts += 1;
                    reason
                }
                InvocationOutcome::Throttled => {
                    Counters::add(&self.counters.throttles, 1);
                    "throttled".to_owned()
                }
                InvocationOutcome::Unavailable(reason) => reason,
            };
            Counters::add(&self.counters.failed_invocations, 1);
            let wait = backoff.next();
            tracing::warn!(
                function = self.config.function,
                group = self.config.group,
                records = batch.records,
                attempts,
                reason,
                wait_ms = wait.as_millis(),
                "the batch failed and will be sent again"
            );
            if !self.read_for(wait).await {
                return;
            }
            match self.buffer.still_owned(batch) {
                Some(left) => batch = left,
                None => return,
            }
        }
        // No record of the batch can be sent; its offsets are skipped.
        let done = vec![None; batch.spans.len()];
        self.complete(batch, &done).await;
    }

    /// Makes one attempt and reads ahead at the same time. `None` if the mapping stopped before an answer came.
    async fn invoke(&mut self, batch: &InvocationBatch) -> Option<InvocationOutcome> {
        Counters::add(&self.counters.invocations, 1);
        let (invoker, config) = (Arc::clone(&self.invoker), Arc::clone(&self.config));
        let mut invocation = std::pin::pin!(invoker.invoke(&config.function, batch.event.clone()));
        let replied = loop {
            if *self.stop.borrow() {
                let Ok(replied) = tokio::time::timeout(DRAIN_TIMEOUT, &mut invocation).await else {
                    tracing::warn!(
                        function = config.function,
                        records = batch.records,
                        "the mapping stopped before the function answered; the batch will be delivered again"
                    );
                    return None;
                };
                break replied;
            }
            tokio::select! {
                biased;
                replied = &mut invocation => break replied,
                () = self.read(POLL_WAIT) => {}
            }
        };
        Some(match replied {
            Ok(reply) => judge(reply),
            Err(error) => InvocationOutcome::Unavailable(chain(&error)),
        })
    }

    /// Keeps reading for this long. False when stopping.
    async fn read_for(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        while !*self.stop.borrow() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            // A failed poll may wait longer than the remaining time.
            let _ = tokio::time::timeout(left, self.read(left)).await;
        }
        false
    }

    async fn complete(&mut self, batch: InvocationBatch, retry_from: &[Option<i64>]) {
        let records = batch.records;
        let failed = retry_from.iter().flatten().count();
        if failed > 0 {
            Counters::add(&self.counters.failed_invocations, 1);
            tracing::warn!(
                function = self.config.function,
                group = self.config.group,
                partitions = failed,
                "part of the batch failed; each partition is sent again from its lowest failed offset"
            );
        }
        for next in self.buffer.complete(batch, retry_from, Instant::now()) {
            self.uncommitted.insert(TopicPartition::new(next.topic, next.partition), next.offset);
        }
        Counters::add(&self.counters.records_delivered, records);
        self.commit().await;
    }

    /// Commits what is done. A failed commit is retried with the next batch, or after the next poll.
    async fn commit(&mut self) {
        if self.uncommitted.is_empty() {
            return;
        }
        let next: Vec<Position> = self
            .uncommitted
            .iter()
            .map(|(of, offset)| Position { topic: of.topic.clone(), partition: of.partition, offset: *offset })
            .collect();
        match self.consumer.commit(&next).await {
            Ok(()) => self.uncommitted.clear(),
            Err(error) => {
                let (tag, cause) = (error.tag(), chain(&error));
                tracing::warn!(group = self.config.group, tag, cause, "committing offsets failed and will be retried");
            }
        }
    }
}

/// Resolves when the mapping must stop, or when its handle was dropped.
async fn stopping(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
