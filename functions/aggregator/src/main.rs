//! The Lambda function `aggregator`.

use std::sync::Arc;

use aggregator::{App, Config, handle};
use lambda::invocation::serve;
use settings::ProcessEnvironment;

#[global_allocator]
static ALLOCATOR: process::Allocator = process::Allocator;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::health::exit_if_asked();
    lambda::start("aggregator")?;
    let app = Arc::new(App::connect(Config::from_variables(&ProcessEnvironment)?).await?);
    Ok(serve("aggregator", move |event, invocation| {
        let app = Arc::clone(&app);
        async move { handle(&event, &invocation, &app).await }
    })
    .await?)
}
