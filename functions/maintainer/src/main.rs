//! The Lambda function `maintainer`.

use std::sync::Arc;

use dynamodb::{DynamoAccess, DynamoDb};
use lambda::invocation::{InvocationError, serve};
use maintainer::{App, Config, handle};
use pipeline::clock::SystemClock;
use settings::ProcessEnvironment;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::logs::init("maintainer");
    let config = Config::from_variables(&ProcessEnvironment)?;
    let dynamodb = DynamoDb::connect(&aws::sdk_config().await).await;
    let access = Arc::new(DynamoAccess::new(&dynamodb, &config.access_table));
    let app = Arc::new(App::new(config, access.clone(), access, Arc::new(SystemClock)));
    serve("maintainer", move |event, invocation| {
        let app = Arc::clone(&app);
        async move { handle(&event, &invocation, &app).await.map_err(InvocationError::from) }
    })
    .await?;
    Ok(())
}
