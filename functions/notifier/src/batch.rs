//! A batch of outcomes: what is sent to whom, at once.

use std::collections::HashMap;
use std::str;
use std::sync::Arc;
use std::time::Duration;

use pipeline::announcement::Announcement;
use pipeline::{Outcome, Record, failpoint, header};
use serde::Serialize;
use telemetry::list::WEBHOOKS_SKIPPED;
use tokio::time::Instant;
use webhooks::{WebhookDelivery, WebhookEndpoint, WebhookMessage};

use crate::app::App;
use crate::delivery::Outgoing;
use crate::error::NotifierError;

/// For how long a batch begins first attempts. What is left then is kept and sent by the next retry, so that a slow endpoint
/// delays the outcomes of others by no more than this and one time limit.
const FIRST_ATTEMPTS: Duration = Duration::from_secs(3);

/// What a batch came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct BatchReport {
    pub messages: usize,
    pub delivered: usize,
    /// Kept for the next attempt.
    pub kept: usize,
    /// Not told to paused endpoints.
    pub skipped: u64,
}

/// What a batch has for the endpoints.
#[derive(Debug, Default)]
struct Plan {
    outgoing: Vec<Outgoing>,
    skipped: u64,
}

impl App {
    /// Sends the outcomes of a batch. When this returns without an error, every message is delivered or kept.
    ///
    /// # Errors
    /// If Postgres fails; the batch is then delivered again, and receivers know by its id what they have had.
    pub(crate) async fn notify(&self, records: &[Record], deadline: Instant) -> Result<BatchReport, NotifierError> {
        let endpoints = self.recent_endpoints(deadline).await?;
        let Plan { outgoing, skipped } = plan(records, &endpoints);
        let messages = outgoing.len();
        let last_begin = self.last_begin(deadline).min(Instant::now() + FIRST_ATTEMPTS);
        let mut results = self.deliver(outgoing, last_begin).await;
        failpoint!("notifier::sent");
        let now = self.clock.now();
        let undelivered = results.undelivered(now);
        if !undelivered.is_empty() {
            let keep = || self.deliveries.keep(&undelivered, now);
            self.postgres.call(deadline, "keeping deliveries", keep).await?;
        }
        for endpoint in results.gone.values() {
            self.pause(endpoint, "it answered 410: gone", deadline).await?;
        }
        WEBHOOKS_SKIPPED.add(skipped, []);
        Ok(BatchReport { messages, delivered: results.delivered.len(), kept: undelivered.len(), skipped })
    }
}

/// What the records have for the endpoints. A record is parsed only if one asks for it.
fn plan(records: &[Record], endpoints: &[Arc<WebhookEndpoint>]) -> Plan {
    let mut of_tenant = HashMap::<&str, Vec<&Arc<WebhookEndpoint>>>::new();
    for endpoint in endpoints {
        of_tenant.entry(endpoint.tenant.as_str()).or_default().push(endpoint);
    }
    let mut plan = Plan::default();
    for record in records {
        let Some((tenant, outcome, event_type)) = labels(record) else { continue };
        let asking = of_tenant.get(tenant).into_iter().flatten().copied();
        let asking: Vec<&Arc<WebhookEndpoint>> =
            asking.filter(|endpoint| endpoint.wants(outcome, event_type)).collect();
        if asking.is_empty() {
            continue;
        }
        let Some(message) = message(record, tenant) else { continue };
        for endpoint in asking {
            if endpoint.paused.is_some() {
                plan.skipped += 1;
                continue;
            }
            let WebhookMessage { id, body } = message.clone();
            let delivery = WebhookDelivery { endpoint: endpoint.id.clone(), message_id: id, body };
            plan.outgoing.push(Outgoing { endpoint: Arc::clone(endpoint), delivery, attempts: 0 });
        }
    }
    plan
}

/// Tenant, outcome and type of an outcome's record, by its key and headers: the key begins with the tenant.
fn labels(record: &Record) -> Option<(&str, Outcome, Option<&str>)> {
    let key = str::from_utf8(record.key.as_deref()?).ok()?;
    let outcome = str::from_utf8(record.headers.get(header::OUTCOME)?).ok()?.parse().ok()?;
    let event_type = record.headers.get(header::EVENT_TYPE).and_then(|text| str::from_utf8(text).ok());
    Some((key.split_once('/')?.0, outcome, event_type))
}

/// The message about a record. `None` if its value is of no event of this tenant, or cannot be read.
fn message(record: &Record, tenant: &str) -> Option<WebhookMessage> {
    let value = record.value.as_deref().unwrap_or_default();
    let message = Announcement::read(value)
        .map_err(From::from)
        .and_then(|outcome| outcome.event_of(tenant).map(|id| WebhookMessage::about(&outcome, id)).transpose());
    message.unwrap_or_else(|error| {
        tracing::error!(
            position = %record.position,
            error = pipeline::chain(&error),
            "a record on processed-events is no outcome; nobody is told of it"
        );
        None
    })
}
