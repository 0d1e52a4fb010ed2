//! Attempts: of many messages to many endpoints, so that no endpoint holds up another one.

use std::collections::BTreeMap;
use std::sync::Arc;

use event::Timestamp;
use futures::StreamExt as _;
use futures::future::join_all;
use pipeline::breaker::Admission;
use telemetry::list::{WEBHOOK_ATTEMPT_DURATION, WEBHOOK_ATTEMPTS, WEBHOOKS_DEAD};
use tokio::time::Instant;
use webhooks::{EndpointId, Failure, WebhookDelivery, WebhookEndpoint, next_attempt};

use crate::app::App;
use crate::sender::Attempt;

/// Requests to one endpoint at the same time.
const EACH: usize = 8;

/// What becomes of a request that was not made: it counts as no attempt.
const NOT_TRIED: &str = "not tried: the time was short, or the endpoint has failed too often";

/// A message for an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub endpoint: Arc<WebhookEndpoint>,
    pub delivery: WebhookDelivery,
    /// How often it was tried before.
    pub attempts: u32,
}

/// What became of messages.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub delivered: Vec<WebhookDelivery>,
    pub failed: Vec<(WebhookDelivery, Failure)>,
    /// With how often each was tried before.
    pub untried: Vec<(WebhookDelivery, u32)>,
    /// Those that want no more.
    pub gone: BTreeMap<EndpointId, Arc<WebhookEndpoint>>,
    pub dead: u64,
}

impl Results {
    /// What was not delivered; what was not tried is due at a time.
    pub(crate) fn undelivered(&mut self, untried_due_at: Timestamp) -> Vec<(WebhookDelivery, Failure)> {
        let untried = std::mem::take(&mut self.untried).into_iter().map(|(delivery, attempts)| {
            (delivery, Failure { attempts, error: NOT_TRIED.to_owned(), due_at: Some(untried_due_at) })
        });
        std::mem::take(&mut self.failed).into_iter().chain(untried).collect()
    }
}

impl App {
    /// Tries each message once; none is begun after `last_begin`. An endpoint that fails five times in a row is left alone.
    pub(crate) async fn deliver(&self, outgoing: Vec<Outgoing>, last_begin: Instant) -> Results {
        let mut by_endpoint = BTreeMap::<EndpointId, Vec<Outgoing>>::new();
        for message in outgoing {
            by_endpoint.entry(message.endpoint.id.clone()).or_default().push(message);
        }
        let of_each = by_endpoint.into_values().map(|messages| {
            let tries = futures::stream::iter(messages).map(|message| async {
                let attempt = self.attempt(&message, last_begin).await;
                (message, attempt)
            });
            tries.buffer_unordered(EACH).collect::<Vec<_>>()
        });
        let mut results = Results::default();
        for (message, attempt) in join_all(of_each).await.into_iter().flatten() {
            self.sort(message, attempt, &mut results);
        }
        WEBHOOKS_DEAD.add(results.dead, []);
        results
    }

    /// The last time to begin an attempt whose answer comes before the deadline.
    pub(crate) fn last_begin(&self, deadline: Instant) -> Instant {
        deadline.checked_sub(self.policy.timeout).unwrap_or_else(Instant::now)
    }

    /// `None` if it was not tried.
    async fn attempt(&self, message: &Outgoing, last_begin: Instant) -> Option<Attempt> {
        let Outgoing { endpoint, delivery, .. } = message;
        if Instant::now() >= last_begin {
            return None;
        }
        // The semaphore is never closed.
        let _slot = tokio::time::timeout_at(last_begin, self.slots.acquire()).await.ok()?;
        let breaker = self.breaker(&endpoint.id);
        if let Admission::Refused { .. } = breaker.admit(Instant::now().into_std()) {
            return None;
        }
        let started = Instant::now();
        let attempt = self.sender.send(endpoint, &delivery.message_id, delivery.body.clone(), self.clock.now()).await;
        WEBHOOK_ATTEMPT_DURATION.record(started.elapsed().as_secs_f64(), []);
        let result = match attempt {
            Attempt::Delivered => {
                breaker.succeeded();
                "delivered"
            }
            Attempt::Gone | Attempt::Failed { .. } => {
                breaker.failed(Instant::now().into_std());
                "failed"
            }
        };
        WEBHOOK_ATTEMPTS.add(1, [result]);
        Some(attempt)
    }

    fn sort(&self, message: Outgoing, attempt: Option<Attempt>, results: &mut Results) {
        let Outgoing { endpoint, delivery, attempts } = message;
        let now = self.clock.now();
        let (error, asked) = match attempt {
            Some(Attempt::Delivered) => return results.delivered.push(delivery),
            Some(Attempt::Failed { error, retry_after }) => (error, retry_after),
            Some(Attempt::Gone) => {
                results.gone.insert(endpoint.id.clone(), Arc::clone(&endpoint));
                ("the answer has the status 410: the endpoint wants no more".to_owned(), None)
            }
            None => return results.untried.push((delivery, attempts)),
        };
        let attempts = attempts.saturating_add(1);
        let due_at = next_attempt(attempts, now, asked, fastrand::f64());
        if due_at.is_none() {
            results.dead += 1;
            tracing::warn!(
                webhook = %endpoint.id,
                tenant = %endpoint.tenant,
                target = endpoint.target.shown(),
                message_id = delivery.message_id,
                attempts,
                error,
                "a webhook is dead: every attempt failed; it is kept, and can be sent again by hand"
            );
        } else {
            tracing::info!(
                webhook = %endpoint.id,
                target = endpoint.target.shown(),
                message_id = delivery.message_id,
                attempts,
                error,
                "a webhook was not delivered; it is tried again"
            );
        }
        results.failed.push((delivery, Failure { attempts, error, due_at }));
    }
}
