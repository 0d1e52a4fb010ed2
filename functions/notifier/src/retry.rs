//! A run of retries: sends what is due again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use event::Timestamp;
use pipeline::failpoint;
use serde::Serialize;
use strum::IntoStaticStr;
use telemetry::list::{WEBHOOK_OVERDUE, WEBHOOKS_WAITING};
use tokio::time::Instant;
use webhooks::{DueDelivery, EndpointId, WebhookEndpoint};

use crate::app::App;
use crate::delivery::Outgoing;
use crate::error::NotifierError;

/// Deliveries that are sent together: of one endpoint, and in all. Bodies of up to 1.5 MB are in memory meanwhile.
const OF_EACH: u32 = 16;
const TOGETHER: u32 = 64;
/// After this time, what a run has taken and not settled is due again: longer than any run, because a run may be killed.
const LEASE: Duration = Duration::from_secs(20 * 60);
/// How long what was not tried is left alone, so that a run does not take it again and again.
const LEFT_ALONE: Duration = Duration::from_secs(60);
/// Time to settle what was sent.
const SETTLING: Duration = Duration::from_secs(2);
/// How long dead deliveries are kept, in milliseconds: 30 days.
const KEEP_DEAD_MS: i64 = 30 * 24 * 60 * 60 * 1_000;

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case", const_into_str)]
pub(crate) enum RetryEnd {
    /// Nothing more is due.
    Done,
    /// The function's time is nearly up.
    OutOfTime,
}

impl RetryEnd {
    pub(crate) const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// What a run did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct RetryReport {
    pub delivered: usize,
    /// Failed again or were not tried, and are tried later.
    pub later: usize,
    /// Failed at the last attempt.
    pub dead: u64,
    /// Wait for their next attempt now.
    pub waiting: u64,
    /// How long the first of them is overdue, in seconds; 0 if none is.
    pub overdue_sec: f64,
    pub ended: RetryEnd,
}

impl App {
    /// Sends what is due until nothing is, or the time is up; then looks after what waits.
    ///
    /// # Errors
    /// If Postgres fails. What was delivered and not settled is then sent again later.
    pub(crate) async fn retry(&self, deadline: Instant) -> Result<RetryReport, NotifierError> {
        let endpoints = self.read_endpoints(deadline).await?;
        let by_id: HashMap<&EndpointId, &Arc<WebhookEndpoint>> =
            endpoints.iter().map(|endpoint| (&endpoint.id, endpoint)).collect();
        let (mut delivered, mut later, mut dead) = (0, 0, 0);
        let last_begin = self.last_begin(deadline);
        let ended = loop {
            if Instant::now() >= last_begin {
                break RetryEnd::OutOfTime;
            }
            let now = self.clock.now();
            let take = || self.deliveries.take(now, now.plus(LEASE), OF_EACH, TOGETHER);
            let due = self.postgres.call(deadline, "taking deliveries", take).await?;
            if due.is_empty() {
                break RetryEnd::Done;
            }
            // Without its endpoint, a delivery goes soon, too.
            let outgoing = due.into_iter().filter_map(|DueDelivery { delivery, attempts, .. }| {
                let endpoint = Arc::clone(by_id.get(&delivery.endpoint)?);
                Some(Outgoing { endpoint, delivery, attempts })
            });
            let mut results = self.deliver(outgoing.collect(), last_begin).await;
            failpoint!("notifier::resent");
            let now = self.clock.now();
            let undelivered = results.undelivered(now.plus(LEFT_ALONE));
            let settle = || self.deliveries.settle(&results.delivered, &undelivered, now);
            self.postgres.call(deadline + SETTLING, "settling deliveries", settle).await?;
            for endpoint in results.gone.values() {
                self.pause(endpoint, "it answered 410: gone", deadline + SETTLING).await?;
            }
            delivered += results.delivered.len();
            later += undelivered.iter().filter(|(_, failure)| failure.due_at.is_some()).count();
            dead += results.dead;
        };
        let (waiting, overdue_sec) = self.look_after(&by_id, deadline + SETTLING).await?;
        Ok(RetryReport { delivered, later, dead, waiting, overdue_sec, ended })
    }

    /// Counts what waits, pauses endpoints for which too much does, and forgets what has been dead for long.
    async fn look_after(
        &self,
        endpoints: &HashMap<&EndpointId, &Arc<WebhookEndpoint>>,
        deadline: Instant,
    ) -> Result<(u64, f64), NotifierError> {
        let now = self.clock.now();
        let backlog = self.postgres.call(deadline, "counting deliveries", || self.deliveries.backlog()).await?;
        for (id, waiting) in &backlog.waiting {
            if *waiting > self.policy.max_waiting
                && let Some(endpoint) = endpoints.get(id).filter(|endpoint| endpoint.paused.is_none())
            {
                let why =
                    format!("{waiting} deliveries wait, more than WEBHOOK_MAX_WAITING={}", self.policy.max_waiting);
                self.pause(endpoint, &why, deadline).await?;
            }
        }
        let before = Timestamp::from_millis(now.as_millis().saturating_sub(KEEP_DEAD_MS));
        self.postgres.call(deadline, "forgetting dead deliveries", || self.deliveries.forget(before)).await?;
        let waiting = backlog.waiting.iter().map(|(_, waiting)| waiting).sum();
        let overdue_sec = backlog.first_due.map_or(0.0, |due| now.since(due).as_secs_f64());
        WEBHOOKS_WAITING.set(waiting as f64, []);
        WEBHOOK_OVERDUE.set(overdue_sec, []);
        Ok((waiting, overdue_sec))
    }
}
