//! Where endpoints and deliveries are kept. The rules of all ports are those of `pipeline::ports`.

use async_trait::async_trait;
use bytes::Bytes;
use event::{TenantId, Timestamp};
use pipeline::DependencyError;

use crate::{EndpointId, WebhookEndpoint};

/// The endpoints of all tenants. Changing them is for operators, so calls are rare.
#[async_trait]
pub trait WebhookEndpoints: Send + Sync {
    /// Those of a tenant, or all; in the order of their ids.
    async fn list(&self, tenant: Option<&TenantId>) -> Result<Vec<WebhookEndpoint>, DependencyError>;

    async fn get(&self, id: &EndpointId) -> Result<Option<WebhookEndpoint>, DependencyError>;

    /// Adds one, or writes one anew that has the same id. `false` if the tenant has as many as it may
    /// ([`crate::MAX_ENDPOINTS`]).
    async fn put(&self, endpoint: &WebhookEndpoint) -> Result<bool, DependencyError>;

    /// Tells it nothing until it is resumed. One that is paused keeps its reason; one that does not exist is no error.
    async fn pause(&self, id: &EndpointId, why: &str) -> Result<(), DependencyError>;

    /// Removes it with its deliveries. `false` if there is none.
    async fn delete(&self, id: &EndpointId) -> Result<bool, DependencyError>;
}

/// A message for an endpoint that did not get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookDelivery {
    pub endpoint: EndpointId,
    pub message_id: String,
    pub body: Bytes,
}

/// How an attempt ended that failed, and what comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How often it was tried.
    pub attempts: u32,
    pub error: String,
    /// When it is tried again; `None` if it is dead.
    pub due_at: Option<Timestamp>,
}

/// A delivery that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueDelivery {
    pub delivery: WebhookDelivery,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was due.
    pub due_at: Timestamp,
}

/// A delivery that failed at every attempt, as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadDelivery {
    pub message_id: String,
    pub attempts: u32,
    pub error: String,
    pub failed_at: Timestamp,
    /// The body itself holds what a customer sent, and lists do not show it.
    pub body_bytes: u64,
}

/// What waits for its next attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// How many of each endpoint that has any.
    pub waiting: Vec<(EndpointId, u64)>,
    /// When the first of them was or is due, of endpoints that are not paused.
    pub first_due: Option<Timestamp>,
}

/// Deliveries that have failed, until they succeed or are removed.
#[async_trait]
pub trait WebhookDeliveries: Send + Sync {
    /// Keeps deliveries that failed at `now`. One that is kept already stays as it is, and one for an endpoint that no longer
    /// exists is left out.
    async fn keep(&self, failed: &[(WebhookDelivery, Failure)], now: Timestamp) -> Result<(), DependencyError>;

    /// Takes deliveries that are due at `now`, of endpoints that are not paused: at most `of_each` of an endpoint and `limit`
    /// together, the longest due first. Others do not get them before `until`, when they are due again unless they were settled.
    async fn take(
        &self,
        now: Timestamp,
        until: Timestamp,
        of_each: u32,
        limit: u32,
    ) -> Result<Vec<DueDelivery>, DependencyError>;

    /// Removes what was delivered, and writes down what failed again at `now`. What no longer exists is left out.
    async fn settle(
        &self,
        delivered: &[WebhookDelivery],
        failed: &[(WebhookDelivery, Failure)],
        now: Timestamp,
    ) -> Result<(), DependencyError>;

    async fn backlog(&self) -> Result<Backlog, DependencyError>;

    /// The dead deliveries of an endpoint that failed last, newest first, at most `limit`.
    async fn dead(&self, endpoint: &EndpointId, limit: u32) -> Result<Vec<DeadDelivery>, DependencyError>;

    /// Makes dead deliveries of an endpoint due at `now`, with all attempts before them: one, or all. Returns how many.
    async fn revive(
        &self,
        endpoint: &EndpointId,
        message_id: Option<&str>,
        now: Timestamp,
    ) -> Result<u64, DependencyError>;

    /// Removes dead deliveries that failed before a time. Returns how many.
    async fn forget(&self, before: Timestamp) -> Result<u64, DependencyError>;
}
