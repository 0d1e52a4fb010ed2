//! The operators' commands on webhooks.

use std::collections::BTreeSet;

use event::{TenantId, Timestamp};
use pipeline::Outcome;
use pipeline::root_key::RootKey;
use secrecy::ExposeSecret as _;
use serde::Serialize;
use webhooks::{EndpointId, MAX_ENDPOINTS, ROTATION_GRACE, WebhookEndpoint, WebhookEndpoints, shown_secret};

use crate::error::MaintainerError;
use crate::random;
use crate::request::NewWebhook;

/// The answer to `create-webhook` and `rotate-webhook`: the only time that the secret is shown.
#[derive(Debug, Serialize)]
pub struct WebhookSecret {
    pub secret: String,
    #[serde(flatten)]
    pub shown: ShownWebhook,
}

/// A webhook as lists and the audit trail show it.
#[derive(Debug, Serialize)]
pub struct ShownWebhook {
    pub webhook: EndpointId,
    pub tenant: TenantId,
    /// Without path and query string, because they often hold a token.
    pub url: String,
    pub outcomes: BTreeSet<Outcome>,
    /// All types if empty.
    pub types: BTreeSet<String>,
    /// Until when the secret before this one signs too.
    pub previous_secret_until: Option<Timestamp>,
    /// Why it is told nothing.
    pub paused: Option<String>,
    pub created_at: Timestamp,
}

impl ShownWebhook {
    pub(crate) fn of(endpoint: WebhookEndpoint, now: Timestamp) -> Self {
        ShownWebhook {
            webhook: endpoint.id,
            tenant: endpoint.tenant,
            url: endpoint.target.shown(),
            outcomes: endpoint.outcomes,
            types: endpoint.event_types,
            previous_secret_until: endpoint.previous_until.filter(|until| now < *until),
            paused: endpoint.paused,
            created_at: endpoint.created_at,
        }
    }
}

/// What is told when an operator pauses without saying why.
const BY_HAND: &str = "an operator paused it";

pub(crate) async fn create(
    endpoints: &dyn WebhookEndpoints,
    key: &RootKey,
    new: NewWebhook,
    now: Timestamp,
) -> Result<WebhookSecret, MaintainerError> {
    let endpoint = WebhookEndpoint {
        id: EndpointId::of(random::bytes()?),
        tenant: new.tenant,
        target: new.url,
        outcomes: new.outcomes,
        event_types: new.types,
        secret_version: 1,
        previous_until: None,
        paused: None,
        created_at: now,
    };
    if !endpoints.put(&endpoint).await.map_err(MaintainerError::Webhooks)? {
        return Err(MaintainerError::TooManyWebhooks { most: MAX_ENDPOINTS });
    }
    Ok(with_secret(endpoint, key, now))
}

pub(crate) async fn list(
    endpoints: &dyn WebhookEndpoints,
    tenant: Option<&TenantId>,
    now: Timestamp,
) -> Result<Vec<ShownWebhook>, MaintainerError> {
    let listed = endpoints.list(tenant).await.map_err(MaintainerError::Webhooks)?;
    Ok(listed.into_iter().map(|endpoint| ShownWebhook::of(endpoint, now)).collect())
}

/// Gives it a new secret; the one before signs too for a day.
pub(crate) async fn rotate(
    endpoints: &dyn WebhookEndpoints,
    key: &RootKey,
    id: &EndpointId,
    now: Timestamp,
) -> Result<WebhookSecret, MaintainerError> {
    let old = find(endpoints, id).await?;
    let previous_until = Some(now.plus(ROTATION_GRACE));
    let new = WebhookEndpoint { secret_version: old.secret_version.saturating_add(1), previous_until, ..old };
    endpoints.put(&new).await.map_err(MaintainerError::Webhooks)?;
    Ok(with_secret(new, key, now))
}

pub(crate) async fn pause(
    endpoints: &dyn WebhookEndpoints,
    id: &EndpointId,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<ShownWebhook, MaintainerError> {
    find(endpoints, id).await?;
    endpoints.pause(id, reason.unwrap_or(BY_HAND)).await.map_err(MaintainerError::Webhooks)?;
    Ok(ShownWebhook::of(find(endpoints, id).await?, now))
}

/// Tells it of outcomes again. Those of the pause are not told; what waited before is sent.
pub(crate) async fn resume(
    endpoints: &dyn WebhookEndpoints,
    id: &EndpointId,
    now: Timestamp,
) -> Result<ShownWebhook, MaintainerError> {
    let resumed = WebhookEndpoint { paused: None, ..find(endpoints, id).await? };
    endpoints.put(&resumed).await.map_err(MaintainerError::Webhooks)?;
    Ok(ShownWebhook::of(resumed, now))
}

/// Removes it with everything that waits for it or is dead.
pub(crate) async fn delete(
    endpoints: &dyn WebhookEndpoints,
    id: &EndpointId,
    now: Timestamp,
) -> Result<ShownWebhook, MaintainerError> {
    let endpoint = find(endpoints, id).await?;
    endpoints.delete(id).await.map_err(MaintainerError::Webhooks)?;
    Ok(ShownWebhook::of(endpoint, now))
}

async fn find(endpoints: &dyn WebhookEndpoints, id: &EndpointId) -> Result<WebhookEndpoint, MaintainerError> {
    endpoints.get(id).await.map_err(MaintainerError::Webhooks)?.ok_or(MaintainerError::UnknownWebhook)
}

fn with_secret(endpoint: WebhookEndpoint, key: &RootKey, now: Timestamp) -> WebhookSecret {
    let secret = shown_secret(key, &endpoint.id, endpoint.secret_version).expose_secret().to_owned();
    WebhookSecret { secret, shown: ShownWebhook::of(endpoint, now) }
}

#[cfg(test)]
mod tests {
    use pipeline::clock::{Clock as _, SystemClock};
    use testkit::fakes::webhooks::FakeWebhooks;

    use super::*;

    fn key() -> RootKey {
        RootKey::try_from(secrecy::SecretString::from("a root key that is long enough to be one")).unwrap()
    }

    fn new() -> NewWebhook {
        NewWebhook {
            tenant: TenantId::new("acme").unwrap(),
            url: "https://hooks.example.com/in?token=s3cret".parse().unwrap(),
            outcomes: BTreeSet::from([Outcome::Fraud]),
            types: BTreeSet::new(),
        }
    }

    #[tokio::test]
    async fn a_webhook_has_a_life() {
        let (store, key, now) = (FakeWebhooks::default(), key(), SystemClock.now());
        let created = create(&store, &key, new(), now).await.unwrap();
        let id = created.shown.webhook.clone();
        assert!(created.secret.starts_with("whsec_") && created.shown.url == "https://hooks.example.com/…");
        let rotated = rotate(&store, &key, &id, now).await.unwrap();
        assert_ne!(rotated.secret, created.secret);
        assert_eq!(rotated.shown.previous_secret_until, Some(now.plus(ROTATION_GRACE)));
        let paused = pause(&store, &id, None, now).await.unwrap();
        assert_eq!(paused.paused.as_deref(), Some(BY_HAND));
        assert_eq!(resume(&store, &id, now).await.unwrap().paused, None);
        assert_eq!(
            list(&store, Some(&new().tenant), now.plus(ROTATION_GRACE)).await.unwrap()[0].previous_secret_until,
            None
        );
        delete(&store, &id, now).await.unwrap();
        assert!(matches!(delete(&store, &id, now).await, Err(MaintainerError::UnknownWebhook)));
        assert!(matches!(pause(&store, &id, None, now).await, Err(MaintainerError::UnknownWebhook)));
    }

    #[tokio::test]
    async fn a_tenant_has_a_bounded_number() {
        let (store, key, now) = (FakeWebhooks::default(), key(), SystemClock.now());
        for _ in 0..MAX_ENDPOINTS {
            create(&store, &key, new(), now).await.unwrap();
        }
        let refused = create(&store, &key, new(), now).await.unwrap_err().to_string();
        assert!(refused.contains(&MAX_ENDPOINTS.to_string()), "{refused}");
    }
}
