//! The Lambda function `replayer`.

use std::sync::Arc;

use lambda::invocation::serve;
use replayer::{App, Config, handle};
use settings::ProcessEnvironment;

#[global_allocator]
static ALLOCATOR: process::Allocator = process::Allocator;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::health::exit_if_asked();
    lambda::start("replayer")?;
    let app = Arc::new(App::connect(&Config::from_variables(&ProcessEnvironment)?).await?);
    Ok(serve("replayer", move |event, invocation| {
        let app = Arc::clone(&app);
        async move { handle(&event, &invocation, &app).await }
    })
    .await?)
}
