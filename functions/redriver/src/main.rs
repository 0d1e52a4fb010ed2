//! The Lambda function `redriver`.

use std::sync::Arc;

use archive::S3Objects;
use dynamodb::{DynamoAccess, DynamoDb};
use kafka::{KafkaClient, PublisherOptions};
use lambda::invocation::serve;
use lambda::shutdown::FLUSH_TIMEOUT;
use pipeline::clock::SystemClock;
use pipeline::ports::RecordPublisher as _;
use redriver::{App, Config, Guards};
use settings::ProcessEnvironment;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::logs::init("redriver");
    let config = Config::from_variables(&ProcessEnvironment)?;
    let (kafka, sdk) = tokio::join!(KafkaClient::connect(&config.kafka, "redriver"), aws::sdk_config());
    let kafka = kafka?;
    let publisher = Arc::new(kafka.publisher(PublisherOptions::default()).await?);
    let access = Arc::new(DynamoAccess::new(&DynamoDb::connect(&sdk).await, &config.access_table));
    let app = Arc::new(App {
        topics: Arc::new(kafka),
        publisher: publisher.clone(),
        marks: access.clone(),
        audit: access,
        objects: Arc::new(S3Objects::connect(&sdk, config.archive_bucket)),
        clock: Arc::new(SystemClock),
        guards: Guards::new(config.breaker_open),
    });
    serve("redriver", move |event, invocation| {
        let app = Arc::clone(&app);
        async move { app.handle(&event, &invocation).await }
    })
    .await?;
    Ok(publisher.close(FLUSH_TIMEOUT).await?)
}
