//! Webhooks: signed HTTP requests that tell a tenant's own server about outcomes.
//!
//! Owns what an endpoint is, what a message says, how it is signed (Standard Webhooks), which addresses may be called, when a
//! delivery that failed is tried again, and the ports through which endpoints and deliveries are kept. Does no I/O: the function
//! `notifier` sends, `postgres` keeps, and `maintainer` changes endpoints.

mod address;
mod endpoint;
mod message;
mod ports;
mod retries;
mod signature;
mod target;

pub use address::is_public;
pub use endpoint::{EndpointId, EndpointIdError, MAX_ENDPOINTS, WebhookEndpoint};
pub use message::{WebhookMessage, WebhookMessageError};
pub use ports::{Backlog, DeadDelivery, DueDelivery, Failure, WebhookDeliveries, WebhookDelivery, WebhookEndpoints};
pub use retries::{ATTEMPTS, next_attempt};
pub use signature::{ROTATION_GRACE, shown_secret, signatures};
pub use target::{WebhookTarget, WebhookTargetError};
