//! The Lambda function `rescorer`.

use std::sync::Arc;

use kafka::{KafkaClient, PublisherOptions};
use lambda::breaker::guard;
use lambda::invocation::serve;
use pipeline::Dependency;
use pipeline::clock::SystemClock;
use pipeline::decisions::publication;
use postgres::{Database, PostgresUnscoredEvents};
use rescorer::{App, Config};
use scoring::{ScorerClient, Scoring};
use settings::ProcessEnvironment;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::logs::init("rescorer");
    let config = Config::from_variables(&ProcessEnvironment)?;
    let (kafka, database, sdk) = tokio::join!(
        KafkaClient::connect(&config.kafka, "rescorer"),
        Database::connect(&config.postgres),
        aws::sdk_config(),
    );
    let open_for = config.breaker_open;
    let options = PublisherOptions { max_record_bytes: publication::MAX_RECORD_BYTES, ..PublisherOptions::default() };
    let scorer = Arc::new(ScorerClient::new(&sdk, config.scorer_function));
    let app = Arc::new(App {
        events: Arc::new(PostgresUnscoredEvents::new(database?)),
        scoring: Scoring::new(scorer, guard(Dependency::Scorer, open_for), config.policy.scorer_timeout),
        publisher: Arc::new(kafka?.publisher(options).await?),
        postgres: guard(Dependency::Postgres, open_for),
        kafka: guard(Dependency::Kafka, open_for),
        clock: Arc::new(SystemClock),
        policy: config.policy,
    });
    serve("rescorer", move |event, invocation| {
        let app = Arc::clone(&app);
        async move { app.handle(&event, &invocation).await }
    })
    .await?;
    Ok(())
}
