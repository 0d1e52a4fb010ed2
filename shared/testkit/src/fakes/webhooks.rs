//! Endpoints of webhooks and failed deliveries, in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use event::{TenantId, Timestamp};
use pipeline::{Dependency, DependencyError};
use webhooks::{
    Backlog, DeadDelivery, DueDelivery, EndpointId, Failure, MAX_ENDPOINTS, WebhookDeliveries, WebhookDelivery,
    WebhookEndpoint, WebhookEndpoints,
};

use super::Faults;

/// [`WebhookEndpoints`] and [`WebhookDeliveries`].
#[derive(Debug, Default)]
pub struct FakeWebhooks {
    pub faults: Faults,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    endpoints: BTreeMap<EndpointId, WebhookEndpoint>,
    deliveries: BTreeMap<(EndpointId, String), (WebhookDelivery, Failure, Timestamp)>,
}

impl FakeWebhooks {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply<T>(&self, effect: impl FnOnce(&mut State) -> T) -> Result<T, DependencyError> {
        self.faults.apply(Dependency::Postgres, || effect(&mut self.state()))
    }

    /// Every delivery that is kept, with how it failed.
    pub fn kept(&self) -> Vec<(WebhookDelivery, Failure)> {
        self.state().deliveries.values().map(|(delivery, failure, _)| (delivery.clone(), failure.clone())).collect()
    }
}

fn key(delivery: &WebhookDelivery) -> (EndpointId, String) {
    (delivery.endpoint.clone(), delivery.message_id.clone())
}

#[async_trait]
impl WebhookEndpoints for FakeWebhooks {
    async fn list(&self, tenant: Option<&TenantId>) -> Result<Vec<WebhookEndpoint>, DependencyError> {
        self.apply(|state| {
            let is_asked = |endpoint: &&WebhookEndpoint| tenant.is_none_or(|tenant| endpoint.tenant == *tenant);
            state.endpoints.values().filter(is_asked).cloned().collect()
        })
    }

    async fn get(&self, id: &EndpointId) -> Result<Option<WebhookEndpoint>, DependencyError> {
        self.apply(|state| state.endpoints.get(id).cloned())
    }

    async fn put(&self, endpoint: &WebhookEndpoint) -> Result<bool, DependencyError> {
        self.apply(|state| {
            let is_other = |other: &&WebhookEndpoint| other.tenant == endpoint.tenant && other.id != endpoint.id;
            let has_room = state.endpoints.values().filter(is_other).count() < MAX_ENDPOINTS as usize;
            if has_room {
                state.endpoints.insert(endpoint.id.clone(), endpoint.clone());
            }
            has_room
        })
    }

    async fn pause(&self, id: &EndpointId, why: &str) -> Result<(), DependencyError> {
        self.apply(|state| {
            if let Some(endpoint) = state.endpoints.get_mut(id) {
                endpoint.paused.get_or_insert_with(|| why.to_owned());
            }
        })
    }

    async fn delete(&self, id: &EndpointId) -> Result<bool, DependencyError> {
        self.apply(|state| {
            state.deliveries.retain(|(endpoint, _), _| endpoint != id);
            state.endpoints.remove(id).is_some()
        })
    }
}

#[async_trait]
impl WebhookDeliveries for FakeWebhooks {
    async fn keep(&self, failed: &[(WebhookDelivery, Failure)], now: Timestamp) -> Result<(), DependencyError> {
        self.apply(|state| {
            for (delivery, failure) in failed {
                if state.endpoints.contains_key(&delivery.endpoint) {
                    let kept = || (delivery.clone(), failure.clone(), now);
                    state.deliveries.entry(key(delivery)).or_insert_with(kept);
                }
            }
        })
    }

    async fn take(
        &self,
        now: Timestamp,
        until: Timestamp,
        of_each: u32,
        limit: u32,
    ) -> Result<Vec<DueDelivery>, DependencyError> {
        self.apply(|state| {
            let State { endpoints, deliveries } = state;
            let is_running = |id: &EndpointId| endpoints.get(id).is_some_and(|endpoint| endpoint.paused.is_none());
            let mut due: Vec<DueDelivery> = Vec::new();
            for (delivery, failure, _) in deliveries.values() {
                if let Some(due_at) = failure.due_at.filter(|at| *at <= now && is_running(&delivery.endpoint)) {
                    due.push(DueDelivery { delivery: delivery.clone(), attempts: failure.attempts, due_at });
                }
            }
            due.sort_by_key(|due| (due.due_at, due.delivery.message_id.clone()));
            let mut of = BTreeMap::<EndpointId, u32>::new();
            due.retain(|due| {
                let count = of.entry(due.delivery.endpoint.clone()).or_default();
                *count += 1;
                *count <= of_each
            });
            due.truncate(limit as usize);
            for due in &due {
                if let Some((_, failure, _)) = deliveries.get_mut(&key(&due.delivery)) {
                    failure.due_at = Some(until);
                }
            }
            due
        })
    }

    async fn settle(
        &self,
        delivered: &[WebhookDelivery],
        failed: &[(WebhookDelivery, Failure)],
        now: Timestamp,
    ) -> Result<(), DependencyError> {
        self.apply(|state| {
            let delivered: BTreeSet<_> = delivered.iter().map(key).collect();
            state.deliveries.retain(|key, _| !delivered.contains(key));
            for (delivery, failure) in failed {
                if let Some(kept) = state.deliveries.get_mut(&key(delivery)) {
                    (kept.1, kept.2) = (failure.clone(), now);
                }
            }
        })
    }

    async fn backlog(&self) -> Result<Backlog, DependencyError> {
        self.apply(|state| {
            let mut waiting = BTreeMap::<EndpointId, u64>::new();
            let mut first_due = None;
            for (delivery, failure, _) in state.deliveries.values() {
                let Some(due_at) = failure.due_at else { continue };
                *waiting.entry(delivery.endpoint.clone()).or_default() += 1;
                if state.endpoints.get(&delivery.endpoint).is_some_and(|endpoint| endpoint.paused.is_none()) {
                    first_due = [first_due, Some(due_at)].into_iter().flatten().min();
                }
            }
            Backlog { waiting: waiting.into_iter().collect(), first_due }
        })
    }

    async fn dead(&self, endpoint: &EndpointId, limit: u32) -> Result<Vec<DeadDelivery>, DependencyError> {
        self.apply(|state| {
            let is_dead = |(delivery, failure, _): &&(WebhookDelivery, Failure, Timestamp)| {
                delivery.endpoint == *endpoint && failure.due_at.is_none()
            };
            let shown = |(delivery, failure, failed_at): &(WebhookDelivery, Failure, Timestamp)| DeadDelivery {
                message_id: delivery.message_id.clone(),
                attempts: failure.attempts,
                error: failure.error.clone(),
                failed_at: *failed_at,
                body_bytes: delivery.body.len() as u64,
            };
            let mut dead: Vec<DeadDelivery> = state.deliveries.values().filter(is_dead).map(shown).collect();
            dead.sort_by(|a, b| b.failed_at.cmp(&a.failed_at).then_with(|| a.message_id.cmp(&b.message_id)));
            dead.truncate(limit as usize);
            dead
        })
    }

    async fn revive(
        &self,
        endpoint: &EndpointId,
        message_id: Option<&str>,
        now: Timestamp,
    ) -> Result<u64, DependencyError> {
        self.apply(|state| {
            let mut revived = 0;
            for (delivery, failure, _) in state.deliveries.values_mut() {
                let is_asked = message_id.is_none_or(|id| id == delivery.message_id);
                if delivery.endpoint == *endpoint && failure.due_at.is_none() && is_asked {
                    (failure.due_at, failure.attempts) = (Some(now), 0);
                    revived += 1;
                }
            }
            revived
        })
    }

    async fn forget(&self, before: Timestamp) -> Result<u64, DependencyError> {
        self.apply(|state| {
            let kept = state.deliveries.len();
            state.deliveries.retain(|_, (_, failure, failed_at)| failure.due_at.is_some() || *failed_at >= before);
            (kept - state.deliveries.len()) as u64
        })
    }
}
