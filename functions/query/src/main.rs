//! The Lambda function `query`.

use std::sync::Arc;

use dynamodb::{DynamoAccess, DynamoDb};
use postgres::{Database, PostgresEventHistory};
use query::{App, Config};
use settings::ProcessEnvironment;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::logs::init("query");
    let config = Config::from_variables(&ProcessEnvironment)?;
    // Connections are made here because an initialising function has more CPU than a running one.
    let sdk = aws::sdk_config().await;
    let (dynamodb, database) = tokio::join!(DynamoDb::connect(&sdk), Database::connect(&config.postgres));
    let access = Arc::new(DynamoAccess::new(&dynamodb, &config.access_table));
    let history = Arc::new(PostgresEventHistory::new(database?));
    let app = App::new(&config, access.clone(), history, access);
    lambda::http::serve(app.router()).await?;
    Ok(())
}
