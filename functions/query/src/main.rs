//! The Lambda function `query`.

use std::sync::Arc;

use dynamodb::{DynamoAccess, DynamoDb};
use lambda::settings::ProcessEnvironment;
use lambda::telemetry;
use postgres::{Database, PostgresEventHistory};
use query::{App, Config};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    telemetry::init("query");
    let config = Config::from_variables(&ProcessEnvironment)?;
    // Connections are made here because an initialising function has more CPU than a running one.
    let sdk = lambda::aws::sdk_config().await;
    let (dynamodb, database) = tokio::join!(DynamoDb::connect(&sdk), Database::connect(&config.postgres));
    let access = Arc::new(DynamoAccess::new(&dynamodb, &config.access_table));
    let history = Arc::new(PostgresEventHistory::new(database?));
    let app = App::new(&config, access.clone(), history, access);
    lambda::http::serve(app.router()).await?;
    Ok(())
}
