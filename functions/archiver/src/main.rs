//! The Lambda function `archiver`.

use std::sync::Arc;

use archive::S3Objects;
use archiver::{App, ArchiverConfig, ArchiverError, handle};
use lambda::breaker::guard;
use lambda::invocation::{InvocationError, serve};
use pipeline::Dependency;
use serde_json::value::to_raw_value;
use settings::ProcessEnvironment;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::logs::init("archiver");
    let config = ArchiverConfig::from_variables(&ProcessEnvironment)?;
    let objects = S3Objects::connect(&aws::sdk_config().await, config.bucket);
    objects.warm_up().await;
    let app = Arc::new(App {
        objects: Arc::new(objects),
        guard: guard(Dependency::S3, config.breaker_open),
        batch_response: config.batch_response,
    });
    serve("archiver", move |event, invocation| {
        let app = Arc::clone(&app);
        async move {
            let answer = handle(event.get(), &invocation, &app).await?;
            to_raw_value(&answer).map_err(|error| InvocationError::from(ArchiverError::Answer(error)))
        }
    })
    .await?;
    Ok(())
}
