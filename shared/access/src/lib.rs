//! Where keys, limits, blocks, redrive marks and audit trails are kept: one choice for every function that uses them.
//!
//! Owns the choice (`ACCESS_STORE`) and what it needs. Leaves the stores to `dynamodb` and `postgres`.

use std::future::Future;
use std::sync::Arc;

use aws_config::SdkConfig;
use dynamodb::{
    DynamoAddressCounters, DynamoApiKeys, DynamoAuditTrail, DynamoBlockList, DynamoDb, DynamoRateLeases,
    DynamoRedriveMarks,
};
use pipeline::Dependency;
use pipeline::ports::{AddressCounters, ApiKeys, AuditTrail, BlockList, RateLeases, RedriveMarks};
use postgres::{
    Database, PostgresAddressCounters, PostgresApiKeys, PostgresAuditTrail, PostgresBlockList, PostgresConfig,
    PostgresError, PostgresRateLeases, PostgresRedriveMarks,
};
use settings::Settings;
use settings::shared::{StateStore, access_store, access_table};

/// The chosen store, and how to reach it.
#[derive(Clone, Debug)]
pub enum AccessConfig {
    Dynamodb {
        /// `ACCESS_TABLE`: its table; `access`.
        table: String,
    },
    Postgres(PostgresConfig),
}

impl AccessConfig {
    /// For a function that uses Postgres for nothing else: its settings are read only if it is chosen. `None` if some are
    /// missing or malformed; problems are recorded then.
    pub fn from_settings(settings: &mut Settings<'_>) -> Option<Self> {
        Self::read(settings, PostgresConfig::from_settings)
    }

    /// For a function that has read the settings of Postgres already.
    pub fn with_postgres(settings: &mut Settings<'_>, postgres: Option<&PostgresConfig>) -> Option<Self> {
        Self::read(settings, |_| postgres.cloned())
    }

    fn read(
        settings: &mut Settings<'_>,
        postgres: impl FnOnce(&mut Settings<'_>) -> Option<PostgresConfig>,
    ) -> Option<Self> {
        let table = access_table(settings);
        match access_store(settings) {
            StateStore::Dynamodb => Some(AccessConfig::Dynamodb { table }),
            StateStore::Postgres => postgres(settings).map(AccessConfig::Postgres),
        }
    }

    /// Whose breaker opens when the store fails.
    pub fn dependency(&self) -> Dependency {
        match self {
            AccessConfig::Dynamodb { .. } => Dependency::Dynamodb,
            AccessConfig::Postgres(_) => Dependency::Postgres,
        }
    }

    /// Opens the store. It may be down: then calls fail until it is up.
    ///
    /// # Errors
    /// If the login of Postgres cannot be read.
    pub async fn connect(&self, sdk: &SdkConfig) -> Result<AccessStore, PostgresError> {
        match self {
            AccessConfig::Dynamodb { table } => Ok(dynamodb(sdk, table).await),
            AccessConfig::Postgres(config) => Ok(AccessStore::Postgres(Database::connect_if_up(config).await?)),
        }
    }

    /// Opens the store beside a database that the function needs anyway, and that is the store if Postgres is chosen.
    ///
    /// # Errors
    /// If the database cannot be opened.
    pub async fn connect_beside(
        &self,
        sdk: &SdkConfig,
        database: impl Future<Output = Result<Database, PostgresError>>,
    ) -> Result<(AccessStore, Database), PostgresError> {
        match self {
            AccessConfig::Dynamodb { table } => {
                let (access, database) = tokio::join!(dynamodb(sdk, table), database);
                Ok((access, database?))
            }
            AccessConfig::Postgres(_) => {
                let database = database.await?;
                Ok((AccessStore::Postgres(database.clone()), database))
            }
        }
    }
}

async fn dynamodb(sdk: &SdkConfig, table: &str) -> AccessStore {
    AccessStore::Dynamodb { dynamodb: DynamoDb::connect(sdk).await, table: table.to_owned() }
}

/// The opened store. Each method returns one of its ports.
#[derive(Clone, Debug)]
pub enum AccessStore {
    Dynamodb { dynamodb: DynamoDb, table: String },
    Postgres(Database),
}

impl AccessStore {
    pub fn keys(&self) -> Arc<dyn ApiKeys> {
        match self {
            AccessStore::Dynamodb { dynamodb, table } => Arc::new(DynamoApiKeys::new(dynamodb, table)),
            AccessStore::Postgres(database) => Arc::new(PostgresApiKeys::new(database.clone())),
        }
    }

    pub fn leases(&self) -> Arc<dyn RateLeases> {
        match self {
            AccessStore::Dynamodb { dynamodb, table } => Arc::new(DynamoRateLeases::new(dynamodb, table)),
            AccessStore::Postgres(database) => Arc::new(PostgresRateLeases::new(database.clone())),
        }
    }

    pub fn blocks(&self) -> Arc<dyn BlockList> {
        match self {
            AccessStore::Dynamodb { dynamodb, table } => Arc::new(DynamoBlockList::new(dynamodb, table)),
            AccessStore::Postgres(database) => Arc::new(PostgresBlockList::new(database.clone())),
        }
    }

    pub fn counters(&self) -> Arc<dyn AddressCounters> {
        match self {
            AccessStore::Dynamodb { dynamodb, table } => Arc::new(DynamoAddressCounters::new(dynamodb, table)),
            AccessStore::Postgres(database) => Arc::new(PostgresAddressCounters::new(database.clone())),
        }
    }

    pub fn marks(&self) -> Arc<dyn RedriveMarks> {
        match self {
            AccessStore::Dynamodb { dynamodb, table } => Arc::new(DynamoRedriveMarks::new(dynamodb, table)),
            AccessStore::Postgres(database) => Arc::new(PostgresRedriveMarks::new(database.clone())),
        }
    }

    /// The trail of the actions that are about `subject`.
    pub fn trail(&self, subject: &'static str) -> Arc<dyn AuditTrail> {
        match self {
            AccessStore::Dynamodb { dynamodb, table } => Arc::new(DynamoAuditTrail::new(dynamodb, table, subject)),
            AccessStore::Postgres(database) => Arc::new(PostgresAuditTrail::new(database.clone(), subject)),
        }
    }
}
