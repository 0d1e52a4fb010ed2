//! What one instance of the notifier holds: its adapters, and what it knows about the health of endpoints.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws::secrets::SecretError;
use event::Timestamp;
use lambda::guard::guard;
use pipeline::breaker::Breaker;
use pipeline::clock::{Clock, SystemClock};
use pipeline::guard::Guard;
use pipeline::root_key::{RootKey, RootKeyError};
use pipeline::{Dependency, DependencyError};
use postgres::{Database, PostgresError, PostgresWebhooks};
use telemetry::list::{WEBHOOK_ATTEMPTS, WEBHOOKS_DEAD, WEBHOOKS_SKIPPED};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use webhooks::{EndpointId, WebhookDeliveries, WebhookEndpoint, WebhookEndpoints};

use crate::config::{Config, Policy};
use crate::sender::{HttpsSender, SenderError, WebhookSender};

/// How long a list of endpoints is used, in milliseconds: so long a new endpoint may have to wait for its first outcome.
const LIST_AGE_MS: u128 = 10_000;

/// Why an instance could not start.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot connect to Postgres at start")]
    Postgres(#[from] PostgresError),
    #[error("cannot read WEBHOOK_KEY")]
    Secret(#[from] SecretError),
    #[error("WEBHOOK_KEY cannot be used")]
    Key(#[from] RootKeyError),
    #[error("cannot send webhooks")]
    Sender(#[from] SenderError),
}

/// The endpoints of all tenants, at one time.
pub(crate) type Endpoints = Arc<[Arc<WebhookEndpoint>]>;

/// One instance of the function.
pub struct App {
    pub(crate) endpoints: Arc<dyn WebhookEndpoints>,
    pub(crate) deliveries: Arc<dyn WebhookDeliveries>,
    pub(crate) sender: Arc<dyn WebhookSender>,
    pub(crate) postgres: Guard,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) policy: Policy,
    /// Requests that may be open at the same time.
    pub(crate) slots: Semaphore,
    breakers: Mutex<HashMap<EndpointId, Arc<Breaker>>>,
    known: Mutex<Option<(Timestamp, Endpoints)>>,
}

impl App {
    /// # Errors
    /// If Postgres cannot be reached, or the key or the file of authorities cannot be used.
    pub async fn connect(config: Config) -> Result<Self, ConnectError> {
        let (database, key) = tokio::join!(Database::connect(&config.postgres), aws::secrets::read(&config.key));
        let webhooks = Arc::new(PostgresWebhooks::new(database?));
        let key = RootKey::try_from(key?)?;
        let sender = HttpsSender::new(key, config.policy.timeout, &config.allowed, config.ca_file.as_deref())?;
        let endpoints: Arc<dyn WebhookEndpoints> = Arc::clone(&webhooks) as _;
        Ok(App::new(endpoints, webhooks, Arc::new(sender), Arc::new(SystemClock), config.policy))
    }

    /// Makes an app of the given adapters.
    pub fn new(
        endpoints: Arc<dyn WebhookEndpoints>,
        deliveries: Arc<dyn WebhookDeliveries>,
        sender: Arc<dyn WebhookSender>,
        clock: Arc<dyn Clock>,
        policy: Policy,
    ) -> Self {
        WEBHOOK_ATTEMPTS.begin(["delivered"]);
        WEBHOOK_ATTEMPTS.begin(["failed"]);
        WEBHOOKS_DEAD.begin([]);
        WEBHOOKS_SKIPPED.begin([]);
        App {
            endpoints,
            deliveries,
            sender,
            postgres: guard(Dependency::Postgres, policy.breaker_open),
            clock,
            slots: Semaphore::new(policy.concurrency.get().into()),
            policy,
            breakers: Mutex::default(),
            known: Mutex::default(),
        }
    }

    /// The endpoints of all tenants, as they were a few seconds ago.
    pub(crate) async fn recent_endpoints(&self, deadline: Instant) -> Result<Endpoints, DependencyError> {
        let now = self.clock.now();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match known {
            Some((at, endpoints)) if at <= now && now.since(at).as_millis() < LIST_AGE_MS => Ok(endpoints),
            Some(_) | None => self.read_endpoints(deadline).await,
        }
    }

    /// The endpoints of all tenants as they are now.
    pub(crate) async fn read_endpoints(&self, deadline: Instant) -> Result<Endpoints, DependencyError> {
        let now = self.clock.now();
        let list = || self.endpoints.list(None);
        let endpoints = self.postgres.call(deadline, "listing webhooks", list).await?;
        self.lock_breakers().retain(|id, _| endpoints.iter().any(|endpoint| endpoint.id == *id));
        let endpoints: Endpoints = endpoints.into_iter().map(Arc::new).collect();
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, Arc::clone(&endpoints)));
        Ok(endpoints)
    }

    /// Tells an endpoint nothing more, and remembers that at once.
    pub(crate) async fn pause(
        &self,
        endpoint: &WebhookEndpoint,
        why: &str,
        deadline: Instant,
    ) -> Result<(), DependencyError> {
        let pause = || self.endpoints.pause(&endpoint.id, why);
        self.postgres.call(deadline, "pausing a webhook", pause).await?;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
        tracing::warn!(
            webhook = %endpoint.id,
            tenant = %endpoint.tenant,
            target = endpoint.target.shown(),
            why,
            "a webhook is paused: its endpoint is told nothing until it is resumed"
        );
        Ok(())
    }

    pub(crate) fn breaker(&self, id: &EndpointId) -> Arc<Breaker> {
        let mut breakers = self.lock_breakers();
        Arc::clone(breakers.entry(id.clone()).or_insert_with(|| Arc::new(Breaker::new(self.policy.breaker_open))))
    }

    fn lock_breakers(&self) -> MutexGuard<'_, HashMap<EndpointId, Arc<Breaker>>> {
        self.breakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
