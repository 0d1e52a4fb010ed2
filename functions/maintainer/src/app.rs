//! What one instance of the maintainer holds.
//!
//! It has no guards: calls are rare, and an operator's command should be tried even if earlier calls failed.

use std::sync::Arc;
use std::time::Duration;

use access::AccessStore;
use dynamodb::{DynamoClaims, DynamoDb};
use kafka::KafkaClient;
use pipeline::clock::{Clock, SystemClock};
use pipeline::ports::{ACCESS_TRAIL, AddressCounters, ApiKeys, AuditTrail, BlockList, HeldClaims};
use pipeline::root_key::RootKey;
use postgres::{Database, PostgresClaims, PostgresError, PostgresWebhooks};
use settings::shared::StateStore;
use tokio::sync::OnceCell;

use crate::config::Config;
use crate::error::MaintainerError;

/// One instance of the function. It connects to Kafka and the database when it first needs them, so an address can be
/// blocked while either is down, unless Postgres keeps the blocks.
pub struct App {
    pub(crate) config: Config,
    pub(crate) keys: Arc<dyn ApiKeys>,
    pub(crate) blocks: Arc<dyn BlockList>,
    pub(crate) counters: Arc<dyn AddressCounters>,
    /// Of the changes of keys and blocks.
    pub(crate) audit: Arc<dyn AuditTrail>,
    pub(crate) clock: Arc<dyn Clock>,
    kafka: OnceCell<KafkaClient>,
    database: OnceCell<Database>,
}

impl App {
    /// # Errors
    /// If Postgres is the store of keys and blocks, and its login cannot be read.
    pub async fn connect(config: Config) -> Result<Self, PostgresError> {
        let access = config.access.connect(&aws::sdk_config().await).await?;
        let (keys, blocks, counters) = (access.keys(), access.blocks(), access.counters());
        let mut app = App::new(config, keys, blocks, counters, access.trail(ACCESS_TRAIL), Arc::new(SystemClock));
        if let AccessStore::Postgres(database) = access {
            app.database = OnceCell::new_with(Some(database));
        }
        Ok(app)
    }

    /// Makes an app of the given adapters.
    pub fn new(
        config: Config,
        keys: Arc<dyn ApiKeys>,
        blocks: Arc<dyn BlockList>,
        counters: Arc<dyn AddressCounters>,
        audit: Arc<dyn AuditTrail>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        App { config, keys, blocks, counters, audit, clock, kafka: OnceCell::new(), database: OnceCell::new() }
    }

    pub(crate) async fn kafka(&self) -> Result<&KafkaClient, MaintainerError> {
        let connect = || KafkaClient::connect(&self.config.kafka, "maintainer");
        self.kafka.get_or_try_init(connect).await.map_err(MaintainerError::topics)
    }

    pub(crate) async fn webhooks(&self) -> Result<PostgresWebhooks, MaintainerError> {
        Ok(PostgresWebhooks::new(self.database().await?.clone()))
    }

    /// What the processor remembers. It claims nothing here, so how long claims hold does not matter.
    pub(crate) async fn claims(&self) -> Result<Box<dyn HeldClaims>, MaintainerError> {
        Ok(match self.config.dedup_store {
            StateStore::Postgres => Box::new(PostgresClaims::new(self.database().await?.clone(), Duration::ZERO)),
            StateStore::Dynamodb => {
                let dynamodb = DynamoDb::connect(&aws::sdk_config().await).await;
                Box::new(DynamoClaims::new(&dynamodb, &self.config.dedup_table, Duration::ZERO))
            }
        })
    }

    /// From which the secrets of webhooks are made. Read each time: calls are rare, and it may have been set just now.
    pub(crate) async fn webhook_key(&self) -> Result<RootKey, MaintainerError> {
        let source = self.config.webhook_key.as_ref().ok_or(MaintainerError::NoWebhookKey)?;
        let key = aws::secrets::read(source).await.map_err(MaintainerError::UnreadableWebhookKey)?;
        RootKey::try_from(key).map_err(MaintainerError::BadWebhookKey)
    }

    pub(crate) async fn database(&self) -> Result<&Database, MaintainerError> {
        let connect = || Database::connect(&self.config.postgres);
        self.database.get_or_try_init(connect).await.map_err(MaintainerError::database("connecting to the database"))
    }
}
