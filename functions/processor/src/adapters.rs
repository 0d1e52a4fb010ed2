//! The processor's ports on real services, connected during init: the first batch should not pay for handshakes.

use std::sync::Arc;

use dynamodb::{DynamoAccess, DynamoClaims, DynamoDb};
use kafka::{KafkaClient, KafkaPublisher, PublisherOptions};
use pipeline::clock::SystemClock;
use pipeline::decisions::publication;
use pipeline::ports::ClaimStore;
use postgres::{Database, PostgresClaims, PostgresEventStore};
use scoring::ScorerClient;

use crate::Ports;
use crate::config::{Config, DedupStore};

/// A service that could not be reached at the start.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("kafka cannot be reached")]
    Kafka(#[from] kafka::KafkaError),
    #[error("postgres cannot be reached")]
    Postgres(#[from] postgres::PostgresError),
}

/// Connects everything the configuration names, all at once. The publisher is given apart too, to be closed at the end.
///
/// # Errors
/// The first service that cannot be reached. The scorer is not asked: it may be down.
pub async fn connect(config: &Config) -> Result<(Ports, Arc<KafkaPublisher>), ConnectError> {
    let (publisher, database, sdk) = tokio::join!(
        async {
            let options =
                PublisherOptions { max_record_bytes: publication::MAX_RECORD_BYTES, ..PublisherOptions::default() };
            KafkaClient::connect(&config.kafka, "processor").await?.publisher(options).await
        },
        Database::connect(&config.postgres),
        aws::sdk_config(),
    );
    let (publisher, database) = (Arc::new(publisher?), database?);
    let dedup_window = config.policy.dedup_window;
    let dynamo = DynamoDb::connect(&sdk).await;
    let access = Arc::new(DynamoAccess::new(&dynamo, config.access_table.clone()));
    let claims: Arc<dyn ClaimStore> = match config.policy.dedup_store {
        DedupStore::Dynamodb => Arc::new(DynamoClaims::new(&dynamo, config.dedup_table.clone(), dedup_window)),
        DedupStore::Postgres => Arc::new(PostgresClaims::new(database.clone(), dedup_window)),
    };
    let ports = Ports {
        claims,
        counters: access.clone(),
        block_list: access,
        scorer: Arc::new(ScorerClient::new(&sdk, config.scorer_function.clone())),
        store: Arc::new(PostgresEventStore::new(database, dedup_window)),
        publisher: publisher.clone(),
        clock: Arc::new(SystemClock),
    };
    Ok((ports, publisher))
}
