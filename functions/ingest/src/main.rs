//! The Lambda function `ingest`.

use std::sync::Arc;

use dynamodb::{DynamoAccess, DynamoDb};
use ingest::{App, Config};
use kafka::{KafkaClient, PublisherOptions};
use lambda::shutdown::FLUSH_TIMEOUT;
use pipeline::clock::SystemClock;
use pipeline::ports::RecordPublisher as _;
use settings::ProcessEnvironment;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::logs::init("ingest");
    let config = Config::from_variables(&ProcessEnvironment)?;
    // Connections are made here because an initialising function has more CPU than a running one.
    let sdk = aws::sdk_config().await;
    let (dynamodb, kafka) = tokio::join!(DynamoDb::connect(&sdk), KafkaClient::connect(&config.kafka, "ingest"));
    let publisher = Arc::new(kafka?.publisher(PublisherOptions::default()).await?);
    let access = Arc::new(DynamoAccess::new(&dynamodb, &config.access_table));
    let app = App::new(&config, access.clone(), access, publisher.clone(), Arc::new(SystemClock))?;
    lambda::http::serve(app.router()).await?;
    Ok(publisher.close(FLUSH_TIMEOUT).await?)
}
