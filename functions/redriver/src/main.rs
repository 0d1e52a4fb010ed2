//! The Lambda function `redriver`.

use std::sync::Arc;

use lambda::invocation::serve;
use redriver::{App, Config, handle};
use settings::ProcessEnvironment;

#[global_allocator]
static ALLOCATOR: process::Allocator = process::Allocator;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::health::exit_if_asked();
    lambda::start("redriver")?;
    let app = Arc::new(App::connect(&Config::from_variables(&ProcessEnvironment)?).await?);
    let serving = Arc::clone(&app);
    let served = serve("redriver", move |event, invocation| {
        let app = Arc::clone(&serving);
        async move { handle(&event, &invocation, &app).await }
    })
    .await;
    let closed = app.close().await;
    served?;
    Ok(closed?)
}
